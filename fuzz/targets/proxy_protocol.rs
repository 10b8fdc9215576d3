//! The PROXY header: who the client is, is what the header says and nothing else; and not one byte behind it is taken.
//! It goes over a real socket, in pieces.
//!
//! Input: a byte that says how the bytes are cut, and what the connection brings.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use keyward::server::proxy_protocol;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};

/// Most bytes of a binary header, as the proxy has it.
const V2_MAX_BYTES: usize = 4096;
/// Most bytes of a line (proxy-protocol.txt, §2.1).
const V1_MAX_BYTES: usize = 107;
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

thread_local! {
    static RUNTIME: OnceCell<(Runtime, TcpListener)> = const { OnceCell::new() };
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let Some((&pieces, wire)) = data.split_first() else { return };
    if wire.len() > 2 * V2_MAX_BYTES {
        return;
    }
    RUNTIME.with(|cell| {
        let (runtime, listener) = cell.get_or_init(|| {
            let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
            (runtime, listener)
        });
        runtime.block_on(check(listener, wire, usize::from(pieces % 4)));
    });
}

async fn check(listener: &TcpListener, wire: &[u8], cuts: usize) {
    let address = listener.local_addr().expect("bound");
    let socket = TcpSocket::new_v4().expect("a socket");
    // Closed at once, or ports run out.
    socket.set_zero_linger().expect("an option that is there");
    let client = socket.connect(address).await.expect("a connection");
    let (mut server, _) = listener.accept().await.expect("a connection");
    let (client, read) = tokio::join!(send(client, wire, cuts), proxy_protocol::read(&mut server));
    match expected(wire) {
        Some((source, header_bytes)) => {
            assert_eq!(read.expect("a header"), source, "{wire:?}");
            let mut rest = Vec::new();
            server.read_to_end(&mut rest).await.expect("what stands behind");
            assert_eq!(rest, &wire[header_bytes..]);
        }
        None => assert!(read.is_err(), "{wire:?}: {read:?}"),
    }
    drop(client);
}

async fn send(mut client: TcpStream, wire: &[u8], cuts: usize) -> TcpStream {
    client.set_nodelay(true).expect("an option that is there");
    for piece in wire.chunks(wire.len() / (cuts + 1) + 1) {
        client.write_all(piece).await.expect("room");
        tokio::task::yield_now().await;
    }
    client.shutdown().await.expect("open");
    client
}

/// Who `wire` says the client is, `None` within for nobody else than the peer, and how long the header is.
fn expected(wire: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    if wire.starts_with(SIGNATURE) { binary(wire) } else { line(wire) }
}

/// Version 1: `PROXY TCP4 source destination port port`, in single spaces.
fn line(wire: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let end = wire.iter().take(V1_MAX_BYTES).position(|&byte| byte == b'\n')? + 1;
    let line = wire[..end].strip_suffix(b"\r\n")?;
    if line == b"PROXY UNKNOWN" || line.starts_with(b"PROXY UNKNOWN ") {
        return Some((None, end));
    }
    let line = std::str::from_utf8(line).ok()?;
    let words: Vec<&str> = line.split(' ').collect();
    let port = |text: &str| {
        let is_plain =
            text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        text.parse::<u16>().ok().filter(|_| is_plain)
    };
    let ["PROXY", family, from, to, from_port, to_port] = words[..] else { return None };
    let (from, _): (IpAddr, IpAddr) = match family {
        "TCP4" => (from.parse::<Ipv4Addr>().ok()?.into(), to.parse::<Ipv4Addr>().ok()?.into()),
        "TCP6" => (from.parse::<Ipv6Addr>().ok()?.into(), to.parse::<Ipv6Addr>().ok()?.into()),
        _ => return None,
    };
    let (from_port, _) = (port(from_port)?, port(to_port)?);
    Some((Some(SocketAddr::new(from, from_port)), end))
}

/// Version 2: the signature, version and command, family and protocol, a length, and so many bytes.
fn binary(wire: &[u8]) -> Option<(Option<SocketAddr>, usize)> {
    let [command, family, high, low] = *wire.get(12..16)?.first_chunk()?;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let end = 16 + length;
    let body = wire.get(16..end).filter(|_| end <= V2_MAX_BYTES)?;
    let is_known = matches!(family >> 4, 0..=3) && matches!(family & 0xf, 0..=2);
    if command >> 4 != 2 || !is_known || command & 0xf > 1 {
        return None;
    }
    let is_there = |bytes: usize| (length >= bytes).then_some(());
    let port = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
    let source = match family >> 4 {
        1 => {
            is_there(12)?;
            let address: [u8; 4] = *body.first_chunk()?;
            Some(SocketAddr::new(Ipv4Addr::from(address).into(), port(8)))
        }
        2 => {
            is_there(36)?;
            let address: [u8; 16] = *body.first_chunk()?;
            Some(SocketAddr::new(Ipv6Addr::from(address).into(), port(32)))
        }
        3 => {
            is_there(216)?;
            None
        }
        _ => None,
    };
    Some((source.filter(|_| command & 0xf == 1), end))
}
