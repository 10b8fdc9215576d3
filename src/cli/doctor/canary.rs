//! Canaries: keys that open nothing but what the doctor starts, each sent in one request alone. So wherever
//! one turns up, in whatever coding, it is known which request it came with.
//!
//! Never here: a key of the operator's.

use std::collections::HashMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};

use super::super::failure::Failure;
use crate::config::Config;
use crate::keys::format::{Hasher, Prefix, generate};

/// So many characters in a row of a canary are found: by chance, once in 10^18 places.
const PIECE_BYTES: usize = 12;
/// Characters of Base64 at either end that depend on what stands beside the key.
const BASE64_ENDS: usize = 4;

/// What a canary is in the key file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Standing<'a> {
    /// No key at all.
    Unknown,
    /// Good, with this role.
    Enabled(&'a str),
    /// Switched off, with this role.
    Disabled(&'a str),
    /// Over, with this role.
    Expired(&'a str),
}

/// Where a canary is put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Where the configuration looks for keys.
    Source,
    /// Anywhere else.
    Elsewhere,
}

/// Which canary something is a part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    /// The number of its request.
    pub(super) case: usize,
    pub(super) place: Place,
}

/// A line that holds a piece of a canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sighting {
    /// From 1.
    pub(super) line: usize,
    /// The line, without the words that held it.
    pub(super) text: String,
    pub(super) trace: Trace,
}

/// Every canary.
pub(super) struct Canaries {
    prefix: Prefix,
    hasher: Hasher,
    /// What there is of them in the key file.
    key_file: String,
    made: usize,
    pieces: HashMap<[u8; PIECE_BYTES], Trace>,
}

impl Canaries {
    /// None yet; they will look like the keys of `config`.
    pub(super) fn new(config: &Config) -> Self {
        Self {
            prefix: config.keys.prefix.clone(),
            hasher: Hasher::new(config.keys.pepper.clone()),
            key_file: String::new(),
            made: 0,
            pieces: HashMap::new(),
        }
    }

    /// A new one, in the clear: that is what it is for.
    pub(super) fn draw(&mut self, standing: Standing<'_>, trace: Trace) -> Result<String, Failure> {
        let key = generate(&self.prefix)
            .map_err(|error| Failure::Failed(format!("no randomness for a key: {error}")))?;
        let key = key.expose().clone();
        self.made += 1;
        let (role, more) = match standing {
            Standing::Unknown => (None, ""),
            Standing::Enabled(role) => (Some(role), "enabled = true"),
            Standing::Disabled(role) => (Some(role), "enabled = false"),
            Standing::Expired(role) => {
                (Some(role), "enabled = true\nexpires_at = 2020-01-01T00:00:00Z")
            }
        };
        if let Some(role) = role {
            let hash = self.hasher.digest(key.as_bytes());
            let id = self.made;
            // Writing to a String cannot fail.
            let _ = writeln!(
                self.key_file,
                "[[keys]]\nid = \"key_doctor{id:06}\"\nhash = \"{hash}\"\nlabel = \"canary\"\n\
                 user = \"doctor\"\nrole = \"{role}\"\n{more}"
            );
        }
        self.know(&key, trace);
        Ok(key)
    }

    /// The key file with all that are no unknown keys.
    pub(super) fn key_file(&self) -> &str {
        &self.key_file
    }

    fn know(&mut self, key: &str, trace: Trace) {
        let secret = &key[self.prefix.as_str().len() + 1..];
        let mut forms = vec![secret.to_owned()];
        // Base64 depends on where in its group of three bytes a text begins.
        for shift in 0..3 {
            let text = "x".repeat(shift) + secret;
            for coded in [BASE64_STANDARD.encode(&text), BASE64_URL_SAFE.encode(&text)] {
                forms.push(coded[BASE64_ENDS..coded.len() - BASE64_ENDS].to_owned());
            }
        }
        for form in forms {
            let form = form.to_ascii_lowercase();
            for piece in form.as_bytes().chunks_exact(PIECE_BYTES) {
                let piece = piece.try_into().expect("it has this length");
                self.pieces.insert(piece, trace);
            }
        }
    }

