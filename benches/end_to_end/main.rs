//! What a request costs from end to end, over protocols, sizes of answers, connections, keys and logs: keyward beside
//! nginx, HAProxy, Envoy and Caddy doing the same key check, an L4 relay as the floor, and no proxy at all.
//!
//! The proxy runs alone on one core; the load and the upstream share the other. Contestants take turns within each round,
//! so that a noisy minute hits all of them; what is reported are medians over rounds, and of ratios within a round. CPU
//! time is what the kernel accounted to the proxy's processes. Latency is that of a closed loop, which saturates the
//! proxy, and that of requests at a fixed rate. All answers are checked, and all handshakes: a wrong one fails the bench.
//!
//! `cargo bench --bench end_to_end`; options are in [`peers::options`], `CASES=tls,h2` chooses among [`cases`], and
//! `FULL=1` takes all of the matrix. Loopback only, bounded in time.

mod cases;
mod figures;
mod generator;
mod handshake;
mod http1;
mod http2;
mod latencies;
mod load;
mod markdown;
#[path = "../peers/mod.rs"]
mod peers;
mod plots;
mod relay;
mod report;
mod schedule;
mod stages;
#[path = "../support/mod.rs"]
mod support;
mod svg;

use std::io::{self, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::Duration;

use cases::{Case, MAIN};
use generator::Outcome;
use peers::meter::Cost;
use peers::options::{self, Options};
use report::Report;
use stages::{Cast, Ground};
use support::{Failure, settings};

/// How long each contestant is measured where it is only to be seen that everything runs, and with how many keys.
const MOMENT: Duration = Duration::from_millis(100);
const FEW_KEYS: usize = 1000;

/// What one contestant did in one round of a case.
struct Sample {
    outcome: Outcome,
    cost: Cost,
}

/// A case, who takes part in it, and in each round what each of them did.
struct Series {
    case: Case,
    names: Vec<&'static str>,
    rounds: Vec<Vec<Sample>>,
}

fn main() -> ExitCode {
    let part = |arguments: &[&str]| match arguments {
        ["upstream", listen] => Some(peers::serve_upstream(listen)),
        ["relay", listen, upstream] => Some(serve_relay(listen, upstream)),
        ["load", order] => Some(generator::run(order)),
        _ => None,
    };
    support::run("end_to_end", part, compare)
}

fn serve_relay(listen: &str, upstream: &str) -> Result<(), Failure> {
    Ok(relay::serve(TcpListener::bind(listen)?, upstream.parse()?)?)
}

fn compare() -> Result<(), Failure> {
    let options = Options::from_env(7, 1)?;
    if std::thread::available_parallelism()?.get() < 2 {
        return Err("needs two cores: one for the proxy, one for load and upstream".into());
    }
    peers::raise_limit()?;
    let mut groups = cases::chosen(&options::list("CASES"), settings::flag("FULL"))?;
    if settings::smoke() {
        groups
            .iter_mut()
            .flatten()
            .for_each(|case| case.stage.keys = case.stage.keys.min(FEW_KEYS));
    }
    let most_keys = groups.iter().flatten().map(|case| case.stage.keys).max().unwrap_or_default();
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let ground = Ground::new(folder.path(), most_keys, &options)?;
    let (mut series, mut versions) = (Vec::new(), Vec::new());
    for group in groups {
        let casts = stages::start(&group, &ground)?;
        for contestant in casts.iter().flat_map(|cast| &cast.contestants) {
            if !versions.iter().any(|(name, _)| *name == contestant.name) {
                versions.push((contestant.name, contestant.version.clone()));
            }
        }
        series.extend(measure(group, &casts, &ground, &options)?);
    }
    let report = Report::new(versions, &series);
    write!(io::stdout().lock(), "{report}")?;
    report.keep(&options)
}

/// All cases in each round, and in each case all contestants, one after the other.
fn measure(
    group: Vec<Case>,
    casts: &[Cast],
    ground: &Ground<'_>,
    options: &Options,
) -> Result<Vec<Series>, Failure> {
    let is_smoke = settings::smoke();
    let duration = if is_smoke { MOMENT } else { options.duration };
    let mut series = Vec::new();
    for case in group {
        let names = stages::cast_of(&case, casts)?.taking_part(&case).map(|one| one.name).collect();
        series.push(Series { case, names, rounds: Vec::new() });
    }
    // The first is not counted: connections to the upstream are made, caches and pages are warm after it.
    for round in u64::from(is_smoke)..=options.rounds {
        writeln!(io::stderr(), "round {round} of {}", options.rounds)?;
        // The rates of the main case in this round, by name.
        let mut rates: Vec<(&str, f64)> = Vec::new();
        for Series { case, names, rounds } in &mut series {
            let rate = rate(case, &rates);
            let cast = stages::cast_of(case, casts)?;
            let samples = cast
                .taking_part(case)
                .map(|contestant| {
                    load::measure(case, contestant, &cast.key_file, &ground.pair, rate, duration)
                })
                .collect::<Result<Vec<Sample>, Failure>>()?;
            if case.name == MAIN {
                rates = names.iter().copied().zip(samples.iter().map(Sample::rate)).collect();
            }
            if round > 0 {
                rounds.push(samples);
            }
        }
    }
    Ok(series)
}

/// The rate at which requests come in an open loop: a share of what the slowest of its contestants reached in the main
/// case a moment ago.
fn rate(case: &Case, main_rates: &[(&str, f64)]) -> Option<f64> {
    let theirs = main_rates.iter().filter(|(name, _)| case.contestants.contains(name));
    let slowest = theirs.map(|(_, rate)| *rate).reduce(f64::min)?;
    Some(slowest * case.percent? as f64 / 100.0)
}
