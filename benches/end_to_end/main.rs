//! What a request costs from end to end: keyward beside nginx and HAProxy doing the same key check
//! over 10,000 keys, an L4 relay as the floor, and no proxy at all.
//!
//! The proxy runs alone on one core; the load (wrk) and the upstream share the other. Contestants
//! take turns within each round, so that a noisy minute hits all of them; what is reported are
//! medians over rounds, and of ratios within a round. CPU time is what the kernel accounted to the
//! proxy's processes. Before anything is measured, each contestant must prove that it does the job.
//!
//! `cargo bench --bench end_to_end`; options are in [`options`]. Loopback only, bounded in time.

mod contestants;
mod cpu;
mod load;
mod options;
mod relay;
mod report;
#[path = "../support/mod.rs"]
mod support;
mod verify;

use std::env;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{self, ExitCode};
use std::time::{Duration, Instant};

use contestants::Contestant;
use load::{Load, Outcome};
use options::Options;
use support::child::{self, Child};
use support::{Failure, keyring, settings, upstream};

/// As many as DESIGN section 7 measures with.
const KEYS: usize = 10_000;
/// The proxy's core, and the core of load and upstream.
const PROXY_CORE: usize = 0;
const LOAD_CORE: usize = 1;
/// A round that is not counted: connections to the upstream are made, caches and pages are warm.
const WARM_UP: Duration = Duration::from_secs(1);

/// What one contestant did in one round.
struct Sample {
    /// What the clients saw.
    outcome: Outcome,
    /// CPU time of the proxy's processes, in nanoseconds; none for "direct".
    cpu_ns: u64,
    /// Cores that processes which are none of ours had in the meantime.
    others_cores: f64,
    /// Bytes it wrote to its access log.
    log_bytes: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments.as_slice() {
        ["upstream", listen] => serve_upstream(listen),
        ["relay", listen, upstream] => serve_relay(listen, upstream),
        // `cargo test --benches` runs benches without it, and wants to know that they build.
        arguments if !arguments.contains(&"--bench") => Ok(()),
        _ => compare(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "end_to_end: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve_upstream(listen: &str) -> Result<(), Failure> {
    Ok(upstream::serve(TcpListener::bind(listen)?)?)
}

fn serve_relay(listen: &str, upstream: &str) -> Result<(), Failure> {
    Ok(relay::serve(TcpListener::bind(listen)?, upstream.parse()?)?)
}

fn compare() -> Result<(), Failure> {
    let options = Options::from_env()?;
    if std::thread::available_parallelism()?.get() < 2 {
        return Err("needs two cores: one for the proxy, one for load and upstream".into());
    }
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let keys = keyring::make(KEYS)?;
    let (_upstream, upstream) = start_upstream(folder.path())?;
    let contestants = contestants::start(&options, folder.path(), upstream, &keys)?;
    for contestant in contestants.iter().filter(|contestant| contestant.checks_keys) {
        verify::does_the_job(contestant, &keys)?;
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

/// The upstream is this program again, in a process of its own.
fn start_upstream(folder: &Path) -> Result<(Child, SocketAddr), Failure> {
    let address = child::free_address()?;
    let arguments = ["upstream".to_owned(), address.to_string()];
    let output = folder.join("upstream.log");
    let program = env::current_exe()?;
    let mut upstream = Child::start("upstream", Some(LOAD_CORE), program, &arguments, &output)?;
    upstream.wait_until_listening(address)?;
    Ok((upstream, address))
}

fn measure(contestant: &Contestant, load: &Load, duration: Duration) -> Result<Sample, Failure> {
    let proxy_ns = || match &contestant.child {
        Some(child) => cpu::of_tree_ns(child.id()),
        None => Ok(0),
    };
    let others_ns = || -> io::Result<u64> {
        Ok(cpu::of_machine_ns()?.saturating_sub(cpu::of_tree_ns(process::id())?))
    };
    let (proxy_before_ns, others_before_ns) = (proxy_ns()?, others_ns()?);
    let start = Instant::now();
    let outcome = load.run(contestant.address, duration)?;
    let cpu_ns = proxy_ns()?.saturating_sub(proxy_before_ns);
    let others_ns = others_ns()?.saturating_sub(others_before_ns);
    // Over the whole of the interval: wrk's own duration begins once it has built its requests.
    let others_cores = others_ns as f64 / start.elapsed().as_nanos() as f64;
    if outcome.refused > 0 || outcome.broken > 0 {
        let Outcome { refused, broken, .. } = outcome;
        let name = contestant.name;
        return Err(format!("{name}: {refused} answers were refusals, {broken} broke").into());
    }
    let log_bytes = match &contestant.access_log {
        Some(path) => take_log_bytes(path)?,
        None => 0,
    };
    if contestant.access_log.is_some() && log_bytes == 0 {
        return Err(format!("{} wrote no access log", contestant.name).into());
    }
    Ok(Sample { outcome, cpu_ns, others_cores, log_bytes })
}

/// What was written to a log since the last time, emptying it: rounds without end must not fill the
/// disk. HAProxy clears O_APPEND, and goes on at its old offset behind a hole; so what counts is the
/// space that is taken, which is exact to a block, and not the length.
fn take_log_bytes(path: &Path) -> io::Result<u64> {
    /// The unit of `st_blocks`, whatever the file system's block is.
    const BLOCK_BYTES: u64 = 512;
    let written = fs::metadata(path)?;
    OpenOptions::new().write(true).open(path)?.set_len(0)?;
    Ok(written.len().min(written.blocks() * BLOCK_BYTES))
}
