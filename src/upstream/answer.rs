//! The head of an endpoint's answer, read from its bytes, and how its body is to be read (RFC 9112 §4, §6.3).
//!
//! Whatever stands behind the end of an answer stays unread, and is never the beginning of another one.
//!
//! Never here: I/O, or which fields reach the client.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes};
use http::response::Parts;
use http::{Response, StatusCode, Version};

use crate::http1::decode::Decoder;
use crate::http1::fields::{self, Told};
use crate::http1::{Malformed, Reason};

/// Most fields of an answer's head. Applications send a dozen.
const MAX_FIELDS: usize = 256;
/// The head of an answer, and how its body is to be read.
#[derive(Debug)]
pub struct Answer {
    pub head: Parts,
    pub body: Decoder,
    /// Whether the endpoint takes another request on the connection.
    pub keeps_alive: bool,
}

impl Answer {
    /// Whether another answer follows that is the real one (RFC 9110 §15.2); behind 101 there is none.
    pub fn is_interim(&self) -> bool {
        let status = self.head.status;
        status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Reads a head from the beginning of `unread`, once it is there whole. `to_head`: it answers HEAD.
pub fn read_head(unread: &mut Bytes, to_head: bool) -> Result<Option<Answer>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, unread, &mut fields)
        .map_err(|_| Malformed("the head is not HTTP/1.1"))?;
    let httparse::Status::Complete(head_bytes) = status else { return Ok(None) };
    if fields::has_bare_line_feed(&unread[..head_bytes]) {
        return Err(Malformed("a line of the head ends in a bare line feed"));
    }

    let mut head = Response::new(()).into_parts().0;
    head.version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    head.status = StatusCode::from_u16(parsed.code.unwrap_or_default())
        .map_err(|_| Malformed("the status is none"))?;
    keep_reason(&mut head, unread, parsed.reason.unwrap_or_default());
    head.headers = fields::owned(unread, parsed.headers)?;
    unread.advance(head_bytes);

    let told = Told::by(&head.headers);
    let body = decoder(&head, &told, to_head)?;
    let keeps_alive = told.keeps_alive(head.version) && body != Decoder::UntilClose;
    Ok(Some(Answer { head, body, keeps_alive }))
}

/// A reason phrase that is not the usual one is passed on as it came.
fn keep_reason(head: &mut Parts, unread: &Bytes, reason: &str) {
    let is_usual = reason.is_empty() || head.status.canonical_reason() == Some(reason);
    if !is_usual {
        head.extensions.insert(Reason(unread.slice_ref(reason.as_bytes())));
    }
}

