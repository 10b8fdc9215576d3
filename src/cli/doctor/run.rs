//! One run: every request through a keyward of the doctor's, then a look at everything that it wrote.
//!
//! Never here: what is sent, or how the outcome is shown.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tempfile::TempDir;

use super::super::failure::Failure;
use super::canary::{Canaries, Place, Trace};
use super::cases::{Case, To};
use super::client::{self, Wire};
use super::findings::{Findings, Leak};
use super::process::Process;
use super::rehearsal::Rehearsal;
use super::upstream::{RECORD, Upstream};
use crate::config::Config;

/// Requests at once. Most of the time of some is waiting.
const AT_ONCE: usize = 16;
/// What clients get is a sink, too.
const ANSWERS: &str = "answers to clients";
const ADMIN_ANSWERS: &str = "answers of the admin listener";
const METRICS: &str = "metrics";

/// Runs all of `cases` with logs in `format`; what was found is added to `findings`.
pub(super) fn run(
    config: &Config,
    (cases, canaries): (&[Case], &Canaries),
    format: &str,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let folder = tempfile::Builder::new().prefix("keyward-doctor-").tempdir()?;
    let upstream = Upstream::start(folder.path())?;
    let rehearsal = Rehearsal::new(config)?.act(upstream.address()).logging(format);
    let file = rehearsal.write(folder.path(), canaries.key_file())?;
    let process = Process::start(&file, config.admin.is_some())?;
    let mut answers = Vec::new();
    for (to, address) in [(To::Proxy, Some(process.address)), (To::Admin, process.admin)] {
        if let Some(address) = address {
            answers.extend(send_all(cases, to, address));
        }
    }
    if let Some(admin) = process.admin {
        let page =
            b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec();
        let page = client::send(&Wire::Http1(page), admin, Ipv4Addr::LOCALHOST);
        fs::write(folder.path().join(METRICS), page)?;
    }
    drop(upstream);
    answers.extend(send_all(cases, To::Orphan, process.address));
    process.stop()?;
    look_at_answers(cases, canaries, &answers, findings);
    let leaks = findings.leaks.len();
    look_into(folder.path(), config, (cases, canaries), findings)?;
    if findings.leaks.len() > leaks {
        keep(folder, &mut findings.leaks[leaks..]);
    }
    Ok(())
}

/// Sends the requests for `to`; their numbers and what came back.
pub(super) fn send_all(cases: &[Case], to: To, address: SocketAddr) -> Vec<(usize, Vec<u8>)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut answers = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(number) else { return answers };
            if case.to == to {
                let [.., high, low] = number.to_be_bytes();
                let from = Ipv4Addr::new(127, 1, high, low);
                answers.push((number, client::send(&case.wire, address, from)));
            }
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let answers = threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default());
        answers.collect()
    })
}

/// Counts the answers, and searches them.
pub(super) fn look_at_answers(
    cases: &[Case],
    canaries: &Canaries,
    answers: &[(usize, Vec<u8>)],
    findings: &mut Findings,
) {
    findings.requests += answers.len();
    for (number, answer) in answers {
        let status = client::status(answer);
        *findings.answers.entry(status).or_default() += 1;
        let sink = if cases[*number].to == To::Admin { ADMIN_ANSWERS } else { ANSWERS };
        *findings.sinks.entry(sink.to_owned()).or_default() += 1;
        for sighting in canaries.search(answer) {
            findings.leaks.push(Leak::of(sink.to_owned(), sighting, cases));
        }
    }
}

/// Searches every file in the doctor's folder.
fn look_into(
    folder: &Path,
    config: &Config,
    (cases, canaries): (&[Case], &Canaries),
    findings: &mut Findings,
) -> Result<(), Failure> {
    // What the service gets where nobody looks for keys is the client's own, and goes on byte for byte.
    let is_to_go_on = |trace: Trace| match trace.place {
        Place::Elsewhere => true,
        Place::Source => !config.auth.hide_credentials,
    };
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), entry.path());
    }
    for (name, path) in files {
        let bytes = fs::read(path)?;
        let lines = bytes.iter().filter(|&&byte| byte == b'\n').count();
        if !name.starts_with('.') {
            *findings.sinks.entry(name.clone()).or_default() += lines;
        }
        for sighting in canaries.search(&bytes) {
            if name == RECORD && is_to_go_on(sighting.trace) {
                let what = &cases[sighting.trace.case].what;
                // Where it was is said before the route.
                let what = what.split(", ").next().unwrap_or(what);
                findings.passed.insert(what.to_owned());
            } else {
                findings.leaks.push(Leak::of(name.clone(), sighting, cases));
            }
        }
    }
    Ok(())
}

/// Leaves the files where they are, for who wants to look at a leak.
fn keep(folder: TempDir, leaks: &mut [Leak]) {
    let folder = folder.keep();
    for leak in leaks {
        leak.sink = folder.join(&leak.sink).display().to_string();
    }
}
