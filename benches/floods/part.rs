//! This program again, in a process of its own on the load core, that plays a part: it is told what to do as JSON, and
//! says lines.

use std::env;
use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::peers::LOAD_CORE;
use crate::support::Failure;

/// What is said when all is prepared.
pub(crate) const READY: &str = "ready";

/// A part that is being played; ended when dropped, by the end of its input or else by its time.
pub(crate) struct Part {
    name: &'static str,
    process: Child,
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Part {
    /// Starts it for `longest` at most. One that is `meek` leaves the core at once to whoever else wants it (`SCHED_IDLE`,
    /// sched(7)): the least priority of the usual kind keeps it to the next tick.
    pub(crate) fn start(
        name: &'static str,
        order: &impl Serialize,
        longest: Duration,
        meek: bool,
    ) -> Result<Part, Failure> {
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(["timeout", &longest.as_secs().to_string()])
            .args(["taskset", "--cpu-list", &LOAD_CORE.to_string()])
            .args(["chrt", if meek { "--idle" } else { "--other" }, "0"])
            .arg(env::current_exe()?)
            .args([name, &serde_json::to_string(order)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().ok_or("it has a pipe")?;
        Ok(Part { name, process, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// Waits until it is prepared.
    pub(crate) fn wait(&mut self) -> Result<(), Failure> {
        match self.line()?.as_str() {
            READY => Ok(()),
            other => Err(format!("{} said {other}", self.name).into()),
        }
    }

    /// Tells it to end, and waits for what came of it.
    pub(crate) fn end<T: DeserializeOwned>(mut self) -> Result<T, Failure> {
        if let Some(mut stdin) = self.stdin.take() {
            // One that has ended by itself hears nothing.
            let _ = stdin.write_all(b"end\n");
        }
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> Result<String, Failure> {
        let line = self.lines.next().transpose()?;
        // It has said why, on the standard error that is ours.
        line.ok_or_else(|| format!("the part {} failed", self.name).into())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.process.wait();
    }
}
