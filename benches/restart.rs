//! Whether a request is lost when certificates are swapped and when a new process takes over: clients ask over TLS
//! without a pause, on kept connections and on new ones, while both happen again and again.
//!
//! A request has failed when it got no whole answer with 200, or when its connection could not be had. A connection whose
//! last answer said `connection: close` is not used again; any other must take the next request.
//!
//! `cargo bench --bench restart`; `TIMES` (10) each, `REQUESTS` (100000) at least. Loopback only, bounded in time.

#[path = "support/mod.rs"]
mod support;

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use support::client::Client;
use support::keyring::{self, Key};
use support::stats::Spread;
use support::{Failure, child, keyward, machine, pause, settings, upstream};

const MAX_TIMES: u64 = 1_000;
const MAX_REQUESTS: u64 = 100_000_000;
/// The name in the certificates.
const HOST: &str = "bench.example";
/// Requests on one connection, for each client.
const ON_ONE_CONNECTION: [u64; 4] = [u64::MAX, u64::MAX, 100, 10];
/// What has not happened by then is a failure, not a figure.
const LIMIT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(2);
const TAKEN_OVER: &str = "a new process has taken over; requests in flight end here";

fn main() -> ExitCode {
    support::run("restart", |_| None, measure)
}

/// What the clients have seen.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    failed: AtomicU64,
    connections: AtomicU64,
    is_over: AtomicBool,
}

/// What was done to the proxy, how long each took, and what clients asked meanwhile.
struct Series {
    name: &'static str,
    took_ms: Vec<f64>,
    requests: u64,
    failed: u64,
}

fn measure() -> Result<(), Failure> {
    let is_smoke = settings::smoke();
    let times = settings::number("TIMES", if is_smoke { 2 } else { 10 }, MAX_TIMES)?;
    let least = if is_smoke { 1_000 } else { 100_000 };
    let least = settings::number("REQUESTS", least, MAX_REQUESTS)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let upstream = child::free_address()?;
    let listener = TcpListener::bind(upstream)?;
    thread::spawn(move || upstream::serve(listener));
    let keys = keyring::make(1)?;
    let authority = Authority::new()?;
    let tls = authority.clients()?;
    let folder = folder.path().join("keyward");
    let pair = folder.with_extension("pair");
    fs::create_dir(&pair)?;
    authority.write_pair(&pair)?;
    let (first, address) =
        keyward::start(keyward::TEMPLATE, &folder, None, upstream, &keys, Some(&pair))?;
    let log = folder.join("output.log");
    let mut serving = Serving { pid: first.id(), first: first.id(), log };

    let seen = Seen::default();
    let series = thread::scope(|scope| {
        for on_one in ON_ONE_CONNECTION {
            let (seen, tls, key) = (&seen, &tls, &keys[0]);
            scope.spawn(move || ask(address, tls, key, on_one, seen));
        }
        let swap = || {
            let der = authority.write_pair(&pair)?;
            wait_for("the new certificate", || Ok(shown(address, &tls)? == der))
        };
        let series = disturb(times, least, &seen, swap, || serving.take_over());
        seen.is_over.store(true, Ordering::Relaxed);
        series
    })?;
    report(&series, &seen)
}

/// Swaps and takes over in turn, as often as is asked for; then waits until there were as many requests.
fn disturb(
    times: u64,
    least: u64,
    seen: &Seen,
    mut swap: impl FnMut() -> Result<(), Failure>,
    mut take_over: impl FnMut() -> Result<(), Failure>,
) -> Result<[Series; 2], Failure> {
    let new = |name| Series { name, took_ms: Vec::new(), requests: 0, failed: 0 };
    let mut series = [new("certificate swaps"), new("takeovers")];
    for number in 1..=times {
        for (place, series) in series.iter_mut().enumerate() {
            let part = least * (2 * (number - 1) + place as u64) / (2 * times);
            wait_for("more requests", || Ok(seen.requests.load(Ordering::Relaxed) >= part))?;
            let before =
                (seen.requests.load(Ordering::Relaxed), seen.failed.load(Ordering::Relaxed));
            let start = Instant::now();
            if place == 0 {
                swap()?
            } else {
                take_over()?
            }
            series.took_ms.push(start.elapsed().as_secs_f64() * 1e3);
            series.requests += seen.requests.load(Ordering::Relaxed) - before.0;
            series.failed += seen.failed.load(Ordering::Relaxed) - before.1;
        }
    }
    wait_for("more requests", || Ok(seen.requests.load(Ordering::Relaxed) >= least))?;
    Ok(series)
}

/// Asks without a pause until it is over.
fn ask(address: SocketAddr, tls: &Arc<ClientConfig>, key: &Key, on_one: u64, seen: &Seen) {
    let header = format!("x-api-key: {}\r\n", key.secret);
    let is_over = || seen.is_over.load(Ordering::Relaxed);
    while !is_over() {
        seen.connections.fetch_add(1, Ordering::Relaxed);
        let mut client = match Client::connect(address, |socket| session(socket, tls)) {
            Ok(client) => client,
            Err(error) => {
                fail(seen, &format!("no connection: {error}"));
                continue;
            }
        };
        for _ in 0..on_one {
            match client.get("/", &header) {
                Ok(answer) if answer.status == 200 => {
                    seen.requests.fetch_add(1, Ordering::Relaxed);
                }
                Ok(answer) => fail(seen, &format!("{} {}", answer.status, answer.body)),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
                Err(error) => {
                    fail(seen, &error.to_string());
                    break;
                }
            }
            if is_over() {
                break;
            }
        }
    }
}

