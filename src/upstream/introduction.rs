//! Whose connection it is, told to an endpoint in a header of the PROXY protocol (haproxy.org, proxy-protocol.txt,
//! versions 1 and 2).
//!
//! Never here: reading one, or whether one is sent.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ppp::{v1, v2};

use super::settings::ProxyProtocol;

/// A client, and where it reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduction {
    source: SocketAddr,
    destination: SocketAddr,
}

impl Introduction {
    /// Of the client at `source`; a `destination` that is not known is told as the address that stands for none.
    ///
    /// A header has one family for both: if the two differ, IPv4 is written as IPv6 (RFC 4291 §2.5.5.2).
    pub fn new(source: SocketAddr, destination: Option<SocketAddr>) -> Self {
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        let source = canonical(source);
        let unknown = match source {
            SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0),
        };
        let destination = destination.map_or(unknown, canonical);
        match source.is_ipv4() == destination.is_ipv4() {
            true => Self { source, destination },
            false => Self { source: mapped(source), destination: mapped(destination) },
        }
    }

    /// The header that names `client`; without one it says that the connection is our own.
    pub(super) fn header(client: Option<&Self>, version: ProxyProtocol) -> io::Result<Vec<u8>> {
        let addresses = client.map(|client| (client.source, client.destination));
        match (version, addresses) {
            (ProxyProtocol::V1, None) => Ok(v1::Addresses::Unknown.to_string().into_bytes()),
            (ProxyProtocol::V1, Some(addresses)) => {
                Ok(v1::Addresses::from(addresses).to_string().into_bytes())
            }
            (ProxyProtocol::V2, None) => {
                let family = v2::AddressFamily::Unspecified | v2::Protocol::Unspecified;
                v2::Builder::new(v2::Version::Two | v2::Command::Local, family).build()
            }
            (ProxyProtocol::V2, Some(addresses)) => {
                let command = v2::Version::Two | v2::Command::Proxy;
                v2::Builder::with_addresses(command, v2::Protocol::Stream, addresses).build()
            }
        }
    }
}

fn mapped(at: SocketAddr) -> SocketAddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), at.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(source: &str, destination: Option<&str>, line: &str, binary: &[u8]) {
        let address = |text: &str| text.parse().expect("an address");
        let client = Introduction::new(address(source), destination.map(address));
        let header = |version| Introduction::header(Some(&client), version).expect("it fits");
        assert_eq!(String::from_utf8_lossy(&header(ProxyProtocol::V1)), line);
        let expected = [b"\r\n\r\n\0\r\nQUIT\n\x21", binary].concat();
        assert_eq!(header(ProxyProtocol::V2), expected);
    }

    #[test]
    fn both_versions_name_the_client_and_where_it_reached_us() {
        check(
            "198.51.100.7:4711",
            Some("192.0.2.1:80"),
            "PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n",
            b"\x11\0\x0c\xc6\x33\x64\x07\xc0\0\x02\x01\x12\x67\0\x50",
        );
        check(
            "[2001:db8::7]:4711",
            Some("[2001:db8::1]:80"),
            "PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n",
            b"\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
              \x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x12\x67\0\x50",
        );
    }

    #[test]
    fn addresses_of_one_family_are_told() {
        check(
            "[::ffff:198.51.100.7]:4711",
            None,
            "PROXY TCP4 198.51.100.7 0.0.0.0 4711 0\r\n",
            b"\x11\0\x0c\xc6\x33\x64\x07\0\0\0\0\x12\x67\0\0",
        );
        check(
            "[2001:db8::7]:4711",
            Some("192.0.2.1:80"),
            "PROXY TCP6 2001:db8::7 ::ffff:192.0.2.1 4711 80\r\n",
            b"\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
              \0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\x02\x01\x12\x67\0\x50",
        );
    }

    #[test]
    fn what_is_our_own_names_nobody() {
        let header = |version| Introduction::header(None, version).expect("it fits");
        assert_eq!(header(ProxyProtocol::V1), b"PROXY UNKNOWN\r\n");
        assert_eq!(header(ProxyProtocol::V2), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
