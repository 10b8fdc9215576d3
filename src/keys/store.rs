//! The key file: loaded for the table, and changed key by key for the people who manage keys.
//!
//! A change happens under a lock on the file as it is then, is checked as a load would check it, and is
//! on the disk when the call returns. What would not load is never written.
//!
//! Never here: a key in the clear, or the decision who may change what.

use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::KeyRecord;
use super::actor::Actor;
use super::audit::{AuditLog, Event};
use super::change::{Change, Changed, Revision};
use super::durable::Locked;
use super::edit;
use super::entries;
use super::file::KeyFile;
use super::format::{Digest, Hasher, KeyFormat, random_text};
use super::memory::Memory;
use super::rules;
use crate::diagnostics::Report;
use crate::identity::{KeyId, Label, RoleName, Roles, UserName};
use crate::limit::requests::RequestLimits;
use crate::scopes::Scopes;

pub use super::durable::FileError;
pub use super::file::{LoadedKeys, load, load_table};
pub use super::refusal::{AddFault, StoreError};

/// Random characters of a key id; 47 bits, and a new id that is taken is drawn again.
const ID_CHARS: usize = 8;

/// A key that is to be stored.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// The digest of the key.
    pub hash: Digest,
    /// What of the key may be shown.
    pub start: Option<String>,
    /// What people call it.
    pub label: Label,
    /// Whose it is.
    pub user: UserName,
    /// What it may do.
    pub role: RoleName,
    /// From when on it may not be used any more.
    pub expires_at: Option<Timestamp>,
    /// What it is narrowed to.
    pub scopes: Option<Arc<Scopes>>,
    /// How many requests it may send.
    pub limits: RequestLimits,
}

/// Whether a change is made or only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Made.
    Real,
    /// Tried: every check, no write.
    Dry,
}

/// How new keys come in.
#[derive(Clone, Copy, Debug)]
pub struct Adding<'a> {
    /// By whom.
    pub by: &'a Actor,
    /// As the audit log calls it: `create` or `import`.
    pub action: &'static str,
    /// Whether they do.
    pub run: Run,
}

/// Which key is meant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// The one with this id, for programs.
    Exactly(&'a KeyId),
    /// The one whose id is this, or the only one whose id begins so, for people.
    Beginning(&'a str),
}

impl Which<'_> {
    fn place(self, records: &[KeyRecord]) -> Result<usize, StoreError> {
        match self {
            Self::Exactly(id) => {
                let place = records.iter().position(|record| record.id == *id);
                place.ok_or(StoreError::NoSuchKey)
            }
            Self::Beginning(id) => find(records, id),
        }
    }
}

/// On which terms a change is made.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// By whom.
    pub by: &'a Actor,
    /// Only if the key is still as it was.
    pub expected: Option<Revision>,
    /// Even if nobody is left then who may manage everybody's keys.
    pub may_leave_no_admin: bool,
}

/// A key file that can be changed.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    file: KeyFile<'a>,
    audit: &'a Path,
}

impl<'a> Store<'a> {
    /// The store at `path`, whose keys have `roles` and are digested by `hasher`, and whose changes are told in the
    /// log at `audit`. Reads nothing yet.
    pub fn new(
        path: &'a Path,
        audit: &'a Path,
        roles: &'a Roles,
        hasher: &'a Hasher,
        format: &'a KeyFormat,
    ) -> Self {
        Self { file: KeyFile { path, roles, hasher, format, memory: None }, audit }
    }

    /// The same, which reads no entry that is as `memory` knows it.
    pub fn remembering(self, memory: &'a Memory) -> Self {
        Self { file: KeyFile { memory: self.file.memory.or(Some(memory)), ..self.file }, ..self }
    }

    /// Reads every key; see [`load`].
    pub fn load(&self) -> Result<LoadedKeys, Report> {
        self.file.check(&self.file.read()?)
    }

    /// The keys in `text`, as if it were the file's: for the fuzz targets.
    ///
    /// # Errors
    /// Every fault at its place.
    #[doc(hidden)]
    pub fn check(&self, text: &str) -> Result<LoadedKeys, Report> {
        self.file.check(text)
    }

    /// Stores `new` keys, enabled, behind all others; all of them, or none. A file that does not exist
    /// yet is made.
    pub fn add(&self, new: &[NewKey], how: Adding<'_>) -> Result<Vec<KeyRecord>, StoreError> {
        let memory = Memory::default();
        let store = self.remembering(&memory);
        let locked = Locked::acquire(store.file.path).map_err(StoreError::File)?;
        let before = match store.file.path.try_exists() {
            Ok(false) => None,
            _ => Some(store.file.read().map_err(StoreError::Faults)?),
        };
        let text = before.as_deref().unwrap_or("keys = []\n");
        let (keys, starts) = store.file.check_with_places(text).map_err(StoreError::Faults)?;
        rules::check_new(&store.file, &keys, new, now())?;
        let added = records_of(&keys.records, new)?;
        let edited = edit::append(text, starts.first().copied(), &added)?;
        if how.run == Run::Real && !added.is_empty() {
            let event = |record| Event::Key {
                action: how.action,
                by: how.by,
                before: None,
                after: Some(record),
                reason: None,
            };
            let events: Vec<_> = added.iter().map(event).collect();
            store.file.check(&edited).map_err(StoreError::Faults)?;
            store.write(&locked, before.as_deref(), &edited, &events)?;
        }
        Ok(added)
    }

