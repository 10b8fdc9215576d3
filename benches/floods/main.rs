//! What a legitimate client notices of a flood, and what memory that takes: keyward beside nginx and HAProxy, each doing
//! the same key check over 10,000 keys and writing its access log.
//!
//! The proxy runs alone on one core. On the other are the upstream, a legitimate client with 500 requests a second, and,
//! with the lowest priority, a thousand hostile connections from a hundred addresses. For each flood and each contestant,
//! in turn: a phase without the flood, and one in it. Reported is the p99 of either, counted from the moments at which
//! requests were due, and their ratio; beside it that of requests which go to the upstream without a proxy, which tells
//! what the flood does to the load core. The flood has begun two seconds before.
//!
//! Where others had part of the machine meanwhile (a hypervisor, too), both phases are measured again, a few times.
//!
//! All are offered the same: pieces are paced, and a hostile connection that the proxy closes comes back after a second or two.
//! HTTP/2 is over TLS, as nginx and HAProxy take it beside HTTP/1.1 on one port.
//!
//! `cargo bench --bench floods`; `ROUNDS` (3), `SECONDS` (3) for each phase, `CONNECTIONS` (1000), `ONLY=keyward,nginx`,
//! and `CASES=ping,slow_head` chooses among [`cases`]. `SMOKE=1` is one round of moments with 50 connections. Needs as
//! many file descriptors as `ulimit -Hn` allows, 10,500 at least. Loopback only, bounded in time.

mod cases;
mod client;
mod frames;
mod hostile;
#[expect(dead_code, reason = "it is about peaks")]
#[path = "../peers/memory.rs"]
mod memory;
mod part;
#[expect(dead_code, reason = "it has options of its own")]
#[path = "../peers/mod.rs"]
mod peers;
mod report;
#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use cases::Flood;
use part::Part;
use peers::meter::{self, Meter};
use peers::options::{self, Options};
use peers::{Contestant, HAPROXY, Job, KEYS, KEYWARD, NGINX, tls, verify};
use support::keyring::Key;
use support::settings::{number, smoke};
use support::{Failure, keyring, pause, settings};

/// What a part may take beyond its phase.
const GRACE: Duration = Duration::from_secs(30);
/// How long a flood lasts already when what it does is measured: a thousand handshakes at once are another.
const ONSET: Duration = Duration::from_secs(2);
/// How long a contestant has to let go of a flood before it is somebody else's turn.
const REST: Duration = Duration::from_millis(300);
/// How often phases are measured at most in a round that others disturb.
const ATTEMPTS: u32 = 4;
/// Connections that each contestant takes: the default of keyward.
const ROOM: usize = 16_384;

/// How to run.
struct Settings {
    rounds: u64,
    duration: Duration,
    connections: u64,
}

/// What one contestant did in one round of a flood.
struct Sample {
    quiet: client::Outcome,
    flooded: client::Outcome,
    hostile: hostile::Outcome,
    memory_bytes: u64,
    /// The share of its core that the proxy was on in the flood.
    busy: f64,
    others_cores: f64,
}

/// A flood, and in each round what each contestant did.
struct Series {
    flood: Flood,
    rounds: Vec<Vec<Sample>>,
}

/// What parts are given.
struct Stage<'a> {
    settings: &'a Settings,
    keys: &'a [Key],
    key_file: &'a Path,
    pair: &'a Path,
    upstream: SocketAddr,
}

fn main() -> ExitCode {
    let part = |arguments: &[&str]| match arguments {
        ["upstream", listen] => Some(peers::serve_upstream(listen)),
        ["client", order] => Some(client::run(order)),
        ["hostile", order] => Some(hostile::run(order)),
        _ => None,
    };
    support::run("floods", part, compare)
}

