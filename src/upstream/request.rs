//! A request as an HTTP/1.1 endpoint reads it: the bytes of its head, and how its body is framed
//! (RFC 9112 §3, §6.3, §7.1). The head is written once, before it is known which connection it goes over, and
//! can be sent again.
//!
//! Never here: which fields a request has, or I/O.

use std::io::Write as _;
use std::ops::Range;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, Method};
use http_body::Frame;

/// Room for a usual head, so that it is written without growing.
const USUAL_HEAD_BYTES: usize = 1024;

const LINE_END: &[u8] = b"\r\n";

/// How the end of a request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and no field says so.
    Empty,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

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
        match framing {
            Framing::Empty => {}
            Framing::Length(length) => {
                write!(self.bytes, "content-length: {length}\r\n")
                    .expect("memory takes everything");
            }
            Framing::Chunked => self.bytes.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        self.bytes.extend_from_slice(b"\r\n");
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

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }
}

/// A body that is longer or shorter than its head says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct WrongLength;

/// A piece of a body, framed: its data, and what goes before and behind.
#[derive(Debug, Default)]
pub(super) struct Piece {
    pub(super) before: Vec<u8>,
    pub(super) data: Bytes,
    pub(super) behind: &'static [u8],
}

/// Frames a body, piece by piece.
#[derive(Debug)]
pub(super) struct Encoder(Framing);

impl Encoder {
    pub(super) fn new(framing: Framing) -> Self {
        Self(framing)
    }

    /// The next frame of the body, framed.
    pub(super) fn frame(&mut self, frame: Frame<Bytes>) -> Result<Piece, WrongLength> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => return Ok(self.last(&frame.into_trailers().unwrap_or_default())),
        };
        let mut piece = Piece::default();
        match &mut self.0 {
            _ if data.is_empty() => {}
            Framing::Empty => return Err(WrongLength),
            Framing::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
            }
            Framing::Chunked => {
                write!(piece.before, "{:x}\r\n", data.len()).expect("memory takes everything");
                piece.behind = b"\r\n";
            }
        }
        piece.data = data;
        Ok(piece)
    }

    /// What goes behind the whole body.
    pub(super) fn end(&mut self) -> Result<Piece, WrongLength> {
        match self.0 {
            Framing::Length(1..) => Err(WrongLength),
            _ => Ok(self.last(&HeaderMap::new())),
        }
    }

    /// The last chunk and what may follow it; a body that is not chunked has no place for that.
    fn last(&mut self, trailers: &HeaderMap) -> Piece {
        let mut last = Piece::default();
        if self.0 == Framing::Chunked {
            self.0 = Framing::Empty;
            last.before.extend_from_slice(b"0\r\n");
            for (name, value) in trailers {
                push_field(&mut last.before, name.as_str(), value.as_bytes());
            }
            last.before.extend_from_slice(b"\r\n");
        }
        last
    }
}

fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, LINE_END] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn wire(piece: &Piece) -> String {
        let bytes = [&piece.before, &piece.data[..], piece.behind].concat();
        String::from_utf8(bytes).expect("text")
    }

    /// What `pieces` look like on the wire.
    fn encode(framing: Framing, pieces: &[&'static str]) -> Result<String, WrongLength> {
        let mut encoder = Encoder::new(framing);
        let mut text = String::new();
        for piece in pieces {
            let data = Bytes::from_static(piece.as_bytes());
            text += &wire(&encoder.frame(Frame::data(data))?);
        }
        Ok(text + &wire(&encoder.end()?))
    }

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

    #[test]
    fn a_body_is_framed_as_its_head_says() {
        assert_eq!(encode(Framing::Empty, &[]).as_deref(), Ok(""));
        assert_eq!(encode(Framing::Length(5), &["he", "", "llo"]).as_deref(), Ok("hello"));
        assert_eq!(encode(Framing::Chunked, &[]).as_deref(), Ok("0\r\n\r\n"));
        let long = "seventeen bytes!!";
        let expected = format!("1\r\na\r\n11\r\n{long}\r\n0\r\n\r\n");
        assert_eq!(encode(Framing::Chunked, &["a", "", long]), Ok(expected));
    }

    #[test]
    fn a_body_of_another_length_than_its_head_says_is_an_error() {
        assert_eq!(encode(Framing::Empty, &["a"]), Err(WrongLength));
        assert_eq!(encode(Framing::Length(5), &["hell"]), Err(WrongLength));
        assert_eq!(encode(Framing::Length(5), &["hello", "!"]), Err(WrongLength));
    }

    #[test]
    fn trailers_follow_the_last_chunk_and_end_the_body() {
        let mut encoder = Encoder::new(Framing::Chunked);
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        let last = encoder.frame(Frame::trailers(trailers)).expect("trailers fit");
        assert_eq!(wire(&last), "0\r\nx-sum: 1\r\n\r\n");
        assert_eq!(wire(&encoder.end().expect("the end")), "");
    }
}
