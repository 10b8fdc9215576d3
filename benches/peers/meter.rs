//! What the work of one contestant costs from one moment to another, and what others had of the machine meanwhile.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process;
use std::time::Instant;

use super::{Contestant, cpu};
use crate::support::Failure;

/// What others may have of the machine, in cores, before they disturb caches and wake-ups too much
/// to trust the figures. Ticks are coarse: less than this is also what they may be wrong by.
const QUIET_CORES: f64 = 0.10;

/// A measurement that has begun.
pub(crate) struct Meter<'a> {
    contestant: &'a Contestant,
    start: Instant,
    proxy_ns: u64,
    others_ns: u64,
}

/// What was measured.
pub(crate) struct Cost {
    /// CPU time of the proxy's processes, in nanoseconds; none for "direct".
    pub(crate) cpu_ns: u64,
    /// Cores that processes which are none of ours had in the meantime.
    pub(crate) others_cores: f64,
    /// Bytes it wrote to its access log.
    pub(crate) log_bytes: u64,
}

impl Meter<'_> {
    /// Begins.
    pub(crate) fn start(contestant: &Contestant) -> Result<Meter<'_>, Failure> {
        let (proxy_ns, others_ns) = (proxy_ns(contestant)?, others_ns()?);
        Ok(Meter { contestant, start: Instant::now(), proxy_ns, others_ns })
    }

    /// Ends, and empties the access log.
    pub(crate) fn stop(self) -> Result<Cost, Failure> {
        let cpu_ns = proxy_ns(self.contestant)?.saturating_sub(self.proxy_ns);
        let others_ns = others_ns()?.saturating_sub(self.others_ns);
        let others_cores = others_ns as f64 / self.start.elapsed().as_nanos() as f64;
        let log_bytes = match &self.contestant.access_log {
            Some(path) => take_log_bytes(path)?,
            None => 0,
        };
        Ok(Cost { cpu_ns, others_cores, log_bytes })
    }
}

/// Whether the figures can be trusted if others had `cores`.
pub(crate) fn is_quiet(cores: f64) -> bool {
    cores <= QUIET_CORES
}

/// Why the figures cannot be trusted, if others had `cores` in the worst round.
pub(crate) fn warning(cores: f64) -> Option<String> {
    (!is_quiet(cores)).then(|| {
        format!(
            "NOT A QUIET MACHINE: in a round, other processes had {cores:.2} cores. They fall on the\n\
             contestants unequally: neither the times nor the ratios are to be trusted.\n"
        )
    })
}

fn proxy_ns(contestant: &Contestant) -> io::Result<u64> {
    contestant.child.as_ref().map_or(Ok(0), |child| cpu::of_tree_ns(child.id()))
}

fn others_ns() -> io::Result<u64> {
    Ok(cpu::of_machine_ns()?.saturating_sub(cpu::of_tree_ns(process::id())?))
}

/// What was written to a log since the last time, emptying it: rounds without end must not fill the
/// disk. HAProxy clears O_APPEND, and goes on at its old offset behind a hole; so what counts is the
/// space that is taken, which is exact to a block, and not the length.
fn take_log_bytes(path: &Path) -> io::Result<u64> {
    /// The unit of `st_blocks`, whatever the file system's block is.
    const BLOCK_BYTES: u64 = 512;
    let written = fs::metadata(path)?;
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    Ok(written.len().min(written.blocks() * BLOCK_BYTES))
}
