//! Requests that ask for another protocol on their connection (RFC 9110 §7.8): WebSocket (RFC 6455), and whatever
//! else a route allows.
//!
//! [`ask`] decides what such a request may ask its endpoint for, when it is known who asks. Only the endpoint's own
//! 101 for that very protocol ([`Asked::is_granted`]) opens a tunnel; any other answer is an ordinary one.
//!
//! What a route does not allow is refused. RFC 9110 would let us ignore it; but a client that asks for WebSocket
//! can do nothing with an ordinary answer, and the log would not tell its operator why.
//!
//! Never here: the tunnel (see [`tunnel`](super::tunnel)), or fields that are no part of a handshake.

use http::header::{CONNECTION, CONTENT_LENGTH, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::error::Refusal;
use super::headers::tokens;
use crate::http1::encode::Framing;
use crate::limit::TunnelSlot;
use crate::policy::Permit;
use crate::policy::upgrades::Protocol;

/// The only version that is spoken (RFC 6455 §4.1).
const WEBSOCKET_VERSION: &str = "13";

/// What an endpoint is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    protocol: Protocol,
    /// For the tunnel that may come of it.
    _slot: TunnelSlot,
}

/// What a request that asks for another protocol may ask its endpoint for.
pub(super) fn ask(head: &Parts, framing: Framing, permit: &Permit) -> Result<Protocol, Refusal> {
    let asked = head.headers.get_all(UPGRADE).iter().flat_map(tokens);
    let protocol = permit.upgrades().choose(asked).ok_or(Refusal::UpgradeNotSupported)?;
    if protocol.is_websocket() {
        check_websocket(head)?;
    }
    match framing {
        Framing::Empty | Framing::Length(0) => Ok(protocol),
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
    pub(super) fn new(protocol: Protocol, slot: TunnelSlot) -> Self {
        Self { protocol, _slot: slot }
    }

    /// The protocol that is asked for.
    pub(super) fn protocol(&self) -> &Protocol {
        &self.protocol
    }

    /// Whether the fields of a 101 name what was asked for, and nothing else.
    pub(super) fn is_granted(&self, headers: &HeaderMap) -> bool {
        let mut named = headers.get_all(UPGRADE).iter().flat_map(tokens);
        matches!((named.next(), named.next()), (Some(only), None) if self.protocol.is(only))
    }

    /// Says in the fields of our own 101 what was granted. It has no body, so it says nothing of one.
    pub(super) fn grant(&self, headers: &mut HeaderMap) {
        let protocol = HeaderValue::from_str(self.protocol.as_str()).expect("a token is a value");
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
