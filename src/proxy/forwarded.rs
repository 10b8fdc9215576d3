//! `Forwarded` (RFC 7239) and `X-Forwarded-*`: whose request it is, and how it came.
//!
//! What a peer says of others is believed, and passed on, only if the peer is in `trusted_proxies`;
//! otherwise ours replaces it.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Whether `name`, folded, says something about where a request came from.
pub(super) fn is_forwarded(folded: &str) -> bool {
    folded == "forwarded" || folded.starts_with("x-forwarded-")
}

/// What a connection tells about itself, as header values built once.
#[derive(Debug)]
pub struct Via {
    address: HeaderValue,
    /// The last `Host` seen, and the `Forwarded` element that goes with it: a client rarely changes it.
    element: RefCell<Option<(HeaderValue, HeaderValue)>>,
}

impl Via {
    /// For a connection from `peer`.
    pub fn new(peer: SocketAddr) -> Self {
        let address =
            HeaderValue::from_str(&canonical(peer.ip()).to_string()).expect("an address is ASCII");
        Self { address, element: RefCell::new(None) }
    }

    /// Sets our fields; to be called after the client's were removed, or kept because the peer is trusted.
    pub(super) fn set(&self, headers: &mut HeaderMap, peer_is_trusted: bool) {
        let Some(host) = headers.get(HOST).cloned() else { return };
        let element = self.element(&host);
        if !peer_is_trusted {
            headers.insert(&X_FORWARDED_FOR, self.address.clone());
            headers.insert(&X_FORWARDED_HOST, host);
            headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static("http"));
            headers.insert(FORWARDED, element);
            return;
        }
        append(headers, &X_FORWARDED_FOR, &self.address);
        append(headers, &FORWARDED, &element);
        headers.entry(&X_FORWARDED_HOST).or_insert(host);
        headers.entry(&X_FORWARDED_PROTO).or_insert(HeaderValue::from_static("http"));
    }

    fn element(&self, host: &HeaderValue) -> HeaderValue {
        let mut known = self.element.borrow_mut();
        if let Some((_, element)) = known.as_ref().filter(|(known, _)| known == host) {
            return element.clone();
        }
        let address = self.address.to_str().expect("an address is ASCII");
        let node =
            if address.contains(':') { format!("\"[{address}]\"") } else { address.to_owned() };
        let host_text = host.to_str().expect("a checked Host is ASCII");
        let element = HeaderValue::from_str(&format!("for={node};host=\"{host_text}\";proto=http"))
            .expect("a checked Host holds no control character");
        *known = Some((host.clone(), element.clone()));
        element
    }
}

/// Adds `value` behind what `name` already lists.
fn append(headers: &mut HeaderMap, name: &HeaderName, value: &HeaderValue) {
    let mut list = Vec::new();
    for known in headers.get_all(name) {
        list.extend_from_slice(known.as_bytes());
        list.extend_from_slice(b", ");
    }
    list.extend_from_slice(value.as_bytes());
    headers.insert(
        name,
        HeaderValue::from_bytes(&list).expect("header values joined are a header value"),
    );
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
    use super::*;

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

    #[test]
    fn ours_replaces_what_a_stranger_says() {
        let mut headers = headers(&[("host", "a.test:81")]);
        Via::new("192.0.2.1:9".parse().expect("an address")).set(&mut headers, false);
        assert_eq!(headers[&X_FORWARDED_FOR], "192.0.2.1");
        assert_eq!(headers[&X_FORWARDED_HOST], "a.test:81");
        assert_eq!(headers[&X_FORWARDED_PROTO], "http");
        assert_eq!(headers[FORWARDED], r#"for=192.0.2.1;host="a.test:81";proto=http"#);
    }

    #[test]
    fn a_trusted_list_is_continued() {
        let mut headers = headers(&[
            ("host", "a.test"),
            ("x-forwarded-for", "198.51.100.7"),
            ("x-forwarded-proto", "https"),
            ("forwarded", "for=198.51.100.7;proto=https"),
        ]);
        Via::new("[fd00::1]:9".parse().expect("an address")).set(&mut headers, true);
        assert_eq!(headers[&X_FORWARDED_FOR], "198.51.100.7, fd00::1");
        assert_eq!(headers[&X_FORWARDED_PROTO], "https");
        let expected = r#"for=198.51.100.7;proto=https, for="[fd00::1]";host="a.test";proto=http"#;
        assert_eq!(headers[FORWARDED], expected);
    }
}
