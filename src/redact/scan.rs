//! Finds the parts of a text that must not be shown.
//!
//! Every rule reads the text percent-decoded, to any depth (`%6b`, `%256b`), and answers with ranges of
//! the bytes as they stand. A rule may mask too much, never too little.
//!
//! Never here: how a masked or an ordinary part is written; `redact` does that.

use std::ops::Range;

/// A run of base62 characters behind our prefix is a key from this length on, a whole one or a mangled one.
const OWN_RUN: usize = 20;
/// Behind any other `<prefix>_`: the length of a key of ours, made under a former prefix or elsewhere.
const FOREIGN_RUN: usize = 36;
/// Without an underscore before it: only with upper-case letters, lower-case letters and digits together.
const MIXED_RUN: usize = 32;
/// What follows `Bearer` or `Basic` is a credential from this length on: no shorter key is ever valid.
const CREDENTIAL_BYTES: usize = 8;
/// Longest name that is compared, folded; a longer one is taken for a secret's.
const NAME_BYTES: usize = 64;

/// Names of parameters and headers whose value is a secret, lower-case and without separators.
const NAMES: &[&str] = &[
    "auth",
    "bearer",
    "code",
    "cookie",
    "jwt",
    "key",
    "pass",
    "passwd",
    "pwd",
    "session",
    "sessionid",
    "setcookie",
    "sid",
    "sig",
];
/// A name that ends so belongs to a secret: `x-api-key`, `access_token`, `user[password]`.
const NAME_ENDS: &[&str] = &[
    "accesskey",
    "apikey",
    "authkey",
    "authorization",
    "credential",
    "credentials",
    "passphrase",
    "password",
    "privatekey",
    "secret",
    "secretkey",
    "signature",
    "subscriptionkey",
    "token",
];

/// What to look for.
pub(super) struct Patterns {
    /// Folded names that are a secret's in this configuration.
    names: Box<[Box<[u8]>]>,
    /// The last bytes before the underscore of a key of ours, lower-case, and which of them count.
    prefix: u128,
    prefix_mask: u128,
}

impl Patterns {
    /// `prefix` is that of our keys, without the underscore; of a long one the last 16 bytes count.
    pub(super) fn new<'n>(prefix: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        let mut patterns = Self { names: Box::default(), prefix: 0, prefix_mask: 0 };
        for byte in prefix.bytes() {
            patterns.prefix = patterns.prefix << 8 | u128::from(byte.to_ascii_lowercase());
            patterns.prefix_mask = patterns.prefix_mask << 8 | 0xff;
        }
        let fold = |name: &str| {
            name.bytes().filter(u8::is_ascii_alphanumeric).map(|b| b.to_ascii_lowercase()).collect()
        };
        patterns.names = names.into_iter().map(fold).collect();
        patterns
    }

    /// Whether the value of something called `name` is a secret.
    pub(super) fn is_secret_name(&self, name: &[u8]) -> bool {
        let mut folded = [0; NAME_BYTES];
        let mut length = 0;
        let mut at = 0;
        while let Some(unit) = unit_at(name, at) {
            at = unit.end;
            if unit.byte.is_ascii_alphanumeric() {
                if length == NAME_BYTES {
                    return true;
                }
                folded[length] = unit.byte.to_ascii_lowercase();
                length += 1;
            }
        }
        let folded = &folded[..length];
        NAMES.iter().any(|known| known.as_bytes() == folded)
            || NAME_ENDS.iter().any(|end| folded.ends_with(end.as_bytes()))
            || (length > 0 && self.names.iter().any(|known| **known == *folded))
    }
}

/// Whether no rule can find anything in `bytes` and none of them needs escaping: one look at each byte.
/// Errs towards `false`.
pub(super) fn is_plain(bytes: &[u8]) -> bool {
    let mut run = 0;
    bytes.iter().all(|&byte| match CLASSES[usize::from(byte)] {
        Class::Base62 => {
            run += 1;
            run < OWN_RUN
        }
        Class::Plain => {
            run = 0;
            true
        }
        Class::Special => false,
    })
}

#[derive(Clone, Copy)]
enum Class {
    /// May be part of a key.
    Base62,
    /// Printable, and the beginning of nothing.
    Plain,
    /// To be escaped, or the mark of an escape, a parameter or a credential.
    Special,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Special; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        classes[byte as usize] = match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => Class::Base62,
            b'"' | b'\\' | b'%' | b'=' | b'?' => Class::Special,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

/// One character as a recipient will read it, and where it ends in the text.
#[derive(Clone, Copy)]
struct Unit {
    byte: u8,
    end: usize,
    /// It stands in the text as it is: not percent-encoded.
    literal: bool,
}

/// The character at `at`. The `%` of an escape may itself be encoded, any number of times.
fn unit_at(bytes: &[u8], at: usize) -> Option<Unit> {
    let literal = Unit { byte: *bytes.get(at)?, end: at + 1, literal: true };
    if literal.byte != b'%' {
        return Some(literal);
    }
    let hex = |at: usize| {
        let digit = |at: usize| char::from(*bytes.get(at)?).to_digit(16);
        u8::try_from(digit(at)? << 4 | digit(at + 1)?).ok()
    };
    let mut digits = at + 1;
    let Some(mut byte) = hex(digits) else { return Some(literal) };
    while byte == b'%' {
        let Some(inner) = hex(digits + 2) else { break };
        byte = inner;
        digits += 2;
    }
    Some(Unit { byte, end: digits + 2, literal: false })
}

/// The ranges of `bytes` that are secret: in order, not empty, not overlapping.
pub(super) struct Secrets<'a> {
    patterns: &'a Patterns,
    bytes: &'a [u8],
    at: usize,
    /// Where the name of a parameter would have begun.
    name_start: usize,
    /// A value ends at a path's delimiters only before the query.
    in_path: bool,
}

