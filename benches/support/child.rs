//! A process that a bench starts: pinned to a core if asked, its output in a file, and ended when
//! the bench ends, however that happens. Ends nothing that it did not start.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Failure, pause};

/// How long a child may take until it listens: 10,000 keys are read in well under a second, a million takes some longer.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a child may take to end after SIGTERM, before it is killed.
const STOP_LIMIT: Duration = Duration::from_secs(3);
/// How often a state that has no event to wait for is looked at.
const POLL: Duration = Duration::from_millis(5);

/// A running process; dropped, it is asked to end, and killed if it does not.
pub(crate) struct Child {
    name: String,
    process: std::process::Child,
    output: PathBuf,
}

impl Child {
    /// Starts `program`, on `core` alone if one is given. Standard output and error are appended to
    /// `output`. The kernel ends the child should the bench be killed (`setpriv --pdeathsig`).
    pub(crate) fn start<S: AsRef<OsStr>>(
        name: &str,
        core: Option<usize>,
        program: impl AsRef<OsStr>,
        args: &[S],
        output: &Path,
    ) -> Result<Child, Failure> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "--"]);
        if let Some(core) = core {
            command.args(["taskset", "--cpu-list", &core.to_string()]);
        }
        let sink = OpenOptions::new().create(true).append(true).open(output)?;
        let process = command
            .arg(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(sink.try_clone()?)
            .stderr(sink)
            .spawn()
            .map_err(|error| format!("{name} does not start (setpriv of util-linux): {error}"))?;
        Ok(Child { name: name.to_owned(), process, output: output.to_owned() })
    }

    /// The process id: the same from `setpriv` through `taskset` to the program itself.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until `address` accepts connections; fails with what the child wrote if it ended before.
    pub(crate) fn wait_until_listening(&mut self, address: SocketAddr) -> Result<(), Failure> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            if TcpStream::connect(address).is_ok() {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                let said = fs::read_to_string(&self.output).unwrap_or_default();
                return Err(format!("{} ended at its start ({status}):\n{said}", self.name).into());
            }
            if Instant::now() > deadline {
                return Err(format!("{} does not listen on {address}", self.name).into());
            }
            pause(POLL);
        }
    }

    fn stop(&mut self) -> io::Result<()> {
        if self.process.try_wait()?.is_some() {
            return Ok(());
        }
        Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        let deadline = Instant::now() + STOP_LIMIT;
        while Instant::now() < deadline {
            if self.process.try_wait()?.is_some() {
                return Ok(());
            }
            pause(POLL);
        }
        self.process.kill()?;
        self.process.wait().map(drop)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.stop().is_err() {
            // `kill(1)` is missing or the wait failed: what std itself can do is still left.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// A loopback address that is free now, for a program that cannot say which port it was given.
pub(crate) fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}
