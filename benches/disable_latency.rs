//! How soon a disabled key is refused: two holders ask again and again on keep-alive connections,
//! `keyward keys disable` runs in another process, and the clock stops at the first refused answer.
//! The other holder must never see anything but 200.
//!
//! `cargo bench --bench disable_latency`; `TRIES` (100), `KEYS` (2) in the key file. Loopback only, bounded in time.

#[path = "support/mod.rs"]
mod support;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use support::client::Client;
use support::keyring::{self, Key};
use support::stats::{self, Spread};
use support::{Failure, child, keyward, machine, pause, settings, upstream};

const MAX_TRIES: u64 = 10_000;
const MAX_KEYS: u64 = 1_000_000;
/// Between two requests of a holder: far below what is measured, and the machine stays idle.
const PAUSE: Duration = Duration::from_micros(200);
/// A change that has no effect for so long is a failure, not a latency.
const EFFECT_LIMIT: Duration = Duration::from_secs(10);

/// One disabling, in milliseconds up to the first refused answer.
struct Try {
    from_start_ms: f64,
    /// From the command's exit; below zero where the refusal came first.
    from_exit_ms: f64,
}

fn main() -> ExitCode {
    support::run("disable_latency", |_| None, measure)
}

fn measure() -> Result<(), Failure> {
    let tries = settings::number("TRIES", if settings::smoke() { 5 } else { 100 }, MAX_TRIES)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let address = child::free_address()?;
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || upstream::serve(listener));
    let keys = keyring::make(settings::number("KEYS", 2, MAX_KEYS)?.max(2) as usize)?;
    let folder = folder.path().join("keyward");
    let (_keyward, address) =
        keyward::start(keyward::TEMPLATE, &folder, None, address, &keys, None)?;

    let over = AtomicBool::new(false);
    let passed = AtomicU64::new(0);
    let (disabled, other) = (&keys[0], &keys[1]);
    let results = thread::scope(|scope| {
        let bystander = scope.spawn(|| stay_allowed(address, other, &over, &passed));
        let results: Result<Vec<Try>, Failure> = (0..tries)
            .map(|_| disable_once(address, &folder.join(keyward::CONFIG), disabled))
            .collect();
        over.store(true, Ordering::Relaxed);
        match bystander.join() {
            Ok(Ok(())) => results,
            Ok(Err(error)) => Err(format!("the other key's holder saw: {error}").into()),
            Err(_) => Err("the other key's holder panicked".into()),
        }
    })?;
    report(keys.len(), &results, passed.load(Ordering::Relaxed))
}

/// Asks with `key` until it is `over`; anything but 200 is an error.
fn stay_allowed(
    address: SocketAddr,
    key: &Key,
    over: &AtomicBool,
    passed: &AtomicU64,
) -> Result<(), String> {
    let mut client = Client::connect(address, Ok).map_err(|error| error.to_string())?;
    let header = format!("x-api-key: {}\r\n", key.secret);
    while !over.load(Ordering::Relaxed) {
        let answer = client.get("/", &header).map_err(|error| error.to_string())?;
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.body));
        }
        passed.fetch_add(1, Ordering::Relaxed);
        pause(PAUSE);
    }
    Ok(())
}

/// Disables the key, waits for the first refusal, enables it, and waits for the first 200.
fn disable_once(address: SocketAddr, config: &Path, key: &Key) -> Result<Try, Failure> {
    let mut client = Client::connect(address, Ok)?;
    wait_for(&mut client, key, 200, "")?;
    let start = Instant::now();
    let command = thread::scope(|scope| {
        let exit = scope.spawn(|| {
            change("disable", config, key)
                .map(|()| Instant::now())
                .map_err(|error| error.to_string())
        });
        let refused = wait_for(&mut client, key, 401, "key_disabled");
        let exit = exit.join().unwrap_or_else(|_| Err("the command's thread panicked".to_owned()));
        Ok::<_, Failure>((exit?, refused?))
    });
    let (exit, refused) = command?;
    change("enable", config, key)?;
    wait_for(&mut Client::connect(address, Ok)?, key, 200, "")?;
    let since = |earlier: Instant| match refused.checked_duration_since(earlier) {
        Some(after) => after.as_secs_f64() * 1e3,
        None => -earlier.duration_since(refused).as_secs_f64() * 1e3,
    };
    Ok(Try { from_start_ms: since(start), from_exit_ms: since(exit) })
}

/// Asks until the answer has this status, with `code` in its body, and says when it came.
fn wait_for(client: &mut Client, key: &Key, status: u16, code: &str) -> Result<Instant, Failure> {
    let header = format!("x-api-key: {}\r\n", key.secret);
    let deadline = Instant::now() + EFFECT_LIMIT;
    loop {
        let answer = client.get("/", &header)?;
        let now = Instant::now();
        match answer.status {
            seen if seen == status && answer.body.contains(code) => return Ok(now),
            200 | 401 if now < deadline => pause(PAUSE),
            seen => return Err(format!("{seen} instead of {status}: {}", answer.body).into()),
        }
    }
}

/// Runs `keyward keys <verb> ID`, as a person would from another shell.
fn change(verb: &str, config: &Path, key: &Key) -> Result<(), Failure> {
    let output = Command::new(keyward::program())
        .args(["keys", verb, &key.id, "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("keys {verb} failed ({}): {said}", output.status).into())
}

fn report(keys: usize, tries: &[Try], passed: u64) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut figures = json!({
        "bench": "disable_latency",
        "machine": machine::describe(),
        "keys": keys,
        "tries": tries.len(),
        "answers_to_the_other_key": passed,
        "errors_of_the_other_key": 0,
    });
    let from_start = tries.iter().map(|one| one.from_start_ms);
    let from_exit = tries.iter().map(|one| one.from_exit_ms);
    let series =
        [("from_start_ms", stats::sorted(from_start)), ("from_exit_ms", stats::sorted(from_exit))];
    writeln!(
        out,
        "One of {keys} keys, {} times disabled, until the first refused answer, in ms:",
        tries.len()
    )?;
    for (name, sorted) in series {
        let Some(spread) = Spread::of(sorted.iter().copied()) else { continue };
        let p90 = sorted[(sorted.len() - 1) * 9 / 10];
        let Spread { median, max, .. } = spread;
        writeln!(out, "  {name:14} median {median:7.2}  p90 {p90:7.2}  max {max:7.2}")?;
        figures[name] = spread.to_json();
        figures[name]["p90"] = json!((p90 * 1e4).round() / 1e4);
    }
    writeln!(out, "The other key's holder had {passed} answers in the meantime, all of them 200.")?;
    settings::keep("disable_latency", &figures)
}
