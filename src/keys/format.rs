//! Keys as bytes: what a key made here looks like, what may be a key at all, and the digest that is
//! kept instead of it. The only user of SHA-256 in the program.
//!
//! Never here: files, identities, or a key that outlives the call that was given it.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use hmac::{HmacReset, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::identity::NameError;
use crate::redact::Secret;

/// Shortest key that is accepted, made here or elsewhere.
pub const KEY_MIN_BYTES: usize = 8;
/// Longest key that is accepted.
pub const KEY_MAX_BYTES: usize = 256;
/// Longest prefix of keys made here.
pub const PREFIX_MAX_BYTES: usize = 16;
/// Shortest pepper: below it, guessing the pepper is easier than guessing a key is meant to be.
pub const PEPPER_MIN_BYTES: usize = 16;

/// Random characters of a key made here: log2(62^30) is 178 bits.
const RANDOM_CHARS: usize = 30;
/// Checksum characters: 62^6 exceeds 2^32.
const CHECKSUM_CHARS: usize = 6;
/// Random characters that [`start_of`] shows: enough to recognise a key, 154 bits stay hidden.
const SHOWN_CHARS: usize = 4;
/// Longest text that [`start_of`] gives.
pub const START_MAX_BYTES: usize = PREFIX_MAX_BYTES + 1 + SHOWN_CHARS;
/// Of a key made elsewhere, at most one character in this many is shown.
const SHOWN_FRACTION: usize = 4;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The place of each ASCII letter and digit in [`BASE62`]; 0 for every other byte.
const BASE62_VALUES: [u8; 256] = {
    let mut values = [0; 256];
    let mut value = 0;
    while value < BASE62.len() {
        values[BASE62[value] as usize] = value as u8;
        value += 1;
    }
    values
};

/// What keys made here begin with, before the `_`: 1 to 16 lower-case ASCII letters and digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(Box<str>);

impl Prefix {
    /// Checks `text`.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > PREFIX_MAX_BYTES {
            return Err(NameError::TooLong { limit: PREFIX_MAX_BYTES });
        }
        match text.chars().find(|c| !c.is_ascii_lowercase() && !c.is_ascii_digit()) {
            Some(found) => {
                Err(NameError::Character { found, allowed: "lower-case ASCII letters and digits" })
            }
            None => Ok(Self(text.into())),
        }
    }

    /// The prefix as text, without the `_`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Makes a new key: `<prefix>_<30 random base62 characters><6 base62 characters of CRC-32>`.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn generate(prefix: &Prefix) -> Result<Secret<String>, getrandom::Error> {
    let length = prefix.as_str().len() + 1 + RANDOM_CHARS + CHECKSUM_CHARS;
    // The capacity is final: growing would leave a copy of the key behind in freed memory.
    let mut key = String::with_capacity(length);
    key.push_str(prefix.as_str());
    key.push('_');
    push_random(&mut key, RANDOM_CHARS)?;
    let checksum = checksum(key.as_bytes());
    key.extend(checksum.map(char::from));
    Ok(Secret::new(key))
}

/// SHA-256 of what is no key: a state, a file, a line of the audit log.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Random base62 text that is no secret: the end of a key id.
///
/// # Errors
/// When the operating system gives no randomness.
pub fn random_text(chars: usize) -> Result<String, getrandom::Error> {
    let mut text = String::with_capacity(chars);
    push_random(&mut text, chars)?;
    Ok(text)
}

fn push_random(text: &mut String, chars: usize) -> Result<(), getrandom::Error> {
    /// The greatest multiple of 62 in a byte: bytes from here on would favour the first characters.
    const FAIR: u8 = 248;
    let end = text.len() + chars;
    let mut bytes = Zeroizing::new([0_u8; 64]);
    while text.len() < end {
        getrandom::fill(&mut bytes[..])?;
        let fair = bytes.iter().filter(|&&byte| byte < FAIR);
        let wanted = end - text.len();
        text.extend(fair.take(wanted).map(|byte| char::from(BASE62[usize::from(byte % 62)])));
    }
    Ok(())
}