fn compare() -> Result<(), Failure> {
    let options = Options::from_env(3, 3)?;
    let settings = Settings {
        rounds: options.rounds,
        duration: if smoke() { Duration::from_millis(200) } else { options.duration },
        connections: number("CONNECTIONS", if smoke() { 50 } else { 1000 }, 1000)?,
    };
    if std::thread::available_parallelism()?.get() < 2 {
        return Err("needs two cores: one for the proxy, one for all others".into());
    }
    let floods = options::list("CASES");
    let floods = floods.iter().map(|name| Flood::named(name)).collect::<Result<Vec<_>, _>>()?;
    let floods = if floods.is_empty() { cases::ALL.to_vec() } else { floods };
    peers::raise_limit()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = folder.path();
    let keys = keyring::make(KEYS)?;
    let key_file = folder.join("keys.txt");
    let secrets: Vec<&str> = keys.iter().map(|key| key.secret.as_str()).collect();
    fs::write(&key_file, secrets.join("\n"))?;
    let (_upstream, upstream) = peers::start_upstream(folder)?;
    let pair = tls::make_pair(folder)?;
    let start = |name: &str, pair| -> Result<Vec<Contestant>, Failure> {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        let job = Job {
            folder: &folder,
            upstream,
            keys: &keys,
            pair,
            connections: ROOM,
            workers: 1,
            logs: true,
        };
        job.start(&[KEYWARD, NGINX, HAPROXY], &options)
    };
    // keyward speaks either on all of its addresses, so there are two of each.
    let (clear, over_tls) = (start("clear", None)?, start("tls", Some(&pair))?);
    for contestant in &clear {
        verify::does_the_job(contestant, &keys, Ok)?;
    }
    let client = tls::client(&pair, b"http/1.1", false)?;
    for contestant in &over_tls {
        verify::does_the_job(contestant, &keys, |socket| tls::over(&client, socket))?;
    }
    let (settings, keys) = (&settings, keys.as_slice());
    let stage = Stage { settings, keys, key_file: &key_file, pair: &pair, upstream };
    let mut series: Vec<Series> =
        floods.iter().map(|flood| Series { flood: *flood, rounds: Vec::new() }).collect();
    for round in 1..=settings.rounds {
        for Series { flood, rounds } in &mut series {
            writeln!(io::stderr(), "round {round} of {}: {}", settings.rounds, flood.name)?;
            let contestants = if flood.is_tls() { &over_tls } else { &clear };
            let samples = contestants.iter().map(|contestant| stage.measure(flood, contestant));
            rounds.push(samples.collect::<Result<_, _>>()?);
        }
    }
    let report = report::Report::new(&over_tls, &series);
    write!(io::stdout().lock(), "{report}")?;
    settings::keep("floods", &report.to_json(settings))
}

impl Stage<'_> {
    /// A phase without the flood, and one in it, until nobody disturbs them, or it was tried often enough: among a
    /// thousand requests the ten slowest are those that had to wait for others of the machine.
    fn measure(&self, flood: &Flood, contestant: &Contestant) -> Result<Sample, Failure> {
        let mut best = self.attempt(flood, contestant)?;
        for _ in 1..if smoke() { 1 } else { ATTEMPTS } {
            if meter::is_quiet(best.others_cores) {
                break;
            }
            let again = self.attempt(flood, contestant)?;
            if again.others_cores < best.others_cores {
                best = again;
            }
        }
        Ok(best)
    }

    fn attempt(&self, flood: &Flood, contestant: &Contestant) -> Result<Sample, Failure> {
        let context = |error| format!("{} in {}: {error}", contestant.name, flood.name);
        let meter = Meter::start(contestant)?;
        let quiet = self.ask(flood, contestant).map_err(context)?;
        let before = meter.stop()?;
        memory::forget_peak(contestant)?;
        let order = hostile::Order {
            flood: flood.name.to_owned(),
            address: contestant.address,
            key: self.keys[KEYS / 2].secret.clone(),
            pair: self.pair.display().to_string(),
            connections: self.settings.connections * flood.times,
        };
        let mut hostile = Part::start("hostile", &order, self.settings.duration + GRACE, true)?;
        hostile.wait().map_err(context)?;
        pause(if smoke() { Duration::ZERO } else { ONSET });
        let (meter, start) = (Meter::start(contestant)?, Instant::now());
        let flooded = self.ask(flood, contestant).map_err(context)?;
        let took_ns = start.elapsed().as_nanos() as f64;
        let cost = meter.stop()?;
        let memory_bytes = memory::peak_bytes(contestant)?;
        let hostile = hostile.end().map_err(context)?;
        pause(REST);
        let busy = cost.cpu_ns as f64 / took_ns;
        let others_cores = cost.others_cores.max(before.others_cores);
        Ok(Sample { quiet, flooded, hostile, memory_bytes, busy, others_cores })
    }

    /// What a legitimate client notices for a while.
    fn ask(&self, flood: &Flood, contestant: &Contestant) -> Result<client::Outcome, Failure> {
        let duration = self.settings.duration;
        let order = client::Order {
            address: contestant.address,
            upstream: self.upstream,
            keys: self.key_file.display().to_string(),
            pair: flood.is_tls().then(|| self.pair.display().to_string()),
            duration_ms: duration.as_millis() as u64,
        };
        Part::start("client", &order, duration + GRACE, false)?.end()
    }
}

impl Sample {
    fn failed(&self) -> u64 {
        self.quiet.proxied.failed + self.flooded.proxied.failed
    }
}
