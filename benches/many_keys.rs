//! Many keys in the file, and somebody who manages them: how long the admin API takes for a page and for a search, how soon
//! a key that it disables is refused, and whether those whose requests go by feel that a key is changed.
//!
//! The last is a comparison in pairs: each holder asks again and again with a pause between two requests, for a while in
//! which nothing is changed, and for one in which a label is. What counts is the ratio of the 99th percentiles.
//!
//! `cargo bench --bench many_keys`; `KEYS` (100,000), `ROUNDS` (15 pairs). Loopback only, bounded in time.

#[path = "support/managed.rs"]
mod managed;
#[path = "support/mod.rs"]
mod support;

use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use support::client::{Answer, Client};
use support::keyring::{self, Key};
use support::stats::{self, Spread};
use support::{Failure, child, machine, pause, settings, upstream};

const MAX_KEYS: u64 = 1_000_000;
const MAX_ROUNDS: u64 = 1_000;
/// Holders that ask while a key is changed, and how long each waits between two requests.
const HOLDERS: usize = 4;
const PAUSE: Duration = Duration::from_micros(500);
/// How long one side of a pair takes. A change is made at its beginning.
const SIDE: Duration = Duration::from_secs(2);
const PAGES: usize = 50;
const SEARCHES: usize = 20;
const DISABLES: usize = 10;

fn main() -> ExitCode {
    support::run("many_keys", |_| None, measure)
}

/// Who manages keys, and where.
struct Desk {
    client: Client,
    header: String,
}

impl Desk {
    /// The answer to a request, and how many milliseconds it took.
    fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<(Answer, f64), Failure> {
        let length = body.len();
        let headers = format!(
            "{}content-type: application/json\r\ncontent-length: {length}\r\n",
            self.header
        );
        let began = Instant::now();
        let answer = self.client.ask(method, path, &headers, body)?;
        let took = began.elapsed().as_secs_f64() * 1e3;
        if answer.status != 200 {
            return Err(format!("{method} {path}: {} {}", answer.status, answer.body).into());
        }
        Ok((answer, took))
    }
}

fn measure() -> Result<(), Failure> {
    let count =
        settings::number("KEYS", if settings::smoke() { 1_000 } else { 100_000 }, MAX_KEYS)?;
    let rounds = settings::number("ROUNDS", if settings::smoke() { 1 } else { 15 }, MAX_ROUNDS)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let service = child::free_address()?;
    let listener = TcpListener::bind(service)?;
    thread::spawn(move || upstream::serve(listener));
    let keys = keyring::make(usize::try_from(count)?)?;
    let folder = folder.path().join("keyward");
    let (_keyward, address, admin) = managed::start(&folder, service, &keys)?;
    let manager = keys.iter().find(|key| key.role == "admin").ok_or("too few keys")?;
    let header = format!("authorization: Bearer {}\r\n", manager.secret);
    let mut desk = Desk { client: Client::connect(admin, Ok)?, header };

    let mut pages = Vec::new();
    for _ in 0..PAGES {
        pages.push(desk.ask("GET", "/api/v1/keys", "")?.1);
    }
    let mut searches = Vec::new();
    for key in keys.iter().step_by(keys.len().div_ceil(SEARCHES)) {
        let (answer, took) = desk.ask("GET", &format!("/api/v1/keys?q={}", &key.id[4..]), "")?;
        if !answer.body.contains(&key.id) {
            return Err(format!("{} was not found", key.id).into());
        }
        searches.push(took);
    }
    let (mut answered, mut refused) = (Vec::new(), Vec::new());
    for key in keys.iter().filter(|key| key.role == "viewer").take(DISABLES) {
        let (answer, refusal) = disable(&mut desk, address, key)?;
        answered.push(answer);
        refused.push(refusal);
    }
    let (mut ratios, mut quiet, mut changing, mut changes) = (vec![], vec![], vec![], vec![]);
    let changed = keys.last().ok_or("too few keys")?;
    for round in 0..rounds {
        let label = format!("changed {round}");
        let mut sides = [false, true];
        if round % 2 == 1 {
            sides.reverse();
        }
        let mut p99 = [0.0; 2];
        for is_changing in sides {
            let change = is_changing.then_some((&mut desk, changed, label.as_str()));
            let (latency, change) = ask_beside(address, &keys, change)?;
            p99[usize::from(is_changing)] = latency;
            changes.extend(change);
        }
        ratios.push(p99[1] / p99[0]);
        quiet.push(p99[0]);
        changing.push(p99[1]);
    }
    report(
        count,
        &[
            ("first_page_ms", pages),
            ("search_ms", searches),
            ("disable_answered_ms", answered),
            ("disable_refused_ms", refused),
            ("change_answered_ms", changes),
            ("p99_quiet_ms", quiet),
            ("p99_while_a_key_changes_ms", changing),
            ("p99_ratio", ratios),
        ],
    )
}

