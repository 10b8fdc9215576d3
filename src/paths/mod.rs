//! Reading a request's path in the one way that every parser behind us would read it.
//!
//! Routes are chosen on the percent-decoded path, while the upstream receives the path as it was sent.
//! That is safe only if nobody can decode it to something else, so [`read`] names the first thing about a
//! path that two parsers could take differently (RFC 3986 §6.2.2, §3.3).
//!
//! Never here: a repaired path. What is doubtful is refused, not rewritten.

pub mod patterns;

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// What makes a path readable in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ambiguity {
    /// A `.` or `..` segment, plain, encoded or behind a parameter (`..;`).
    DotSegment,
    /// `//`
    EmptySegment,
    /// `\` or `%5c`, which some take for `/`.
    Backslash,
    /// `%2f`, which some decode before they split.
    EncodedSlash,
    /// A control character, plain or encoded.
    Control,
    /// `%` without two hexadecimal digits behind it.
    BadEscape,
    /// An escape that decodes to another escape of something in this list: `%252e`.
    DoubleEncoding,
    /// Bytes that are not ASCII, or decode to no UTF-8 (`%c0%ae` is a dot to some).
    NotUtf8,
    /// A `;` where with and without the parameter different rules would apply.
    Parameter,
    /// Not a path at all: `*`, or nothing.
    NotAPath,
}

impl Ambiguity {
    /// Ends the sentence "The path …".
    pub fn reason(self) -> &'static str {
        match self {
            Self::DotSegment => "holds a '.' or '..' segment",
            Self::EmptySegment => "holds an empty segment",
            Self::Backslash => "holds a backslash",
            Self::EncodedSlash => "holds an encoded slash",
            Self::Control => "holds a control character",
            Self::BadEscape => "holds a '%' that is no escape",
            Self::DoubleEncoding => "is encoded twice",
            Self::NotUtf8 => "does not decode to UTF-8",
            Self::Parameter => "holds a ';' parameter",
            Self::NotAPath => "does not begin with '/'",
        }
    }
}

/// A path, decoded once.
#[derive(Debug)]
pub struct ReadPath<'a> {
    /// What routes are matched against.
    pub decoded: Cow<'a, str>,
    /// The first doubt about it, if any.
    pub ambiguity: Option<Ambiguity>,
    /// Whether any segment holds a `;`.
    pub has_parameters: bool,
}

/// Reads `raw`, the path of a request target without its query.
pub fn read(raw: &str) -> ReadPath<'_> {
    if !raw.starts_with('/') {
        let ambiguity = Some(Ambiguity::NotAPath);
        return ReadPath { decoded: Cow::Borrowed(raw), ambiguity, has_parameters: false };
    }
    if is_plain(raw.as_bytes()) {
        return ReadPath { decoded: Cow::Borrowed(raw), ambiguity: None, has_parameters: false };
    }
    let undecoded = escapes(raw.as_bytes());
    let (decoded, not_utf8) = match percent_decode_str(raw).decode_utf8() {
        Ok(decoded) => (decoded, None),
        Err(_) => (percent_decode_str(raw).decode_utf8_lossy(), Some(Ambiguity::NotUtf8)),
    };
    let ambiguity = undecoded.or(not_utf8).or_else(|| segments(&decoded));
    let has_parameters = decoded.contains(';');
    ReadPath { decoded, ambiguity, has_parameters }
}

/// `path` without the parameters of its segments, as a servlet container would see it.
pub fn without_parameters(path: &str) -> String {
    let segments = path.split('/').map(|segment| segment.split(';').next().unwrap_or_default());
    segments.collect::<Vec<_>>().join("/")
}

/// Whether nothing in the path needs a second look: one pass, no allocation, for nearly every request.
fn is_plain(raw: &[u8]) -> bool {
    let mut after_slash = false;
    for &byte in raw {
        match byte {
            b'/' | b'.' if after_slash => return false,
            b'%' | b';' | b'\\' | 0..=0x20 | 0x7f.. => return false,
            _ => after_slash = byte == b'/',
        }
    }
    true
}

