//! An endpoint's answer, read from its bytes: the head, then the body piece by piece (RFC 9112 §4, §6.3, §7.1).
//!
//! An answer whose end could be seen in two places is refused: what follows it on the connection would be
//! somebody else's. Whatever stands behind its end stays unread, and is never the beginning of another answer.
//!
//! Never here: I/O, or which fields reach the client.

use std::mem::MaybeUninit;

use bytes::{Buf as _, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::response::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::{Frame, SizeHint};
use hyper::ext::ReasonPhrase;

/// Most fields of an answer's head, and of its trailers. Applications send a dozen.
const MAX_FIELDS: usize = 256;
/// Fields that are added to an answer later, and must not make its map grow.
const ROOM_FOR_OURS: usize = 2;
/// Longest line that tells the size of a chunk, extensions included.
const MAX_CHUNK_LINE_BYTES: usize = 4096;
/// Longest trailers.
const MAX_TRAILER_BYTES: usize = 16 * 1024;

/// Why bytes are no answer that we may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The head of an answer, and how its body is to be read.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Parts,
    pub(super) body: Decoder,
    /// Whether the endpoint takes another request on the connection.
    pub(super) keeps_alive: bool,
}

impl Answer {
    /// Whether another answer follows that is the real one (RFC 9110 §15.2); behind 101 there is none.
    pub(super) fn is_interim(&self) -> bool {
        let status = self.head.status;
        status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Reads a head from the beginning of `unread`, once it is there whole. `to_head`: it answers HEAD.
pub(super) fn read_head(unread: &mut Bytes, to_head: bool) -> Result<Option<Answer>, Malformed> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, unread, &mut fields)
        .map_err(|_| Malformed("the head is not HTTP/1.1"))?;
    let httparse::Status::Complete(head_bytes) = status else { return Ok(None) };

    let mut head = Response::new(()).into_parts().0;
    head.version = if parsed.version == Some(0) { Version::HTTP_10 } else { Version::HTTP_11 };
    head.status = StatusCode::from_u16(parsed.code.unwrap_or_default())
        .map_err(|_| Malformed("the status is none"))?;
    keep_reason(&mut head, unread, parsed.reason.unwrap_or_default());
    head.headers = own_fields(unread, parsed.headers)?;
    unread.advance(head_bytes);

    let told = Told::by(&head.headers);
    let body = decoder(&head, &told, to_head)?;
    let keeps_alive = match head.version {
        Version::HTTP_10 => told.keep_alive,
        _ => !told.close,
    };
    Ok(Some(Answer { head, body, keeps_alive: keeps_alive && body != Decoder::UntilClose }))
}

/// A reason phrase that is not the usual one is passed on as it came.
fn keep_reason(head: &mut Parts, unread: &Bytes, reason: &str) {
    let is_usual = reason.is_empty() || head.status.canonical_reason() == Some(reason);
    if !is_usual && let Ok(phrase) = ReasonPhrase::try_from(unread.slice_ref(reason.as_bytes())) {
        head.extensions.insert(phrase);
    }
}

/// The fields as values that share the memory of `bytes`.
fn own_fields(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(fields.len() + ROOM_FOR_OURS);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes());
        let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value));
        let (Ok(name), Ok(value)) = (name, value) else {
            return Err(Malformed("a field is not well-formed"));
        };
        headers.append(name, value);
    }
    Ok(headers)
}

/// What the fields of a head tell about the body and the connection.
#[derive(Default)]
struct Told<'a> {
    coding: Option<&'a HeaderValue>,
    length: Option<&'a HeaderValue>,
    /// One of the two is there more than once.
    twice: bool,
    close: bool,
    keep_alive: bool,
}

