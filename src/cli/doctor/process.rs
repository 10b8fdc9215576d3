//! A keyward of the doctor's: this program, serving in a process of its own, so that what it writes to standard
//! output and standard error is looked at, too.
//!
//! Never here: what is sent to it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread::{self, JoinHandle};

use rustix::process::{Pid, Signal, kill_process};

use super::super::failure::Failure;
use crate::telemetry::events::LEVEL_VARIABLE;

/// Files in the doctor's folder that it writes to.
pub(super) const STDOUT: &str = "standard output";
pub(super) const STDERR: &str = "standard error";

/// Ends when dropped.
pub(super) struct Process {
    child: Child,
    /// Takes over what it writes, until it ends.
    copying: Option<JoinHandle<io::Result<()>>>,
    /// Where it serves.
    pub(super) address: SocketAddr,
    /// Where its keys are managed.
    pub(super) admin: Option<SocketAddr>,
}

impl Process {
    /// Serves the configuration at `config`; with `has_admin`, it manages keys.
    pub(super) fn start(config: &Path, has_admin: bool) -> Result<Self, Failure> {
        let folder = config.parent().unwrap_or(Path::new(""));
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--config")
            .arg(config)
            .arg("serve")
            // Every event: what any other level shows is among them.
            .env(LEVEL_VARIABLE, "trace")
            .env("RUST_BACKTRACE", "1")
            // What systemd says is not meant for it.
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stdout(File::create(folder.join(STDOUT))?)
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let copy = File::create(folder.join(STDERR))?;
        let mut process = Self { child, copying: None, address: ([0; 4], 0).into(), admin: None };
        process.wait(stderr, copy, has_admin)?;
        Ok(process)
    }

    /// Reads its events until it has said where it listens; the others are copied meanwhile.
    fn wait(
        &mut self,
        mut stderr: BufReader<ChildStderr>,
        mut copy: File,
        has_admin: bool,
    ) -> Result<(), Failure> {
        let (mut said, mut line) = (String::new(), String::new());
        let (mut address, mut admin) = (None, None);
        while address.is_none() || (has_admin && admin.is_none()) {
            line.clear();
            if stderr.read_line(&mut line)? == 0 {
                return Err(Failure::Failed(format!(
                    "keyward does not serve a copy of this configuration; it said\n{said}"
                )));
            }
            copy.write_all(line.as_bytes())?;
            said.push_str(&line);
            match address_in(&line) {
                found @ Some(_) if line.contains("listening") => address = found,
                found @ Some(_) if line.contains("managing keys") => admin = found,
                _ => {}
            }
        }
        (self.address, self.admin) = (address.expect("it was waited for"), admin);
        self.copying = Some(thread::spawn(move || io::copy(&mut stderr, &mut copy).map(drop)));
        Ok(())
    }

    /// Lets it end well, so that everything is written.
    pub(super) fn stop(mut self) -> Result<(), Failure> {
        self.end(Signal::TERM);
        if let Some(Err(error)) = self.copying.take().and_then(|copying| copying.join().ok()) {
            return Err(error.into());
        }
        Ok(())
    }

    fn end(&mut self, signal: Signal) {
        // That fails only for one that has ended.
        let _ = kill_process(Pid::from_child(&self.child), signal);
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.end(Signal::KILL);
        }
    }
}

/// The address that an event tells, in either format.
fn address_in(line: &str) -> Option<SocketAddr> {
    let at = line.find("127.0.0.1:")?;
    let end = line[at..].find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':');
    line[at..at + end.unwrap_or(line.len() - at)].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_in_either_format() {
        let expect = Some(SocketAddr::from(([127, 0, 0, 1], 81)));
        assert_eq!(
            address_in("{\"message\":\"listening\",\"address\":\"127.0.0.1:81\"}\n"),
            expect
        );
        assert_eq!(address_in(" INFO listening address=127.0.0.1:81 keys=4\n"), expect);
        assert_eq!(address_in(" INFO listening"), None);
    }
}
