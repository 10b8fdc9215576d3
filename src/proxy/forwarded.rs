//! `Forwarded` (RFC 7239) and `X-Forwarded-*`: whose request it is, and how it came.
//!
//! What a peer says of others is believed, and passed on, only if the peer is in `trusted_proxies`;
//! otherwise ours replaces it.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::upstream::head::Form;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether `name`, folded, says something about where a request came from.
pub(super) fn is_forwarded(folded: &str) -> bool {
    folded == "forwarded" || folded.starts_with("x-forwarded-")
}

/// Whether `name` is a list that each proxy continues: ours takes the place of the client's.
pub(super) fn is_continued(name: &HeaderName) -> bool {
    *name == FORWARDED || *name == X_FORWARDED_FOR
}

/// How a connection's requests come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// In clear.
    Http,
    /// Over TLS.
    Https,
}

impl Proto {
    fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What a connection tells about itself, as text made once.
#[derive(Debug)]
pub struct Via {
    address: String,
    proto: Proto,
    /// The last `Host` seen, and the `Forwarded` element that goes with it: a client rarely changes it.
    element: RefCell<(Vec<u8>, Vec<u8>)>,
}

impl Via {
    /// For a connection from `peer`.
    pub fn new(peer: SocketAddr, proto: Proto) -> Self {
        Self { address: canonical(peer.ip()).to_string(), proto, element: RefCell::default() }
    }

    /// The peer's address as text.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Adds our fields to `ours`; what `clients` say of the way before is continued.
    pub(super) fn push(&self, ours: &mut impl Form, clients: Option<&HeaderMap>, host: &[u8]) {
        self.update_element(host);
        let address = self.address.as_bytes();
        let proto = self.proto.as_str().as_bytes();
        let element = &self.element.borrow().1;
        let Some(clients) = clients else {
            ours.push(&X_FORWARDED_FOR, address);
            ours.push(&X_FORWARDED_HOST, host);
            ours.push(&X_FORWARDED_PROTO, proto);
            ours.push(&FORWARDED, element);
            return;
        };
        ours.push(&X_FORWARDED_FOR, &continued(clients, &X_FORWARDED_FOR, address));
        for (name, value) in [(&X_FORWARDED_HOST, host), (&X_FORWARDED_PROTO, proto)] {
            if !clients.contains_key(name) {
                ours.push(name, value);
            }
        }
        ours.push(&FORWARDED, &continued(clients, &FORWARDED, element));
    }

