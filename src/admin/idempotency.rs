//! Answers that are given again when a request comes again with its `Idempotency-Key`
//! (draft-ietf-httpapi-idempotency-key-header): who did not hear that a key was made, asks again, and gets that key.
//!
//! An answer holds a secret, so it is kept in memory alone, for [`KEPT`], for the key that asked, and then overwritten.
//!
//! Never here: a secret outside a [`Secret`], or anything on a disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;

use super::create::Wanted;
use super::refusal::{Answer, Refusal};
use crate::identity::KeyId;
use crate::redact::Secret;

/// How long an answer is kept: retries come within seconds, and a secret must not lie about.
const KEPT: Duration = Duration::from_secs(10 * 60);
/// Answers that are kept at most, at about 1 KiB each.
const ANSWERS_MAX: usize = 1_024;
/// Longest `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 255;

/// Which request: by whom, and what they call it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name {
    by: KeyId,
    key: String,
}

impl Name {
    /// What the request of the acting key `by` is called, if it is given a name.
    pub(super) fn of(headers: &HeaderMap, by: &KeyId) -> Answer<Option<Self>> {
        let mut values = headers.get_all("idempotency-key").iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        if text.is_empty() || text.len() > KEY_BYTES_MAX || values.next().is_some() {
            return Err(Refusal::Malformed(
                "Idempotency-Key must be one text of 1 to 255 printable ASCII characters.".into(),
            ));
        }
        Ok(Some(Self { by: by.clone(), key: text.to_owned() }))
    }
}

/// The answer to a request that made a secret.
pub(super) struct Made {
    pub(super) id: String,
    pub(super) etag: String,
    body: Secret<Vec<u8>>,
}

impl Made {
    pub(super) fn new(id: String, etag: String, body: Secret<Vec<u8>>) -> Self {
        Self { id, etag, body }
    }

    /// The same, for another answer.
    pub(super) fn copy(&self) -> Self {
        let body = Secret::new(self.body.expose().clone());
        Self { id: self.id.clone(), etag: self.etag.clone(), body }
    }

    /// What the client gets.
    pub(super) fn body(&self) -> Bytes {
        Bytes::copy_from_slice(self.body.expose())
    }
}

/// What a request is to do.
pub(super) enum Turn {
    /// It is the first of its name: it makes a key, and says so or forgets it.
    First,
    /// It came before: this was the answer.
    Again(Made),
}

struct Entry {
    wanted: Wanted,
    /// `None` while the first is at work.
    made: Option<Made>,
    began: Instant,
}

/// The requests that came lately.
#[derive(Default)]
pub(super) struct Answers(Mutex<HashMap<Name, Entry>>);

impl Answers {
    /// Begins a request, which comes for the first time or again.
    pub(super) fn begin(&self, name: &Name, wanted: &Wanted, now: Instant) -> Answer<Turn> {
        let mut entries = self.lock();
        entries.retain(|_, entry| now.saturating_duration_since(entry.began) < KEPT);
        match entries.get(name) {
            Some(entry) if entry.wanted != *wanted => Err(Refusal::KeyReused),
            Some(Entry { made: Some(made), .. }) => Ok(Turn::Again(made.copy())),
            Some(_) => Err(Refusal::Conflict {
                code: "idempotency_in_progress",
                detail: "A request with this Idempotency-Key is being answered; ask again soon."
                    .to_owned(),
            }),
            None => {
                if entries.len() >= ANSWERS_MAX {
                    let oldest = entries.iter().min_by_key(|(_, entry)| entry.began);
                    let oldest = oldest.map(|(name, _)| name.clone());
                    oldest.and_then(|oldest| entries.remove(&oldest));
                }
                let entry = Entry { wanted: wanted.clone(), made: None, began: now };
                entries.insert(name.clone(), entry);
                Ok(Turn::First)
            }
        }
    }

    /// Ends one: with an answer, which is kept, or without, so that it can be tried anew.
    pub(super) fn end(&self, name: &Name, made: Option<Made>) {
        let mut entries = self.lock();
        match (made, entries.get_mut(name)) {
            (Some(made), Some(entry)) => entry.made = Some(made),
            (None, Some(_)) => drop(entries.remove(name)),
            (_, None) => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Name, Entry>> {
        // What is in the map is sound after every line.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Wish;
    use super::*;
    use crate::identity::{Label, RoleName, UserName};

    fn name(key: &str) -> Name {
        Name { by: KeyId::new("key_a").unwrap(), key: key.to_owned() }
    }

    fn wish(label: &str) -> Wanted {
        Wanted::Key(Wish {
            user: UserName::new("alice").unwrap(),
            role: RoleName::new("viewer").unwrap(),
            label: Label::new(label).unwrap(),
            expires_at: None,
            scopes: None,
            limits: Default::default(),
        })
    }

    fn made(id: &str) -> Made {
        Made::new(id.to_owned(), "\"1\"".to_owned(), Secret::new(id.as_bytes().to_vec()))
    }

    #[test]
    fn a_request_that_comes_again_gets_the_same_answer_for_a_while() {
        let (answers, start) = (Answers::default(), Instant::now());
        let begin = |key: &str, label: &str, after: Duration| {
            answers.begin(&name(key), &wish(label), start + after)
        };
        assert!(matches!(begin("1", "a", Duration::ZERO), Ok(Turn::First)));
        assert!(matches!(begin("1", "a", Duration::ZERO), Err(Refusal::Conflict { .. })));
        answers.end(&name("1"), Some(made("key_1")));
        assert!(
            matches!(begin("1", "a", Duration::ZERO), Ok(Turn::Again(made)) if made.id == "key_1")
        );
        assert!(matches!(begin("1", "b", Duration::ZERO), Err(Refusal::KeyReused)));
        assert!(matches!(begin("2", "b", Duration::ZERO), Ok(Turn::First)));
        answers.end(&name("2"), None);
        assert!(matches!(begin("2", "c", Duration::ZERO), Ok(Turn::First)));
        assert!(matches!(begin("1", "b", KEPT), Ok(Turn::First)));
        assert_eq!(answers.lock().len(), 1, "what is over is forgotten");
    }

    #[test]
    fn memory_is_bounded() {
        let (answers, start) = (Answers::default(), Instant::now());
        for number in 0..2 * ANSWERS_MAX {
            let at = start + Duration::from_millis(number as u64);
            let turn = answers.begin(&name(&number.to_string()), &wish("a"), at);
            assert!(matches!(turn, Ok(Turn::First)));
        }
        assert_eq!(answers.lock().len(), ANSWERS_MAX);
        let newest = name(&(2 * ANSWERS_MAX - 1).to_string());
        assert!(answers.lock().contains_key(&newest));
    }
}
