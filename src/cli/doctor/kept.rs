//! Files that are there already: logs of keyward's and of the services around it, searched for keys.
//!
//! Found are keys of keyward's own form with the checksum that fits, whether the key file knows them or not, and
//! whatever else the key file knows; in clear, or as `Basic`.
//!
//! Never here: a write, or a key that is shown.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;

use super::super::failure::Failure;
use super::canary::blanked;
use super::findings::{Leak, LeakedKey};
use crate::config::{AccessLog, Config};
use crate::keys::KeyRecord;
use crate::keys::format::{Hasher, KEY_MAX_BYTES, KEY_MIN_BYTES, KeyFormat};
use crate::redact::Redactor;

/// Characters behind the prefix of a key made here.
const TAIL_CHARS: usize = 36;

/// What keys are known by.
pub(super) struct Known<'a> {
    format: KeyFormat,
    /// Prefix and `_`.
    start: Vec<u8>,
    hasher: Hasher,
    by_digest: HashMap<[u8; 32], &'a KeyRecord>,
    /// Whether there are keys that were not made here: only then is every word digested.
    has_foreign: bool,
    redactor: Redactor,
    now: Timestamp,
}

impl<'a> Known<'a> {
    /// The keys of `config`.
    pub(super) fn new(config: &Config, records: &'a [KeyRecord]) -> Self {
        let prefix = config.keys.prefix.as_str();
        let start = format!("{prefix}_");
        let digests = records.iter().flat_map(|record| {
            let previous = record.previous.map(|(digest, _)| digest);
            [Some(record.hash), previous]
                .into_iter()
                .flatten()
                .map(move |hash| (*hash.as_bytes(), record))
        });
        let is_own =
            |record: &KeyRecord| record.start.as_ref().is_some_and(|s| s.starts_with(&start));
        Self {
            format: KeyFormat::new(config.keys.prefix.clone()),
            hasher: Hasher::new(config.keys.pepper.clone()),
            by_digest: digests.collect(),
            has_foreign: !records.iter().all(is_own),
            redactor: Redactor::new(prefix, config.auth.key_sources.iter().map(|s| s.name())),
            start: start.into_bytes(),
            now: Timestamp::now(),
        }
    }

    /// Every key in the file at `path`, and how many lines it has.
    pub(super) fn search(&self, path: &Path) -> Result<(usize, Vec<Leak>), Failure> {
        let unreadable =
            |error| Failure::Usage(format!("{} cannot be read: {error}", path.display()));
        let mut file = BufReader::new(File::open(path).map_err(unreadable)?);
        let (mut line, mut leaks, mut number) = (Vec::new(), Vec::new(), 0);
        while file.read_until(b'\n', &mut line).map_err(unreadable)? > 0 {
            number += 1;
            let found = self.in_line(line.trim_ascii_end());
            if !found.is_empty() {
                let text = blanked(&line, found.iter().map(|(at, _)| *at));
                let text = self.redactor.text(text.as_bytes()).to_string();
                leaks.extend(found.into_iter().map(|(_, key)| Leak {
                    sink: path.display().to_string(),
                    line: number,
                    text: text.clone(),
                    request: None,
                    key: Some(key),
                }));
            }
            line.clear();
        }
        Ok((number, leaks))
    }

    /// The keys in a line, and where they are.
    fn in_line(&self, line: &[u8]) -> Vec<(usize, LeakedKey)> {
        let own = memchr::memmem::find_iter(line, &self.start).filter_map(|at| {
            let rest = &line[at..];
            let length = self.start.len() + TAIL_CHARS;
            let key = rest.get(..length)?;
            let is_whole = key[self.start.len()..].iter().all(u8::is_ascii_alphanumeric)
                && !rest.get(length).is_some_and(u8::is_ascii_alphanumeric);
            (is_whole && self.format.is_plausible(key)).then(|| (at, self.told(key)))
        });
        let mut found: Vec<_> = own.collect();
        for (at, word) in words(line) {
            if self.has_foreign
                && self.is_known(word)
                && !found.iter().any(|(place, _)| *place == at)
            {
                found.push((at, self.told(word)));
            }
            if line[..at].to_ascii_lowercase().ends_with(b"basic ")
                && let Ok(pair) = BASE64_STANDARD.decode(word)
            {
                let key = pair.split(|&byte| byte == b':').find(|part| self.is_known(part));
                found.extend(key.map(|key| (at, self.told(key))));
            }
        }
        found.sort_by_key(|(at, _)| *at);
        found
    }

    fn is_known(&self, word: &[u8]) -> bool {
        (KEY_MIN_BYTES..=KEY_MAX_BYTES).contains(&word.len())
            && self.by_digest.contains_key(self.hasher.digest(word).as_bytes())
    }

    fn told(&self, key: &[u8]) -> LeakedKey {
        let digest = self.hasher.digest(key);
        let record = self.by_digest.get(digest.as_bytes());
        let state = record.and_then(|record| record.state_of(&digest, self.now));
        LeakedKey {
            id: record.map(|record| record.id.as_str().to_owned()),
            user: record.map(|record| record.user.as_str().to_owned()),
            state: state.map_or("unknown", |state| state.as_str()),
        }
    }
}

/// The files that `config` has keyward write to, as far as they are there.
pub(super) fn files(config: &Config) -> Vec<PathBuf> {
    let access = match &config.log.access {
        AccessLog::File(path) => Some(path),
        AccessLog::Off | AccessLog::Stdout | AccessLog::Stderr => None,
    };
    let all = [access, config.keys.usage.path.as_ref(), Some(&config.audit.file)];
    let rest = [&config.keys.store, &config.path];
    all.into_iter().flatten().chain(rest).filter(|path| path.is_file()).cloned().collect()
}

/// The words of a line that could be keys or Base64, with their places.
fn words(line: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.~+/=".contains(byte);
    let mut at = 0;
    std::iter::from_fn(move || {
        at += line[at..].iter().take_while(|byte| !is_word(byte)).count();
        let length = line[at..].iter().take_while(|byte| is_word(byte)).count();
        let word = (at, &line[at..at + length]);
        at += length;
        (length > 0).then_some(word)
    })
    // In `name=word` and in a path, the key is behind the last of these; Base64 ends in its own.
    .flat_map(|(at, word)| {
        let end = word.len() - word.iter().rev().take_while(|&&byte| byte == b'=').count();
        let split = word[..end].iter().rposition(|byte| b"=/".contains(byte));
        let inner = split.map(|split| (at + split + 1, &word[split + 1..end]));
        [Some((at, word)), inner].into_iter().flatten()
    })
}
