//! Requests that ask for another protocol on their connection (RFC 9110 §7.8): WebSocket (RFC 6455), and whatever
//! else a route allows.
//!
//! [`ask`] decides what such a request may ask its endpoint for, when it is known who asks. Only the endpoint's own
//! 101 for that very protocol ([`Asked::check_grant`]) opens a tunnel; any other answer is an ordinary one.
//!
//! In HTTP/2 such a request is a CONNECT with `:protocol` (RFC 8441). [`by_connect`] makes it the GET that HTTP/1 asks
//! with, so that from there on there is one kind. For WebSocket the handshake with the endpoint is ours then, key and
//! all: the client has none.
//!
//! What a route does not allow is refused. RFC 9110 would let us ignore it; but a client that asks for WebSocket
//! can do nothing with an ordinary answer, and the log would not tell its operator why.
//!
//! Never here: the tunnel (see [`tunnel`](super::tunnel)), or fields that are no part of a handshake.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use h2::ext::Protocol as ByConnect;
use http::header::{
    CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, response};

use super::error::Refusal;
use super::headers::tokens;
use crate::http1::encode::Framing;
use crate::limit::TunnelSlot;
use crate::policy::Permit;
use crate::policy::upgrades::Protocol;

/// The only version that is spoken (RFC 6455 §4.1).
const WEBSOCKET_VERSION: &str = "13";

/// What is digested behind a key (RFC 6455 §1.3).
const WEBSOCKET_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of a key, before they are text (RFC 6455 §4.1).
const WEBSOCKET_KEY_BYTES: usize = 16;

/// What an endpoint may be asked for.
#[derive(Debug)]
pub(super) struct Wish {
    protocol: Protocol,
    by_connect: Option<Handshake>,
}

/// What an endpoint is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    wish: Wish,
    /// For the tunnel that may come of it.
    _slot: TunnelSlot,
}

/// The handshake that is ours, of a request that came as a CONNECT.
#[derive(Clone, Debug)]
struct Handshake {
    /// How an endpoint that understands our key answers; WebSocket alone has one.
    accept: Option<String>,
}

/// Whether `head` asks for another protocol on its stream of HTTP/2; it is made the GET that does so in HTTP/1. A
/// CONNECT that names none stays what it is, and is refused.
pub fn by_connect(head: &mut Parts) -> bool {
    if head.method != Method::CONNECT {
        return false;
    }
    let Some(protocol) = head.extensions.remove::<ByConnect>() else { return false };
    // Not a list: the field that takes its place could be one.
    let (Ok(value), false) =
        (HeaderValue::from_str(protocol.as_str()), protocol.as_str().contains(','))
    else {
        return false;
    };
    head.method = Method::GET;
    let mut accept = None;
    if protocol.as_str().eq_ignore_ascii_case("websocket") {
        let key = make_key();
        accept = Some(accept_for(key.as_bytes()));
        head.headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    head.headers.insert(UPGRADE, value);
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    head.extensions.insert(Handshake { accept });
    true
}

/// A key for WebSocket. It is no secret: it shows that who answers has read it.
fn make_key() -> HeaderValue {
    let mut key = [0; WEBSOCKET_KEY_BYTES];
    getrandom::fill(&mut key).expect("a worker that has started had randomness");
    HeaderValue::try_from(BASE64_STANDARD.encode(key)).expect("letters and digits")
}

/// The only answer to a key (RFC 6455 §4.2.2). SHA-1 protects nothing here; the TLS library has it already.
fn accept_for(key: &[u8]) -> String {
    let keyed = [key, WEBSOCKET_GUID.as_bytes()].concat();
    BASE64_STANDARD.encode(digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &keyed))
}

/// What a request that asks for another protocol may ask its endpoint for.
pub(super) fn ask(head: &Parts, framing: Framing, permit: &Permit) -> Result<Wish, Refusal> {
    let asked = head.headers.get_all(UPGRADE).iter().flat_map(tokens);
    let protocol = permit.upgrades().choose(asked).ok_or(Refusal::UpgradeNotSupported)?;
    if protocol.is_websocket() {
        check_websocket(head)?;
    }
    match framing {
        Framing::Empty | Framing::Length(0) => {
            Ok(Wish { protocol, by_connect: head.extensions.get().cloned() })
        }
        // The change would come behind the body, at a place that two readers could see in two ways.
        Framing::Length(_) | Framing::Chunked => Err(Refusal::UpgradeNotSupported),
    }
}

