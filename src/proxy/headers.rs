//! Header rules: what of a request's head is refused, what is removed, and what we set, in this order.
//!
//! [`survey`] reads a head once, before anybody is known; [`prepare`] writes ours: the client's fields less what
//! is stripped, then what we vouch for. Nothing a client sends, not even `Connection: x-auth-user`, removes or
//! survives that.
//!
//! Never here: credentials (taken out before), or anything decided from a forwarded header.

use std::net::Ipv6Addr;

use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE,
    HOST, TE, TRANSFER_ENCODING, UPGRADE, USER_AGENT,
};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};

use super::error::Refusal;
use super::forwarded::{self, Via};
use super::request_id::X_REQUEST_ID;
use crate::http1::encode::Framing;
use crate::http1::spare;
use crate::identity::{Identity, IdentityHeaders};
use crate::paths::Ambiguity;
use crate::policy::upgrades::Protocol;
use crate::upstream::head::{Form, Head};

/// So much of a field's name is looked at in its folded spelling; none of ours is longer.
const MAX_FOLDED_BYTES: usize = 256;

/// What one reading of a head found.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Fields that never go on: hop-by-hop ones, and identity headers in any spelling.
    remove: Vec<HeaderName>,
    /// Fields about where the request came from; removed unless the peer is trusted.
    forwarded: Vec<HeaderName>,
    takes_trailers: bool,
    asks_for_upgrade: bool,
}

/// Reads a request's head and refuses what must not be forwarded in any case.
pub(super) fn survey(head: &Parts, ours: &IdentityHeaders) -> Result<Survey, Refusal> {
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        return Err(Refusal::MethodNotSupported);
    }
    check_host(head)?;
    check_path(head)?;
    let mut survey = Survey::default();
    for name in head.headers.keys() {
        survey.see(name, head, ours)?;
    }
    Ok(survey)
}

impl Survey {
    /// Whether another protocol is asked for.
    pub(super) fn asks_for_upgrade(&self) -> bool {
        self.asks_for_upgrade
    }

    fn see(
        &mut self,
        name: &HeaderName,
        head: &Parts,
        ours: &IdentityHeaders,
    ) -> Result<(), Refusal> {
        // What nearly every request has and nobody minds need not be compared with all the rest.
        if matches!(
            *name,
            HOST | USER_AGENT
                | ACCEPT
                | ACCEPT_ENCODING
                | ACCEPT_LANGUAGE
                | COOKIE
                | CONTENT_TYPE
                | CONTENT_LENGTH
        ) {
            return Ok(());
        }
        match name.as_str() {
            // Whoever read the head has seen that it is sound.
            "transfer-encoding" => self.remove.push(TRANSFER_ENCODING),
            "connection" => self.see_connection(head),
            "te" => {
                let takes_trailers = |value: &HeaderValue| {
                    tokens(value).any(|t| t.eq_ignore_ascii_case(b"trailers"))
                };
                self.takes_trailers = head.headers.get_all(TE).iter().any(takes_trailers);
                self.remove.push(TE);
            }
            "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "upgrade"
            | "http2-settings"
            | "expect" => {
                self.remove.push(name.clone());
            }
            // HTTP/2's parser takes a quote for a letter (RFC 9110 §5.6.2 does not); in HTTP/1 it would not have come here.
            text if head.version == Version::HTTP_2 && has_quote(text) => {
                return Err(Refusal::Unparsable);
            }
            text => {
                let mut buffer = [0; MAX_FOLDED_BYTES];
                let folded = fold(text, &mut buffer);
                if is_ours(folded, ours) {
                    self.remove.push(name.clone());
                } else if forwarded::is_forwarded(folded) {
                    self.forwarded.push(name.clone());
                } else if folded != text
                    && matches!(folded, "transfer-encoding" | "content-length" | "host")
                {
                    return Err(Refusal::BadFraming);
                }
            }
        }
        Ok(())
    }

    /// RFC 9110 §7.6.1: every field that any `Connection` line lists belongs to this connection only.
    /// The framing fields do not, whatever the line says.
    fn see_connection(&mut self, head: &Parts) {
        for token in head
            .headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(tokens)
            .filter(|token| names_field(token))
        {
            if token.eq_ignore_ascii_case(b"upgrade") {
                self.asks_for_upgrade = asks_for_other_protocol(head);
            }
            match HeaderName::from_bytes(token) {
                Ok(HOST | CONTENT_LENGTH) | Err(_) => {}
                Ok(name) => self.remove.push(name),
            }
        }
        self.remove.push(CONNECTION);
    }
}

/// What is set on a request that may go on.
pub(super) struct Vouched<'a> {
    pub(super) names: &'a IdentityHeaders,
    pub(super) identity: Option<&'a Identity>,
    pub(super) request_id: &'a HeaderValue,
    pub(super) via: &'a Via,
    pub(super) peer_is_trusted: bool,
    /// For a client of HTTP/1.0 that sent no `Host`.
    pub(super) default_host: &'a HeaderValue,
    /// What the upstream is told instead of the client's `Host`.
    pub(super) other_host: Option<&'a HeaderValue>,
    pub(super) framing: Framing,
    /// What the endpoint is asked to change to.
    pub(super) upgrade: Option<&'a Protocol>,
}

