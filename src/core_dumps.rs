//! Keeps the memory of this process, which holds keys, to itself: no core dump of it is written, and nobody else of the
//! same user reads it by `ptrace` or `/proc`.
//!
//! The limit alone would not do: the kernel does not heed it where dumps go to a program (`|` in
//! `/proc/sys/kernel/core_pattern`), as systemd-coredump or apport have it. That the process is not dumpable it heeds
//! everywhere (prctl(2), `PR_SET_DUMPABLE`), and gives its files below `/proc` to root.
//!
//! Never here: who decides whether that is wanted.

use std::io;

use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};

/// What was allowed when this process began.
#[derive(Debug)]
pub struct Inherited(Rlimit);

/// Forbids dumps from now on, until that is [taken back](Inherited::restore).
///
/// # Errors
/// The system refuses.
pub fn forbid() -> io::Result<Inherited> {
    let inherited = getrlimit(Resource::Core);
    // The upper limit stays for now: once it is lowered, only root can raise it again.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: inherited.maximum })
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(explain)?;
    Ok(Inherited(inherited))
}

impl Inherited {
    /// Forbids dumps for good, whatever becomes of this process.
    ///
    /// # Errors
    /// The system refuses.
    pub fn forbid_for_good(self) -> io::Result<()> {
        setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(explain)
    }

    /// Allows what was allowed before.
    ///
    /// # Errors
    /// The system refuses.
    pub fn restore(self) -> io::Result<()> {
        setrlimit(Resource::Core, self.0)
            .and_then(|()| set_dumpable_behavior(DumpableBehavior::Dumpable))
            .map_err(explain)
    }
}

fn explain(error: rustix::io::Errno) -> io::Error {
    let error = io::Error::from(error);
    io::Error::new(error.kind(), format!("whether core dumps are written cannot be set: {error}"))
}
