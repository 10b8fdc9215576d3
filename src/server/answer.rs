//! An answer as a client of HTTP/1 reads it: the bytes of its head, and how its body is framed (RFC 9112 §4, §6).
//!
//! Never here: I/O, or which fields an answer has but for its framing, its connection and its date.

use http::Version;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE};
use http::response::Parts;

use crate::clock::HttpDate;
use crate::http1::Reason;
use crate::http1::encode::{Encoder, Framing, push_field};
use crate::http1::fields::lists;

/// Room for a usual answer, so that it is written without growing.
const USUAL_BYTES: usize = 1024;

/// How a client reads an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader {
    pub(super) version: Version,
    /// Whether it asked with HEAD: the answer has no body then, whatever its head says (RFC 9110 §9.3.2).
    pub(super) is_head: bool,
    pub(super) takes_trailers: bool,
    /// Whether it may ask again on the connection.
    pub(super) keeps_alive: bool,
}

/// An answer that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    /// The bytes of its head.
    pub(super) head: Vec<u8>,
    /// How its body is framed; `None`: it has no body.
    pub(super) body: Option<Encoder>,
    pub(super) takes_trailers: bool,
    /// Whether the client may ask again.
    pub(super) keeps_alive: bool,
}

/// Writes `head`. `length` is that of the body, if it is known.
pub(super) fn begin(head: &Parts, length: Option<u64>, reader: Reader, date: &HttpDate) -> Begun {
    let mut out = Vec::with_capacity(USUAL_BYTES);
    push_status(&mut out, head);
    let mut seen = Seen::default();
    for (name, value) in &head.headers {
        match *name {
            CONTENT_LENGTH if tells_no_length(head) => continue,
            CONTENT_LENGTH => seen.length = true,
            DATE => seen.date = true,
            CONNECTION => seen.close |= lists(value, b"close"),
            _ => {}
        }
        push_field(&mut out, name.as_str(), value.as_bytes());
    }
    if !seen.date && !head.status.is_informational() {
        push_field(&mut out, DATE.as_str(), date);
    }
    let (told, body) = framing(head, length, reader);
    if !seen.length && !tells_no_length(head) {
        told.push_field(&mut out);
    }
    let ends_by_close = body.as_ref().is_some_and(Encoder::ends_by_close);
    let keeps_alive = reader.keeps_alive && !seen.close && !ends_by_close;
    if !keeps_alive && !seen.close && head.status != 101 {
        push_field(&mut out, CONNECTION.as_str(), b"close");
    } else if keeps_alive && reader.version == Version::HTTP_10 {
        push_field(&mut out, CONNECTION.as_str(), b"keep-alive");
    }
    out.extend_from_slice(b"\r\n");
    Begun { head: out, body, takes_trailers: reader.takes_trailers, keeps_alive }
}

/// What the head says of the body, and how that is written, if there is one (RFC 9112 §6.3).
fn framing(head: &Parts, length: Option<u64>, reader: Reader) -> (Framing, Option<Encoder>) {
    match length {
        // An answer to HEAD may tell the length of what it leaves out.
        Some(length @ 1..) if has_no_body(head, reader) => (Framing::Length(length), None),
        _ if has_no_body(head, reader) => (Framing::Empty, None),
        Some(length) => (Framing::Length(length), Some(Encoder::new(Framing::Length(length)))),
        None if reader.version == Version::HTTP_10 => {
            (Framing::Empty, Some(Encoder::until_close()))
        }
        None => (Framing::Chunked, Some(Encoder::new(Framing::Chunked))),
    }
}

fn has_no_body(head: &Parts, reader: Reader) -> bool {
    tells_no_length(head) || head.status == 304 || reader.is_head
}

/// RFC 9110 §8.6.
fn tells_no_length(head: &Parts) -> bool {
    head.status.is_informational() || head.status == 204
}

/// Which fields an answer has of those that we would add.
#[derive(Default)]
struct Seen {
    length: bool,
    date: bool,
    close: bool,
}

