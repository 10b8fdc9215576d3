//! The body of a message, framed for the wire piece by piece (RFC 9112 §6.3, §7.1), and the fields of its head.
//!
//! Never here: I/O, or which fields there are.

use std::io::Write as _;

use bytes::Bytes;
use http::HeaderMap;
use http_body::Frame;

const LINE_END: &[u8] = b"\r\n";

/// Up to so many bytes of data are copied behind what goes before them, so that all of it is one piece of memory: more,
/// and the copy costs what it saves.
const SMALL_BYTES: usize = 2048;

/// How the end of a body is told by the fields of its head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is no body, and no field says so.
    Empty,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

impl Framing {
    /// Writes the field that says so.
    pub fn push_field(self, out: &mut Vec<u8>) {
        match self {
            Self::Empty => {}
            Self::Length(length) => {
                write!(out, "content-length: {length}\r\n").expect("memory takes everything")
            }
            Self::Chunked => push_field(out, "transfer-encoding", b"chunked"),
        }
    }
}

/// Writes a field. Name and value were checked where their types were made: they hold no line break.
pub fn push_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    for part in [name.as_bytes(), b": ", value, LINE_END] {
        out.extend_from_slice(part);
    }
}

/// A body that is longer or shorter than its head says.
#[derive(Debug, PartialEq, Eq)]
pub struct WrongLength;

/// Bytes on their way out: large data stays where it is.
#[derive(Debug, Default)]
pub struct Piece {
    /// What goes before the data.
    before: Vec<u8>,
    data: Bytes,
    behind: &'static [u8],
}

