//! Header rules: of a client's fields nothing goes on that is ours to say, about the connection, or a credential; what we
//! say is there once, exactly; and every other field goes on as it came.
//!
//! Input: a whole request in HTTP/1, with its trailers.

use bytes::Bytes;
use http::HeaderMap;

use super::reading::{Field, fields_of};
use super::worker::{IDENTITIES, IDENTITY_HEADERS, PEERS, SOURCES, Worker, origin_form};

/// What is about the connection (RFC 9110 §7.6.1), in any case.
const HOP_BY_HOP: [&str; 6] = [
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "expect",
    "http2-settings",
    "upgrade",
];
/// What trailers may not say, folded.
const NOT_IN_TRAILERS: [&str; 14] = [
    "authorization",
    "connection",
    "content-length",
    "cookie",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

thread_local! {
    static WORKER: Worker = Worker::new();
}

/// Runs the target.
pub fn run(data: &[u8]) {
    for (peer, is_trusted) in [(0, true), (1, false)] {
        WORKER.with(|worker| check(worker, data, peer, is_trusted));
    }
}

fn check(worker: &Worker, data: &[u8], peer: usize, is_trusted: bool) {
    let mut bytes = Bytes::copy_from_slice(data);
    let Some(forwarded) = worker.forward(peer, &mut bytes) else { return };
    let sent = worker.read(&mut Bytes::copy_from_slice(data)).ok().flatten().expect("it was read");
    let (line, ours) = fields_of(&forwarded.head);
    let sent_target = origin_form(&sent.head.uri);
    if !sent_target.contains('?') {
        let expected = format!("{} {sent_target} HTTP/1.1", sent.head.method);
        assert_eq!(String::from_utf8_lossy(&line), expected);
    }
    let clients = &sent.head.headers;
    let listed = listed(clients);
    check_identity(&ours);
    check_connection(&ours, &listed);
    check_vouched(&ours, clients, PEERS[peer], is_trusted);
    check_passed(&ours, clients, &listed, is_trusted);
    check_trailers(&forwarded.content.trailers);
}

/// `name` as CGI has it.
fn folded(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// The options that any line of `Connection` has.
fn listed(clients: &HeaderMap) -> Vec<String> {
    let lines = clients.get_all("connection").into_iter();
    let texts = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
    let options = texts.flat_map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    options.map(|option| option.trim().to_ascii_lowercase()).collect()
}

fn values<'f>(fields: &'f [Field], name: &str) -> Vec<&'f [u8]> {
    let named = fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
    named.map(|(_, value)| &value[..]).collect()
}

fn check_identity(ours: &[Field]) {
    let is_alias = |name: &str| IDENTITY_HEADERS.iter().any(|ours| folded(ours) == folded(name));
    let found: Vec<(&str, &[u8])> = ours
        .iter()
        .filter(|(name, _)| is_alias(name))
        .map(|(name, value)| (&name[..], &value[..]))
        .collect();
    let is_of = |identity: &[&str; 3]| {
        let expected = IDENTITY_HEADERS.into_iter().zip(identity.map(str::as_bytes));
        expected.eq(found.iter().copied())
    };
    assert!(found.is_empty() || IDENTITIES.iter().any(is_of), "{found:?}");
    for source in SOURCES {
        assert!(values(ours, source).is_empty(), "{source} goes on");
    }
}

fn check_connection(ours: &[Field], listed: &[String]) {
    let connection = values(ours, "connection");
    let (te, upgrade) = (values(ours, "te"), values(ours, "upgrade"));
    match (&te[..], &upgrade[..]) {
        ([], []) => assert!(connection.is_empty(), "{connection:?}"),
        ([b"trailers"], []) => assert_eq!(connection, [b"te"]),
        ([], [b"websocket"]) => assert_eq!(connection, [&b"upgrade"[..]]),
        both => panic!("{both:?}"),
    }
    for name in HOP_BY_HOP.into_iter().filter(|name| *name != "upgrade") {
        assert!(values(ours, name).is_empty(), "{name} goes on");
    }
    let length = values(ours, "content-length").len() + values(ours, "transfer-encoding").len();
    assert!(length <= 1, "the body is framed twice");
    let says_own = |name: &str| {
        matches!(name, "host" | "content-length" | "transfer-encoding" | "te" | "connection")
            || matches!(name, "upgrade" | "x-request-id" | "forwarded")
            || name.starts_with("x-forwarded-")
            || IDENTITY_HEADERS.contains(&name)
    };
    for name in listed.iter().filter(|name| !says_own(name)) {
        assert!(values(ours, name).is_empty(), "{name} goes on, which Connection lists");
    }
}

