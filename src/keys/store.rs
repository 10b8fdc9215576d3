//! The key file: loaded for the table, and changed key by key for the people who manage keys.
//!
//! A change happens under a lock on the file as it is then, is checked as a load would check it, and is
//! on the disk when the call returns. What would not load is never written.
//!
//! Never here: a key in the clear, or the decision who may change what.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::KeyRecord;
use super::durable::Locked;
use super::edit;
use super::file::{KeyFile, closest_role};
use super::format::{Digest, Hasher, KeyFormat, random_text};
use crate::diagnostics::Report;
use crate::identity::{KeyId, Label, RoleName, Roles, UserName};
use crate::scopes::Scopes;

pub use super::durable::FileError;
pub use super::edit::Disabling;
pub use super::file::{LoadedKeys, load};

/// Random characters of a key id; 47 bits, and a new id that is taken is drawn again.
const ID_CHARS: usize = 8;
/// Ids that an error lists at most.
const NAMED_IDS: usize = 5;

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
}

/// Why a new key cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddFault {
    /// The same key is stored already.
    SameKey(KeyId),
    /// An enabled key of the same user has the same label.
    LabelTaken(KeyId),
    /// The configuration does not declare this role; the one that may be meant.
    UnknownRole(Option<RoleName>),
}

impl Display for AddFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameKey(id) => write!(f, "the same key is stored already, as {id}"),
            Self::LabelTaken(id) => write!(
                f,
                "{id}, an enabled key of the same user, has the same label; choose another label, \
                 or disable {id} first"
            ),
            Self::UnknownRole(None) => f.write_str("the configuration does not declare this role"),
            Self::UnknownRole(Some(meant)) => {
                write!(f, "the configuration does not declare this role; did you mean `{meant}`?")
            }
        }
    }
}

/// Why a change was not made.
#[derive(Debug)]
pub enum StoreError {
    /// The key file has faults.
    Faults(Report),
    /// The file could not be locked or written.
    File(FileError),
    /// No key has this id, nor one that begins with it. The text is not kept: it may be a key.
    NoSuchKey,
    /// The ids of several keys begin with the text.
    AmbiguousId(Vec<KeyId>),
    /// Some of the new keys cannot be stored, by their places; none was.
    Refused(Vec<(usize, AddFault)>),
    /// The key may be used, so it is not deleted.
    StillEnabled(KeyId),
    /// The file holds its keys as `keys = [{ … }]`.
    InlineKeys,
    /// The operating system gave no randomness.
    Randomness(getrandom::Error),
}

impl Display for StoreError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faults(report) => report.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::NoSuchKey => f.write_str("no key has this id, nor one that begins with it"),
            Self::AmbiguousId(ids) => {
                let named: Vec<_> = ids.iter().take(NAMED_IDS).map(KeyId::as_str).collect();
                let more = if ids.len() > NAMED_IDS { ", …" } else { "" };
                write!(f, "{} ids begin with this: {}{more}", ids.len(), named.join(", "))
            }
            Self::Refused(faults) => {
                let faults: Vec<_> = faults.iter().map(|(_, fault)| fault.to_string()).collect();
                f.write_str(&faults.join("\n"))
            }
            Self::StillEnabled(id) => write!(f, "{id} is enabled; disable it first"),
            Self::InlineKeys => f.write_str(
                "the file holds its keys as `keys = [{ … }]`; write each as a `[[keys]]` entry, \
                 and they can be managed here",
            ),
            Self::Randomness(error) => write!(f, "no randomness from the system: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<edit::EditError> for StoreError {
    fn from(error: edit::EditError) -> Self {
        match error {
            edit::EditError::InlineKeys => Self::InlineKeys,
        }
    }
}

/// Whether a change is made or only tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// Made.
    Real,
    /// Tried: every check, no write.
    Dry,
}

/// A key file that can be changed.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    file: KeyFile<'a>,
}

impl<'a> Store<'a> {
    /// The store at `path`, whose keys have `roles` and are digested by `hasher`. Reads nothing yet.
    pub fn new(
        path: &'a Path,
        roles: &'a Roles,
        hasher: &'a Hasher,
        format: &'a KeyFormat,
    ) -> Self {
        Self { file: KeyFile { path, roles, hasher, format } }
    }

    /// Reads every key; see [`load`].
    pub fn load(&self) -> Result<LoadedKeys, Report> {
        self.file.check(&self.file.read()?)
    }

    /// Stores `new` keys, enabled, behind all others; all of them, or none. A file that does not exist
    /// yet is made.
    pub fn add(&self, new: &[NewKey], run: Run) -> Result<Vec<KeyRecord>, StoreError> {
        let locked = Locked::acquire(self.file.path).map_err(StoreError::File)?;
        let text = match self.file.path.try_exists() {
            Ok(false) => "keys = []\n".to_owned(),
            _ => self.file.read().map_err(StoreError::Faults)?,
        };
        let keys = self.file.check(&text).map_err(StoreError::Faults)?;
        self.refuse_unfit(&keys.records, new)?;
        let added = records_of(&keys.records, new)?;
        let edited = edit::append(&text, &added)?;
        if run == Run::Real && !added.is_empty() {
            self.write(&locked, &edited)?;
        }
        Ok(added)
    }

