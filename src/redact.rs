//! The one place where something secret, or something a client sent, becomes text.
//!
//! [`Secret`] is the only holder of key material: it has no `Display`, its `Debug` prints the type's
//! name, and it is overwritten when dropped. [`Redactor`] shows what a client sent, as [`Shown`]:
//! secrets masked, and every character escaped that could forge a log line or drive a terminal.
//!
//! Masked are
//! - the value of a parameter or header whose name says so (`api_key=…`, `access_token=…`, `Cookie`, and
//!   the names of the configured key sources), in a query, in a path's `;name=value`, or nested in an
//!   encoded URL;
//! - anything that looks like a key, wherever it stands: `<our prefix>_` and 20 base62 characters or
//!   more, `<any word>_` and 36 or more, or an unbroken run of 32 or more that mixes upper case, lower
//!   case and digits (a key made elsewhere, a JWT). UUIDs, ULIDs, hex hashes, time stamps and long names
//!   stay readable: operators search for them, and a key shaped like one belongs in a key source;
//! - what follows `Bearer` or `Basic`.
//!
//! Never here: a way to turn masking off.

mod scan;

use std::fmt::{self, Debug, Display, Formatter, Write};
use std::str;

use http::HeaderName;
use zeroize::Zeroize;

use scan::{Patterns, Secrets};

/// Shown in place of a secret.
pub const MASK: &str = "[redacted]";

/// Of a longer text only so many bytes are shown, and how many are left out.
pub const MAX_SHOWN_BYTES: usize = 4096;

/// The prefix of keys in a configuration that names none.
const DEFAULT_PREFIX: &str = "kw";

/// A value that may be used but never shown.
///
/// `expose` is the only way to the value, so that every use can be found with one search.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value into custody.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. The caller must not let it reach a log, an error or an answer.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> Debug for Secret<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// Shows what a client sent. Built once a configuration; a view costs nothing until it is written.
pub struct Redactor {
    patterns: Patterns,
}

impl Redactor {
    /// `prefix` is that of our keys, without the underscore. `names` are those of the headers and query
    /// parameters that carry keys in this configuration, beside the ones everybody knows.
    pub fn new<'n>(prefix: &str, names: impl IntoIterator<Item = &'n str>) -> Self {
        Self { patterns: Patterns::new(prefix, names) }
    }

    /// A request target, or its path or query alone.
    pub fn target<'a>(&'a self, bytes: &'a [u8]) -> Shown<'a> {
        Shown { patterns: &self.patterns, bytes, view: View::Target }
    }

    /// The value of the header `name`; whole values are masked by that name.
    pub fn header<'a>(&'a self, name: &HeaderName, value: &'a [u8]) -> Shown<'a> {
        let is_secret = self.patterns.is_secret_name(name.as_str().as_bytes());
        let view = if is_secret { View::Masked } else { View::Text };
        Shown { patterns: &self.patterns, bytes: value, view }
    }

    /// Anything else a client sent: a method, a host.
    pub fn text<'a>(&'a self, bytes: &'a [u8]) -> Shown<'a> {
        Shown { patterns: &self.patterns, bytes, view: View::Text }
    }

    /// Whether something in `bytes` would be masked.
    pub fn holds_secret(&self, bytes: &[u8]) -> bool {
        !self.patterns.is_plain(bytes)
            && Secrets::new(&self.patterns, bytes, false).next().is_some()
    }

    /// A sentence of ours that may quote somebody: masked and escaped as the others, but quotes and
    /// backslashes stay, for the log's own format to escape.
    pub fn message<'a>(&'a self, text: &'a str) -> Shown<'a> {
        Shown { patterns: &self.patterns, bytes: text.as_bytes(), view: View::Message }
    }
}

impl Default for Redactor {
    fn default() -> Self {
        Self::new(DEFAULT_PREFIX, [])
    }
}

impl Debug for Redactor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Redactor")
    }
}

/// A text that is safe to show: `Display` writes it, without allocating, on one line, as printable
/// characters. What is escaped reads `\n`, `\x1b`, `\u{202e}`, `\"` or `\\`.
#[derive(Clone, Copy)]
pub struct Shown<'a> {
    patterns: &'a Patterns,
    bytes: &'a [u8],
    view: View,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Target,
    Text,
    Message,
    Masked,
}

