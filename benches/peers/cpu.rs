//! The CPU time that the kernel has accounted to a process, its threads and its children.
//!
//! `schedstat` is exact to the nanosecond, but forgets threads and children that have ended; `stat`
//! remembers them, but counts ticks. The larger of the two is the truth, at worst a tick short of it.

use std::fs;
use std::io;
use std::path::Path;

/// A tick of `stat` (USER_HZ is 100 on every Linux that people run).
const TICK_NS: u64 = 10_000_000;

/// The time of `process` and of everything below it, in nanoseconds.
pub(crate) fn of_tree_ns(process: u32) -> io::Result<u64> {
    let mut total_ns = 0;
    let mut left = vec![process];
    while let Some(process) = left.pop() {
        let folder = format!("/proc/{process}");
        let mut living_ns = 0;
        for thread in fs::read_dir(format!("{folder}/task"))? {
            match of_thread_ns(&thread?.path(), &mut left) {
                Ok(thread_ns) => living_ns += thread_ns,
                Err(error) if has_ended(&error) => {}
                Err(error) => return Err(error),
            }
        }
        total_ns += living_ns.max(with_the_ended_ns(&folder)?);
    }
    Ok(total_ns)
}

/// The time in which any process of the machine ran on any core, in nanoseconds.
pub(crate) fn of_machine_ns() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/stat")?;
    let all_cores = text.lines().next().unwrap_or_default();
    // user nice system idle iowait irq softirq steal: all but the two in which nobody ran.
    let ticks = all_cores.split_ascii_whitespace().skip(1).take(8).enumerate();
    let busy = ticks.filter(|(field, _)| !matches!(field, 3 | 4));
    let ticks = busy.map(|(_, ticks)| ticks.parse::<u64>()).sum::<Result<u64, _>>();
    Ok(ticks.map_err(io::Error::other)? * TICK_NS)
}

/// The thread's own time; its children are put on the list.
fn of_thread_ns(thread: &Path, children: &mut Vec<u32>) -> io::Result<u64> {
    let text = fs::read_to_string(thread.join("schedstat"))?;
    let run_ns = text.split_ascii_whitespace().next().unwrap_or_default().parse();
    let run_ns = run_ns.map_err(io::Error::other)?;
    let text = fs::read_to_string(thread.join("children"))?;
    children.extend(text.split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    Ok(run_ns)
}

/// utime, stime, cutime and cstime: fields 14 to 17 of proc_pid_stat(5).
fn with_the_ended_ns(folder: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("{folder}/stat"))?;
    // The name, field 2, is in parentheses, may hold spaces, and is the only such field.
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = after_name.split(' ').skip(11).take(4).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().map_err(io::Error::other)?;
    Ok(ticks * TICK_NS)
}

/// A thread that ends between the listing and the reading: ENOENT, or ESRCH once it is open.
fn has_ended(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}
