//! The fields of a message's head, and what they say of its body and its connection (RFC 9112 §6, §9).
//!
//! Never here: I/O.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Version};

use super::decode::{Chunk, Decoder};
use super::{Malformed, spare};

/// Fields that are added to a message later, and must not make its map grow.
const ROOM_FOR_OURS: usize = 2;

/// The fields as values that share the memory of `bytes`.
///
/// # Errors
/// One is not well-formed.
pub fn owned(bytes: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Malformed> {
    let mut headers = spare::take(fields.len() + ROOM_FOR_OURS);
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

/// Whether a line of `head` ends in a way that not everybody takes for an end (RFC 9112 §2.2).
pub fn has_bare_line_feed(head: &[u8]) -> bool {
    // Without a way out before the end, this is vectorized: a head has a line feed every few bytes, and looking for each
    // would cost twice as much.
    let behind = head.get(1..).unwrap_or_default();
    let pairs = head.iter().zip(behind);
    pairs.fold(head.first() == Some(&b'\n'), |found, (&before, &byte)| {
        found | ((byte == b'\n') & (before != b'\r'))
    })
}

/// What the fields of a head tell about the body and the connection.
#[derive(Default)]
pub struct Told<'a> {
    coding: Option<&'a HeaderValue>,
    length: Option<&'a HeaderValue>,
    /// One of the two is there more than once.
    twice: bool,
    close: bool,
    keep_alive: bool,
    takes_trailers: bool,
}

impl<'a> Told<'a> {
    /// One pass over all fields costs less than a look-up for each.
    pub fn by(headers: &'a HeaderMap) -> Self {
        let mut told = Self::default();
        for (name, value) in headers {
            match *name {
                TRANSFER_ENCODING => told.twice |= told.coding.replace(value).is_some(),
                CONTENT_LENGTH => told.twice |= told.length.replace(value).is_some(),
                CONNECTION => {
                    told.close |= lists(value, b"close");
                    told.keep_alive |= lists(value, b"keep-alive");
                }
                TE => told.takes_trailers |= lists(value, b"trailers"),
                _ => {}
            }
        }
        told
    }

    /// How the body is to be read (RFC 9112 §6.3); `None` where no field says so.
    ///
    /// # Errors
    /// It could be read in two ways.
    pub fn body(&self, version: Version) -> Result<Option<Decoder>, Malformed> {
        if self.twice {
            return Err(Malformed("a framing field is there twice"));
        }
        match (self.coding, self.length) {
            (None, None) => Ok(None),
            (None, Some(length)) => Ok(Some(Decoder::length(read_length(length)?))),
            (Some(_), Some(_)) => {
                Err(Malformed("both Content-Length and Transfer-Encoding are there"))
            }
            (Some(_), None) if version == Version::HTTP_10 => {
                Err(Malformed("HTTP/1.0 has no Transfer-Encoding"))
            }
            (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
                Ok(Some(Decoder::Chunked(Chunk::Size)))
            }
            (Some(_), None) => Err(Malformed("the Transfer-Encoding is not chunked")),
        }
    }

    /// Whether another message may follow on the connection (RFC 9112 §9.3).
    pub fn keeps_alive(&self, version: Version) -> bool {
        !self.close && (version != Version::HTTP_10 || self.keep_alive)
    }

    /// Whether the sender takes trailers (RFC 9110 §10.1.4).
    pub fn takes_trailers(&self) -> bool {
        self.takes_trailers
    }
}

/// Whether the list in `value` has `token`, in any case.
pub fn lists(value: &HeaderValue, token: &[u8]) -> bool {
    let mut members = value.as_bytes().split(|&byte| byte == b',');
    members.any(|member| member.trim_ascii().eq_ignore_ascii_case(token))
}

fn read_length(value: &HeaderValue) -> Result<u64, Malformed> {
    let is_number = !value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_digit);
    let number = value.to_str().ok().filter(|_| is_number).and_then(|text| text.parse().ok());
    number.ok_or(Malformed("the Content-Length is no number"))
}