    fn update_element(&self, host: &[u8]) {
        let (known, element) = &mut *self.element.borrow_mut();
        if known == host {
            return;
        }
        let node = match &self.address {
            address if address.contains(':') => format!("\"[{address}]\""),
            address => address.clone(),
        };
        *known = host.to_vec();
        let proto = self.proto.as_str().as_bytes();
        *element = [b"for=", node.as_bytes(), b";host=\"", host, b"\";proto=", proto].concat();
    }
}

/// What `name` lists already, and `value` behind it.
fn continued(clients: &HeaderMap, name: &HeaderName, value: &[u8]) -> Vec<u8> {
    let known = clients.get_all(name).iter().map(HeaderValue::as_bytes);
    known.chain([value]).collect::<Vec<_>>().join(&b", "[..])
}

/// Whether `address` is in one of `networks`.
pub fn is_trusted(networks: &[IpNet], address: IpAddr) -> bool {
    !networks.is_empty() && networks.iter().any(|network| network.contains(&canonical(address)))
}

/// The client: the peer, or behind trusted proxies the last address in `X-Forwarded-For`, or else in
/// `Forwarded`, that is not one of theirs. What cannot be read as an address ends the search at the proxy that
/// passed it on.
pub(super) fn client(headers: &HeaderMap, networks: &[IpNet], peer: IpAddr) -> IpAddr {
    let mut client = canonical(peer);
    if !is_trusted(networks, client) {
        return client;
    }
    let is_plain = headers.contains_key(&X_FORWARDED_FOR);
    let field = if is_plain { &X_FORWARDED_FOR } else { &FORWARDED };
    let read = if is_plain { read_address } else { read_element };
    for line in headers.get_all(field).iter().rev() {
        for element in line.as_bytes().rsplit(|&byte| byte == b',') {
            let Some(address) = read(element) else { return client };
            client = address;
            if !is_trusted(networks, client) {
                return client;
            }
        }
    }
    client
}

/// The address in the `for` parameter of an element of `Forwarded` (RFC 7239 §4).
fn read_element(element: &[u8]) -> Option<IpAddr> {
    element.split(|&byte| byte == b';').find_map(|pair| {
        let (name, value) = pair.trim_ascii().split_at_checked(b"for=".len())?;
        let node = value
            .strip_prefix(b"\"")
            .and_then(|quoted| quoted.strip_suffix(b"\""))
            .unwrap_or(value);
        if name.eq_ignore_ascii_case(b"for=") { read_address(node) } else { None }
    })
}

/// An address, with a port or without, an IPv6 one in brackets or without.
fn read_address(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let in_brackets = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    text.parse().ok().or_else(with_port).or_else(in_brackets).map(canonical)
}

/// An IPv4 address that came over an IPv6 socket is an IPv4 address.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::upstream::request::RequestHead;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&str, &str)| {
            (
                HeaderName::try_from(*name).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            )
        };
        lines.iter().map(line).collect()
    }

    fn networks() -> Vec<IpNet> {
        ["10.0.0.0/8".parse().expect("a network"), "fd00::/8".parse().expect("a network")].to_vec()
    }

    #[track_caller]
    fn check_client(peer: &str, lines: &[(&str, &str)], expected: &str) {
        let peer = peer.parse().expect("an address");
        assert_eq!(client(&headers(lines), &networks(), peer).to_string(), expected);
    }

    #[test]
    fn the_client_is_the_last_address_that_is_not_ours() {
        let forwarded_for = |value| [("x-forwarded-for", value)];
        check_client("192.0.2.1", &forwarded_for("198.51.100.7"), "192.0.2.1");
        check_client("10.0.0.1", &[], "10.0.0.1");
        check_client("10.0.0.1", &forwarded_for("198.51.100.7"), "198.51.100.7");
        check_client("::ffff:10.0.0.1", &forwarded_for("198.51.100.7"), "198.51.100.7");
        check_client(
            "10.0.0.1",
            &forwarded_for("203.0.113.9, 198.51.100.7, 10.9.9.9"),
            "198.51.100.7",
        );
        check_client("10.0.0.1", &forwarded_for("198.51.100.7, unknown"), "10.0.0.1");
        check_client("10.0.0.1", &forwarded_for("10.0.0.3, 10.0.0.2"), "10.0.0.3");
        check_client("10.0.0.1", &forwarded_for("[2001:db8::1]:4711"), "2001:db8::1");
        check_client("10.0.0.1", &forwarded_for("[2001:db8::1]"), "2001:db8::1");
        for (value, expected) in [
            ("for=198.51.100.7;proto=https", "198.51.100.7"),
            ("for=203.0.113.9, proto=https; FOR=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=198.51.100.7, for=10.9.9.9", "198.51.100.7"),
            ("for=198.51.100.7, for=_hidden", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ] {
            check_client("10.0.0.1", &[("forwarded", value)], expected);
        }
        let lines = [("x-forwarded-for", "203.0.113.9"), ("x-forwarded-for", "198.51.100.7")];
        check_client("10.0.0.1", &lines, "198.51.100.7");
    }

    /// What the upstream is told for a request with `lines`, less its request line.
    #[track_caller]
    fn check_pushed(
        (peer, proto): (&str, Proto),
        lines: Option<&[(&str, &str)]>,
        expected: &[&str],
    ) {
        let mut ours = RequestHead::new(&Method::GET, "/");
        let via = Via::new(peer.parse().expect("an address"), proto);
        via.push(&mut ours, lines.map(headers).as_ref(), b"a.test:81");
        let text = String::from_utf8_lossy(ours.as_bytes()).into_owned();
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_stranger_is_the_first_of_the_way() {
        check_pushed(
            ("192.0.2.1:9", Proto::Https),
            None,
            &[
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: a.test:81",
                "x-forwarded-proto: https",
                r#"forwarded: for=192.0.2.1;host="a.test:81";proto=https"#,
            ],
        );
    }

    #[test]
    fn what_is_left_of_the_clients_is_continued() {
        check_pushed(
            ("[fd00::1]:9", Proto::Http),
            Some(&[
                ("x-forwarded-for", "198.51.100.7"),
                ("x-forwarded-for", "198.51.100.8"),
                ("x-forwarded-proto", "https"),
                ("forwarded", "for=198.51.100.7;proto=https"),
            ]),
            &[
                "x-forwarded-for: 198.51.100.7, 198.51.100.8, fd00::1",
                "x-forwarded-host: a.test:81",
                r#"forwarded: for=198.51.100.7;proto=https, for="[fd00::1]";host="a.test:81";proto=http"#,
            ],
        );
    }
}
