//! Whether the usage of keys is counted exactly, and what of it a process that is killed takes along.
//!
//! First, requests with all keys in turn, over all workers; the process is asked to end, and its file must tell of each
//! key as many as were answered. Then they go on until the process is killed (SIGKILL); the file may lack what was
//! answered in the last minute, and nothing else.
//!
//! `cargo bench --bench usage`; `REQUESTS` (1,000,000), `KEYS` (100), `SECONDS` until the kill (80). Loopback only, bounded
//! in time.

#[path = "support/mod.rs"]
mod support;

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use keyward::usage::{self, Tally};
use serde_json::json;

use support::client::Client;
use support::keyring::{self, Key};
use support::stats::Spread;
use support::{Failure, child, keyward as program, machine, pause, settings, upstream};

const MAX_REQUESTS: u64 = 100_000_000;
const MAX_KEYS: u64 = 10_000;
const MAX_SECONDS: u64 = 600;
/// Connections, each with a thread that asks again and again.
const CONNECTIONS: u64 = 8;
/// What may be lost.
const LOSS: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    support::run("usage", |_| None, measure)
}

fn measure() -> Result<(), Failure> {
    let (requests, seconds) = if settings::smoke() { (2_000, 2) } else { (1_000_000, 80) };
    let requests = settings::number("REQUESTS", requests, MAX_REQUESTS)?;
    let seconds = settings::number("SECONDS", seconds, MAX_SECONDS)?;
    let keys = settings::number("KEYS", 100, MAX_KEYS)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let service = child::free_address()?;
    let listener = TcpListener::bind(service)?;
    thread::spawn(move || upstream::serve(listener));
    let keys = keyring::make(usize::try_from(keys)?)?;
    let template = program::TEMPLATE.replace("workers = 1", "workers = 2");
    let start = |name: &str| {
        let folder = folder.path().join(name);
        let started = program::start(&template, &folder, None, service, &keys, None)?;
        Ok::<_, Failure>((started, folder.join("keys.usage.jsonl")))
    };

    let ((keyward, address), file) = start("counted")?;
    let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let began = Instant::now();
    let asked = ask(address, &keys, requests, &answered, &is_over)?;
    let took = began.elapsed();
    drop(keyward);
    let found = usage::load(&file)?;
    let wrong = differing(&asked, &found);
    if wrong > 0 {
        return Err(format!("{wrong} of {} keys are not counted exactly", keys.len()).into());
    }
    let by_key = found.values().map(|tally| tally.requests.iter().sum::<u64>() as f64);
    let by_key = Spread::of(by_key).ok_or("nothing was counted")?;

    let ((keyward, address), file) = start("killed")?;
    let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (in_all, safe) = thread::scope(|scope| {
        let asking = scope.spawn(|| {
            // It breaks off with the process.
            let _ = ask(address, &keys, u64::MAX, &answered, &is_over);
        });
        let timeline = watch(Duration::from_secs(seconds), &answered);
        let killed = Command::new("kill").args(["-9", &keyward.id().to_string()]).status();
        is_over.store(true, Ordering::Relaxed);
        asking.join().map_err(|_| "the load panicked")?;
        killed?;
        let (end, in_all) = *timeline.last().ok_or("nothing was watched")?;
        let before = timeline.iter().rfind(|(at, _)| *at + LOSS <= end);
        Ok::<_, Failure>((in_all, before.map_or(0, |(_, answered)| *answered)))
    })?;
    let kept = sum(&file)?;
    if kept < safe {
        return Err(format!("{kept} are kept of {safe} that were a minute old").into());
    }
    let lost = in_all.saturating_sub(kept);
    let mut out = io::stdout().lock();
    let (keys, seconds) = (keys.len(), took.as_secs());
    let Spread { min, max, .. } = by_key;
    writeln!(
        out,
        "{requests} requests on {keys} keys, 2 workers, {seconds} s: each key is counted exactly ({min} to {max})."
    )?;
    writeln!(
        out,
        "Killed behind {in_all} answers, {safe} of which were a minute old: {kept} are kept, {lost} lost."
    )?;
    let figures = json!({
        "bench": "usage", "machine": machine::describe(),
        "requests": requests, "keys": keys, "seconds": took.as_secs_f64(),
        "keys_not_exact": wrong, "counted_of_each_key": by_key.to_json(),
        "killed": { "answered": in_all, "older_than_a_minute": safe, "kept": kept, "lost": lost },
    });
    settings::keep("usage", &figures)
}

/// Asks `requests` times, with all keys in turn; how often with each.
fn ask(
    address: SocketAddr,
    keys: &[Key],
    requests: u64,
    answered: &AtomicU64,
    is_over: &AtomicBool,
) -> Result<HashMap<String, u64>, Failure> {
    let next = AtomicU64::new(0);
    let one = || -> io::Result<HashMap<&str, u64>> {
        let mut client = Client::connect(address, Ok)?;
        let mut asked = HashMap::new();
        while !is_over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= requests {
                break;
            }
            let key = &keys[(number % keys.len() as u64) as usize];
            let answer = client.get("/", &format!("x-api-key: {}\r\n", key.secret))?;
            if answer.status != 200 {
                return Err(io::Error::other(format!("{} {}", answer.status, answer.body)));
            }
            *asked.entry(key.id.as_str()).or_default() += 1;
            answered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(asked)
    };
    thread::scope(|scope| {
        let askers: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(one)).collect();
        let mut sum: HashMap<String, u64> = HashMap::new();
        for asker in askers {
            for (id, count) in asker.join().map_err(|_| "the load panicked")?? {
                *sum.entry(id.to_owned()).or_default() += count;
            }
        }
        Ok(sum)
    })
}

/// How many were answered, second by second.
fn watch(longest: Duration, answered: &AtomicU64) -> Vec<(Instant, u64)> {
    let began = Instant::now();
    let mut timeline = Vec::new();
    while began.elapsed() < longest {
        timeline.push((Instant::now(), answered.load(Ordering::Relaxed)));
        pause(Duration::from_secs(1));
    }
    timeline.push((Instant::now(), answered.load(Ordering::Relaxed)));
    timeline
}

/// Keys of which `found` does not tell what was `asked`.
fn differing(asked: &HashMap<String, u64>, found: &HashMap<Box<str>, Tally>) -> usize {
    let ended_well = |id: &str| found.get(id).map_or(0, |tally| tally.requests[2]);
    let all = |id: &str| found.get(id).map_or(0, |tally| tally.requests.iter().sum::<u64>());
    asked.iter().filter(|(id, count)| ended_well(id) != **count || all(id) != **count).count()
}

fn sum(file: &Path) -> io::Result<u64> {
    Ok(usage::load(file)?.values().flat_map(|tally| tally.requests).sum())
}
