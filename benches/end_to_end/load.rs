//! The load as the bench drives it: this program again, on the load core (see [`generator`](crate::generator)). What a
//! contestant costs is read when the load is ready and when it has ended, so that neither its start nor its connections
//! are counted.

use std::env;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Sample;
use crate::cases::Case;
use crate::generator::{Order, READY};
use crate::peers::meter::Meter;
use crate::peers::{Contestant, LOAD_CORE};
use crate::support::Failure;

/// What it may take beyond the time it was given. Its own limits are shorter, and say what was waited for.
const GRACE: Duration = Duration::from_secs(75);

/// What a contestant does and costs in a case, for as long as `duration`. `keys` is a file with a key a line; `rate` is
/// that of an open loop; `pair` the folder of the certificate.
pub(crate) fn measure(
    case: &Case,
    contestant: &Contestant,
    keys: &Path,
    pair: &Path,
    rate: Option<f64>,
    duration: Duration,
) -> Result<Sample, Failure> {
    let order = Order {
        protocol: case.protocol,
        path: case.path().to_owned(),
        body_bytes: case.body_bytes,
        pair: case.stage.is_tls.then(|| pair.display().to_string()),
        address: contestant.address,
        keys: keys.display().to_string(),
        connections: case.connections,
        rate,
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