/// The status line. Its version is ours, whatever the client's is (RFC 9110 §2.5).
fn push_status(out: &mut Vec<u8>, head: &Parts) {
    let reason = match head.extensions.get::<Reason>() {
        Some(Reason(reason)) => reason,
        None => head.status.canonical_reason().unwrap_or_default().as_bytes(),
    };
    for part in [&b"HTTP/1.1 "[..], head.status.as_str().as_bytes(), b" ", reason, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Response};

    use super::*;

    const GET: Reader = Reader {
        version: Version::HTTP_11,
        is_head: false,
        takes_trailers: false,
        keeps_alive: true,
    };

    /// The head of an answer of `status` with `fields`, less its date.
    fn begun(
        status: u16,
        fields: &[(&'static str, &str)],
        length: Option<u64>,
        reader: Reader,
    ) -> (String, Begun) {
        let mut answer = Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        let head = answer.body(()).expect("an answer").into_parts().0;
        let begun = begin(&head, length, reader, b"Sun, 06 Nov 1994 08:49:37 GMT");
        let text = String::from_utf8(begun.head.clone()).expect("text");
        let text = text.replace("date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "");
        (text, begun)
    }

    #[track_caller]
    fn check(
        status: u16,
        fields: &[(&'static str, &str)],
        length: Option<u64>,
        reader: Reader,
        expected: &str,
        keeps_alive: bool,
    ) {
        let (text, begun) = begun(status, fields, length, reader);
        assert_eq!(text, format!("HTTP/1.1 {expected}\r\n\r\n"));
        assert_eq!(begun.keeps_alive, keeps_alive);
    }

    #[test]
    fn a_head_tells_where_its_body_ends() {
        check(200, &[("content-length", "5")], Some(5), GET, "200 OK\r\ncontent-length: 5", true);
        check(200, &[], Some(5), GET, "200 OK\r\ncontent-length: 5", true);
        check(200, &[], Some(0), GET, "200 OK\r\ncontent-length: 0", true);
        check(200, &[], None, GET, "200 OK\r\ntransfer-encoding: chunked", true);
    }

    #[test]
    fn an_answer_without_a_body_says_what_it_may() {
        let head = Reader { is_head: true, ..GET };
        for (status, fields, length, reader, expected) in [
            (200, &[("content-length", "5")][..], Some(0), head, "200 OK\r\ncontent-length: 5"),
            (200, &[], Some(0), head, "200 OK"),
            (401, &[], Some(9), head, "401 Unauthorized\r\ncontent-length: 9"),
            (
                304,
                &[("content-length", "5")],
                Some(0),
                GET,
                "304 Not Modified\r\ncontent-length: 5",
            ),
            (304, &[], Some(0), GET, "304 Not Modified"),
            (204, &[("content-length", "0")], Some(0), GET, "204 No Content"),
            (
                101,
                &[("connection", "upgrade")],
                Some(0),
                GET,
                "101 Switching Protocols\r\nconnection: upgrade",
            ),
        ] {
            check(status, fields, length, reader, expected, true);
            assert!(begun(status, fields, length, reader).1.body.is_none(), "{expected}");
        }
    }

    #[test]
    fn the_last_answer_says_so() {
        let last = Reader { keeps_alive: false, ..GET };
        check(200, &[], Some(0), last, "200 OK\r\ncontent-length: 0\r\nconnection: close", false);
        let close = [("connection", "close")];
        check(200, &close, Some(0), GET, "200 OK\r\nconnection: close\r\ncontent-length: 0", false);
    }

    #[test]
    fn a_client_of_http_1_0_is_told_what_it_can_read() {
        let old = Reader { version: Version::HTTP_10, ..GET };
        check(
            200,
            &[],
            Some(0),
            old,
            "200 OK\r\ncontent-length: 0\r\nconnection: keep-alive",
            true,
        );
        check(200, &[], None, old, "200 OK\r\nconnection: close", false);
    }

    #[test]
    fn date_and_reason_are_passed_on_as_they_came() {
        let (text, _) = begun(200, &[("date", "yesterday")], Some(0), GET);
        assert_eq!(text, "HTTP/1.1 200 OK\r\ndate: yesterday\r\ncontent-length: 0\r\n\r\n");
        let mut head = Response::new(()).into_parts().0;
        head.extensions.insert(Reason("Fine".into()));
        head.headers.insert("x-odd", HeaderValue::from_static("1"));
        let begun = begin(&head, Some(0), GET, b"Sun, 06 Nov 1994 08:49:37 GMT");
        let expected: &[u8] = b"HTTP/1.1 200 Fine\r\nx-odd: 1\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(begun.head, expected);
    }
}
