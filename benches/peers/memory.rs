//! The memory that the processes of a contestant hold, or have held at most, as the sum of theirs (proc_pid_status(5)). What
//! they share is counted in each, and peaks need not fall together, so it is never too little.

use std::fs;
use std::io;

use crate::peers::Contestant;

/// Starts the measurement again, proc_pid_clear_refs(5).
pub(crate) fn forget_peak(contestant: &Contestant) -> io::Result<()> {
    processes(contestant)?
        .iter()
        .try_for_each(|process| fs::write(format!("{process}/clear_refs"), "5"))
}

/// The most since [`forget_peak`], in bytes.
pub(crate) fn peak_bytes(contestant: &Contestant) -> io::Result<u64> {
    sum(contestant, "VmHWM:")
}

/// What is held now, in bytes.
pub(crate) fn resident_bytes(contestant: &Contestant) -> io::Result<u64> {
    sum(contestant, "VmRSS:")
}

/// The sum of what a line of the status of each process says.
fn sum(contestant: &Contestant, name: &str) -> io::Result<u64> {
    let mut total_kib = 0;
    for process in processes(contestant)? {
        let status = fs::read_to_string(format!("{process}/status"))?;
        let value = status.lines().find_map(|line| line.strip_prefix(name));
        let value =
            value.and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok());
        total_kib += value.unwrap_or(0);
    }
    Ok(total_kib * 1024)
}

/// The folders in `/proc` of its process and of all below it.
fn processes(contestant: &Contestant) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    let mut left: Vec<u32> = contestant.child.iter().map(|child| child.id()).collect();
    while let Some(process) = left.pop() {
        let folder = format!("/proc/{process}");
        for thread in fs::read_dir(format!("{folder}/task"))? {
            // A thread that has ended meanwhile has no children.
            let children = fs::read_to_string(thread?.path().join("children")).unwrap_or_default();
            left.extend(children.split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
        found.push(folder);
    }
    Ok(found)
}
