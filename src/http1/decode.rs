//! The body of a message, read piece by piece (RFC 9112 §6.3, §7.1).
//!
//! Whatever stands behind its end stays unread.
//!
//! Never here: I/O.

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::{Malformed, fields};

/// Longest line that tells the size of a chunk, extensions included.
const MAX_CHUNK_LINE_BYTES: usize = 4096;
/// Longest trailers, and most fields of them.
const MAX_TRAILER_BYTES: usize = 16 * 1024;
const MAX_TRAILERS: usize = 256;

/// Where a body is being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoder {
    /// So many bytes are left, and at least one.
    Length(u64),
    /// In chunks.
    Chunked(Chunk),
    /// What is left is all that comes.
    UntilClose,
    /// Nothing is left.
    Ended,
}

/// What is expected next of a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// The line with the size of the next one.
    Size,
    /// So many bytes of data are left, and at least one.
    Data(u64),
    /// The line break behind the data.
    DataEnd,
    /// What follows the last one.
    Trailers,
}

/// What could be read of a body.
#[derive(Debug)]
pub enum Decoded {
    /// Data, or trailers.
    Frame(Frame<Bytes>),
    /// Nothing, before more came.
    NeedsMore,
    /// There is no more.
    End,
}

impl Decoder {
    /// `bytes` of body.
    pub fn length(bytes: u64) -> Self {
        if bytes == 0 { Self::Ended } else { Self::Length(bytes) }
    }

    /// Whether nothing is left.
    pub fn has_ended(self) -> bool {
        self == Self::Ended
    }

    /// How long what is left may be.
    pub fn size_hint(self) -> SizeHint {
        match self {
            Self::Length(left) => SizeHint::with_exact(left),
            Self::Ended => SizeHint::with_exact(0),
            Self::Chunked(_) | Self::UntilClose => SizeHint::default(),
        }
    }

    /// How many bytes come next that are data and nothing else.
    pub fn data_bytes(self) -> u64 {
        match self {
            Self::Length(left) => left,
            Self::Chunked(_) | Self::UntilClose | Self::Ended => 0,
        }
    }

    /// So many of the [data bytes](Self::data_bytes) went another way.
    pub fn pass(&mut self, bytes: usize) {
        *self = Self::length(self.data_bytes() - bytes as u64);
    }

    /// Takes the next piece of the body from `unread`.
    ///
    /// # Errors
    /// The body is not well-formed.
    pub fn decode(&mut self, unread: &mut Bytes) -> Result<Decoded, Malformed> {
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
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    match httparse::parse_headers(unread, &mut fields).map_err(|_| WRONG)? {
        // However they came: all at once, or piece by piece.
        httparse::Status::Complete((bytes, _))
            if bytes > MAX_TRAILER_BYTES || fields::has_bare_line_feed(&unread[..bytes]) =>
        {
            Err(WRONG)
        }
        httparse::Status::Complete((bytes, fields)) => {
            let trailers = fields::owned(unread, fields)?;
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
            "0\r\nx: 1\n\r\n",
            "0\r\nx : 1\r\n\r\n",
        ] {
            let (mut decoder, mut unread) = (Decoder::Chunked(Chunk::Size), Bytes::from(chunks));
            let end = loop {
                match decoder.decode(&mut unread) {
                    Ok(Decoded::Frame(_)) => {}
                    end => break end,
                }
            };
            assert!(end.is_err(), "{chunks:?}: {end:?}");
        }
        let endless = format!("1;{}", "x".repeat(MAX_CHUNK_LINE_BYTES));
        assert!(read_size(&mut endless.into()).is_err());
        let long = format!("x: {}\r\n\r\n", "x".repeat(MAX_TRAILER_BYTES));
        assert!(read_trailers(&mut long.into()).is_err());
    }
}