/// Where the body ends (RFC 9112 §6.3).
fn decoder(head: &Parts, told: &Told<'_>, to_head: bool) -> Result<Decoder, Malformed> {
    let framed = told.body(head.version)?.unwrap_or(Decoder::UntilClose);
    let has_no_body = to_head
        || head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(if has_no_body { Decoder::Ended } else { framed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::decode::Decoded;

    /// What is read of `wire` as an answer, however its bytes are cut: status, body, trailers and what is left
    /// over; or why it is none. `None` where the end did not come.
    fn read(wire: &str, to_head: bool) -> Option<Result<String, &'static str>> {
        let mut results: Vec<_> = (1..=wire.len().max(1))
            .map(|size| read_in_pieces(wire.as_bytes().chunks(size), to_head))
            .collect();
        results.dedup();
        assert_eq!(results.len(), 1, "{wire:?} depends on how it is cut: {results:?}");
        results.pop()?
    }

    fn read_in_pieces<'a>(
        pieces: impl Iterator<Item = &'a [u8]>,
        to_head: bool,
    ) -> Option<Result<String, &'static str>> {
        let (mut unread, mut answer, mut read) = (Bytes::new(), None, String::new());
        for piece in pieces {
            unread = [&unread, piece].concat().into();
            if answer.is_none() {
                answer = match read_head(&mut unread, to_head) {
                    Ok(answer) => answer,
                    Err(Malformed(reason)) => return Some(Err(reason)),
                };
            }
            let Some(answer) = &mut answer else { continue };
            loop {
                match answer.body.decode(&mut unread) {
                    Ok(Decoded::Frame(frame)) => match frame.into_data() {
                        Ok(data) => read += &String::from_utf8_lossy(&data),
                        Err(frame) => read += &format!(" {:?}", frame.into_trailers().ok()?),
                    },
                    Ok(Decoded::NeedsMore | Decoded::End) => break,
                    Err(Malformed(reason)) => return Some(Err(reason)),
                }
            }
        }
        let answer = answer?;
        let has_ended = answer.body.has_ended() || answer.body == Decoder::UntilClose;
        let status = answer.head.status.as_u16();
        let rest = String::from_utf8_lossy(&unread).into_owned();
        has_ended.then(|| Ok(format!("{status} {read}|{rest}")))
    }

    #[track_caller]
    fn check(wire: &str, expected: &str) {
        assert_eq!(read(wire, false), Some(Ok(expected.to_owned())), "{wire:?}");
    }

    #[test]
    fn a_body_ends_where_its_head_says() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "200 hello|");
        check("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "200 |");
        check("HTTP/1.0 200 OK\r\n\r\nall of it", "200 all of it|");
        check("HTTP/1.1 204 No Content\r\n\r\n", "204 |");
        check("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "304 |");
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\nA;x=\"y\"\r\n0123456789\r\n0\r\n\r\n",
            "200 hello0123456789|",
        );
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 1\r\n\r\n",
            "200 a {\"x-sum\": \"1\"}|",
        );
        let wire = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
        assert_eq!(read(wire, true), Some(Ok("200 |".to_owned())));
        let wire = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(wire, true), Some(Ok("200 |".to_owned())));
    }

    #[test]
    fn what_stands_behind_the_end_is_left_over() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1", "200 ok|HTTP/1.1");
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nevil",
            "200 ok|evil",
        );
        check("HTTP/1.1 204 No Content\r\n\r\nevil", "204 |evil");
    }

    #[test]
    fn an_answer_that_broke_off_has_not_ended() {
        for wire in [
            "",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        ] {
            assert_eq!(read(wire, false), None, "{wire:?}");
        }
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (fields, reason) in [
            ("Content-Length: 5\r\nContent-Length: 5", "a framing field is there twice"),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                "both Content-Length and Transfer-Encoding are there",
            ),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                "a framing field is there twice",
            ),
            ("Transfer-Encoding: gzip, chunked", "the Transfer-Encoding is not chunked"),
            ("Transfer-Encoding: identity", "the Transfer-Encoding is not chunked"),
            ("Content-Length: +5", "the Content-Length is no number"),
            ("Content-Length: 5, 5", "the Content-Length is no number"),
            ("Content-Length: ", "the Content-Length is no number"),
            ("Content-Length: 18446744073709551616", "the Content-Length is no number"),
            ("X-Odd: a\r\n b", "the head is not HTTP/1.1"),
            ("X Odd: a", "the head is not HTTP/1.1"),
            ("X-Odd: a\nX-Even: b", "a line of the head ends in a bare line feed"),
        ] {
            let wire = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert_eq!(read(&wire, false), Some(Err(reason)), "{fields:?}");
        }
        let wire = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(read(wire, false), Some(Err("HTTP/1.0 has no Transfer-Encoding")));
    }

    #[test]
    fn a_connection_is_used_again_where_both_sides_know_the_end() {
        for (start, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0", true),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: foo, Close", false),
            ("HTTP/1.1 200 OK", false),
            ("HTTP/1.1 204 No Content", true),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0", false),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", true),
        ] {
            let mut unread = Bytes::from(format!("{start}\r\n\r\n"));
            let answer = read_head(&mut unread, false).expect("well-formed").expect("whole");
            assert_eq!(answer.keeps_alive, expected, "{start:?}");
        }
    }
}