    /// Every line of `bytes` with a piece of a canary, once for each request that it came with.
    pub(super) fn search(&self, bytes: &[u8]) -> Vec<Sighting> {
        let mut sightings: Vec<Sighting> = Vec::new();
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let lower = line.to_ascii_lowercase();
            let windows = lower.windows(PIECE_BYTES).enumerate();
            let found = windows.filter_map(|(at, window)| Some((at, *self.pieces.get(window)?)));
            let found: Vec<(usize, Trace)> = found.collect();
            let from = sightings.len();
            for (_, trace) in &found {
                if !sightings[from..].iter().any(|sighting| sighting.trace == *trace) {
                    let text = blanked(line, found.iter().map(|(at, _)| *at));
                    sightings.push(Sighting { line: number + 1, text, trace: *trace });
                }
            }
        }
        sightings
    }
}

/// `line` with a mark in the place of each word that something at one of `places` is part of.
pub(super) fn blanked(line: &[u8], places: impl IntoIterator<Item = usize>) -> String {
    /// Longest line that is shown whole; of a longer one, what is around the first mark.
    const SHOWN_CHARS: usize = 160;
    const MARK: &str = "[key]";
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+_-.~".contains(byte);
    let (mut text, mut from) = (Vec::new(), 0);
    let mut first = None;
    for place in places.into_iter().filter(|&place| place < line.len()) {
        if place < from {
            continue;
        }
        let back = line[from..place].iter().rev().take_while(|byte| is_word(byte)).count();
        text.extend(&line[from..place - back]);
        first = first.or(Some(text.len()));
        text.extend(MARK.as_bytes());
        from = place + line[place..].iter().take_while(|byte| is_word(byte)).count();
        from = from.max(place + 1);
    }
    text.extend(&line[from..]);
    let start = first.unwrap_or(0).saturating_sub(SHOWN_CHARS / 2);
    let end = text.len().min(start + SHOWN_CHARS);
    let shown = String::from_utf8_lossy(&text[start..end]);
    let cut = |is_cut: bool| if is_cut { "…" } else { "" };
    format!("{}{}{}", cut(start > 0), shown.trim_end(), cut(end < text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostics::Source;

    fn canaries() -> Canaries {
        let text = "[upstreams.app]\nendpoints = [\"http://127.0.0.1:1\"]\n".to_owned();
        let source = Source { path: "keyward.toml".into(), text };
        let config = crate::config::parse(source, |_| None).expect("it is sound");
        Canaries::new(&config)
    }

    #[test]
    fn a_canary_is_found_in_every_coding_and_in_part() {
        let mut canaries = canaries();
        let trace = |case| Trace { case, place: Place::Source };
        let other = canaries.draw(Standing::Unknown, trace(1)).expect("there is randomness");
        let key = canaries.draw(Standing::Unknown, trace(7)).expect("there is randomness");
        let check = |text: String| {
            let found = canaries.search(format!("a line\n{text}\nanother").as_bytes());
            assert!(
                found.iter().all(|found| (found.line, found.trace.case) == (2, 7)),
                "{found:?}"
            );
            assert_eq!(found.len(), 1, "{text}");
            assert!(!found[0].text.contains(&key[10..20]), "{found:?}");
        };
        check(format!("GET /?a={key}&b=c {key}"));
        check(key.to_uppercase());
        check(format!("…{}…", &key[5..30]));
        for user in ["", "a", "ab", "abc"] {
            check(format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{key}"))));
            check(BASE64_URL_SAFE.encode(format!("{user}:{key}")));
        }
        let both = canaries.search(format!("{key} {other}").as_bytes());
        assert_eq!(both.iter().map(|found| found.trace.case).collect::<Vec<_>>(), [7, 1]);
        assert!(both.iter().all(|found| found.text == "[key] [key]"), "{both:?}");
        assert_eq!(canaries.search(&key.as_bytes()[..14]), []);
        assert_eq!(canaries.search(b"nothing\n\nat all"), []);
    }

    #[test]
    fn a_line_is_shown_without_the_words_at_its_places() {
        let check = |line: &str, places: &[usize], expect: &str| {
            assert_eq!(blanked(line.as_bytes(), places.iter().copied()), expect);
        };
        check("x-api-key: secret, b", &[12, 14], "x-api-key: [key], b");
        check("?a=secret&b=c", &[5], "?a=[key]&b=c");
        check("a \"b\" c", &[2], "a [key]b\" c");
        // Of a long line, what is around the first mark.
        let long =
            blanked(format!("{} secret {}", "x ".repeat(300), "y ".repeat(300)).as_bytes(), [602]);
        assert!(
            long.starts_with("… x ") && long.contains(" [key] ") && long.ends_with('…'),
            "{long}"
        );
        assert!(long.len() < 170, "{long}");
    }
}