    /// Makes a change to one key, at once for those who watch the file. What leaves the key as it is, is not
    /// written.
    ///
    /// # Errors
    /// Why it was not made. Nothing is changed then.
    pub fn change(
        &self,
        which: Which<'_>,
        change: &Change,
        terms: Terms<'_>,
    ) -> Result<Changed, StoreError> {
        let memory = Memory::default();
        let store = self.remembering(&memory);
        let locked = Locked::acquire(store.file.path).map_err(StoreError::File)?;
        let text = store.file.read().map_err(StoreError::Faults)?;
        let (keys, starts) = store.file.check_with_places(&text).map_err(StoreError::Faults)?;
        let records = &keys.records;
        let place = which.place(records)?;
        let before = &records[place];
        if terms.expected.is_some_and(|expected| expected != Revision::of(before)) {
            return Err(StoreError::Changed(Box::new(before.clone())));
        }
        let now = now();
        let after = change.apply(before, terms.by, now);
        let leaves_no_admin =
            rules::leaves_no_admin(records, place, after.as_ref(), store.file.roles, now);
        let changed = Changed { before: before.clone(), after, leaves_no_admin };
        if changed.after.as_ref() == Some(before) {
            return Ok(changed);
        }
        rules::check_change(&store.file, &keys, place, change, changed.after.as_ref(), now)?;
        if leaves_no_admin && !terms.may_leave_no_admin {
            return Err(StoreError::LastAdmin(before.id.clone()));
        }
        let edited = match &changed.after {
            Some(after) => {
                let range = starts[place]..starts.get(place + 1).copied().unwrap_or(text.len());
                store.updated(&text, range, before, after)?
            }
            None => {
                let edited = edit::remove(&text, &starts, place)?;
                store.file.check(&edited).map_err(StoreError::Faults)?;
                edited
            }
        };
        let event = Event::Key {
            action: change.as_str(),
            by: terms.by,
            before: Some(before),
            after: changed.after.as_ref(),
            reason: change.reason().map(Label::as_str),
        };
        store.write(&locked, Some(&text), &edited, &[event])?;
        Ok(changed)
    }

    /// `text`, which has no fault, with the entry at `range` as `after` says. It has none then, either.
    fn updated(
        &self,
        text: &str,
        range: Range<usize>,
        before: &KeyRecord,
        after: &KeyRecord,
    ) -> Result<String, StoreError> {
        let entry = edit::update(text, range.clone(), before, after)?;
        let edited = [&text[..range.start], &entry, &text[range.end..]].concat();
        // Reading a long file takes a second, in which a key that was disabled still works. So the entry alone is
        // read, unless what it says must be held against all others.
        let (read, faults) = entries::parse(&entry);
        let reads_as_meant =
            faults.is_empty() && matches!(&read[..], [one] if one.record == *after);
        if !reads_as_meant || after.hash != before.hash {
            self.file.check(&edited).map_err(StoreError::Faults)?;
        }
        Ok(edited)
    }

    /// Puts `text`, which has no fault, in the place of `before`, after telling it in the audit log.
    fn write(
        &self,
        locked: &Locked,
        before: Option<&str>,
        text: &str,
        events: &[Event<'_>],
    ) -> Result<(), StoreError> {
        let mut audit = AuditLog::open(self.audit, self.file.path).map_err(StoreError::File)?;
        audit.tell(before, text, events).map_err(StoreError::File)?;
        locked.replace(text).map_err(|error| {
            if !error.is_made() {
                audit.take_back(&error);
            }
            StoreError::File(error)
        })
    }
}

/// The records of `new` keys, with ids that none of `records` has.
fn records_of(records: &[KeyRecord], new: &[NewKey]) -> Result<Vec<KeyRecord>, StoreError> {
    let mut taken: HashSet<KeyId> = records.iter().map(|record| record.id.clone()).collect();
    let now = now();
    new.iter()
        .map(|key| {
            Ok(KeyRecord {
                id: new_id(&mut taken)?,
                hash: key.hash,
                start: key.start.clone(),
                label: key.label.clone(),
                user: key.user.clone(),
                role: key.role.clone(),
                created_at: Some(now),
                enabled: true,
                expires_at: key.expires_at,
                scopes: key.scopes.clone(),
                limits: key.limits,
                disabled_at: None,
                disabled_by: None,
                disabled_reason: None,
                previous: None,
            })
        })
        .collect()
}

/// The place of the one key whose id is `id` or begins with it.
pub fn find(records: &[KeyRecord], id: &str) -> Result<usize, StoreError> {
    let is_it = |record: &KeyRecord| record.id.as_str() == id;
    if let Some(place) = records.iter().position(is_it) {
        return Ok(place);
    }
    if id.is_empty() {
        return Err(StoreError::NoSuchKey);
    }
    let begins = |(_, record): &(usize, &KeyRecord)| record.id.as_str().starts_with(id);
    let found: Vec<_> = records.iter().enumerate().filter(begins).collect();
    match found[..] {
        [] => Err(StoreError::NoSuchKey),
        [(place, _)] => Ok(place),
        _ => Err(StoreError::AmbiguousId(found.iter().map(|(_, key)| key.id.clone()).collect())),
    }
}

/// The present, in whole seconds: what people read, and what the table knows.
fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("the present is a time that exists")
}

/// An id that is not in `taken`, and is from now on.
fn new_id(taken: &mut HashSet<KeyId>) -> Result<KeyId, StoreError> {
    loop {
        let random = random_text(ID_CHARS).map_err(StoreError::Randomness)?;
        let id = KeyId::new(&format!("key_{random}")).expect("base62 characters may be in an id");
        if taken.insert(id.clone()) {
            return Ok(id);
        }
    }
}

#[cfg(test)]
mod tests;