impl<'a> Told<'a> {
    /// One pass over all fields costs less than a look-up for each of the three.
    fn by(headers: &'a HeaderMap) -> Self {
        let mut told = Self::default();
        for (name, value) in headers {
            match *name {
                TRANSFER_ENCODING => told.twice |= told.coding.replace(value).is_some(),
                CONTENT_LENGTH => told.twice |= told.length.replace(value).is_some(),
                CONNECTION => {
                    for option in value.as_bytes().split(|&byte| byte == b',') {
                        let option = option.trim_ascii();
                        told.close |= option.eq_ignore_ascii_case(b"close");
                        told.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                _ => {}
            }
        }
        told
    }
}

/// Where the body ends (RFC 9112 §6.3).
fn decoder(head: &Parts, told: &Told<'_>, to_head: bool) -> Result<Decoder, Malformed> {
    if told.twice {
        return Err(Malformed("a framing field is there twice"));
    }
    let framed = match (told.coding, told.length) {
        (Some(_), Some(_)) => {
            return Err(Malformed("both Content-Length and Transfer-Encoding are there"));
        }
        (Some(_), None) if head.version == Version::HTTP_10 => {
            return Err(Malformed("HTTP/1.0 has no Transfer-Encoding"));
        }
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Decoder::Chunked(Chunk::Size)
        }
        (Some(_), None) => return Err(Malformed("the Transfer-Encoding is not chunked")),
        (None, Some(length)) => Decoder::length(read_length(length)?),
        (None, None) => Decoder::UntilClose,
    };
    let has_no_body = to_head
        || head.status.is_informational()
        || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    Ok(if has_no_body { Decoder::Ended } else { framed })
}

fn read_length(value: &HeaderValue) -> Result<u64, Malformed> {
    let is_number = !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    let number = value.to_str().ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    number.ok_or(Malformed("the Content-Length is no number"))
}

/// Where a body is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decoder {
    /// So many bytes are left, and at least one.
    Length(u64),
    Chunked(Chunk),
    /// What is left is all that comes.
    UntilClose,
    Ended,
}

/// What is expected next of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    Size,
    /// So many bytes of data are left, and at least one.
    Data(u64),
    /// The line break behind the data.
    DataEnd,
    Trailers,
}

/// What could be read of a body.
#[derive(Debug)]
pub(super) enum Decoded {
    Frame(Frame<Bytes>),
    NeedsMore,
    End,
}

impl Decoder {
    fn length(bytes: u64) -> Self {
        if bytes == 0 { Self::Ended } else { Self::Length(bytes) }
    }

    pub(super) fn has_ended(self) -> bool {
        self == Self::Ended
    }

    /// How long what is left may be.
    pub(super) fn size_hint(self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(left),
            Self::Ended => SizeHint::with_exact(0),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }

    /// Takes the next piece of the body from `unread`.
    pub(super) fn decode(&mut self, unread: &mut Bytes) -> Result<Decoded, Malformed> {
        match self {
            Self::Ended => Ok(Decoded::End),
            _ if unread.is_empty() => Ok(Decoded::NeedsMore),
            Self::UntilClose => Ok(Decoded::Frame(Frame::data(std::mem::take(unread)))),
            Self::Length(left) => {
                let data = take(unread, *left);
                *self = Self::length(*left - data.len() as u64);
                Ok(Decoded::Frame(Frame::data(data)))
            }
            Self::Chunked(_) => self.decode_chunked(unread),
        }
    }

