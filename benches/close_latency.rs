//! How long a key's open streams outlive the request to the admin API that disables it.
//!
//! A holder keeps a WebSocket, a stream of events, a slow download and a stream of HTTP/2 open. The clock runs from the
//! sending of the request to the end that the client sees of the last of them, and on to the answer, which must say that
//! all four were closed. Another key's streams of the same kinds stay open all the while.
//!
//! Claim: the median to the last closed stream is at most 100 ms.
//!
//! `cargo bench --bench close_latency`; `TRIES` (100). Loopback only, bounded in time.

#[path = "support/mod.rs"]
#[expect(dead_code, reason = "this bench has a service and clients of its own")]
mod support;

use std::future::pending;
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use http::Request;
use serde_json::{Value, json};
use support::keyring::{self, Key};
use support::stats::{self, Spread};
use support::{Failure, child, keyward, machine, settings};
use tokio::runtime::{Builder, Handle};

const MAX_TRIES: u64 = 10_000;
/// A stream that stays open for so long is a failure, not a latency.
const LIMIT: Duration = Duration::from_secs(10);

/// What the configuration says of its only route, and what is added to that.
const ROUTE: &str = "roles = [\"viewer\"]\n";
const UPGRADES: &str = "upgrades = [\"websocket\"]\n";
/// What it says of the role that manages keys, and what is added to that.
const ROLE: &str = "[roles.admin]\n";
const MANAGES: &str = "admin = \"all\"\n";
/// RFC 6455, section 1.3.
const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// What is asked for over HTTP/1, with further fields of the request, and how its answer begins.
const KINDS: [(&str, &str, &str); 3] = [
    ("/websocket", WEBSOCKET, "HTTP/1.1 101 "),
    ("/events", "", "HTTP/1.1 200 "),
    ("/download", "", "HTTP/1.1 200 "),
];
/// What a key holds open: one of each kind, and one over HTTP/2.
const STREAMS: usize = KINDS.len() + 1;

fn main() -> ExitCode {
    support::run("close_latency", |_| None, measure)
}

fn measure() -> Result<(), Failure> {
    let tries = settings::number("TRIES", if settings::smoke() { 3 } else { 100 }, MAX_TRIES)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let upstream = child::free_address()?;
    let listener = TcpListener::bind(upstream)?;
    thread::spawn(move || serve(listener));
    let keys = keyring::make(4)?;
    let managing = child::free_address()?;
    let template = keyward::TEMPLATE.replacen(ROUTE, &format!("{ROUTE}{UPGRADES}"), 1).replacen(
        ROLE,
        &format!("[admin]\nlisten = \"{managing}\"\n{ROLE}{MANAGES}"),
        1,
    );
    let folder = folder.path().join("keyward");
    let (_keyward, address) = keyward::start(&template, &folder, None, upstream, &keys, None)?;
    // The streams of HTTP/2 are read there.
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let follower = runtime.handle().clone();
    thread::spawn(move || runtime.block_on(pending::<()>()));
    let [ours, others, _, admin] = &keys[..] else { return Err("four keys were made".into()) };
    let mut bystanders = open(&follower, address, others)?;
    let (mut to_end, mut to_answer) = (Vec::new(), Vec::new());
    for _ in 0..tries {
        let streams = open(&follower, address, ours)?;
        let mut asking = connect(managing)?;
        let start = Instant::now();
        change(&mut asking, "disable", ours, admin)?;
        for stream in streams {
            stream.wait_for_end()?;
        }
        to_end.push(start.elapsed().as_secs_f64() * 1e3);
        let disabled = answer_of(&mut asking)?;
        to_answer.push(start.elapsed().as_secs_f64() * 1e3);
        if disabled["closed"]["streams"] != STREAMS || disabled["closed"]["is_whole"] != true {
            return Err(format!("the answer speaks of other streams: {disabled}").into());
        }
        let mut asking = connect(managing)?;
        change(&mut asking, "enable", ours, admin)?;
        answer_of(&mut asking)?;
    }
    for stream in &mut bystanders {
        if stream.has_ended()? {
            return Err("a stream of the other key was closed".into());
        }
    }
    report(to_end, to_answer)
}

/// An open stream.
enum Stream {
    Http1(TcpStream),
    /// Hears of its end.
    Http2(Receiver<()>),
}

impl Stream {
    /// Reads away what comes, to the end: a reset, or one that says nothing.
    fn wait_for_end(self) -> Result<(), Failure> {
        match self {
            Self::Http1(mut stream) => match io::copy(&mut stream, &mut io::sink()) {
                Err(error) if error.kind() != ErrorKind::ConnectionReset => Err(error.into()),
                _ => Ok(()),
            },
            Self::Http2(ended) => Ok(ended.recv_timeout(LIMIT)?),
        }
    }