/// CRC-32 of everything before the checksum, prefix included, as base62.
fn checksum(body: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut rest = crc32fast::hash(body) as usize;
    let mut text = [0; CHECKSUM_CHARS];
    for place in text.iter_mut().rev() {
        *place = BASE62[rest % 62];
        rest /= 62;
    }
    text
}

/// The number that [`checksum`] wrote as `text`, which is base62: reading it costs a third of writing it.
fn base62_number(text: &[u8]) -> u64 {
    text.iter().fold(0, |number, &digit| {
        number * BASE62.len() as u64 + u64::from(BASE62_VALUES[usize::from(digit)])
    })
}

/// The beginning of a key that may be shown: prefix and four characters of a key made here, at most a
/// quarter of one made elsewhere.
pub fn start_of(key: &str) -> String {
    let made_here = key.len().checked_sub(RANDOM_CHARS + CHECKSUM_CHARS);
    let shown = match made_here {
        Some(body) if body > 1 && key.as_bytes()[body - 1] == b'_' => body + SHOWN_CHARS,
        _ => (key.len() / SHOWN_FRACTION).min(SHOWN_CHARS),
    };
    key.chars().take(shown).collect()
}

/// What a key may look like; knows a mistyped key by itself.
#[derive(Clone, Debug)]
pub struct KeyFormat {
    prefix: Prefix,
}

impl KeyFormat {
    /// The format of keys made here with `prefix`, beside keys made elsewhere.
    pub fn new(prefix: Prefix) -> Self {
        Self { prefix }
    }

    /// What keys made here begin with.
    pub fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// Whether `key` can be a key: 8 to 256 printable ASCII bytes without space, and, if it has the shape
    /// of a key made here, with the checksum that fits. Allocates nothing.
    pub fn is_plausible(&self, key: &[u8]) -> bool {
        (KEY_MIN_BYTES..=KEY_MAX_BYTES).contains(&key.len())
            && are_all(key, u8::is_ascii_graphic)
            && !self.is_mistyped(key)
    }

    /// Whether `key` has the shape of a key made here but not the checksum.
    pub fn is_mistyped(&self, key: &[u8]) -> bool {
        let tail: Option<&[u8; RANDOM_CHARS + CHECKSUM_CHARS]> = key
            .strip_prefix(self.prefix.as_str().as_bytes())
            .and_then(|rest| rest.strip_prefix(b"_"))
            .and_then(|tail| tail.try_into().ok())
            .filter(|tail: &&[u8; _]| are_all(&tail[..], u8::is_ascii_alphanumeric));
        tail.is_some_and(|tail| {
            let body = &key[..key.len() - CHECKSUM_CHARS];
            base62_number(&tail[RANDOM_CHARS..]) != u64::from(crc32fast::hash(body))
        })
    }
}

/// Whether every byte `is` so. Looks at all of them, many at once: a fourth of the time of stopping early.
fn are_all(bytes: &[u8], is: impl Fn(&u8) -> bool) -> bool {
    bytes.iter().fold(true, |all, byte| all & is(byte))
}

/// How a digest is made from a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// SHA-256 of the key's bytes.
    Sha256,
    /// HMAC-SHA-256 of the key's bytes, under the pepper.
    HmacSha256,
}

impl Scheme {
    /// The name before the colon of a written digest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::HmacSha256 => "hmac-sha256",
        }
    }
}

/// What is kept of a key: `sha256:<64 hex>` or `hmac-sha256:<64 hex>`. It may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest {
    bytes: [u8; 32],
    scheme: Scheme,
}

/// Why a text is no digest. `Display` ends the sentence "the hash …" and never quotes the text, which
/// may be a key that somebody put there by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestError {
    /// It begins with neither `sha256:` nor `hmac-sha256:`.
    Scheme,
    /// Not 64 characters after the colon.
    Length {
        /// The characters there are.
        found: usize,
    },
    /// A character that is no hexadecimal digit.
    Hex,
}