    fn decode_chunked(&mut self, unread: &mut Bytes) -> Result<Decoded, Malformed> {
        while let Self::Chunked(chunk) = self {
            match *chunk {
                Chunk::Size => match read_size(unread)? {
                    None => return Ok(Decoded::NeedsMore),
                    Some(0) => *chunk = Chunk::Trailers,
                    Some(size) => *chunk = Chunk::Data(size),
                },
                Chunk::Data(_) if unread.is_empty() => return Ok(Decoded::NeedsMore),
                Chunk::Data(left) => {
                    let data = take(unread, left);
                    let left = left - data.len() as u64;
                    *chunk = if left == 0 { Chunk::DataEnd } else { Chunk::Data(left) };
                    self.see_end(unread);
                    return Ok(Decoded::Frame(Frame::data(data)));
                }
                Chunk::DataEnd => match &**unread {
                    [b'\r', b'\n', ..] => {
                        unread.advance(2);
                        *chunk = Chunk::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::NeedsMore),
                    _ => return Err(Malformed("a chunk is longer than it says")),
                },
                Chunk::Trailers => {
                    let Some(trailers) = read_trailers(unread)? else {
                        return Ok(Decoded::NeedsMore);
                    };
                    *self = Self::Ended;
                    if !trailers.is_empty() {
                        return Ok(Decoded::Frame(Frame::trailers(trailers)));
                    }
                }
            }
        }
        Ok(Decoded::End)
    }

    /// The usual end came along with the last data: whoever asks whether there is more need not wait.
    fn see_end(&mut self, unread: &mut Bytes) {
        const END: &[u8] = b"\r\n0\r\n\r\n";
        if *self == Self::Chunked(Chunk::DataEnd) && unread.starts_with(END) {
            unread.advance(END.len());
            *self = Self::Ended;
        }
    }
}

/// At most `most` bytes from the front.
fn take(unread: &mut Bytes, most: u64) -> Bytes {
    let len = usize::try_from(most).map_or(unread.len(), |most| most.min(unread.len()));
    unread.split_to(len)
}

/// The line with a chunk's size. The parser takes a line without a digit, and line feeds within extensions; we
/// do not.
fn read_size(unread: &mut Bytes) -> Result<Option<u64>, Malformed> {
    const WRONG: Malformed = Malformed("the size of a chunk is not well-formed");
    if unread.first().is_some_and(|first| !first.is_ascii_hexdigit()) {
        return Err(WRONG);
    }
    match httparse::parse_chunk_size(unread).map_err(|_| WRONG)? {
        httparse::Status::Complete((line_bytes, size)) => {
            let is_one_line = memchr::memchr(b'\n', unread) == Some(line_bytes - 1);
            if !is_one_line || line_bytes > MAX_CHUNK_LINE_BYTES {
                return Err(WRONG);
            }
            unread.advance(line_bytes);
            Ok(Some(size))
        }
        httparse::Status::Partial if unread.len() > MAX_CHUNK_LINE_BYTES => Err(WRONG),
        httparse::Status::Partial => Ok(None),
    }
}

fn read_trailers(unread: &mut Bytes) -> Result<Option<HeaderMap>, Malformed> {
    const WRONG: Malformed = Malformed("the trailers are not well-formed");
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    match httparse::parse_headers(unread, &mut fields).map_err(|_| WRONG)? {
        httparse::Status::Complete((bytes, fields)) => {
            let trailers = own_fields(unread, fields)?;
            unread.advance(bytes);
            Ok(Some(trailers))
        }
        httparse::Status::Partial if unread.len() > MAX_TRAILER_BYTES => Err(WRONG),
        httparse::Status::Partial => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        ] {
            let wire = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert_eq!(read(&wire, false), Some(Err(reason)), "{fields:?}");
        }
        let wire = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        assert_eq!(read(wire, false), Some(Err("HTTP/1.0 has no Transfer-Encoding")));
    }

    #[test]
    fn a_chunk_is_well_formed_or_refused() {
        for chunks in [
            "\r\nx",
            "x\r\n",
            "-1\r\na\r\n",
            "0x1\r\na\r\n",
            " 1\r\na\r\n",
            ";\r\n",
            "1\na\r\n",
            "1;a\nb\r\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "11111111111111111\r\na",
        ] {
            let wire = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
            assert!(matches!(read(&wire, false), Some(Err(_))), "{chunks:?}");
        }
        let endless = format!("1;{}", "x".repeat(MAX_CHUNK_LINE_BYTES));
        assert!(read_size(&mut endless.into()).is_err());
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