fn fail(seen: &Seen, why: &str) {
    seen.requests.fetch_add(1, Ordering::Relaxed);
    // The first few say enough.
    if seen.failed.fetch_add(1, Ordering::Relaxed) < 5 {
        let _ = writeln!(io::stderr(), "failed: {why}");
    }
}

type Session = StreamOwned<ClientConnection, TcpStream>;

fn session(mut socket: TcpStream, tls: &Arc<ClientConfig>) -> io::Result<Session> {
    let name = ServerName::try_from(HOST).expect("a host name");
    let mut session = ClientConnection::new(Arc::clone(tls), name).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    Ok(StreamOwned::new(session, socket))
}

/// The certificate that the proxy shows now.
fn shown(address: SocketAddr, tls: &Arc<ClientConfig>) -> io::Result<Vec<u8>> {
    let session = session(TcpStream::connect(address)?, tls)?;
    let shown = session.conn.peer_certificates().and_then(|certificates| certificates.first());
    Ok(shown.map(|certificate| certificate.to_vec()).unwrap_or_default())
}

/// The process that serves; dropped, it ends, unless it is the first, which has an owner.
struct Serving {
    pid: u32,
    first: u32,
    log: PathBuf,
}

impl Serving {
    /// Has a new process take over, and waits until it has.
    fn take_over(&mut self) -> Result<(), Failure> {
        let before = self.taken_over()?.len();
        signal("-USR2", self.pid)?;
        wait_for("a takeover", || Ok(self.taken_over()?.len() > before))?;
        self.pid = *self.taken_over()?.last().ok_or("nobody took over")?;
        Ok(())
    }

    /// Who has taken over so far.
    fn taken_over(&self) -> io::Result<Vec<u32>> {
        let said = fs::read_to_string(&self.log)?;
        let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let events = events.filter(|event| event["message"] == TAKEN_OVER);
        Ok(events.filter_map(|event| event["pid"].as_u64()?.try_into().ok()).collect())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        if self.pid != self.first {
            // If it is gone, nothing is left to do.
            let _ = signal("-TERM", self.pid);
        }
    }
}

fn signal(name: &str, pid: u32) -> Result<(), Failure> {
    let mut kill = Command::new("kill");
    let status = kill.args([name, &pid.to_string()]).stderr(Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(format!("no process {pid} to signal").into()) }
}

/// Looks again and again until `condition` holds.
fn wait_for(what: &str, condition: impl Fn() -> io::Result<bool>) -> Result<(), Failure> {
    let deadline = Instant::now() + LIMIT;
    while !condition()? {
        if Instant::now() > deadline {
            return Err(format!("waited {} s in vain for {what}", LIMIT.as_secs()).into());
        }
        pause(POLL);
    }
    Ok(())
}

/// Whom the certificates are from.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Result<Self, Failure> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// How clients connect that trust it alone; each handshake is whole, so that all see the certificate.
    fn clients(&self) -> Result<Arc<ClientConfig>, Failure> {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone())?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider);
        let builder = builder.with_safe_default_protocol_versions()?;
        let mut clients = builder.with_root_certificates(roots).with_no_client_auth();
        clients.resumption = Resumption::disabled();
        Ok(Arc::new(clients))
    }

    /// Puts a new certificate and its key in the place of what is in `folder`; gives back the certificate.
    fn write_pair(&self, folder: &Path) -> Result<Vec<u8>, Failure> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![HOST.to_owned()])?;
        let certificate = params.signed_by(&key, &self.0)?;
        let files = [("server.pem.key", key.serialize_pem()), ("server.pem", certificate.pem())];
        for (name, text) in files {
            let (path, next) = (folder.join(name), folder.join(name).with_extension("next"));
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&next)?;
            file.write_all(text.as_bytes())?;
            fs::rename(next, path)?;
        }
        Ok(certificate.der().to_vec())
    }
}

fn report(series: &[Series], seen: &Seen) -> Result<(), Failure> {
    let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
    let (requests, failed) = (count(&seen.requests), count(&seen.failed));
    let mut figures = json!({
        "bench": "restart",
        "machine": machine::describe(),
        "requests": requests,
        "connections": count(&seen.connections),
        "failed": failed,
    });
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{:18} {:>6} {:>10} {:>10} {:>10} {:>7}",
        "", "times", "median ms", "max ms", "requests", "failed"
    )?;
    for Series { name, took_ms, requests, failed } in series {
        let Some(spread) = Spread::of(took_ms.iter().copied()) else { continue };
        let (times, Spread { median, max, .. }) = (took_ms.len(), spread);
        writeln!(out, "{name:18} {times:6} {median:10.1} {max:10.1} {requests:10} {failed:7}")?;
        figures[name.replace(' ', "_")] = json!({
            "times": times, "took_ms": spread.to_json(), "requests_meanwhile": requests, "failed_meanwhile": failed,
        });
    }
    writeln!(out, "{:18} {:>6} {:>10} {:>10} {requests:10} {failed:7}", "in all", "", "", "")?;
    settings::keep("restart", &figures)?;
    match failed {
        0 => Ok(()),
        failed => Err(format!("{failed} of {requests} requests failed").into()),
    }
}
