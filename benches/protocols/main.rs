//! What TLS, handshakes, HTTP/2 and large answers cost: keyward beside nginx and HAProxy, each doing the same key check
//! over 10,000 keys and writing its access log.
//!
//! As in `end_to_end`, the proxy runs alone on one core, load and upstream share the other, and contestants take turns
//! within each round. Reported are CPU time a request and its ratios within a round. All answers are checked, and all
//! handshakes: a wrong one fails the bench.
//!
//! `cargo bench --bench protocols`; options are in [`peers::options`], and `CASES=tls,h2` chooses among [`cases`].
//! Loopback only, bounded in time.

mod cases;
mod generator;
mod http1;
mod http2;
mod load;
#[path = "../peers/mod.rs"]
mod peers;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod tls;

use std::fs;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConnection, StreamOwned};

use cases::Case;
use generator::Outcome;
use load::Load;
use peers::meter::Cost;
use peers::options::{self, Options};
use peers::{CONNECTIONS, Contestant, Job, KEYS, verify};
use support::{Failure, keyring, settings, upstream};

/// How long each contestant is measured where it is only to be seen that everything runs.
const MOMENT: Duration = Duration::from_millis(200);

/// What one contestant did in one round of a case.
struct Sample {
    outcome: Outcome,
    cost: Cost,
}

/// A case, and in each round what each contestant did.
struct Series {
    case: Case,
    rounds: Vec<Vec<Sample>>,
}

fn main() -> ExitCode {
    let part = |arguments: &[&str]| match arguments {
        ["upstream", listen] => Some(serve_upstream(listen)),
        ["load", order] => Some(generator::run(order)),
        _ => None,
    };
    support::run("protocols", part, compare)
}

fn serve_upstream(listen: &str) -> Result<(), Failure> {
    Ok(upstream::serve(TcpListener::bind(listen)?)?)
}

fn compare() -> Result<(), Failure> {
    let options = Options::from_env(7, 1)?;
    if std::thread::available_parallelism()?.get() < 2 {
        return Err("needs two cores: one for the proxy, one for load and upstream".into());
    }
    let cases = options::list("CASES");
    let cases = cases.iter().map(|name| Case::named(name)).collect::<Result<Vec<Case>, _>>()?;
    let cases = if cases.is_empty() { cases::ALL.to_vec() } else { cases };
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = folder.path();
    let keys = keyring::make(KEYS)?;
    let (_upstream, upstream) = peers::start_upstream(folder)?;
    let pair = tls::make_pair(folder)?;
    let start = |name: &str, pair| -> Result<Vec<Contestant>, Failure> {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        let job = Job { folder: &folder, upstream, keys: &keys, pair, connections: CONNECTIONS };
        job.start(&options)
    };
    // keyward speaks either on all of its addresses, so there are two of each.
    let (clear, over_tls) = (start("clear", None)?, start("tls", Some(&pair))?);
    for contestant in &clear {
        verify::does_the_job(contestant, &keys, Ok)?;
    }
    let client = tls::client(&pair, b"http/1.1", false)?;
    for contestant in &over_tls {
        verify::does_the_job(contestant, &keys, |socket| {
            let session = ClientConnection::new(Arc::clone(&client), tls::host());
            Ok(StreamOwned::new(session.map_err(io::Error::other)?, socket))
        })?;
    }

    let load = Load::new(folder, &keys, &pair, options.connections)?;
    let series =
        measure(&cases, &options, &load, |case| if case.is_tls { &over_tls } else { &clear })?;
    let report = report::Report::new(&over_tls, &series);
    write!(io::stdout().lock(), "{report}")?;
    settings::keep("protocols", &report.to_json(&options))
}

/// All cases in each round, and in each case all contestants, one after the other.
fn measure<'a>(
    cases: &[Case],
    options: &Options,
    load: &Load,
    contestants: impl Fn(&Case) -> &'a [Contestant],
) -> Result<Vec<Series>, Failure> {
    let is_smoke = settings::smoke();
    let duration = if is_smoke { MOMENT } else { options.duration };
    let mut series: Vec<Series> =
        cases.iter().map(|case| Series { case: *case, rounds: Vec::new() }).collect();
    // The first is not counted: connections to the upstream are made, caches and pages are warm after it.
    for round in u64::from(is_smoke)..=options.rounds {
        writeln!(io::stderr(), "round {round} of {}", options.rounds)?;
        for Series { case, rounds } in &mut series {
            let samples = contestants(case)
                .iter()
                .map(|contestant| load.measure(case, contestant, duration))
                .collect::<Result<Vec<Sample>, Failure>>()?;
            if round > 0 {
                rounds.push(samples);
            }
        }
    }
    Ok(series)
}
