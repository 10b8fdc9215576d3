//! A million wrong keys from a hundred thousand addresses: what the proxy's memory grows by, how many guesses are refused as
//! such, and that a good key from the same addresses always passes. And whether the time of an answer tells what is
//! wrong with a key.
//!
//! The bench is a proxy whose word is trusted, and names an address with each request. In the first round each address
//! guesses until it is banned, in the second it goes on; the order is another, so that who was forgotten is not who comes
//! next. For the time, kinds of wrong keys of one length take turns, each from an address of its own, and are compared by
//! Welch's t, without the slowest twentieth (dudect: above 4.5 there is a difference).
//!
//! `cargo bench --bench guessing`; `ADDRESSES` (100,000), `TIMED` (20,000 of each kind). Loopback only, bounded in time.

#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use ::keyward::keys::format::{self, Prefix};
use serde_json::{Value, json};

use support::client::Client;
use support::keyring::{self, Key};
use support::keyward::TEMPLATE;
use support::stats::{self, Spread};
use support::{Failure, child, keyward, machine, settings, upstream};

const MAX_ADDRESSES: u64 = 1_000_000;
const MAX_TIMED: u64 = 1_000_000;
/// Wrong keys of each address in each of the two rounds; so many ban it.
const GUESSES: usize = 5;
/// Connections, each with a thread of the bench.
const CLIENTS: usize = 4;
/// From one address to the next, in each round: all in turn, and then mixed. Odd and no multiple of five, so that its
/// multiples reach every address of a round number.
const STRIDES: [usize; 2] = [1, 64_007];
/// What the table has room for, and what a place takes.
const PLACES: usize = 65_536;
const PLACE_BYTES: usize = 24;
/// Of the times of a kind, those above this share are left out: they are the machine's.
const KEPT: f64 = 0.95;

fn main() -> ExitCode {
    support::run("guessing", |_| None, measure)
}

/// What became of requests.
#[derive(Clone, Copy, Default)]
struct Seen {
    unknown: usize,
    refused: usize,
    passed: usize,
}

fn measure() -> Result<(), Failure> {
    let smoke = settings::smoke();
    let addresses =
        settings::number("ADDRESSES", if smoke { 200 } else { 100_000 }, MAX_ADDRESSES)?;
    let timed = settings::number("TIMED", if smoke { 50 } else { 20_000 }, MAX_TIMED)?;
    let (addresses, timed) = (usize::try_from(addresses)?, usize::try_from(timed)?);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let service = child::free_address()?;
    let listener = TcpListener::bind(service)?;
    thread::spawn(move || upstream::serve(listener));
    let keys = keyring::make(1)?;
    let start = |name: &str| {
        let folder = folder.path().join(name);
        keyward::start(&template(), &folder, None, service, &keys, None)
    };

    let (process, address) = start("guesses")?;
    // What good keys alone take is there before.
    all_guess(address, &keys[0], 1_000, 1, 0)?;
    let before = memory_kib(process.id())?;
    let began = Instant::now();
    let mut rounds = Vec::new();
    for stride in STRIDES {
        rounds.push(all_guess(address, &keys[0], addresses, stride, GUESSES)?);
    }
    let seconds = began.elapsed().as_secs_f64();
    let after = memory_kib(process.id())?;
    drop(process);

    let (_process, address) = start("times")?;
    let times = time_kinds(address, timed)?;
    report(addresses, &rounds, seconds, [before, after], times)
}

/// The configuration of the other benches, with a proxy that is trusted, and without an access log.
fn template() -> String {
    let server = "trusted_proxies = [\"127.0.0.1\"]\nworkers = 2";
    let auth = format!(
        "[auth]\nfailures = {{ limit = {GUESSES}, window = \"1h\", ban = \"1h\", addresses = {PLACES} }}\n\n[roles.viewer]"
    );
    TEMPLATE
        .replace("workers = 1", server)
        .replace("[roles.viewer]\n", &format!("{auth}\n"))
        .replace("access = \"access.log\"", "access = \"off\"")
}

/// The memory that a process holds.
fn memory_kib(id: u32) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(number.ok_or("the kernel does not say how much memory the process holds")?.parse()?)
}

/// The lines that say whose request it is, and with what key.
fn headers(address: usize, key: &str) -> Result<String, Failure> {
    let address = Ipv4Addr::from(0x0a00_0000 + u32::try_from(address)?);
    Ok(format!("x-forwarded-for: {address}\r\nx-api-key: {key}\r\n"))
}

/// Every address shows so many wrong keys, and then a good one.
fn all_guess(
    proxy: SocketAddr,
    key: &Key,
    addresses: usize,
    stride: usize,
    guesses: usize,
) -> Result<Seen, Failure> {
    thread::scope(|scope| {
        let guessers: Vec<_> = (0..CLIENTS)
            .map(|client| {
                scope.spawn(move || {
                    let range = (client..addresses).step_by(CLIENTS);
                    let mut sum = Seen::default();
                    let mut connection =
                        Client::connect(proxy, Ok).map_err(|error| error.to_string())?;
                    for number in range {
                        let address = number * stride % addresses;
                        let seen = guess_on(&mut connection, key, address, guesses)
                            .map_err(|error| error.to_string())?;
                        sum = sum.and(seen);
                    }
                    Ok::<_, String>(sum)
                })
            })
            .collect();
        let mut sum = Seen::default();
        for guesser in guessers {
            sum = sum.and(guesser.join().map_err(|_| "a guesser panicked")??);
        }
        Ok(sum)
    })
}

