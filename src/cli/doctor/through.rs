//! Canaries through a front door that runs already, and a look at the files that hear of them.
//!
//! They go out through a keyward of the doctor's that changes none of them and asks for no key, so that TLS is
//! spoken to the door.
//!
//! Never here: a key that opens it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use super::super::failure::Failure;
use super::cases::{self, To};
use super::client;
use super::findings::{Findings, Leak};
use super::kept;
use super::process::Process;
use super::rehearsal::{CONFIG, NO_KEYS, write_key_file};
use super::run::{look_at_answers, send_all};
use crate::config::{self, AccessLog, Config};
use crate::diagnostics::Source;
use crate::keys::format::random_text;

/// How often, and after which time each, files are read that have not heard of a request yet.
const LOOKS: usize = 50;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Sends canaries to `url`; then searches the files of `config`, and `others`, for them.
pub(super) fn run(
    config: &Config,
    url: &str,
    others: &[PathBuf],
    findings: &mut Findings,
) -> Result<(), Failure> {
    let randomness = |error| Failure::Failed(format!("no randomness for a path: {error}"));
    let path = format!("/keyward-doctor-{}", random_text(8).map_err(randomness)?);
    let (cases, canaries) = cases::from_outside(config, &path)?;
    let relay = relay(url);
    // An address that is none is shown where it stands.
    config::parse(Source { path: "--through".into(), text: relay.clone() }, |_| None)?;
    let folder = tempfile::Builder::new().prefix("keyward-doctor-").tempdir()?;
    let file = folder.path().join(CONFIG);
    fs::write(&file, relay)?;
    write_key_file(folder.path(), NO_KEYS)?;
    let process = Process::start(&file, false)?;
    let answers = send_all(&cases, To::Proxy, process.address);
    process.stop()?;
    // The first are sound requests, so that the relay refuses none of them by itself.
    let is_reached = |(number, answer): &(usize, Vec<u8>)| {
        *number < config.auth.key_sources.len()
            && client::status(answer).is_some_and(|status| !(502..=504).contains(&status))
    };
    if !answers.iter().any(is_reached) {
        return Err(Failure::Failed(format!(
            "nothing answers at {url}, so nothing is known of it; see that --through names the door that clients use"
        )));
    }
    look_at_answers(&cases, &canaries, &answers, findings);
    for file in kept::files(config).iter().chain(others) {
        // Those of keyward that hear of no path have nothing to be waited for.
        let bytes = match others.contains(file) || is_access_log(config, file) {
            true => when_heard(file, path.as_bytes())?,
            false => fs::read(file)?,
        };
        if others.contains(file) && memchr::memmem::find(&bytes, path.as_bytes()).is_none() {
            findings.unheard.push(file.display().to_string());
        }
        for sighting in canaries.search(&bytes) {
            findings.leaks.push(Leak::of(file.display().to_string(), sighting, &cases));
        }
    }
    Ok(())
}

fn is_access_log(config: &Config, file: &Path) -> bool {
    matches!(&config.log.access, AccessLog::File(path) if path == file)
}

/// What is in `file` when it has heard of requests for `path`, or is hardly going to.
fn when_heard(file: &Path, path: &[u8]) -> Result<Vec<u8>, Failure> {
    // Nobody sends; it is there to be waited on.
    let (_sender, never) = sync_channel::<()>(0);
    let unreadable = |error| Failure::Usage(format!("{} cannot be read: {error}", file.display()));
    for _ in 0..LOOKS {
        let bytes = fs::read(file).map_err(unreadable)?;
        let has_heard = memchr::memmem::find(&bytes, path).is_some();
        if has_heard || never.recv_timeout(BETWEEN_LOOKS) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    // What it hears of the last of them is there once it is quiet.
    let mut bytes = fs::read(file).map_err(unreadable)?;
    for _ in 0..LOOKS {
        let _ = never.recv_timeout(BETWEEN_LOOKS);
        let more = fs::read(file).map_err(unreadable)?;
        if more.len() == bytes.len() {
            break;
        }
        bytes = more;
    }
    Ok(bytes)
}

/// A configuration that lets everything through to `url` as it is.
fn relay(url: &str) -> String {
    let url = toml::Value::from(url);
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[keys]\nstore = \"key file\"\nusage = \"off\"\n\
         [auth]\nkey_sources = [{{ header = \"keyward-doctor-none\" }}]\nhide_credentials = false\n\
         [identity]\nuser = \"keyward-doctor-user\"\nrole = \"keyward-doctor-role\"\n\
         key_id = \"keyward-doctor-key\"\n\
         [upstreams.door]\nendpoints = [{url}]\nhost = \"endpoint\"\n\
         [upstreams.door.ejection]\nafter = 0\n\
         [[routes]]\npath = \"/{{*rest}}\"\npublic = true\nambiguous_paths = \"allow\"\n"
    )
}
