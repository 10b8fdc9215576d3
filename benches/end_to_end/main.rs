//! What a request costs from end to end: keyward beside nginx and HAProxy doing the same key check
//! over 10,000 keys, an L4 relay as the floor, and no proxy at all.
//!
//! The proxy runs alone on one core; the load (wrk) and the upstream share the other. Contestants
//! take turns within each round, so that a noisy minute hits all of them; what is reported are
//! medians over rounds, and of ratios within a round. CPU time is what the kernel accounted to the
//! proxy's processes. Before anything is measured, each contestant must prove that it does the job.
//!
//! `cargo bench --bench end_to_end`; options are in [`peers::options`]. Loopback only, bounded in time.

mod contestants;
mod load;
#[path = "../peers/mod.rs"]
mod peers;
mod relay;
mod report;
#[path = "../support/mod.rs"]
mod support;

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use load::{Load, Outcome};
use peers::meter::{Cost, Meter};
use peers::options::Options;
use peers::{Contestant, KEYS, verify};
use support::{Failure, keyring, settings, upstream};

/// A round that is not counted: connections to the upstream are made, caches and pages are warm.
const WARM_UP: Duration = Duration::from_secs(1);

/// What one contestant did in one round.
struct Sample {
    /// What the clients saw.
    outcome: Outcome,
    /// What it took.
    cost: Cost,
}

fn main() -> ExitCode {
    let part = |arguments: &[&str]| match arguments {
        ["upstream", listen] => Some(serve_upstream(listen)),
        ["relay", listen, upstream] => Some(serve_relay(listen, upstream)),
        _ => None,
    };
    support::run("end_to_end", part, compare)
}

fn serve_upstream(listen: &str) -> Result<(), Failure> {
    Ok(upstream::serve(TcpListener::bind(listen)?)?)
}

fn serve_relay(listen: &str, upstream: &str) -> Result<(), Failure> {
    Ok(relay::serve(TcpListener::bind(listen)?, upstream.parse()?)?)
}

fn compare() -> Result<(), Failure> {
    let options = Options::from_env(7, 3)?;
    if std::thread::available_parallelism()?.get() < 2 {
        return Err("needs two cores: one for the proxy, one for load and upstream".into());
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let keys = keyring::make(KEYS)?;
    let (_upstream, upstream) = peers::start_upstream(folder.path())?;
    let contestants = contestants::start(&options, folder.path(), upstream, &keys)?;
    for contestant in contestants.iter().filter(|contestant| contestant.access_log.is_some()) {
        verify::does_the_job(contestant, &keys, Ok)?;
    }

    let load = Load::new(folder.path(), &keys, options.connections)?;
    let mut rounds = Vec::new();
    for contestant in &contestants {
        measure(contestant, &load, WARM_UP)?;
    }
    for round in 1..=options.rounds {
        writeln!(io::stderr(), "round {round} of {}", options.rounds)?;
        let mut samples = Vec::new();
        for contestant in &contestants {
            samples.push(measure(contestant, &load, options.duration)?);
        }
        rounds.push(samples);
    }

    let report = report::Report::new(&contestants, &rounds);
    write!(io::stdout().lock(), "{report}")?;
    settings::keep("end_to_end", &report.to_json(&options, &load))
}

fn measure(contestant: &Contestant, load: &Load, duration: Duration) -> Result<Sample, Failure> {
    let meter = Meter::start(contestant)?;
    let outcome = load.run(contestant.address, duration)?;
    let cost = meter.stop()?;
    if outcome.refused > 0 || outcome.broken > 0 {
        let Outcome { refused, broken, .. } = outcome;
        let name = contestant.name;
        return Err(format!("{name}: {refused} answers were refusals, {broken} broke").into());
    }
    if contestant.access_log.is_some() && cost.log_bytes == 0 {
        return Err(format!("{} wrote no access log", contestant.name).into());
    }
    Ok(Sample { outcome, cost })
}
