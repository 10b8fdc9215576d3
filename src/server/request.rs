//! The head of a client's request, read from its bytes, and how its body is to be read (RFC 9112 §3, §6.3).
//!
//! Never here: I/O, or whether the request may be served.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes};
use http::header::EXPECT;
use http::request::Parts;
use http::{Method, Request, Uri, Version};
use memchr::memmem;

use crate::config::Limits;
use crate::http1::Malformed;
use crate::http1::decode::Decoder;
use crate::http1::fields::{self, Told};
use crate::proxy::error::Refusal;

/// So many fields are parsed without asking for memory.
const USUAL_FIELDS: usize = 100;

/// A request whose body is still to be read.
#[derive(Debug)]
pub struct Received {
    pub head: Parts,
    pub body: Result<Decoder, Malformed>,
    /// Whether the client takes another answer on the connection.
    pub keeps_alive: bool,
    pub takes_trailers: bool,
}

impl Received {
    /// Whether the client waits for a word before it sends the body (RFC 9110 §10.1.1).
    pub fn expects_continue(&self) -> bool {
        let expect = || self.head.headers.get(EXPECT);
        self.body.is_ok_and(|body| !body.has_ended())
            && self.head.version == Version::HTTP_11
            && expect().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
    }
}

/// Whether a head, the first `seen` bytes of which were not all of it, may be whole or too large now: it is not parsed
/// again for each byte that comes.
pub fn is_worth_reading(unread: &[u8], seen: usize, limits: &Limits) -> bool {
    seen == 0
        || unread.len() >= limits.header_bytes
        || memmem::find(&unread[seen.saturating_sub(2)..], b"\n\r\n").is_some()
}

/// Reads a head from the beginning of `unread`, once it is there whole.
pub fn read_head(unread: &mut Bytes, limits: &Limits) -> Result<Option<Received>, Refusal> {
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    let mut many;
    let fields = if limits.headers <= USUAL_FIELDS {
        &mut usual[..limits.headers]
    } else {
        many = vec![MaybeUninit::uninit(); limits.headers];
        &mut many[..]
    };
    let mut parsed = httparse::Request::new(&mut []);
    let head_bytes = match parsed.parse_with_uninit_headers(unread, fields) {
        Ok(httparse::Status::Complete(bytes)) => bytes,
        Ok(httparse::Status::Partial) if unread.len() < limits.header_bytes => return Ok(None),
        Ok(httparse::Status::Partial) | Err(httparse::Error::TooManyHeaders) => {
            return Err(Refusal::HeadersTooLarge);
        }
        Err(_) => return Err(Refusal::Unparsable),
    };
    if head_bytes > limits.header_bytes {
        return Err(Refusal::HeadersTooLarge);
    }
    if fields::has_bare_line_feed(&unread[..head_bytes]) {
        return Err(Refusal::Unparsable);
    }
    let head = own(unread, &parsed).ok_or(Refusal::Unparsable)?;
    unread.advance(head_bytes);

    let told = Told::by(&head.headers);
    // A request has a body if it says so.
    let body = told.body(head.version).map(|framed| framed.unwrap_or(Decoder::Ended));
    let (keeps_alive, takes_trailers) = (told.keeps_alive(head.version), told.takes_trailers());
    Ok(Some(Received { head, body, keeps_alive, takes_trailers }))
}

