//! What an idle connection costs in memory: keyward beside nginx and HAProxy, with 10,000 keys. Each connection asks once,
//! is answered, and then kept; what the proxy's processes have grown by is shared out among them.
//!
//! Claim: 6 KiB of keyward's for a connection of HTTP/1.1 in clear. What the kernel holds for it is the same for all, and
//! not counted.
//!
//! `cargo bench --bench idle`; `IDLE` (4000) connections, `ONLY=keyward,nginx`. Needs as many file descriptors as `ulimit
//! -Hn` allows. Loopback only, bounded in time.

#[expect(dead_code, reason = "it is about what is held now")]
#[path = "peers/memory.rs"]
mod memory;
#[expect(dead_code, reason = "nothing is timed")]
#[path = "peers/mod.rs"]
mod peers;
#[expect(dead_code, reason = "nothing is timed")]
#[path = "support/mod.rs"]
mod support;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use socket2::{Domain, Socket, Type};

use peers::options::Options;
use peers::{Contestant, HAPROXY, Job, KEYS, KEYWARD, NGINX, tls};
use support::client::Client;
use support::keyring::Key;
use support::settings::{number, smoke};
use support::{Failure, keyring, machine, pause, settings};

/// What is to be reached in clear.
const TARGET_BYTES: f64 = 6.0 * 1024.0;
/// Source addresses: no proxy lets one have so many connections.
const ADDRESSES: u64 = 100;
/// Connections before the first that counts, for what is made once.
const WARM_UP: u64 = 50;
/// How long a proxy has to let go of what it needs for a request alone.
const REST: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_secs(5);
/// Connections that each contestant takes: the default of keyward.
const ROOM: usize = 16_384;

fn main() -> ExitCode {
    let part = |arguments: &[&str]| match arguments {
        ["upstream", listen] => Some(peers::serve_upstream(listen)),
        _ => None,
    };
    support::run("idle", part, compare)
}

fn compare() -> Result<(), Failure> {
    let options = Options::from_env(1, 1)?;
    let connections = number("IDLE", if smoke() { 100 } else { 4000 }, 10_000)?;
    peers::raise_limit()?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let folder = folder.path();
    let keys = keyring::make(KEYS)?;
    let (_upstream, upstream) = peers::start_upstream(folder)?;
    let pair = tls::make_pair(folder)?;
    let client = tls::client(&pair, b"http/1.1", false)?;
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "bytes for each of {connections} idle connections")?;
    let mut figures = serde_json::Map::new();
    for (protocol, pair) in [("clear", None), ("tls", Some(&*pair))] {
        let folder = folder.join(protocol);
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
        for contestant in job.start(&[KEYWARD, NGINX, HAPROXY], &options)? {
            let bytes = match pair {
                None => measure(&contestant, &keys, connections, Ok)?,
                Some(_) => {
                    measure(&contestant, &keys, connections, |socket| tls::over(&client, socket))?
                }
            };
            let verdict = match (contestant.name, protocol) {
                (KEYWARD, "clear") if bytes <= TARGET_BYTES => "  met",
                (KEYWARD, "clear") => "  MISSED",
                _ => "",
            };
            writeln!(stdout, "{protocol:>6} {:>8} {bytes:>8.0}{verdict}", contestant.name)?;
            figures.insert(format!("{protocol}_{}", contestant.name), json!(bytes.round()));
        }
    }
    let figures = json!({
        "bench": "idle",
        "machine": machine::describe(),
        "connections": connections,
        "keys": KEYS,
        "target_bytes_in_clear": TARGET_BYTES,
        "bytes_per_connection": figures,
    });
    settings::keep("idle", &figures)
}

/// What each of so many idle connections costs the contestant, in bytes.
fn measure<S: Read + Write>(
    contestant: &Contestant,
    keys: &[Key],
    connections: u64,
    wrap: impl Fn(TcpStream) -> io::Result<S>,
) -> Result<f64, Failure> {
    let open = |number| {
        let key = &keys[number as usize % keys.len()].secret;
        open(contestant.address, number, key, &wrap)
            .map_err(|error| format!("{}, connection {number}: {error}", contestant.name))
    };
    let warm_up = (0..WARM_UP).map(open).collect::<Result<Vec<_>, _>>()?;
    pause(REST);
    let before = memory::resident_bytes(contestant)?;
    let idle = (0..connections).map(open).collect::<Result<Vec<_>, _>>()?;
    pause(REST);
    let after = memory::resident_bytes(contestant)?;
    drop((warm_up, idle));
    Ok(after.saturating_sub(before) as f64 / connections as f64)
}

/// A connection that was answered once.
fn open<S: Read + Write>(
    address: SocketAddr,
    number: u64,
    key: &str,
    wrap: impl FnOnce(TcpStream) -> io::Result<S>,
) -> io::Result<Client<S>> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + (number % ADDRESSES) as u32);
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect_timeout(&address.into(), TIMEOUT)?;
    let mut client = Client::over(socket.into(), address, wrap)?;
    match client.get("/orders/42", &format!("x-api-key: {key}\r\n"))?.status {
        200 => Ok(client),
        status => Err(io::Error::other(format!("answered with {status}"))),
    }
}