impl<'a> Secrets<'a> {
    /// `is_target`: the text is a request target, which has a path before its query.
    pub(super) fn new(patterns: &'a Patterns, bytes: &'a [u8], is_target: bool) -> Self {
        Self { patterns, bytes, at: 0, name_start: 0, in_path: is_target }
    }

    /// Where the value that begins at `start` ends. Only what stands there literally can end it: an
    /// encoded `&` is part of the value for the recipient who splits first.
    fn value_end(&self, start: usize) -> usize {
        let ends = |byte: &u8| match byte {
            b'&' | b' ' | b'\t' => true,
            b'/' | b';' | b'?' => self.in_path,
            _ => false,
        };
        self.bytes[start..].iter().position(ends).map_or(self.bytes.len(), |length| start + length)
    }

    /// The credential behind the scheme word that ends at `end`: `Bearer x`, `Basic+x`.
    fn credential(&self, end: usize) -> Option<Range<usize>> {
        let mut start = end;
        while let Some(unit) = unit_at(self.bytes, start)
            && matches!(unit.byte, b' ' | b'\t' | b'+')
        {
            start = unit.end;
        }
        let mut stop = start;
        while let Some(unit) = unit_at(self.bytes, stop)
            && !(matches!(unit.byte, b' ' | b'\t' | b',') || (unit.literal && unit.byte == b'&'))
        {
            stop = unit.end;
        }
        (start > end && stop - start >= CREDENTIAL_BYTES).then_some(start..stop)
    }
}

impl Iterator for Secrets<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        while let Some(unit) = unit_at(self.bytes, self.at) {
            let start = self.at;
            self.at = unit.end;
            match unit.byte {
                b'=' if self.patterns.is_secret_name(&self.bytes[self.name_start..start]) => {
                    self.at = self.value_end(unit.end);
                    if self.at > unit.end {
                        return Some(unit.end..self.at);
                    }
                }
                byte if is_token_byte(byte) => {
                    let token = Token::read(self.patterns, self.bytes, start);
                    self.at = token.end;
                    if token.is_secret {
                        return Some(start..token.end);
                    }
                    if token.is_scheme()
                        && let Some(credential) = self.credential(token.end)
                    {
                        self.at = credential.end;
                        return Some(credential);
                    }
                }
                b'/' | b'?' | b'&' | b';' | b',' | b'#' | b'"' | b'\'' | 0..=b' ' => {
                    self.name_start = unit.end;
                    self.in_path &= !(unit.literal && unit.byte == b'?');
                }
                _ => {}
            }
        }
        None
    }
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'~')
}

/// A word: base62 characters and what joins them. It is shown or masked whole, so that the ends of a
/// key, or the third part of a JWT, do not stay behind.
struct Token {
    end: usize,
    is_secret: bool,
    /// The last 16 characters, lower-case.
    recent: u128,
}

impl Token {
    fn read(patterns: &Patterns, bytes: &[u8], start: usize) -> Self {
        let mut token = Self { end: start, is_secret: false, recent: 0 };
        let mut run = Run::behind(usize::MAX);
        while let Some(unit) = unit_at(bytes, token.end)
            && is_token_byte(unit.byte)
        {
            if unit.byte.is_ascii_alphanumeric() {
                run.push(unit.byte);
                token.is_secret |= run.is_key();
            } else if unit.byte != b'_' {
                run = Run::behind(usize::MAX);
            } else if token.recent & patterns.prefix_mask == patterns.prefix {
                run = Run::behind(OWN_RUN);
            } else {
                run = Run::behind(FOREIGN_RUN);
            }
            token.recent = token.recent << 8 | u128::from(unit.byte.to_ascii_lowercase());
            token.end = unit.end;
        }
        token
    }

    /// Whether it is the name of an authentication scheme (RFC 9110 §11.1).
    fn is_scheme(&self) -> bool {
        const BEARER: u128 = word(b"bearer");
        const BASIC: u128 = word(b"basic");
        matches!(self.recent, BEARER | BASIC)
    }
}

/// The characters of a short text as one number.
const fn word(text: &[u8]) -> u128 {
    let mut word = 0;
    let mut at = 0;
    while at < text.len() {
        word = word << 8 | text[at] as u128;
        at += 1;
    }
    word
}

/// An unbroken run of base62 characters.
struct Run {
    length: usize,
    /// Bit 0: a digit, bit 1: an upper-case letter, bit 2: a lower-case one.
    kinds: u8,
    /// From this length on it is a key, whatever it is made of.
    limit: usize,
}

impl Run {
    fn behind(limit: usize) -> Self {
        Self { length: 0, kinds: 0, limit }
    }

    fn push(&mut self, byte: u8) {
        self.length += 1;
        self.kinds |= match byte {
            b'0'..=b'9' => 1,
            b'A'..=b'Z' => 2,
            _ => 4,
        };
    }

    fn is_key(&self) -> bool {
        self.length >= self.limit || (self.length >= MIXED_RUN && self.kinds == 7)
    }
}