/// Turns the client's head into ours, in the form `F`: strip, then write what is left, then what we vouch for.
pub(super) fn prepare<F: Form>(mut head: Parts, survey: &Survey, vouched: &Vouched<'_>) -> Head {
    strip(&mut head.headers, survey, vouched.peer_is_trusted);
    let headers = &head.headers;
    // RFC 9112 §3.2.2: a target in absolute form is right, whatever Host says.
    let host = match head.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => headers.get(HOST).unwrap_or(vouched.default_host).as_bytes(),
    };
    let mut ours = F::begin(&head.method, &head.uri);
    ours.host(vouched.other_host.map_or(host, HeaderValue::as_bytes));
    let is_http2 = head.version == Version::HTTP_2;
    for (name, value) in headers {
        if !(is_replaced(name) || is_http2 && *name == COOKIE) {
            ours.pass(name, value);
        }
    }
    if is_http2 {
        push_cookie(&mut ours, headers);
    }
    if let Some(protocol) = vouched.upgrade {
        ours.push_upgrade(protocol.as_str());
    } else if survey.takes_trailers {
        ours.push_te();
    }
    let has_way = vouched.peer_is_trusted && !survey.forwarded.is_empty();
    vouched.via.push(&mut ours, has_way.then_some(headers), host);
    ours.pass(&X_REQUEST_ID, vouched.request_id);
    if let Some(identity) = vouched.identity {
        ours.push(&vouched.names.user, identity.user().as_bytes());
        ours.push(&vouched.names.role, identity.role().name().as_str().as_bytes());
        ours.push(&vouched.names.key_id, identity.key_id().as_bytes());
    }
    let ours = ours.end(vouched.framing);
    spare::keep(head.headers);
    ours
}

/// HTTP/2 may send a cookie in pieces, HTTP/1 may not (RFC 9113 §8.2.3).
fn push_cookie(ours: &mut impl Form, headers: &HeaderMap) {
    let pieces: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !pieces.is_empty() {
        ours.push(&COOKIE, &pieces.join(&b"; "[..]));
    }
}

/// Whether ours takes the place of the client's field `name`.
fn is_replaced(name: &HeaderName) -> bool {
    matches!(*name, HOST | CONTENT_LENGTH) || *name == X_REQUEST_ID || forwarded::is_continued(name)
}

fn strip(headers: &mut HeaderMap, survey: &Survey, peer_is_trusted: bool) {
    for name in &survey.remove {
        headers.remove(name);
    }
    if !peer_is_trusted {
        for name in &survey.forwarded {
            headers.remove(name);
        }
    }
}

/// Removes from a request's trailers what its head may not carry either: RFC 9110 §6.5.1 lets a recipient
/// merge them into the head.
pub(super) fn strip_trailers(
    trailers: &mut HeaderMap,
    ours: &IdentityHeaders,
    secrets: &[HeaderName],
) {
    let refused = |name: &&HeaderName| {
        let mut buffer = [0; MAX_FOLDED_BYTES];
        let folded = fold(name.as_str(), &mut buffer);
        is_ours(folded, ours)
            || forwarded::is_forwarded(folded)
            || secrets.contains(name)
            || has_quote(folded)
            || matches!(
                folded,
                "host" | "content-length" | "transfer-encoding" | "connection" | "te" | "trailer"
            )
            || matches!(folded, "upgrade" | "keep-alive" | "expect" | "x-request-id")
            || matches!(
                folded,
                "authorization" | "proxy-authorization" | "proxy-connection" | "cookie"
            )
    };
    let refused: Vec<HeaderName> = trailers.keys().filter(refused).cloned().collect();
    for name in refused {
        trailers.remove(name);
    }
}

/// Removes from an answer what belongs to the connection it came on, and names the request.
pub(super) fn finish(headers: &mut HeaderMap, request_id: &HeaderValue) {
    let mut remove = Vec::new();
    for name in headers.keys() {
        match name.as_str() {
            "connection" => {
                let listed = headers
                    .get_all(CONNECTION)
                    .iter()
                    .flat_map(tokens)
                    .filter(|token| names_field(token));
                let is_kept = |name: &HeaderName| matches!(*name, CONTENT_LENGTH);
                remove.extend(
                    listed
                        .filter_map(|t| HeaderName::from_bytes(t).ok())
                        .filter(|name| !is_kept(name)),
                );
                remove.push(CONNECTION);
            }
            "keep-alive" | "proxy-connection" | "proxy-authenticate" | "te"
            | "transfer-encoding" | "upgrade" => {
                remove.push(name.clone());
            }
            _ => {}
        }
    }
    for name in remove {
        headers.remove(name);
    }
    headers.insert(&X_REQUEST_ID, request_id.clone());
}

/// A target that begins with its query has no path for HTTP/1, and `/` for [`Uri`](http::Uri).
fn check_path(head: &Parts) -> Result<(), Refusal> {
    match head.uri.path_and_query() {
        Some(target) if target.as_str().starts_with('?') => Err(Ambiguity::NotAPath.into()),
        _ => Ok(()),
    }
}