impl Display for DigestError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scheme => f.write_str("begins with neither `sha256:` nor `hmac-sha256:`"),
            Self::Length { found } => {
                write!(f, "has {found} characters after the colon instead of 64")
            }
            Self::Hex => f.write_str("holds a character that is no hexadecimal digit"),
        }
    }
}

impl std::error::Error for DigestError {}

impl Digest {
    /// Reads a written digest; hexadecimal digits in either case.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let (scheme, hex) = match text.split_once(':') {
            Some(("sha256", hex)) => (Scheme::Sha256, hex),
            Some(("hmac-sha256", hex)) => (Scheme::HmacSha256, hex),
            _ => return Err(DigestError::Scheme),
        };
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() {
            return Err(DigestError::Length { found: hex.chars().count() });
        }
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            let digit = |place: usize| char::from(pair[place]).to_digit(16);
            let (Some(high), Some(low)) = (digit(0), digit(1)) else {
                return Err(DigestError::Hex);
            };
            *byte = (high << 4 | low) as u8;
        }
        Ok(Self { bytes, scheme })
    }

    /// How it was made.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.bytes
    }
}

impl Display for Digest {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.scheme.name())?;
        self.bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A secret mixed into every digest, so that a stolen key file alone confirms no guess.
pub struct Pepper {
    /// Keyed once: a digest starts from a copy and allocates nothing.
    keyed: HmacReset<Sha256>,
}

/// The pepper has fewer than [`PEPPER_MIN_BYTES`] bytes. `Display` ends the sentence "the pepper …".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PepperTooShort;

impl Display for PepperTooShort {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "is shorter than {PEPPER_MIN_BYTES} bytes")
    }
}

impl std::error::Error for PepperTooShort {}

impl Pepper {
    /// Takes over `secret`, which is overwritten once the HMAC is keyed with it.
    pub fn new(secret: Secret<Vec<u8>>) -> Result<Self, PepperTooShort> {
        if secret.expose().len() < PEPPER_MIN_BYTES {
            return Err(PepperTooShort);
        }
        let keyed =
            HmacReset::new_from_slice(secret.expose()).expect("HMAC takes keys of every length");
        Ok(Self { keyed })
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper")
    }
}

/// Makes digests, all by one scheme. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Hasher {
    pepper: Option<Arc<Pepper>>,
}

impl Hasher {
    /// HMAC-SHA-256 with a pepper, SHA-256 without.
    pub fn new(pepper: Option<Arc<Pepper>>) -> Self {
        Self { pepper }
    }

    /// The digest of `key`. Allocates nothing.
    pub fn digest(&self, key: &[u8]) -> Digest {
        // Neither is moved once it has seen the key: a move leaves the bytes behind that it moved.
        let bytes = match &self.pepper {
            None => {
                let mut sha256 = Sha256::new();
                sha2::Digest::update(&mut sha256, key);
                sha256.finalize_reset().into()
            }
            Some(pepper) => {
                let mut hmac = pepper.keyed.clone();
                hmac.update(key);
                hmac.finalize_reset().into_bytes().into()
            }
        };
        Digest { bytes, scheme: self.scheme() }
    }