/// Disables `key`, and enables it again: until the change was answered, and until its holder was refused.
fn disable(desk: &mut Desk, address: SocketAddr, key: &Key) -> Result<(f64, f64), Failure> {
    let header = format!("x-api-key: {}\r\n", key.secret);
    let is_over = AtomicBool::new(false);
    let began = Instant::now();
    let (answered, refused) = thread::scope(|scope| {
        let holder = scope.spawn(|| {
            let mut client = Client::connect(address, Ok).map_err(|error| error.to_string())?;
            while !is_over.load(Ordering::Relaxed) {
                let answer = client.get("/", &header).map_err(|error| error.to_string())?;
                if answer.status == 401 {
                    return Ok(began.elapsed().as_secs_f64() * 1e3);
                }
                pause(PAUSE);
            }
            // The answer said that it is in force: so it is, for the very next request.
            let answer = client.get("/", &header).map_err(|error| error.to_string())?;
            match answer.status {
                401 => Ok(began.elapsed().as_secs_f64() * 1e3),
                status => Err(format!("{status} behind the answer to the disable")),
            }
        });
        let answered = desk.ask("POST", &format!("/api/v1/keys/{}/disable", key.id), "{}");
        is_over.store(true, Ordering::Relaxed);
        let refused = holder.join().unwrap_or_else(|_| Err("the holder panicked".to_owned()));
        Ok::<_, Failure>((answered?.1, refused?))
    })?;
    desk.ask("POST", &format!("/api/v1/keys/{}/enable", key.id), "{}")?;
    Ok((answered, refused))
}

/// The 99th percentile of the latencies of all holders in milliseconds, while a label is changed where `change` says which;
/// and how long that took.
fn ask_beside(
    address: SocketAddr,
    keys: &[Key],
    change: Option<(&mut Desk, &Key, &str)>,
) -> Result<(f64, Option<f64>), Failure> {
    let end = Instant::now() + SIDE;
    thread::scope(|scope| {
        let holders: Vec<_> = keys
            .iter()
            .take(HOLDERS)
            .map(|key| scope.spawn(move || hold(address, key, end)))
            .collect();
        let took = change.map(|(desk, key, label)| {
            let body = json!({ "label": label }).to_string();
            desk.ask("PATCH", &format!("/api/v1/keys/{}", key.id), &body)
        });
        let mut latencies = Vec::new();
        for holder in holders {
            latencies.extend(holder.join().map_err(|_| "a holder panicked")??);
        }
        let latencies = stats::sorted(latencies);
        let p99 = latencies[(latencies.len() - 1) * 99 / 100];
        Ok((p99, took.transpose()?.map(|(_, took)| took)))
    })
}

/// Asks with `key` until `end`; how many milliseconds each request took.
fn hold(address: SocketAddr, key: &Key, end: Instant) -> Result<Vec<f64>, String> {
    let mut client = Client::connect(address, Ok).map_err(|error| error.to_string())?;
    let header = format!("x-api-key: {}\r\n", key.secret);
    let mut latencies = Vec::new();
    while Instant::now() < end {
        let began = Instant::now();
        let answer = client.get("/", &header).map_err(|error| error.to_string())?;
        latencies.push(began.elapsed().as_secs_f64() * 1e3);
        if answer.status != 200 {
            return Err(format!("{} {}", answer.status, answer.body));
        }
        pause(PAUSE);
    }
    Ok(latencies)
}

fn report(keys: u64, series: &[(&str, Vec<f64>)]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut figures = json!({ "bench": "many_keys", "machine": machine::describe(), "keys": keys });
    writeln!(out, "{keys} keys in the file:")?;
    for (name, values) in series {
        let Some(spread) = Spread::of(values.iter().copied()) else { continue };
        let Spread { median, min, max } = spread;
        writeln!(out, "  {name:28} median {median:8.2}  ({min:.2}..{max:.2})")?;
        figures[*name] = spread.to_json();
    }
    settings::keep("many_keys", &figures)
}