/// RFC 9112 §3.2: exactly one `Host`, of the form `host[:port]`; HTTP/1.0 may have none. In HTTP/2 `:authority` takes
/// its place, and where both are there they must agree (RFC 9113 §8.3.1).
fn check_host(head: &Parts) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next().map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|authority| authority.as_str().as_bytes());
    let is_sound = match (host, authority, head.version) {
        (Some(host), Some(authority), Version::HTTP_2) => host.eq_ignore_ascii_case(authority),
        (None, Some(_), Version::HTTP_2) | (None, None, Version::HTTP_10) => true,
        (host, ..) => host.is_some(),
    };
    let all_are_hosts = host.into_iter().chain(authority).all(is_host);
    if is_sound && all_are_hosts && hosts.next().is_none() { Ok(()) } else { Err(Refusal::BadHost) }
}

/// RFC 3986 §3.2.2, without user information and without what only a confused parser would take.
fn is_host(value: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    match value.iter().position(|byte| !is_plain(byte)) {
        None => !value.is_empty(),
        Some(0) if value[0] == b':' => false,
        Some(0) if value[0] == b'[' => is_bracketed_host(&value[1..]),
        Some(end) if value[end] == b':' => is_port(&value[end + 1..]),
        Some(_) => is_unusual_host(value),
    }
}

/// An address of IPv6, the bracket behind it, and maybe a port.
fn is_bracketed_host(value: &[u8]) -> bool {
    let text = std::str::from_utf8(value).ok().and_then(|text| text.split_once(']'));
    text.is_some_and(|(address, port)| {
        let is_port =
            |port: &str| port.strip_prefix(':').is_some_and(|port| is_port(port.as_bytes()));
        address.parse::<Ipv6Addr>().is_ok() && (port.is_empty() || is_port(port))
    })
}

/// A name with percent-encoding or punctuation.
fn is_unusual_host(value: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~:%!$&'()*+;=".contains(byte);
    value.iter().all(is_allowed)
        && Authority::try_from(value)
            .is_ok_and(|a| a.port().is_none_or(|port| port.as_str().len() <= 5))
}

fn is_port(value: &[u8]) -> bool {
    value.len() <= 5 && value.iter().all(u8::is_ascii_digit)
}

/// An offer of HTTP/2 may be ignored, and never goes on; HTTP/1.0 cannot ask for anything (RFC 9110 §7.8). HTTP/2 asks
/// by CONNECT, and has these fields from us.
fn asks_for_other_protocol(head: &Parts) -> bool {
    let mut protocols = head.headers.get_all(UPGRADE).iter().flat_map(tokens);
    match head.version {
        Version::HTTP_2 => true,
        Version::HTTP_11 => protocols.any(|protocol| !protocol.eq_ignore_ascii_case(b"h2c")),
        _ => false,
    }
}

/// Whether a connection option can be the name of a field that is not looked at anyway.
fn names_field(option: &[u8]) -> bool {
    !option.eq_ignore_ascii_case(b"keep-alive")
}

/// Whether a name has the one character in it that [`HeaderName`] takes and no name may have.
fn has_quote(name: &str) -> bool {
    memchr::memchr(b'"', name.as_bytes()).is_some()
}

fn is_ours(folded: &str, ours: &IdentityHeaders) -> bool {
    [&ours.user, &ours.role, &ours.key_id].iter().any(|name| folds_to(name.as_str(), folded))
}

/// Whether `name`, of the configuration, has the folded spelling `folded`.
fn folds_to(name: &str, folded: &str) -> bool {
    let fold_byte = |byte: u8| if matches!(byte, b'_' | b'.') { b'-' } else { byte };
    name.len() == folded.len() && name.bytes().map(fold_byte).eq(folded.bytes())
}

/// `name` as CGI, WSGI and PHP see it: `_` and `.` are `-`. The case is folded already. Of a longer one than any of
/// ours it is the beginning, which is enough to tell what it is about.
fn fold<'a>(name: &'a str, buffer: &'a mut [u8; MAX_FOLDED_BYTES]) -> &'a str {
    if memchr::memchr2(b'_', b'.', name.as_bytes()).is_none() {
        return name;
    }
    let folded = &mut buffer[..name.len().min(MAX_FOLDED_BYTES)];
    for (to, from) in folded.iter_mut().zip(name.bytes()) {
        *to = if matches!(from, b'_' | b'.') { b'-' } else { from };
    }
    std::str::from_utf8(folded).unwrap_or(name)
}

/// The members of a comma-separated list.
pub(super) fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value
        .as_bytes()
        .split(|&byte| byte == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_folded_however_long_it_is() {
        let folded = |name: &str| fold(name, &mut [0; MAX_FOLDED_BYTES]).to_owned();
        assert_eq!(folded("x_auth.user"), "x-auth-user");
        assert_eq!(folded("x-auth-user"), "x-auth-user");
        let long = folded(&format!("x_forwarded_{}", "x".repeat(MAX_FOLDED_BYTES)));
        assert!(forwarded::is_forwarded(&long), "{long}");
    }
}
