//! The PROXY protocol (haproxy.org, proxy-protocol.txt, versions 1 and 2): who a connection is really from, said by the
//! balancer in front.
//!
//! Only what the header takes is read; the bytes behind it are the client's. A connection that should have a header
//! and has none comes to nothing: to guess would let anybody be anybody.
//!
//! Never here: who may send one (see `trusted_proxies`).

use std::io;
use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// What both versions can be told apart by; no header is shorter.
const BEGINNING_BYTES: usize = 12;
/// Version 2: up to the length of what follows.
const V2_FIXED_BYTES: usize = 16;
/// Version 1: the longest line that there can be.
const V1_MAX_BYTES: usize = 107;
/// Version 1: the balancer does not know.
const UNKNOWN: &[u8] = b"PROXY UNKNOWN";
/// Version 2: addresses and what balancers add to them; an authority or a certificate's name is some hundred bytes.
const V2_MAX_BYTES: usize = 4096;

/// Reads the header that `stream` begins with. `None`: the balancer itself is the client, to see whether we live.
///
/// # Errors
/// The stream, or what there is instead of a header.
pub async fn read(stream: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; BEGINNING_BYTES];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        read_v2(stream, &mut header).await?;
    } else {
        read_v1(stream, &mut header).await?;
    }
    source(&header).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no PROXY header"))
}

/// The rest of a binary header, which says how long it is.
async fn read_v2(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    header.resize(V2_FIXED_BYTES, 0);
    stream.read_exact(&mut header[BEGINNING_BYTES..]).await?;
    let rest_bytes = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if V2_FIXED_BYTES + rest_bytes > V2_MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the PROXY header is too long"));
    }
    header.resize(V2_FIXED_BYTES + rest_bytes, 0);
    stream.read_exact(&mut header[V2_FIXED_BYTES..]).await?;
    Ok(())
}

/// The rest of a line: looked at first, so that nothing behind it is taken.
async fn read_v1(stream: &mut TcpStream, header: &mut Vec<u8>) -> io::Result<()> {
    while header.last() != Some(&b'\n') && header.len() < V1_MAX_BYTES {
        let mut ahead = [0; V1_MAX_BYTES];
        let room = V1_MAX_BYTES - header.len();
        let seen = stream.peek(&mut ahead[..room]).await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let ahead = &ahead[..seen];
        let line_bytes = memchr::memchr(b'\n', ahead).map_or(seen, |end| end + 1);
        let start = header.len();
        header.resize(start + line_bytes, 0);
        stream.read_exact(&mut header[start..]).await?;
    }
    Ok(())
}

/// Who `header` says the client is: `Some(None)` for nobody else than the balancer, `None` if it is no whole header.
fn source(header: &[u8]) -> Option<Option<SocketAddr>> {
    if !header.starts_with(v2::PROTOCOL_PREFIX) {
        let line = header.strip_suffix(b"\r\n")?;
        // What stands behind it is not to be read (§2.1).
        if line == UNKNOWN
            || line.strip_prefix(UNKNOWN).is_some_and(|rest| rest.first() == Some(&b' '))
        {
            return Some(None);
        }
        // The parser takes these for a space and for a part of a number.
        if line.iter().any(|byte| matches!(byte, b'\r' | b'+')) {
            return None;
        }
    }
    let parsed = HeaderResult::parse(header);
    if parsed.is_incomplete() {
        return None;
    }
    match parsed {
        HeaderResult::V1(parsed) => match parsed.ok()?.addresses {
            v1::Addresses::Tcp4(from) => Some(address(from.source_address, from.source_port)),
            v1::Addresses::Tcp6(from) => Some(address(from.source_address, from.source_port)),
            v1::Addresses::Unknown => Some(None),
        },
        HeaderResult::V2(parsed) => {
            let parsed = parsed.ok()?;
            match (parsed.command, parsed.addresses) {
                (v2::Command::Local, _) => Some(None),
                (_, v2::Addresses::IPv4(from)) => {
                    Some(address(from.source_address, from.source_port))
                }
                (_, v2::Addresses::IPv6(from)) => {
                    Some(address(from.source_address, from.source_port))
                }
                (_, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => Some(None),
            }
        }
    }
}

fn address(ip: impl Into<IpAddr>, port: u16) -> Option<SocketAddr> {
    Some(SocketAddr::new(ip.into(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    #[track_caller]
    fn check(header: &[u8], expected: Option<Option<&str>>) {
        let source = source(header).map(|source| source.map(|address| address.to_string()));
        assert_eq!(source, expected.map(|source| source.map(str::to_owned)));
    }

    #[test]
    fn a_line_names_the_client() {
        check(b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n", Some(Some("198.51.100.7:4711")));
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n", Some(Some("[2001:db8::7]:4711")));
        check(b"PROXY UNKNOWN\r\n", Some(None));
        check(b"PROXY UNKNOWN 1 2 3 4 5 \xff\r\n", Some(None));
        for wrong in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\n",
            "PROXY TCP4 198.51.100.7 192.0.2.1 4711\r\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 4711 80\r\n",
            "PROXY TCP4 198.51.100.7 192.0.2.1 4711 80 \n",
            "PROXY TCP4\r198.51.100.7 192.0.2.1 4711 80\r\n",
            "PROXY TCP4 198.51.100.7 192.0.2.1 +4711 80\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY TCP4 198.51.100.7 192.0.2.1 4711 80000\r\n",
            "proxy TCP4 198.51.100.7 192.0.2.1 4711 80\r\n",
        ] {
            check(wrong.as_bytes(), None);
        }
    }

    #[test]
    fn a_binary_header_names_the_client() {
        let of = |command_and_family: &[u8], addresses: &[u8]| {
            let length = (addresses.len() as u16).to_be_bytes();
            [SIGNATURE, command_and_family, &length, addresses].concat()
        };
        let v4 = [198, 51, 100, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80];
        check(&of(&[0x21, 0x11], &v4), Some(Some("198.51.100.7:4711")));
        check(&of(&[0x20, 0x00], &[]), Some(None));
        check(&of(&[0x20, 0x11], &v4), Some(None));
        check(&of(&[0x11, 0x11], &v4), None);
        check(&of(&[0x21, 0x11], &v4[..8]), None);
        check(SIGNATURE, None);
    }
}
