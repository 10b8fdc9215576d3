//! What one stream that its client does not read costs the 99 others on the same connection of HTTP/2: each of them
//! asks again and again, on a connection with such a stream and on one without, in turn.
//!
//! Claim: the ratio of the medians is at most 1.2.
//!
//! `cargo bench --bench h2_stalled`; `ROUNDS` (20), `REQUESTS` (50) on each stream. Loopback only, bounded in time.

#[expect(dead_code, reason = "this bench has a client and an upstream of its own")]
#[path = "support/mod.rs"]
mod support;

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use serde_json::json;

use support::keyring::{self, Key};
use support::stats::Spread;
use support::{Failure, keyward, machine, settings};

const STREAMS: usize = 99;
const MAX_ROUNDS: u64 = 10_000;
/// What the stalled stream is sent: more than its window, so that it never ends.
const LARGE_BYTES: usize = 1 << 20;
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// The target of the stalled stream.
const STALLED: &str = "/stalled";

fn main() -> ExitCode {
    support::run("h2_stalled", |_| None, measure)
}

fn measure() -> Result<(), Failure> {
    let (rounds, requests) = if settings::smoke() { (2, 2) } else { (20, 50) };
    let rounds = settings::number("ROUNDS", rounds, MAX_ROUNDS)?;
    let requests = settings::number("REQUESTS", requests, MAX_ROUNDS)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let upstream = listener.local_addr()?;
    thread::spawn(move || serve(&listener));
    let keys = keyring::make(1)?;
    let (_keyward, address) = keyward::start(
        keyward::TEMPLATE,
        &folder.path().join("keyward"),
        None,
        upstream,
        &keys,
        None,
    )?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut micros = [Vec::new(), Vec::new()];
    for round in 0..rounds {
        // Whoever comes second may find the machine warmer: they take turns.
        for place in 0..2 {
            let is_stalled = (round + place) % 2 == 1;
            let measured = runtime.block_on(ask(address, &keys[0], requests, is_stalled))?;
            micros[usize::from(is_stalled)].extend(measured);
        }
    }
    report(rounds, requests, micros)
}

/// How long each request took, in microseconds, on 99 streams at once of a new connection.
async fn ask(
    address: SocketAddr,
    key: &Key,
    requests: u64,
    is_stalled: bool,
) -> Result<Vec<f64>, Failure> {
    let socket = tokio::net::TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let mut builder = h2::client::Builder::new();
    builder.initial_connection_window_size(LARGE_BYTES as u32);
    let (send, connection) = builder.handshake(socket).await?;
    let driver = tokio::spawn(connection);
    let stalled = if is_stalled { Some(begin(&send, key, STALLED).await?) } else { None };
    let streams = (0..STREAMS).map(|_| async {
        let mut micros = Vec::new();
        for _ in 0..requests {
            let began = Instant::now();
            let mut body = begin(&send, key, "/").await?;
            while let Some(piece) = body.data().await {
                body.flow_control().release_capacity(piece?.len())?;
            }
            micros.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok::<_, Failure>(micros)
    });
    let micros = futures_util::future::try_join_all(streams).await?;
    drop(stalled);
    driver.abort();
    Ok(micros.concat())
}

/// Sends a request, and reads the head of the answer.
async fn begin(
    send: &SendRequest<Bytes>,
    key: &Key,
    target: &str,
) -> Result<h2::RecvStream, Failure> {
    let request = Request::builder().uri(format!("http://bench{target}"));
    let request = request.header("x-api-key", &key.secret).body(())?;
    let (answer, _) = send.clone().ready().await?.send_request(request, true)?;
    let answer = answer.await?;
    match answer.status().as_u16() {
        200 => Ok(answer.into_body()),
        status => Err(format!("{target} was answered with {status}").into()),
    }
}

fn report(rounds: u64, requests: u64, micros: [Vec<f64>; 2]) -> Result<(), Failure> {
    let [without, with] = micros.map(|micros| Spread::of(micros).ok_or("nothing was measured"));
    let (without, with) = (without?, with?);
    let ratio = with.median / without.median;
    let mut out = io::stdout().lock();
    writeln!(out, "{rounds} rounds of {requests} requests on each of {STREAMS} streams, in us:")?;
    for (name, spread) in [("alone", without), ("beside a stalled one", with)] {
        let Spread { median, min, max } = spread;
        writeln!(out, "  {name:20} median {median:9.1}  min {min:9.1}  max {max:9.1}")?;
    }
    writeln!(out, "Ratio of the medians: {ratio:.3} (at most 1.2 is the claim)")?;
    let figures = json!({
        "bench": "h2_stalled",
        "machine": machine::describe(),
        "rounds": rounds,
        "requests_a_stream": requests,
        "streams": STREAMS,
        "alone_us": without.to_json(),
        "beside_a_stalled_stream_us": with.to_json(),
        "ratio_of_medians": (ratio * 1e4).round() / 1e4,
    });
    settings::keep("h2_stalled", &figures)
}

/// A service with a thread for each connection, which may wait for whoever does not read.
fn serve(listener: &TcpListener) {
    for stream in listener.incoming().flatten() {
        // Its end is the proxy's leave.
        thread::spawn(move || answer_all(&stream));
    }
}

fn answer_all(mut stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let large = [
        format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE_BYTES}\r\n\r\n").into_bytes(),
        vec![b'x'; LARGE_BYTES],
    ]
    .concat();
    let (mut is_stalled, mut is_first) = (false, true);
    for line in BufReader::new(stream).lines() {
        let line = line?;
        if is_first {
            is_stalled = line.contains(STALLED);
        }
        is_first = line.is_empty();
        if is_first {
            stream.write_all(if is_stalled { &large } else { ANSWER })?;
        }
    }
    Ok(())
}