impl<'a> Shown<'a> {
    /// The text itself if nothing in it is to be masked or escaped, in JSON neither: nearly always, and
    /// several times cheaper than `Display`.
    pub fn as_plain(&self) -> Option<&'a str> {
        let is_plain = self.view != View::Masked
            && self.bytes.len() <= MAX_SHOWN_BYTES
            && self.patterns.is_plain(self.bytes);
        if is_plain { str::from_utf8(self.bytes).ok() } else { None }
    }

    /// Writes the part from `start` to `end`, which holds no secret, as far as the limit allows.
    fn write_part(&self, f: &mut Formatter<'_>, start: usize, end: usize) -> fmt::Result {
        let end = end.min(MAX_SHOWN_BYTES);
        if start >= end {
            return Ok(());
        }
        for chunk in self.bytes[start..end].utf8_chunks() {
            write_escaped(f, chunk.valid(), self.view != View::Message)?;
            for byte in chunk.invalid() {
                write!(f, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.view == View::Masked {
            return f.write_str(MASK);
        }
        if let Some(text) = self.as_plain() {
            return f.write_str(text);
        }
        let mut shown = 0;
        for secret in Secrets::new(self.patterns, self.bytes, self.view == View::Target) {
            self.write_part(f, shown, secret.start)?;
            if secret.start < MAX_SHOWN_BYTES {
                f.write_str(MASK)?;
            }
            shown = secret.end;
        }
        self.write_part(f, shown, self.bytes.len())?;
        match self.bytes.len().saturating_sub(shown.max(MAX_SHOWN_BYTES)) {
            0 => Ok(()),
            rest => write!(f, "[{rest} bytes more]"),
        }
    }
}

impl Debug for Shown<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

fn write_escaped(f: &mut Formatter<'_>, text: &str, quotes: bool) -> fmt::Result {
    let mut written = 0;
    for (at, character) in text.char_indices() {
        let is_quote = quotes && matches!(character, '"' | '\\');
        if !is_quote && !is_unprintable(character) {
            continue;
        }
        f.write_str(&text[written..at])?;
        written = at + character.len_utf8();
        match character {
            '"' | '\\' => f.write_char('\\').and_then(|()| f.write_char(character))?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            '\0'..='\x7f' => write!(f, "\\x{:02x}", u32::from(character))?,
            _ => write!(f, "\\u{{{:x}}}", u32::from(character))?,
        }
    }
    f.write_str(&text[written..])
}

/// Controls (C0, DEL, C1), line and paragraph separators, and what reorders or hides the text around it.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "kw_2mVx81QpZr7Yt3Wn5Bc9Df1Gh6Jk4Ls8MnPq";

    fn redactor() -> Redactor {
        Redactor::new("kw", ["x-Weird_Thing"])
    }

    #[track_caller]
    fn check_target(sent: impl AsRef<[u8]>, shown: &str) {
        assert_eq!(redactor().target(sent.as_ref()).to_string(), shown);
    }

    #[track_caller]
    fn check_text(sent: impl AsRef<[u8]>, shown: &str) {
        assert_eq!(redactor().text(sent.as_ref()).to_string(), shown);
    }

    #[test]
    fn ordinary_targets_are_shown_as_they_are() {
        for target in [
            "/",
            "/api/v1/orders/12345",
            "/orders?page=2&sort=-created_at&q=a+b%20c",
            "/objects/123e4567-e89b-12d3-a456-426614174000",
            "/blobs/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "/users/user_01h455vb4pex5vsknk084sn02q",
            "/ulid/01ARZ3NDEKTSV4RRFFQ69G5FAV",
            "/acme.OrderService/ListOutstandingInvoicesOfCustomerAccounts",
            "/keys/key_2mVx81Qp?key_id=key_2mVx81Qp&monkey=1",
            "/kw_2mVx",
            "/?key=&token",
        ] {
            check_target(target, target);
        }
    }

    #[test]
    fn values_are_masked_by_name() {
        check_target("/a?api_key=x&b=1", "/a?api_key=[redacted]&b=1");
        check_target("/a?b=1&Access-Token=x/y?z;w", "/a?b=1&Access-Token=[redacted]");
        check_target(
            "/a?apiKey=x%26y&user[password]=z",
            "/a?apiKey=[redacted]&user[password]=[redacted]",
        );
        check_target("/a?%61pi%5fkey%3Dx", "/a?%61pi%5fkey%3D[redacted]");
        check_target("/a?next=%2Fb%3Ftoken%3Dx%26c&d=1", "/a?next=%2Fb%3Ftoken%3D[redacted]&d=1");
        check_target("/a?X-Amz-Signature=x", "/a?X-Amz-Signature=[redacted]");
        check_target("/a?xweirdthing=x", "/a?xweirdthing=[redacted]");
        check_target("/a;token=x/b;v=1?c=d", "/a;token=[redacted]/b;v=1?c=d");
        check_target("/a?x=token=y", "/a?x=token=[redacted]");
        check_text("https://a/?token=x y", "https://a/?token=[redacted] y");
    }

    #[test]
    fn headers_are_masked_by_name() {
        for (name, shown) in [
            ("authorization", MASK),
            ("proxy-authorization", MASK),
            ("cookie", MASK),
            ("set-cookie", MASK),
            ("x-api-key", MASK),
            ("x-weird-thing", MASK),
            ("user-agent", "abc"),
        ] {
            let name = HeaderName::from_static(name);
            assert_eq!(redactor().header(&name, b"abc").to_string(), shown, "{name}");
        }
    }

    #[test]
    fn keys_are_masked_anywhere() {
        check_target(format!("/{KEY}"), "/[redacted]");
        check_target(format!("/a/x-{KEY}.json?b"), "/a/[redacted]?b");
        check_target(format!("/a?{KEY}=1&q={KEY}"), "/a?[redacted]=1&q=[redacted]");
        check_target(KEY.replace('_', "%5F"), MASK);
        check_target(KEY.replace('_', "%25255f"), MASK);
        check_target(KEY.replace("kw", "%6B%77"), MASK);
        check_target(KEY.replace("kw", "KW"), MASK);
        check_target("/kw_abcdefghijklmnopqrst", "/[redacted]");
        check_target("/kw_abcdefghijklmnopqrs", "/kw_abcdefghijklmnopqrs");
        check_target(format!("/old_{}", "a".repeat(36)), "/[redacted]");
        check_target("/AKIAIOSFODNN7exampleAKIAIOSFODNN7", "/[redacted]");
        check_target("/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIi.S-x_9", "/[redacted]");
    }

    #[test]
    fn credentials_are_masked_behind_their_scheme() {
        check_text("Bearer hunter2-hunter2", "Bearer [redacted]");
        check_text("curl, basic  YTpiOmM6ZA==, z", "curl, basic  [redacted], z");
        check_target("/a?h=Bearer%20hunter2%2Fhunter2&b=1", "/a?h=Bearer%20[redacted]&b=1");
        check_target("/a?h=Basic+YTpiOmM6ZA", "/a?h=Basic+[redacted]");
        check_target("/Basic+YTpiOmM6ZA", "/Basic+[redacted]");
        check_text("Visual Basic 6.0", "Visual Basic 6.0");
    }

    #[test]
    fn nothing_forges_a_line_or_drives_a_terminal() {
        check_text("a\r\n\tb\0\x1b[31m\x7f", "a\\r\\n\\tb\\x00\\x1b[31m\\x7f");
        check_text("\"\\", "\\\"\\\\");
        check_text("é\u{85}\u{2028}\u{202e}\u{2066}", "é\\u{85}\\u{2028}\\u{202e}\\u{2066}");
        check_text(b"\xff\xc3(", "\\xff\\xc3(");
        assert_eq!(redactor().message("say \"a\\b\"\n").to_string(), "say \"a\\b\"\\n");
    }

    #[test]
    fn a_long_text_is_cut() {
        let path = "/a".repeat(MAX_SHOWN_BYTES);
        let shown = format!("{}[{MAX_SHOWN_BYTES} bytes more]", "/a".repeat(MAX_SHOWN_BYTES / 2));
        check_target(path, &shown);
        let path = format!("{}/{KEY}", "a".repeat(MAX_SHOWN_BYTES - 5));
        check_target(path, &format!("{}/[redacted]", "a".repeat(MAX_SHOWN_BYTES - 5)));
    }

    #[test]
    fn hostile_texts_are_read_once() {
        // Were a part of these read again at each step, this would take minutes.
        for part in ["a=", "token=", "basic ", "%25", "%", "kw_", "a", "=", "%3d"] {
            let sent = part.repeat(1 << 16);
            let redactor = redactor();
            for shown in [redactor.target(sent.as_bytes()), redactor.text(sent.as_bytes())] {
                assert!(shown.to_string().len() < 8 * MAX_SHOWN_BYTES, "{part}");
            }
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new(KEY.to_owned())), "Secret");
    }

    /// Spells every character of `key` plainly or percent-encoded, to a depth of up to two.
    fn spelled(key: &str) -> impl Strategy<Value = Vec<u8>> + use<> {
        let key = key.to_owned();
        prop::collection::vec(0..6_u8, key.len()).prop_map(move |ways| {
            let spell = |(byte, way): (u8, u8)| match way {
                0 => format!("%{byte:02X}"),
                1 => format!("%25{byte:02x}"),
                _ => char::from(byte).to_string(),
            };
            key.bytes().zip(ways).map(spell).collect::<String>().into_bytes()
        })
    }

    proptest! {
        #[test]
        fn no_surroundings_bring_a_key_to_light(
            before in prop::collection::vec(any::<u8>(), 0..40),
            key in spelled(KEY),
            after in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let sent = [before, key.clone(), after].concat();
            let redactor = redactor();
            let key = String::from_utf8(key).expect("spelled in ASCII");
            for shown in [redactor.target(&sent), redactor.text(&sent)] {
                let shown = shown.to_string();
                prop_assert!(!shown.contains(&key) && !shown.contains(KEY), "{shown}");
                prop_assert!(!shown.contains(&key[key.len() / 2..]), "{shown}");
            }
        }

        #[test]
        fn all_that_is_shown_prints(sent in prop::collection::vec(any::<u8>(), 0..200)) {
            let redactor = redactor();
            for shown in [redactor.target(&sent), redactor.text(&sent)] {
                let text = shown.to_string();
                prop_assert!(!text.chars().any(is_unprintable), "{text:?}");
                prop_assert!(!text.replace("\\\\", "").replace("\\\"", "").contains('"'), "{text}");
                if let Some(plain) = shown.as_plain() {
                    prop_assert_eq!(plain, text);
                }
            }
        }
    }
}
