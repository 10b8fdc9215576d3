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
/// Names of parameters and headers whose value is a secret, folded: lower-case, without separators.
const NAMES: &[Tail] = &[
    Tail::of(b"auth"),
    Tail::of(b"bearer"),
    Tail::of(b"code"),
    Tail::of(b"cookie"),
    Tail::of(b"jwt"),
    Tail::of(b"key"),
    Tail::of(b"pass"),
    Tail::of(b"passwd"),
    Tail::of(b"pwd"),
    Tail::of(b"session"),
    Tail::of(b"sessionid"),
    Tail::of(b"setcookie"),
    Tail::of(b"sid"),
    Tail::of(b"sig"),
];
/// A name that ends so belongs to a secret: `x-api-key`, `access_token`, `user[password]`.
const NAME_ENDS: &[Tail] = &[
    Tail::of(b"accesskey"),
    Tail::of(b"apikey"),
    Tail::of(b"authkey"),
    Tail::of(b"authorization"),
    Tail::of(b"credential"),
    Tail::of(b"credentials"),
    Tail::of(b"passphrase"),
    Tail::of(b"password"),
    Tail::of(b"privatekey"),
    Tail::of(b"secret"),
    Tail::of(b"secretkey"),
    Tail::of(b"signature"),
    Tail::of(b"subscriptionkey"),
    Tail::of(b"token"),
];
/// Behind these comes a credential (RFC 9110 §11.1).
const SCHEMES: &[Tail] = &[Tail::of(b"bearer"), Tail::of(b"basic")];

/// The last 16 characters of a text in lower case, as one number: compared in one step.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tail {
    characters: u128,
    /// A one for each bit of `characters` that is used.
    mask: u128,
}

impl Tail {
    const EMPTY: Self = Self { characters: 0, mask: 0 };

    const fn of(text: &[u8]) -> Self {
        let mut tail = Self::EMPTY;
        let mut at = 0;
        while at < text.len() {
            tail = tail.push(text[at]);
            at += 1;
        }
        tail
    }

    const fn push(self, byte: u8) -> Self {
        let characters = self.characters << 8 | byte.to_ascii_lowercase() as u128;
        Self { characters, mask: self.mask << 8 | 0xff }
    }

    const fn ends_with(self, end: Self) -> bool {
        self.characters & end.mask == end.characters && self.mask & end.mask == end.mask
    }
}

/// What to look for.
pub(super) struct Patterns {
    /// Folded names that are a secret's in this configuration.
    names: Box<[Box<[u8]>]>,
    /// What stands before the underscore of a key of ours.
    prefix: Tail,
}

impl Patterns {
    /// `prefix` is that of our keys, without the underscore; of a long one the last 16 bytes count.
    pub(super) fn new<'n>(prefix: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        let names = names.into_iter().map(|name| folded(name.as_bytes()).collect());
        Self { names: names.collect(), prefix: Tail::of(prefix.as_bytes()) }
    }

    /// Whether the value of something called `name` is a secret.
    pub(super) fn is_secret_name(&self, name: &[u8]) -> bool {
        let tail = folded(name).fold(Tail::EMPTY, Tail::push);
        NAMES.contains(&tail)
            || NAME_ENDS.iter().any(|end| tail.ends_with(*end))
            || self.names.iter().any(|known| folded(name).eq(known.iter().copied()))
    }

    /// Whether nothing in `bytes` is secret or needs escaping, told from one look at each byte. Errs
    /// towards `false`.
    pub(super) fn is_plain(&self, bytes: &[u8]) -> bool {
        let mut run = 0;
        let mut name_start = 0;
        for (at, &byte) in bytes.iter().enumerate() {
            run += 1;
            match CLASSES[usize::from(byte)] {
                Class::Base62 if run < OWN_RUN => continue,
                Class::Base62 | Class::Special => return false,
                Class::Plain => {}
                Class::Equals if self.is_secret_name(&bytes[name_start..at]) => return false,
                Class::Delimiter | Class::Equals => name_start = at + 1,
            }
            run = 0;
        }
        true
    }
}

/// The letters and digits of a name, percent-decoded, in lower case.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let unit = unit_at(name, at)?;
        at = unit.end;
        Some(unit.byte)
    })
    .filter(u8::is_ascii_alphanumeric)
    .map(|byte| byte.to_ascii_lowercase())
}

#[derive(Clone, Copy)]
enum Class {
    /// May be part of a key.
    Base62,
    /// Printable, and of no meaning here.
    Plain,
    /// A name may begin behind it.
    Delimiter,
    /// Stands behind a name.
    Equals,
    /// To be escaped, or perhaps part of an escape or of the space behind a scheme.
    Special,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Special; 256];
    let mut byte = 0x21;
    while byte < 0x7f {
        classes[byte as usize] = match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => Class::Base62,
            b'/' | b'?' | b'&' | b';' | b',' | b'#' | b'\'' => Class::Delimiter,
            b'=' => Class::Equals,
            b'"' | b'\\' | b'%' | b'+' => Class::Special,
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
                b'=' => {
                    let name = self.name_start..start;
                    self.name_start = unit.end;
                    if self.patterns.is_secret_name(&self.bytes[name]) {
                        self.at = self.value_end(unit.end);
                        if self.at > unit.end {
                            return Some(unit.end..self.at);
                        }
                    }
                }
                byte if is_token_byte(byte) => {
                    let token = Token::read(self.patterns, self.bytes, start);
                    self.at = token.end;
                    if token.is_secret {
                        return Some(start..token.end);
                    }
                    if SCHEMES.contains(&token.tail)
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
    tail: Tail,
}

impl Token {
    fn read(patterns: &Patterns, bytes: &[u8], start: usize) -> Self {
        let mut token = Self { end: start, is_secret: false, tail: Tail::EMPTY };
        let mut run = Run::behind(usize::MAX);
        while let Some(unit) = unit_at(bytes, token.end)
            && is_token_byte(unit.byte)
        {
            if unit.byte.is_ascii_alphanumeric() {
                run.push(unit.byte);
                token.is_secret |= run.is_key();
            } else if unit.byte != b'_' {
                run = Run::behind(usize::MAX);
            } else if token.tail.ends_with(patterns.prefix) {
                run = Run::behind(OWN_RUN);
            } else {
                run = Run::behind(FOREIGN_RUN);
            }
            token.tail = token.tail.push(unit.byte);
            token.end = unit.end;
        }
        token
    }
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