/// RFC 6455 §4.2.1, as far as it does not depend on the service.
fn check_websocket(head: &Parts) -> Result<(), Refusal> {
    let key = only(&head.headers, &SEC_WEBSOCKET_KEY);
    if head.method != Method::GET || key.is_none_or(HeaderValue::is_empty) {
        return Err(Refusal::BadWebSocket);
    }
    match only(&head.headers, &SEC_WEBSOCKET_VERSION).map(HeaderValue::as_bytes) {
        Some(version) if version == WEBSOCKET_VERSION.as_bytes() => Ok(()),
        // §4.4: whoever speaks another version is told which to speak.
        Some([b'0'..=b'9', ..]) => Err(Refusal::WebSocketVersion),
        _ => Err(Refusal::BadWebSocket),
    }
}

/// The value of a field that is there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

impl Asked {
    pub(super) fn new(wish: Wish, slot: TunnelSlot) -> Self {
        Self { wish, _slot: slot }
    }

    /// The protocol that is asked for.
    pub(super) fn protocol(&self) -> &Protocol {
        &self.wish.protocol
    }

    /// Whether the fields of a 101 name what was asked for, and nothing else; on an error what is wrong with them.
    pub(super) fn check_grant(&self, headers: &HeaderMap) -> Result<(), &'static str> {
        let mut named = headers.get_all(UPGRADE).iter().flat_map(tokens);
        match (named.next(), named.next()) {
            (Some(protocol), None) if self.wish.protocol.is(protocol) => {}
            _ => return Err("it switches to another protocol than was asked for"),
        }
        let expected = self.wish.by_connect.as_ref().and_then(|ours| ours.accept.as_ref());
        let accepted = only(headers, &SEC_WEBSOCKET_ACCEPT);
        match expected {
            Some(expected) if accepted.is_none_or(|accepted| accepted != expected) => {
                Err("its Sec-WebSocket-Accept does not answer our Sec-WebSocket-Key")
            }
            _ => Ok(()),
        }
    }

    /// Whether the client would take an ordinary answer for the beginning of the tunnel: to a CONNECT every 2xx is one
    /// (RFC 9110 §9.3.6).
    pub(super) fn is_mistaken_for_granted(&self, answer: &response::Parts) -> bool {
        self.wish.by_connect.is_some() && answer.status.is_success()
    }

    /// Says in the fields of our own 101 what was granted. It has no body, so it says nothing of one.
    pub(super) fn grant(&self, headers: &mut HeaderMap) {
        let protocol = self.protocol().as_str();
        let protocol = HeaderValue::from_str(protocol).expect("a token is a value");
        if self.wish.by_connect.is_some() {
            headers.remove(SEC_WEBSOCKET_ACCEPT);
        }
        headers.remove(CONTENT_LENGTH);
        headers.insert(UPGRADE, protocol);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Says in the fields of a 426 what to ask for instead (RFC 6455 §4.4, RFC 9110 §15.5.22).
pub(super) fn require_version(headers: &mut HeaderMap) {
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(WEBSOCKET_VERSION));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_a_key_is_that_of_the_standard() {
        assert_eq!(accept_for(b"dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(BASE64_STANDARD.decode(make_key()).map(|key| key.len()), Ok(16));
        assert_ne!(make_key(), make_key());
    }

    #[test]
    fn only_a_connect_for_one_protocol_becomes_a_get() {
        let check = |method: Method, protocol: Option<&str>, upgrade: Option<&str>| {
            let mut head = http::Request::new(()).into_parts().0;
            head.method = method.clone();
            if let Some(protocol) = protocol {
                head.extensions.insert(ByConnect::from(protocol));
            }
            assert_eq!(by_connect(&mut head), upgrade.is_some(), "{method} {protocol:?}");
            let expected = if upgrade.is_some() { Method::GET } else { method };
            assert_eq!(head.method, expected);
            assert_eq!(head.headers.get(UPGRADE).map(|v| v.to_str().expect("text")), upgrade);
            let has_key = head.headers.contains_key(SEC_WEBSOCKET_KEY);
            assert_eq!(has_key, upgrade == Some("websocket"));
        };
        check(Method::CONNECT, Some("websocket"), Some("websocket"));
        check(Method::CONNECT, Some("foo/2"), Some("foo/2"));
        check(Method::CONNECT, Some("foo, websocket"), None);
        check(Method::CONNECT, Some("foo\n"), None);
        check(Method::CONNECT, None, None);
        check(Method::POST, Some("websocket"), None);
    }
}