impl Piece {
    /// One that begins with `bytes`.
    pub fn beginning(bytes: Vec<u8>) -> Self {
        Self { before: bytes, ..Self::default() }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.before.len() + self.data.len() + self.behind.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it should go out before more is added.
    pub fn is_full(&self) -> bool {
        !self.data.is_empty() || self.before.len() >= SMALL_BYTES
    }

    /// The bytes, in three parts.
    pub fn parts(&self) -> [&[u8]; 3] {
        [&self.before, &self.data, self.behind]
    }

    /// Forgets what has gone out.
    pub fn clear(&mut self) {
        self.before.clear();
        self.data = Bytes::new();
        self.behind = &[];
    }

    fn add(&mut self, data: Bytes, behind: &'static [u8]) {
        if data.len() > SMALL_BYTES {
            (self.data, self.behind) = (data, behind);
        } else {
            self.before.extend_from_slice(&data);
            self.before.extend_from_slice(behind);
        }
    }
}

/// Frames a body, piece by piece.
#[derive(Debug)]
pub struct Encoder(State);

#[derive(Debug)]
enum State {
    /// So many bytes are to come.
    Length(u64),
    Chunked,
    /// Whatever comes.
    UntilClose,
}

impl Encoder {
    /// For a body whose head says `framing`.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Empty => State::Length(0),
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked,
        })
    }

    /// For an answer that ends with its connection.
    pub fn until_close() -> Self {
        Self(State::UntilClose)
    }

    /// Whether only the end of the connection tells that of the body.
    pub fn ends_by_close(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }

    /// Adds the next frame of the body to `piece`, which is not full. Only a body in chunks has a place for trailers.
    ///
    /// # Errors
    /// The body is longer than its head says.
    pub fn frame(&mut self, frame: Frame<Bytes>, piece: &mut Piece) -> Result<(), WrongLength> {
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                self.last(&frame.into_trailers().unwrap_or_default(), piece);
                return Ok(());
            }
        };
        match &mut self.0 {
            _ if data.is_empty() => {}
            State::Length(left) => {
                *left = left.checked_sub(data.len() as u64).ok_or(WrongLength)?;
                piece.add(data, b"");
            }
            State::Chunked => {
                write!(piece.before, "{:x}\r\n", data.len()).expect("memory takes everything");
                piece.add(data, LINE_END);
            }
            State::UntilClose => piece.add(data, b""),
        }
        Ok(())
    }

    /// Whether the body goes out as it is, with nothing between its parts.
    pub fn is_plain(&self) -> bool {
        matches!(self.0, State::Length(_))
    }

    /// So many bytes of a [plain](Self::is_plain) body go out another way.
    ///
    /// # Errors
    /// The body is longer than its head says.
    pub fn pass(&mut self, bytes: usize) -> Result<(), WrongLength> {
        if let State::Length(left) = &mut self.0 {
            *left = left.checked_sub(bytes as u64).ok_or(WrongLength)?;
        }
        Ok(())
    }

    /// Adds what goes behind the whole body to `piece`, which may be full.
    ///
    /// # Errors
    /// The body is shorter than its head says.
    pub fn end(&mut self, piece: &mut Piece) -> Result<(), WrongLength> {
        match self.0 {
            State::Length(1..) => return Err(WrongLength),
            State::Chunked if piece.behind == LINE_END => {
                (self.0, piece.behind) = (State::Length(0), b"\r\n0\r\n\r\n");
            }
            _ => self.last(&HeaderMap::new(), piece),
        }
        Ok(())
    }

    /// The last chunk and the trailers.
    fn last(&mut self, trailers: &HeaderMap, piece: &mut Piece) {
        if matches!(self.0, State::Chunked) {
            self.0 = State::Length(0);
            piece.before.extend_from_slice(b"0\r\n");
            for (name, value) in trailers {
                push_field(&mut piece.before, name.as_str(), value.as_bytes());
            }
            piece.before.extend_from_slice(LINE_END);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Takes the bytes of `piece` out, as text.
    fn wire(piece: &mut Piece) -> String {
        let bytes = piece.parts().concat();
        assert_eq!(bytes.len(), piece.len());
        piece.clear();
        assert!(piece.is_empty());
        String::from_utf8(bytes).expect("text")
    }

    /// What `pieces` look like on the wire, sent one by one, and as many at once as fit.
    fn encode(mut make: impl FnMut() -> Encoder, pieces: &[&str]) -> Result<String, WrongLength> {
        let mut texts = [String::new(), String::new()];
        for (text, at_once) in texts.iter_mut().zip([false, true]) {
            let (mut encoder, mut piece) = (make(), Piece::default());
            for data in pieces {
                encoder.frame(Frame::data(Bytes::from(data.to_string())), &mut piece)?;
                if !at_once || piece.is_full() {
                    *text += &wire(&mut piece);
                }
            }
            encoder.end(&mut piece)?;
            *text += &wire(&mut piece);
        }
        let [one_by_one, at_once] = texts;
        assert_eq!(one_by_one, at_once);
        Ok(at_once)
    }

    fn framed(framing: Framing, pieces: &[&str]) -> Result<String, WrongLength> {
        encode(|| Encoder::new(framing), pieces)
    }

    #[test]
    fn a_body_is_framed_as_its_head_says() {
        assert_eq!(framed(Framing::Empty, &[]).as_deref(), Ok(""));
        assert_eq!(framed(Framing::Length(5), &["he", "", "llo"]).as_deref(), Ok("hello"));
        assert_eq!(framed(Framing::Chunked, &[]).as_deref(), Ok("0\r\n\r\n"));
        let medium = "seventeen bytes!!";
        let expected = format!("1\r\na\r\n11\r\n{medium}\r\n0\r\n\r\n");
        assert_eq!(framed(Framing::Chunked, &["a", "", medium]), Ok(expected));
        assert_eq!(encode(Encoder::until_close, &["a", "", "b"]).as_deref(), Ok("ab"));
    }

    #[test]
    fn large_data_is_framed_like_small_data() {
        let large = "x".repeat(SMALL_BYTES + 1);
        let expected = format!("1\r\na\r\n801\r\n{large}\r\n801\r\n{large}\r\n0\r\n\r\n");
        assert_eq!(framed(Framing::Chunked, &["a", &large, &large]), Ok(expected));
        let length = Framing::Length(large.len() as u64);
        assert_eq!(framed(length, &[&large]).as_ref(), Ok(&large));
        assert_eq!(encode(Encoder::until_close, &[&large]).as_ref(), Ok(&large));
    }

    #[test]
    fn the_end_of_large_data_goes_out_with_it() {
        let (mut encoder, mut piece) = (Encoder::new(Framing::Chunked), Piece::default());
        let large = Bytes::from(vec![b'x'; SMALL_BYTES + 1]);
        encoder.frame(Frame::data(large), &mut piece).expect("data fits");
        encoder.end(&mut piece).expect("the end");
        assert!(wire(&mut piece).ends_with("x\r\n0\r\n\r\n"));
    }

    #[test]
    fn a_body_of_another_length_than_its_head_says_is_an_error() {
        assert_eq!(framed(Framing::Empty, &["a"]), Err(WrongLength));
        assert_eq!(framed(Framing::Length(5), &["hell"]), Err(WrongLength));
        assert_eq!(framed(Framing::Length(5), &["hello", "!"]), Err(WrongLength));
    }

    #[test]
    fn trailers_follow_the_last_chunk_and_end_the_body() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        for (framing, expected) in
            [(Framing::Chunked, "0\r\nx-sum: 1\r\n\r\n"), (Framing::Empty, "")]
        {
            let (mut encoder, mut piece) = (Encoder::new(framing), Piece::default());
            encoder.frame(Frame::trailers(trailers.clone()), &mut piece).expect("trailers");
            encoder.end(&mut piece).expect("the end");
            assert_eq!(wire(&mut piece), expected);
        }
    }
}