    /// Switches a key off, at once for those who watch the file. A key that is off stays as it is.
    pub fn disable(&self, id: &str, disabling: &Disabling) -> Result<KeyRecord, StoreError> {
        self.change(id, |text, place, record, _| {
            if !record.enabled {
                return Ok(None);
            }
            Ok(Some(edit::set_enabled(text, place, Some(disabling))?))
        })
    }

    /// Switches a key on again. A key that is on stays as it is.
    pub fn enable(&self, id: &str) -> Result<KeyRecord, StoreError> {
        self.change(id, |text, place, record, records| {
            if record.enabled {
                return Ok(None);
            }
            if let Some(other) = label_holder(records, &record.user, &record.label) {
                return Err(StoreError::Refused(vec![(0, AddFault::LabelTaken(other.clone()))]));
            }
            Ok(Some(edit::set_enabled(text, place, None)?))
        })
    }

    /// Removes a key for good: one that is disabled, or with `force` any.
    pub fn delete(&self, id: &str, force: bool) -> Result<KeyRecord, StoreError> {
        self.change(id, |text, place, record, _| {
            if record.enabled && !force {
                return Err(StoreError::StillEnabled(record.id.clone()));
            }
            Ok(Some(edit::remove(text, place)?))
        })
    }

    /// Changes the one key whose id begins with `id`. `edit` is given the text, the key's place in it,
    /// its record and all records; it returns the new text, or nothing to leave the file alone. Returns
    /// the key as it is then or, removed, as it was.
    fn change(
        &self,
        id: &str,
        edit: impl FnOnce(&str, usize, &KeyRecord, &[KeyRecord]) -> Result<Option<String>, StoreError>,
    ) -> Result<KeyRecord, StoreError> {
        let locked = Locked::acquire(self.file.path).map_err(StoreError::File)?;
        let text = self.file.read().map_err(StoreError::Faults)?;
        let mut keys = self.file.check(&text).map_err(StoreError::Faults)?;
        let place = find(&keys.records, id)?;
        let edited = edit(&text, place, &keys.records[place], &keys.records)?;
        let before = keys.records.swap_remove(place);
        let Some(edited) = edited else {
            return Ok(before);
        };
        let after = self.write(&locked, &edited)?.records;
        Ok(after.into_iter().find(|record| record.id == before.id).unwrap_or(before))
    }

    /// Writes `text` if it would load, and returns its keys.
    fn write(&self, locked: &Locked, text: &str) -> Result<LoadedKeys, StoreError> {
        let keys = self.file.check(text).map_err(StoreError::Faults)?;
        locked.replace(text).map_err(StoreError::File)?;
        Ok(keys)
    }

    fn refuse_unfit(&self, records: &[KeyRecord], new: &[NewKey]) -> Result<(), StoreError> {
        let mut faults = Vec::new();
        let known: HashMap<&Digest, &KeyId> = records
            .iter()
            .flat_map(|record| {
                let previous = record.previous.iter().map(|(digest, _)| digest);
                std::iter::once(&record.hash).chain(previous).map(|digest| (digest, &record.id))
            })
            .collect();
        let labels: HashMap<_, _> = records
            .iter()
            .filter(|record| record.enabled)
            .map(|record| ((&record.user, &record.label), &record.id))
            .collect();
        for (place, key) in new.iter().enumerate() {
            if self.file.roles.find(key.role.as_str()).is_none() {
                let meant = closest_role(&key.role, self.file.roles);
                faults.push((place, AddFault::UnknownRole(meant)));
            }
            if let Some(&id) = known.get(&key.hash) {
                faults.push((place, AddFault::SameKey(id.clone())));
            } else if let Some(&id) = labels.get(&(&key.user, &key.label)) {
                faults.push((place, AddFault::LabelTaken(id.clone())));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(StoreError::Refused(faults)) }
    }
}

/// The records of `new` keys, with ids that none of `records` has.
fn records_of(records: &[KeyRecord], new: &[NewKey]) -> Result<Vec<KeyRecord>, StoreError> {
    let mut taken: HashSet<KeyId> = records.iter().map(|record| record.id.clone()).collect();
    // Whole seconds: what people read, and what the table knows.
    let now = Timestamp::from_second(Timestamp::now().as_second())
        .expect("the present is a time that exists");
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

/// The enabled key of `user` that has `label`.
fn label_holder<'a>(records: &'a [KeyRecord], user: &UserName, label: &Label) -> Option<&'a KeyId> {
    records
        .iter()
        .find(|record| record.enabled && record.user == *user && record.label == *label)
        .map(|record| &record.id)
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