    /// Whether it has, by what is there of it now.
    fn has_ended(&mut self) -> Result<bool, Failure> {
        match self {
            Self::Http1(stream) => {
                stream.set_nonblocking(true)?;
                match io::copy(&mut stream.take(1 << 20), &mut io::sink()) {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
                    Err(_) => Ok(true),
                    Ok(read) => Ok(read < 1 << 20),
                }
            }
            Self::Http2(ended) => Ok(!matches!(ended.try_recv(), Err(TryRecvError::Empty))),
        }
    }
}

/// One stream of each kind.
fn open(follower: &Handle, address: SocketAddr, key: &Key) -> Result<Vec<Stream>, Failure> {
    let mut streams = Vec::new();
    for (path, lines, begin) in KINDS {
        let mut stream = connect(address)?;
        let secret = &key.secret;
        let head = format!("GET {path} HTTP/1.1\r\nHost: a\r\nx-api-key: {secret}\r\n{lines}\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = vec![0; begin.len()];
        stream.read_exact(&mut answer)?;
        if answer != begin.as_bytes() {
            return Err(format!("{path}: {}", String::from_utf8_lossy(&answer)).into());
        }
        streams.push(Stream::Http1(stream));
    }
    let request = Request::builder().uri("http://bench/events");
    let request = request.header("x-api-key", &key.secret).body(())?;
    // It begins or fails, and is told no more than once each.
    let (begins, begun) = sync_channel(2);
    let (ends, ended) = sync_channel(1);
    follower.spawn(async move {
        if let Err(error) = follow(address, request, &begins).await {
            // Nobody waits for the beginning of one that has begun.
            let _ = begins.send(Err(error.to_string()));
        }
        let _ = ends.send(());
    });
    begun.recv_timeout(LIMIT)??;
    streams.push(Stream::Http2(ended));
    Ok(streams)
}

/// Follows a stream of HTTP/2 to its end, and tells when it has begun.
async fn follow(
    address: SocketAddr,
    request: Request<()>,
    begins: &SyncSender<Result<(), String>>,
) -> Result<(), Failure> {
    let socket = tokio::net::TcpStream::connect(address).await?;
    let (mut send, connection) = h2::client::handshake(socket).await?;
    tokio::spawn(connection);
    let (answer, _) = send.send_request(request, true)?;
    let mut body = answer.await?.into_body();
    body.data().await.ok_or("an answer without content")??;
    begins.send(Ok(()))?;
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    Ok(())
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Asks for a change of `key`.
fn change(asking: &mut TcpStream, verb: &str, key: &Key, admin: &Key) -> io::Result<()> {
    let (id, secret) = (&key.id, &admin.secret);
    asking.write_all(
        format!(
            "POST /api/v1/keys/{id}/{verb} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Authorization: Bearer {secret}\r\nContent-Length: 0\r\n\r\n"
        )
        .as_bytes(),
    )
}

/// What came of it.
fn answer_of(asking: &mut TcpStream) -> Result<Value, Failure> {
    let mut answer = String::new();
    asking.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(serde_json::from_str(body)?),
        _ => Err(format!("the change was refused: {answer}").into()),
    }
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
        "/websocket" => stream.write_all(SWITCHING.as_bytes())?,
        "/events" => stream.write_all(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n",
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

fn report(to_end: Vec<f64>, to_answer: Vec<f64>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let mut figures = json!({
        "bench": "close_latency",
        "machine": machine::describe(),
        "tries": to_end.len(),
        "streams": STREAMS,
        "streams_of_the_other_key_closed": 0,
    });
    writeln!(out, "{} times disabled, from the request to the API on, in ms:", to_end.len())?;
    let series = [("to_last_closed_stream_ms", to_end), ("to_answer_ms", to_answer)];
    for (name, latencies) in series {
        let sorted = stats::sorted(latencies);
        let Some(spread) = Spread::of(sorted.iter().copied()) else { continue };
        let Spread { median, max, .. } = spread;
        let p90 = sorted[(sorted.len() - 1) * 9 / 10];
        writeln!(out, "  {name:24} median {median:7.2}  p90 {p90:7.2}  max {max:7.2}")?;
        figures[name] = spread.to_json();
        figures[name]["p90"] = json!((p90 * 1e4).round() / 1e4);
    }
    settings::keep("close_latency", &figures)
}
