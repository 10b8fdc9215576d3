//! The CPU time that the kernel has accounted to a process, its threads and its children, in
//! nanoseconds. Threads that have ended are not seen: measure between two moments of a steady state.

use std::fs;
use std::io;
use std::ops::Sub;
use std::path::Path;

/// Time spent by a tree of processes.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// On a CPU, in user's and in kernel's code.
    pub(crate) run_ns: u64,
    /// Ready to run, but another process had the CPU: the machine was not ours alone.
    pub(crate) wait_ns: u64,
}

impl Sub for CpuTime {
    type Output = CpuTime;

    fn sub(self, earlier: CpuTime) -> CpuTime {
        CpuTime {
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
        }
    }
}

/// The time of `process` and of everything below it.
pub(crate) fn of_tree(process: u32) -> io::Result<CpuTime> {
    let mut total = CpuTime::default();
    let mut left = vec![process];
    while let Some(process) = left.pop() {
        for thread in fs::read_dir(format!("/proc/{process}/task"))? {
            let thread = thread?.path();
            let time = of_thread(&thread)?;
            total.run_ns += time.run_ns;
            total.wait_ns += time.wait_ns;
            let children = fs::read_to_string(thread.join("children"))?;
            left.extend(children.split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok()));
        }
    }
    Ok(total)
}

/// `schedstat` is exact to the nanosecond where `stat`'s utime and stime count ticks of 10 ms.
fn of_thread(thread: &Path) -> io::Result<CpuTime> {
    let text = fs::read_to_string(thread.join("schedstat"))?;
    let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(run_ns), Some(wait_ns)) => Ok(CpuTime { run_ns, wait_ns }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "schedstat is not what it was")),
    }
}