/// The first doubt that shows before decoding.
fn escapes(raw: &[u8]) -> Option<Ambiguity> {
    if !raw.is_ascii() {
        return Some(Ambiguity::NotUtf8);
    }
    let mut rest = raw;
    while let Some(at) = memchr::memchr(b'%', rest) {
        rest = &rest[at + 1..];
        match escaped(rest) {
            None => return Some(Ambiguity::BadEscape),
            Some(b'/') => return Some(Ambiguity::EncodedSlash),
            Some(b'%') if escaped(&rest[2..]).is_some_and(is_doubtful_twice) => {
                return Some(Ambiguity::DoubleEncoding);
            }
            Some(_) => rest = &rest[2..],
        }
    }
    None
}

/// The byte that the two hexadecimal digits at the start of `digits` stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

fn is_doubtful_twice(byte: u8) -> bool {
    matches!(byte, b'.' | b'/' | b'\\' | b'%' | b';') || byte.is_ascii_control()
}

/// The first doubt about the decoded path.
fn segments(decoded: &str) -> Option<Ambiguity> {
    if decoded.chars().any(char::is_control) {
        return Some(Ambiguity::Control);
    }
    if decoded.contains('\\') {
        return Some(Ambiguity::Backslash);
    }
    let mut segments = decoded[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match segment.split(';').next().unwrap_or_default() {
            "." | ".." => return Some(Ambiguity::DotSegment),
            "" if !is_last || !segment.is_empty() => return Some(Ambiguity::EmptySegment),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Option<Ambiguity>) {
        assert_eq!(read(raw).ambiguity, expected, "{raw}");
    }

    #[test]
    fn ordinary_paths_have_one_reading() {
        for path in [
            "/",
            "/a/b",
            "/a/b/",
            "/a.b/.well-known",
            "/a%20b",
            "/%61dmin",
            "/caf%C3%A9",
            "/a;v=1",
            "/...",
            "/a:b@c!$&'()*+,=~",
            "/100%25",
        ] {
            check(path, None);
        }
        assert_eq!(read("/%61dmin").decoded, "/admin");
    }

    #[test]
    fn what_two_parsers_could_differ_about_is_named() {
        use Ambiguity::*;
        for (path, expected) in [
            ("", NotAPath),
            ("*", NotAPath),
            ("/..", DotSegment),
            ("/a/../b", DotSegment),
            ("/a/./b", DotSegment),
            ("/a/%2e%2E/b", DotSegment),
            ("/a/.%2e", DotSegment),
            ("/a/..;/b", DotSegment),
            ("/a/..;x=y/b", DotSegment),
            ("/a/%2e%2e%3bx/b", DotSegment),
            ("//a", EmptySegment),
            ("/a//b", EmptySegment),
            ("/a//", EmptySegment),
            ("/a/;x/b", EmptySegment),
            ("/a/;x", EmptySegment),
            ("/a\\b", Backslash),
            ("/a%5cb", Backslash),
            ("/a%5Cb", Backslash),
            ("/a%2fb", EncodedSlash),
            ("/a%2Fb", EncodedSlash),
            ("/..%2fb", EncodedSlash),
            ("/a%00", Control),
            ("/a%0d%0a", Control),
            ("/a\x01", Control),
            ("/a%7f", Control),
            ("/a%c2%85", Control),
            ("/a%", BadEscape),
            ("/a%2", BadEscape),
            ("/a%zz", BadEscape),
            ("/a%u002e", BadEscape),
            ("/%252e%252e/", DoubleEncoding),
            ("/a%252fb", DoubleEncoding),
            ("/a%25252f", DoubleEncoding),
            ("/a%2500", DoubleEncoding),
            ("/%c0%ae%c0%ae/", NotUtf8),
            ("/%ff", NotUtf8),
            ("/é", NotUtf8),
        ] {
            check(path, Some(expected));
        }
    }

    #[test]
    fn parameters_are_cut_from_every_segment() {
        assert_eq!(without_parameters("/a;x=1/b;y;z/c"), "/a/b/c");
        assert!(read("/a%3bx").has_parameters);
    }
}
