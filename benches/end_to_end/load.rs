//! The load: wrk on its own core, with keep-alive connections and a different key in each request.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;

use crate::peers::LOAD_CORE;
use crate::support::Failure;
use crate::support::keyring::Key;

const SCRIPT: &str = include_str!("load.lua");
/// What wrk may take beyond the time it was given: it builds 10,000 requests first.
const GRACE: Duration = Duration::from_secs(10);

/// How load is made.
pub(crate) struct Load {
    script: PathBuf,
    key_file: PathBuf,
    connections: u64,
}

/// What wrk saw in one run: the line that `load.lua` prints.
#[derive(Deserialize)]
pub(crate) struct Outcome {
    /// Answers of any kind.
    pub(crate) requests: u64,
    /// How long it took, in microseconds.
    pub(crate) duration_us: u64,
    /// The median time of an answer, in microseconds.
    pub(crate) p50_us: u64,
    /// The time that 99 of 100 answers came within, in microseconds.
    pub(crate) p99_us: u64,
    /// Answers with a status of 400 and above.
    pub(crate) refused: u64,
    /// Connections that failed or timed out.
    pub(crate) broken: u64,
}

impl Load {
    /// Puts the script and the keys it sends into `folder`.
    pub(crate) fn new(folder: &Path, keys: &[Key], connections: u64) -> io::Result<Load> {
        let (script, key_file) = (folder.join("load.lua"), folder.join("keys.txt"));
        fs::write(&script, SCRIPT)?;
        let secrets: Vec<&str> = keys.iter().map(|key| key.secret.as_str()).collect();
        fs::write(&key_file, secrets.join("\n"))?;
        Ok(Load { script, key_file, connections })
    }

    /// Loads `address` for as long as `duration`.
    pub(crate) fn run(&self, address: SocketAddr, duration: Duration) -> Result<Outcome, Failure> {
        let seconds = duration.as_secs();
        let output = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(["timeout", &(duration + GRACE).as_secs().to_string()])
            .args(["taskset", "--cpu-list", &LOAD_CORE.to_string()])
            .args(["wrk", "--threads", "1", "--timeout", "5s"])
            .args(["--connections", &self.connections.to_string()])
            .args(["--duration", &format!("{seconds}s"), "--script"])
            .arg(&self.script)
            .arg(format!("http://{address}"))
            .arg("--")
            .arg(&self.key_file)
            .output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = text.lines().find_map(|line| line.strip_prefix("RESULT "));
        let line = line.ok_or_else(|| {
            let said = String::from_utf8_lossy(&output.stderr);
            format!("wrk gave no result ({}; is it installed?): {text}{said}", output.status)
        })?;
        Ok(serde_json::from_str(line)?)
    }

    /// The load in words, for the report.
    pub(crate) fn describe(&self) -> String {
        format!("wrk, 1 thread, {} keep-alive connections", self.connections)
    }
}