    /// The scheme of every digest made here.
    pub fn scheme(&self) -> Scheme {
        match self.pepper {
            None => Scheme::Sha256,
            Some(_) => Scheme::HmacSha256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format() -> KeyFormat {
        KeyFormat::new(Prefix::new("kw").unwrap())
    }

    fn key() -> Secret<String> {
        generate(format().prefix()).unwrap()
    }

    #[test]
    fn a_made_key_has_the_documented_shape_and_is_plausible() {
        let made = key();
        let tail = made.expose().strip_prefix("kw_").unwrap();
        assert_eq!(tail.len(), 36);
        assert!(tail.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        assert!(format().is_plausible(made.expose().as_bytes()));
        assert_ne!(made.expose(), key().expose());
        assert_eq!(start_of(made.expose()), made.expose()[..7]);
    }

    #[test]
    fn the_checksum_is_stable() {
        // CRC-32 ("123456789") is 0xCBF43926, the check value of every description of it.
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
    }

    #[test]
    fn every_single_typo_is_refused() {
        let made = key();
        for place in 3..made.expose().len() {
            for &typed in BASE62 {
                let mut typo = made.expose().clone().into_bytes();
                if typo[place] != typed {
                    typo[place] = typed;
                    assert!(format().is_mistyped(&typo), "at {place}");
                }
            }
        }
    }

    #[test]
    fn keys_made_elsewhere_are_plausible_by_length_and_alphabet() {
        let check = |key: &str, expect| {
            assert_eq!(format().is_plausible(key.as_bytes()), expect, "{key:?}");
        };
        check("sk-live-1", true);
        check("1234567", false);
        check("12345678", true);
        check(&"x".repeat(256), true);
        check(&"x".repeat(257), false);
        check("with space", false);
        check("schlüssel", false);
        check("tab\tinside", false);
        check("kw_short_is_not_ours", true);
        check(&format!("kw_{}", "a".repeat(36)), false);
        check(&format!("kw_{}-", "a".repeat(35)), true);
        check(&format!("kx_{}", "a".repeat(36)), true);
    }

    #[test]
    fn little_is_shown_of_a_key_made_elsewhere() {
        let check = |key, expect: &str| assert_eq!(start_of(key), expect);
        check("12345678", "12");
        check("0123456789abcdef", "0123");
        check("0123456789abcdef0123456789abcdef", "0123");
        check(&format!("_{}", "a".repeat(36)), "_aaa");
    }

    #[test]
    fn digests_are_those_of_the_standards() {
        // FIPS 180-2 B.1 and RFC 4231 case 7 (whose key is long enough to be a pepper).
        let sha256 = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Hasher::default().digest(b"abc").to_string(), sha256);
        let pepper = Pepper::new(Secret::new(vec![0xaa; 131])).unwrap();
        let text =
            b"This is a test using a larger than block-size key and a larger than block-size \
                     data. The key needs to be hashed before being used by the HMAC algorithm.";
        assert_eq!(
            Hasher::new(Some(Arc::new(pepper))).digest(text).to_string(),
            "hmac-sha256:9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"
        );
    }

    #[test]
    fn written_digests_are_read_back() {
        let digest = Hasher::default().digest(b"abc");
        assert_eq!(Digest::parse(&digest.to_string()), Ok(digest));
        let upper = digest.to_string().replace("sha256:ba7816bf", "sha256:BA7816BF");
        assert_eq!(Digest::parse(&upper), Ok(digest));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let check = |text: &str, expect| assert_eq!(Digest::parse(text), Err(expect), "{text}");
        check("", DigestError::Scheme);
        check("kw_abc", DigestError::Scheme);
        check("md5:0123", DigestError::Scheme);
        check("SHA256:0123", DigestError::Scheme);
        check("sha256:0123", DigestError::Length { found: 4 });
        check(&format!("sha256:{}", "0".repeat(65)), DigestError::Length { found: 65 });
        check(&format!("sha256:{}g", "0".repeat(63)), DigestError::Hex);
        check(&format!("sha256:+{}", "0".repeat(63)), DigestError::Hex);
        check(&format!("sha256:{}", "é".repeat(32)), DigestError::Hex);
    }

    #[test]
    fn prefixes_and_peppers_are_checked() {
        assert!(Prefix::new("kw2").is_ok());
        assert_eq!(Prefix::new(""), Err(NameError::Empty));
        assert_eq!(Prefix::new(&"a".repeat(17)), Err(NameError::TooLong { limit: 16 }));
        assert!(matches!(Prefix::new("Kw"), Err(NameError::Character { found: 'K', .. })));
        assert!(matches!(Prefix::new("k_w"), Err(NameError::Character { found: '_', .. })));
        assert_eq!(Pepper::new(Secret::new(vec![1; 15])).unwrap_err(), PepperTooShort);
        let pepper = Pepper::new(Secret::new(vec![1; 16])).unwrap();
        assert_eq!(format!("{pepper:?}"), "Pepper");
    }
}
