//! How long a key's open streams outlive the change that disables it.
//!
//! A holder keeps a WebSocket, a slow download and a stream of events open; the change is one write of the key file, as
//! any editor or program makes it, and the clock runs from there to the end that the client sees of the last of them.
//! Another key's streams of the same kinds stay open all the while.
//!
//! `cargo bench --bench close_latency`; `TRIES` (100). Loopback only, bounded in time.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "this bench has a service and clients of its own")]
mod support;

use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::json;
use support::keyring::{self, Key};
use support::stats::{self, Spread};
use support::{Failure, child, keyward, machine, pause, settings};

const MAX_TRIES: u64 = 10_000;
/// A stream that stays open for so long is a failure, not a latency.
const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(200);
/// What of a key the file says.
const ENABLED: &str = "enabled = true";
const DISABLED: &str = "enabled = false";

/// What the configuration says of its only route, and what is added to that.
const ROUTE: &str = "roles = [\"viewer\"]\n";
const UPGRADES: &str = "upgrades = [\"bytes\"]\n";
const TUNNEL: &str = "Connection: Upgrade\r\nUpgrade: bytes\r\n";
/// What is asked for, with further fields of the request, and how its answer begins.
const KINDS: [(&str, &str, &str); 3] = [
    ("/tunnel", TUNNEL, "HTTP/1.1 101 "),
    ("/events", "", "HTTP/1.1 200 "),
    ("/download", "", "HTTP/1.1 200 "),
];

fn main() -> ExitCode {
    support::run("close_latency", |_| None, measure)
}

fn measure() -> Result<(), Failure> {
    let tries = settings::number("TRIES", if settings::smoke() { 3 } else { 100 }, MAX_TRIES)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let address = child::free_address()?;
    let listener = TcpListener::bind(address)?;
    thread::spawn(move || serve(listener));
    let keys = keyring::make(2)?;
    let folder = folder.path().join("keyward");
    let (_keyward, address) =
        keyward::start(keyward::TEMPLATE, &folder, None, address, &keys, None)?;
    let config = folder.join(keyward::CONFIG);
    let text = fs::read_to_string(&config)?;
    replace(&config, &text.replacen(ROUTE, &format!("{ROUTE}{UPGRADES}"), 1))?;
    let file = folder.join("keys.toml");
    let enabled = fs::read_to_string(&file)?;
    let (ours, others) = (&keys[0], &keys[1]);
    let mut bystanders = Vec::new();
    wait_for(|| Ok(open(address, others)?.map(|streams| bystanders = streams).is_some()))?;
    let mut latencies = Vec::new();
    for _ in 0..tries {
        let mut streams = Vec::new();
        wait_for(|| Ok(open(address, ours)?.map(|opened| streams = opened).is_some()))?;
        let start = Instant::now();
        replace(&file, &disabling(&enabled, ours)?)?;
        for stream in &mut streams {
            to_end(stream)?;
        }
        latencies.push(start.elapsed().as_secs_f64() * 1e3);
        replace(&file, &enabled)?;
    }
    for stream in &mut bystanders {
        if has_ended(stream)? {
            return Err("a stream of the other key was closed".into());
        }
    }
    report(latencies)
}

/// One stream of each kind; nothing while the key is not let in.
fn open(address: SocketAddr, key: &Key) -> Result<Option<Vec<TcpStream>>, Failure> {
    let mut streams = Vec::new();
    for (path, lines, begin) in KINDS {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let secret = &key.secret;
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nx-api-key: {secret}\r\n{lines}\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = vec![0; begin.len()];
        stream.read_exact(&mut answer)?;
        if answer != begin.as_bytes() {
            return Ok(None);
        }
        streams.push(stream);
    }
    Ok(Some(streams))
}

/// Reads away what comes, to the end: a reset, or one that says nothing.
fn to_end(stream: &mut TcpStream) -> Result<(), Failure> {
    match io::copy(stream, &mut io::sink()) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error.into()),
        _ => Ok(()),
    }
}

/// Whether it has, by what is there of it now.
fn has_ended(stream: &mut TcpStream) -> Result<bool, Failure> {
    stream.set_nonblocking(true)?;
    match io::copy(&mut stream.take(1 << 20), &mut io::sink()) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(_) => Ok(true),
        Ok(read) => Ok(read < 1 << 20),
    }
}

fn wait_for(mut condition: impl FnMut() -> Result<bool, Failure>) -> Result<(), Failure> {
    let deadline = Instant::now() + LIMIT;
    while !condition()? {
        if Instant::now() > deadline {
            return Err("the change of a file had no effect".into());
        }
        pause(PAUSE);
    }
    Ok(())
}

/// The key file in which `key` is disabled.
fn disabling(text: &str, key: &Key) -> Result<String, Failure> {
    let (before, entry) = text.split_once(&key.id).ok_or("the key is not in the file")?;
    Ok(format!("{before}{}{}", key.id, entry.replacen(ENABLED, DISABLED, 1)))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, text)?;
    fs::set_permissions(&temporary, fs::metadata(path)?.permissions())?;
    fs::rename(temporary, path)
}

/// The service: begins each answer and never ends it.
fn serve(listener: TcpListener) {
    for stream in listener.incoming().flatten() {
        // Whoever leaves ends the thread that served him.
        thread::spawn(move || drop(answer(stream)));
    }
}

fn answer(stream: TcpStream) -> io::Result<()> {
    let mut requests = BufReader::new(stream);
    let (mut path, mut line) = (String::new(), String::new());
    while requests.read_line(&mut line)? > 2 {
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        }
        line.clear();
    }
    let mut stream = requests.into_inner();
    match &*path {
        "/tunnel" => {
            stream.write_all(format!("HTTP/1.1 101 Switching\r\n{TUNNEL}\r\n").as_bytes())?;
        }
        "/events" => stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n",
        )?,
        _ => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 1 << 16])?;
            }
        }
    }
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

fn report(latencies: Vec<f64>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let sorted = stats::sorted(latencies);
    let Some(spread) = Spread::of(sorted.iter().copied()) else { return Ok(()) };
    let Spread { median, max, .. } = spread;
    let p90 = sorted[(sorted.len() - 1) * 9 / 10];
    writeln!(
        out,
        "{} times disabled, until the last open stream was closed, in ms:",
        sorted.len()
    )?;
    writeln!(out, "  median {median:7.2}  p90 {p90:7.2}  max {max:7.2}")?;
    let mut figures = json!({
        "bench": "close_latency",
        "machine": machine::describe(),
        "tries": sorted.len(),
        "streams": KINDS.len(),
        "streams_of_the_other_key_closed": 0,
    });
    figures["from_write_ms"] = spread.to_json();
    figures["from_write_ms"]["p90"] = json!((p90 * 1e4).round() / 1e4);
    settings::keep("close_latency", &figures)
}
