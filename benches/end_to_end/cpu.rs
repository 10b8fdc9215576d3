//! The CPU time that the kernel has accounted to a process, its threads and its children.
//!
//! `schedstat` is exact to the nanosecond, but forgets threads that have ended; `stat` remembers
//! them, but counts ticks. The larger of the two is the truth, at worst a tick short of it.

use std::fs;
use std::io;
use std::ops::{AddAssign, Sub};
use std::path::Path;

/// A tick of `stat` (USER_HZ is 100 on every Linux that people run).
const TICK_NS: u64 = 10_000_000;

/// Time spent by a tree of processes.
#[derive(Clone, Copy, Default)]
pub(crate) struct CpuTime {
    /// On a CPU, in user's and in kernel's code.
    pub(crate) run_ns: u64,
    /// Ready to run, but another process had the CPU: the machine was not ours alone.
    pub(crate) wait_ns: u64,
}

impl AddAssign for CpuTime {
    fn add_assign(&mut self, other: CpuTime) {
        self.run_ns += other.run_ns;
        self.wait_ns += other.wait_ns;
    }
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
        let folder = format!("/proc/{process}");
        let mut time = CpuTime::default();
        for thread in fs::read_dir(format!("{folder}/task"))? {
            match of_thread(&thread?.path(), &mut left) {
                Ok(thread_time) => time += thread_time,
                Err(error) if has_ended(&error) => {}
                Err(error) => return Err(error),
            }
        }
        time.run_ns = time.run_ns.max(with_ended_threads_ns(&folder)?);
        total += time;
    }
    Ok(total)
}

/// The thread's own time; its children are put on the list.
fn of_thread(thread: &Path, children: &mut Vec<u32>) -> io::Result<CpuTime> {
    let text = fs::read_to_string(thread.join("schedstat"))?;
    let mut numbers = text.split_ascii_whitespace().map_while(|number| number.parse().ok());
    let (Some(run_ns), Some(wait_ns)) = (numbers.next(), numbers.next()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "schedstat without two numbers"));
    };
    let text = fs::read_to_string(thread.join("children"))?;
    children.extend(text.split_ascii_whitespace().filter_map(|id| id.parse::<u32>().ok()));
    Ok(CpuTime { run_ns, wait_ns })
}

/// utime and stime, fields 14 and 15 of proc_pid_stat(5).
fn with_ended_threads_ns(folder: &str) -> io::Result<u64> {
    let text = fs::read_to_string(format!("{folder}/stat"))?;
    // The name, field 2, is in parentheses, may hold spaces, and is the only such field.
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks = after_name.split(' ').skip(11).take(2).map(str::parse::<u64>);
    let ticks = ticks.sum::<Result<u64, _>>().map_err(io::Error::other)?;
    Ok(ticks * TICK_NS)
}

/// A thread that ends between the listing and the reading: ENOENT, or ESRCH once it is open.
fn has_ended(error: &io::Error) -> bool {
    const ESRCH: i32 = 3;
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH)
}
