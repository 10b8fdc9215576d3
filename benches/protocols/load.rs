//! The load as the bench drives it: this program again, on the load core (see [`generator`](crate::generator)). What a
//! contestant costs is read when the load is ready and when it has ended, so that neither its start nor its connections
//! are counted.

use std::env;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Sample;
use crate::cases::Case;
use crate::generator::{Order, READY};
use crate::peers::meter::Meter;
use crate::peers::{Contestant, LOAD_CORE};
use crate::support::Failure;
use crate::support::keyring::Key;

/// What it may take beyond the time it was given. Its own limits are shorter, and say what was waited for.
const GRACE: Duration = Duration::from_secs(30);

/// How load is made.
pub(crate) struct Load {
    keys: PathBuf,
    pair: PathBuf,
    connections: u64,
}

impl Load {
    /// Puts the keys it sends into `folder`.
    pub(crate) fn new(
        folder: &Path,
        keys: &[Key],
        pair: &Path,
        connections: u64,
    ) -> Result<Load, Failure> {
        let key_file = folder.join("keys.txt");
        let secrets: Vec<&str> = keys.iter().map(|key| key.secret.as_str()).collect();
        fs::write(&key_file, secrets.join("\n"))?;
        Ok(Load { keys: key_file, pair: pair.to_owned(), connections })
    }

    /// What a contestant does and costs in a case, for as long as `duration`.
    pub(crate) fn measure(
        &self,
        case: &Case,
        contestant: &Contestant,
        duration: Duration,
    ) -> Result<Sample, Failure> {
        let order = Order {
            case: case.name.to_owned(),
            address: contestant.address,
            keys: self.keys.display().to_string(),
            pair: self.pair.display().to_string(),
            connections: case.connections(self.connections),
            duration_ms: duration.as_millis() as u64,
        };
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .args(["timeout", &(duration + GRACE).as_secs().to_string()])
            .args(["taskset", "--cpu-list", &LOAD_CORE.to_string()])
            .arg(env::current_exe()?)
            .args(["load", &serde_json::to_string(&order)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = (process.stdin.take(), process.stdout.take());
        let (mut stdin, stdout) = stdin.zip(stdout).ok_or("the load has no pipes")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut measure = || -> Result<Option<Sample>, Failure> {
            if lines.next().transpose()?.as_deref() != Some(READY) {
                return Ok(None);
            }
            let meter = Meter::start(contestant)?;
            stdin.write_all(b"go\n")?;
            let Some(line) = lines.next().transpose()? else { return Ok(None) };
            let cost = meter.stop()?;
            Ok(Some(Sample { outcome: serde_json::from_str(&line)?, cost }))
        };
        let sample = measure();
        drop(stdin);
        let status = process.wait()?;
        // It has said why, on the standard error that is ours.
        let failed = || format!("{} failed at {} ({status})", contestant.name, case.name);
        Ok(sample?.ok_or_else(failed)?)
    }
}