/// What is ours to say is said once, whatever the client said.
fn check_vouched(ours: &[Field], clients: &HeaderMap, peer: &str, is_trusted: bool) {
    for name in ["host", "x-request-id", "forwarded", "x-forwarded-for"] {
        assert_eq!(values(ours, name).len(), 1, "{name}");
    }
    let only = |name| String::from_utf8_lossy(values(ours, name)[0]).into_owned();
    let address = peer.strip_suffix(":1").expect("a port");
    let (addresses, elements) = (only("x-forwarded-for"), only("forwarded"));
    if is_trusted {
        assert!(addresses.ends_with(address), "{addresses}");
        return;
    }
    assert_eq!(addresses, address);
    if let Some(sent) = clients.get("x-request-id") {
        assert_ne!(only("x-request-id").as_bytes(), sent.as_bytes());
    }
    let host = only("host");
    assert_eq!(elements, format!("for={address};host=\"{host}\";proto=http"));
    assert_eq!(values(ours, "x-forwarded-host"), [host.as_bytes()]);
    assert_eq!(values(ours, "x-forwarded-proto"), [b"http"]);
    let about_way =
        |name: &str| folded(name).starts_with("x-forwarded-") || folded(name) == "forwarded";
    assert_eq!(ours.iter().filter(|(name, _)| about_way(name)).count(), 4);
}

/// Whatever is nobody's business goes on as it came.
fn check_passed(ours: &[Field], clients: &HeaderMap, listed: &[String], is_trusted: bool) {
    let is_ours = |name: &str| {
        let folded = folded(name);
        IDENTITY_HEADERS.iter().any(|header| self::folded(header) == folded)
            || HOP_BY_HOP.contains(&name)
            || SOURCES.contains(&name)
            || listed.iter().any(|option| option == name)
            || matches!(name, "host" | "connection" | "te" | "transfer-encoding" | "content-length")
            || name == "x-request-id"
            || folded == "forwarded"
            || folded.starts_with("x-forwarded-")
    };
    for name in clients.keys().map(http::HeaderName::as_str).filter(|name| !is_ours(name)) {
        let sent: Vec<&[u8]> = clients.get_all(name).into_iter().map(|v| v.as_bytes()).collect();
        assert_eq!(values(ours, name), sent, "{name} is changed");
    }
    let vouched = |name: &str| {
        IDENTITY_HEADERS.contains(&name)
            || matches!(name, "host" | "connection" | "te" | "transfer-encoding" | "content-length")
            || matches!(name, "upgrade" | "x-request-id" | "forwarded" | "x-forwarded-for")
            || matches!(name, "x-forwarded-host" | "x-forwarded-proto")
    };
    for (name, _) in ours.iter().filter(|(name, _)| !vouched(name)) {
        assert!(!is_ours(name) || is_trusted && folded(name).contains("forwarded"), "{name}");
        assert!(clients.contains_key(name), "{name} is nobody's");
    }
}

fn check_trailers(trailers: &HeaderMap) {
    for name in trailers.keys() {
        let folded = folded(name.as_str());
        let is_alias = IDENTITY_HEADERS.iter().any(|header| self::folded(header) == folded);
        let is_source = SOURCES.contains(&name.as_str());
        let is_head = NOT_IN_TRAILERS.contains(&&folded[..]) || folded.starts_with("x-forwarded-");
        assert!(!is_alias && !is_source && !is_head, "{name} goes on as a trailer");
    }
}