/// The head as values that share the memory of `bytes`.
fn own(bytes: &Bytes, parsed: &httparse::Request<'_, '_>) -> Option<Parts> {
    let mut head = Request::new(()).into_parts().0;
    head.method = Method::from_bytes(parsed.method?.as_bytes()).ok()?;
    let target = bytes.slice_ref(parsed.path?.as_bytes());
    // A target has no fragment (RFC 9112 §3.2); the type would leave it out without a word.
    if memchr::memchr(b'#', &target).is_some() {
        return None;
    }
    head.uri = Uri::from_maybe_shared(target).ok()?;
    head.version = if parsed.version? == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
    head.headers = fields::owned(bytes, parsed.headers).ok()?;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        connections: 1,
        connections_per_client: 1,
        tunnels: 1,
        header_bytes: 128,
        headers: 4,
        body_bytes: None,
        upstream_idle: 1,
        request_body_min_rate: 0,
        response_body_min_rate: 0,
        h2_streams: 1,
    };

    /// What is read of `wire`, however its bytes are cut: the request and what stands behind it; `None` if its head is
    /// not there whole.
    fn read(wire: &str) -> Result<Option<(Received, String)>, Refusal> {
        let mut results: Vec<_> = (1..=wire.len()).map(|size| read_in_pieces(wire, size)).collect();
        let shown = |result: &Result<Option<(Received, String)>, Refusal>| format!("{result:?}");
        results.dedup_by_key(|result| shown(result));
        assert_eq!(results.len(), 1, "{wire:?} depends on how it is cut: {results:?}");
        results.pop().expect("one result")
    }

    fn read_in_pieces(wire: &str, size: usize) -> Result<Option<(Received, String)>, Refusal> {
        let (mut unread, mut received, mut seen) = (Bytes::new(), None, 0);
        for piece in wire.as_bytes().chunks(size) {
            unread = [&unread, piece].concat().into();
            if received.is_none() && is_worth_reading(&unread, seen, &LIMITS) {
                received = read_head(&mut unread, &LIMITS)?;
            }
            seen = unread.len();
        }
        let rest = String::from_utf8_lossy(&unread).into_owned();
        Ok(received.map(|received| (received, rest)))
    }

    #[track_caller]
    fn check_refused(wire: &str, expected: Refusal) {
        assert_eq!(read(wire).map(|read| read.is_some()), Err(expected), "{wire:?}");
    }

    #[test]
    fn a_head_ends_at_its_empty_line() {
        let (received, rest) = read("\r\nPUT /a?b HTTP/1.1\r\nHost: a\r\nX: \u{e9} \r\n\r\nGET")
            .expect("sound")
            .expect("whole");
        assert_eq!(
            (received.head.method.as_str(), received.head.uri.to_string()),
            ("PUT", "/a?b".into())
        );
        assert_eq!(received.head.headers["x"].as_bytes(), "\u{e9}".as_bytes());
        assert_eq!(
            (received.body, received.keeps_alive, rest.as_str()),
            (Ok(Decoder::Ended), true, "GET")
        );
        assert!(read("GET / HTTP/1.1\r\nHost: a\r\n").expect("sound so far").is_none());
    }

    #[test]
    fn its_fields_tell_of_the_body_and_of_the_connection() {
        for (start, body, keeps_alive, expects) in [
            ("POST / HTTP/1.1\r\nContent-Length: 5", Ok(Decoder::length(5)), true, false),
            (
                "POST / HTTP/1.1\r\nContent-Length: 0\r\nExpect: 100-continue",
                Ok(Decoder::Ended),
                true,
                false,
            ),
            (
                "POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-Continue",
                Ok(Decoder::length(5)),
                true,
                true,
            ),
            (
                "POST / HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue",
                Ok(Decoder::length(5)),
                false,
                false,
            ),
            ("GET / HTTP/1.1\r\nConnection: x, Close", Ok(Decoder::Ended), false, false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive", Ok(Decoder::Ended), true, false),
        ] {
            let (received, _) = read(&format!("{start}\r\n\r\n")).expect("sound").expect("whole");
            let seen = (received.body, received.keeps_alive, received.expects_continue());
            assert_eq!(seen, (body, keeps_alive, expects), "{start:?}");
        }
        let both = "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(read(both).expect("sound").expect("whole").0.body.is_err());
    }

    #[test]
    fn what_is_no_head_is_refused() {
        for wire in [
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nX : a\r\n\r\n",
            "GET / HTTP/1.1\r\nX: a\r\n b\r\n\r\n",
            "GET  / HTTP/1.1\r\n\r\n",
            "GET /a#b HTTP/1.1\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "G\u{e9}T / HTTP/1.1\r\n\r\n",
        ] {
            check_refused(wire, Refusal::Unparsable);
        }
    }

    #[test]
    fn a_head_has_its_limits() {
        let fields = |count| "X: 1\r\n".repeat(count);
        assert!(read(&format!("GET / HTTP/1.1\r\n{}\r\n", fields(4))).expect("sound").is_some());
        check_refused(&format!("GET / HTTP/1.1\r\n{}\r\n", fields(5)), Refusal::HeadersTooLarge);
        let long = "x".repeat(LIMITS.header_bytes);
        check_refused(&format!("GET /{long} HTTP/1.1\r\n\r\n"), Refusal::HeadersTooLarge);
        check_refused(&format!("GET / HTTP/1.1\r\nX: {long}"), Refusal::HeadersTooLarge);
    }
}