/// One of them does.
fn guess_on(
    connection: &mut Client,
    key: &Key,
    address: usize,
    guesses: usize,
) -> Result<Seen, Failure> {
    let mut seen = Seen::default();
    for number in 0..guesses {
        let wrong = format!("kw-no-key-{address:08}-{number:08}-abcdefghijk");
        let answer = connection.get("/", &headers(address, &wrong)?)?;
        match answer.status {
            401 => seen.unknown += 1,
            429 => seen.refused += 1,
            status => return Err(format!("a wrong key: {status} {}", answer.body).into()),
        }
    }
    let answer = connection.get("/", &headers(address, &key.secret)?)?;
    match answer.status {
        200 => seen.passed += 1,
        status => return Err(format!("a good key: {status} {}", answer.body).into()),
    }
    Ok(seen)
}

impl Seen {
    fn and(self, other: Self) -> Self {
        Self {
            unknown: self.unknown + other.unknown,
            refused: self.refused + other.refused,
            passed: self.passed + other.passed,
        }
    }
}

/// Keys of one length that are wrong, each in its way.
const KINDS: [&str; 4] = ["unknown", "mistyped", "made_elsewhere", "malformed"];

fn wrong_key(kind: usize, prefix: &Prefix) -> Result<String, Failure> {
    let mut key = format::generate(prefix)?.expose().clone();
    match kind {
        0 => {}
        1 => {
            let last = if key.ends_with('0') { "1" } else { "0" };
            key.replace_range(key.len() - 1.., last);
        }
        2 => key.replace_range(2..3, "-"),
        // In the middle, or a reader of the field would take it off.
        _ => key.replace_range(20..21, " "),
    }
    Ok(key)
}

/// How long the answers to each kind take, in microseconds.
fn time_kinds(proxy: SocketAddr, timed: usize) -> Result<Vec<Vec<f64>>, Failure> {
    let prefix = Prefix::new("kw")?;
    let mut connection = Client::connect(proxy, Ok)?;
    let mut times = vec![Vec::with_capacity(timed); KINDS.len()];
    for number in 0..timed {
        for turn in 0..KINDS.len() {
            // Whoever comes first in one round comes last in the next.
            let kind = (number + turn) % KINDS.len();
            let key = wrong_key(kind, &prefix)?;
            let headers = headers(number * KINDS.len() + turn, &key)?;
            let began = Instant::now();
            let status = connection.get("/", &headers)?.status;
            times[kind].push(began.elapsed().as_secs_f64() * 1e6);
            if status != 401 {
                return Err(format!("{status} for a wrong key of a new address").into());
            }
        }
    }
    Ok(times)
}

/// Those that are kept, of all kinds by the same measure.
fn kept(times: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let all = stats::sorted(times.iter().flatten().copied());
    let longest = all[((all.len() - 1) as f64 * KEPT) as usize];
    times
        .iter()
        .map(|kind| kind.iter().copied().filter(|&time| time <= longest).collect())
        .collect()
}

/// Welch's t of two samples.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let moments = |values: &[f64]| {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (count - 1.0);
        (mean, variance / count)
    };
    let ((mean, error), (other_mean, other_error)) = (moments(one), moments(other));
    (mean - other_mean) / (error + other_error).sqrt()
}

fn report(
    addresses: usize,
    rounds: &[Seen],
    seconds: f64,
    [before, after]: [u64; 2],
    times: Vec<Vec<f64>>,
) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let total = rounds.iter().fold(Seen::default(), |sum, round| sum.and(*round));
    let guesses = total.unknown + total.refused;
    let table_kib = PLACES * PLACE_BYTES / 1024;
    let grown = after.saturating_sub(before);
    writeln!(out, "{guesses} wrong keys from {addresses} addresses, in {seconds:.1} s:")?;
    for (round, seen) in rounds.iter().enumerate() {
        let Seen { unknown, refused, passed } = seen;
        writeln!(
            out,
            "  round {}: {unknown} answered 401, {refused} 429; {passed} good keys, all passed",
            round + 1
        )?;
    }
    writeln!(
        out,
        "  memory {before} KiB before, {after} KiB after: {grown} KiB more, of which the table has {table_kib}"
    )?;
    let kept = kept(&times);
    let mut kinds = serde_json::Map::new();
    for (kind, values) in KINDS.iter().zip(&kept) {
        let spread = Spread::of(values.iter().copied()).ok_or("no time was taken")?;
        let t = welch(values, &kept[0]);
        writeln!(out, "  {kind:16} median {:8.2} µs  t {t:6.2}", spread.median)?;
        kinds.insert(
            (*kind).to_owned(),
            json!({ "answer_us": spread.to_json(), "t": (t * 100.0).round() / 100.0, "kept": values.len() }),
        );
    }
    let rounds: Vec<Value> = rounds
        .iter()
        .map(|seen| json!({ "401": seen.unknown, "429": seen.refused, "good_keys_passed": seen.passed }))
        .collect();
    let figures = json!({
        "bench": "guessing",
        "machine": machine::describe(),
        "addresses": addresses,
        "wrong_keys": guesses,
        "rounds": rounds,
        "seconds": seconds,
        "memory_before_kib": before,
        "memory_after_kib": after,
        "table_kib": table_kib,
        "kinds": kinds,
    });
    settings::keep("guessing", &figures)
}
