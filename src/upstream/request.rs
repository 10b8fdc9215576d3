//! The head of a request as an HTTP/1.1 endpoint reads it (RFC 9112 §3). It is written once, before it is known which
//! connection it goes over, and can be sent again.
//!
//! Never here: which fields a request has, or I/O.

use std::ops::Range;

use http::Method;
use http::header::HOST;

use crate::http1::encode::{Framing, push_field};

/// Room for a usual head, so that it is written without growing.
const USUAL_HEAD_BYTES: usize = 1024;

const LINE_END: &[u8] = b"\r\n";

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    bytes: Vec<u8>,
    /// Where the value of `Host` is.
    host: Range<usize>,
    framing: Framing,
    is_head: bool,
}

impl RequestHead {
    /// Begins with the request line.
    pub fn new(method: &Method, target: &str) -> Self {
        let mut bytes = Vec::with_capacity(USUAL_HEAD_BYTES);
        for part in [method.as_str(), " ", target, " HTTP/1.1\r\n"] {
            bytes.extend_from_slice(part.as_bytes());
        }
        Self { bytes, host: 0..0, framing: Framing::Empty, is_head: method == Method::HEAD }
    }

    /// Adds `Host`.
    pub fn push_host(&mut self, value: &[u8]) {
        self.push(HOST.as_str(), value);
        let end = self.bytes.len() - LINE_END.len();
        self.host = end - value.len()..end;
    }

    /// Says another `Host` than before, for an endpoint that wants its own.
    pub fn set_host(&mut self, value: &[u8]) {
        if self.bytes[self.host.clone()] != *value {
            self.bytes.splice(self.host.clone(), value.iter().copied());
            self.host.end = self.host.start + value.len();
        }
    }

    /// Adds a field. Name and value were checked where their types were made: they hold no line break.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        push_field(&mut self.bytes, name, value);
    }

    /// Ends the head with the field that `framing` needs.
    pub fn end(mut self, framing: Framing) -> Self {
        self.framing = framing;
        framing.push_field(&mut self.bytes);
        self.bytes.extend_from_slice(LINE_END);
        self
    }

    /// The head as it is sent.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the answer will have no body, whatever its fields say (RFC 9110 §9.3.2).
    pub(super) fn is_head(&self) -> bool {
        self.is_head
    }

    /// How the end of the body is told.
    pub fn framing(&self) -> Framing {
        self.framing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_its_request_line_and_its_fields() {
        let check = |framing, expected: &str| {
            let mut head = RequestHead::new(&Method::PUT, "/a%2Fb?c");
            head.push("host", b"a.test");
            let head = head.end(framing);
            assert_eq!(String::from_utf8_lossy(head.as_bytes()), expected);
            assert!(!head.is_head());
        };
        let start = "PUT /a%2Fb?c HTTP/1.1\r\nhost: a.test\r\n";
        check(Framing::Empty, &format!("{start}\r\n"));
        check(Framing::Length(7), &format!("{start}content-length: 7\r\n\r\n"));
        check(Framing::Chunked, &format!("{start}transfer-encoding: chunked\r\n\r\n"));
    }

    #[test]
    fn another_host_takes_the_place_of_the_first() {
        let mut head = RequestHead::new(&Method::GET, "/");
        head.push_host(b"a.test");
        head.push("accept", b"*/*");
        let mut head = head.end(Framing::Empty);
        for host in ["a.test", "b", "[::1]:8080", ""] {
            head.set_host(host.as_bytes());
            let expected = format!("GET / HTTP/1.1\r\nhost: {host}\r\naccept: */*\r\n\r\n");
            assert_eq!(String::from_utf8_lossy(head.as_bytes()), expected);
        }
    }
}
