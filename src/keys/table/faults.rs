//! Why records do not make a table: every fault, in the order given.
//!
//! Never here: where in a file a record stands.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};

use super::super::KeyRecord;
use super::super::format::Scheme;
use super::digests;
use crate::identity::{KeyId, Roles};

/// Which digest of a record an error is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashField {
    /// `hash`
    Current,
    /// `previous_hash`
    Previous,
}

/// A record that cannot be part of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    /// The record's place among those given.
    pub record: usize,
    /// The record's id.
    pub id: KeyId,
    /// What is wrong with it.
    pub fault: TableFault,
}

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableFault {
    /// An earlier record has the same id.
    DuplicateId,
    /// An earlier digest, of this record or of another, is the same.
    DuplicateHash {
        /// Which digest of this record.
        field: HashField,
        /// The id of the record that has it too.
        earlier: KeyId,
    },
    /// The record's role is not declared.
    UnknownRole,
    /// The digest was made by another scheme than the configuration's: it could never match.
    Scheme {
        /// Which digest.
        field: HashField,
        /// The scheme the configuration asks for.
        expected: Scheme,
    },
}

impl Display for TableError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let id = &self.id;
        match &self.fault {
            TableFault::DuplicateId => write!(f, "two keys have the id {id}"),
            TableFault::DuplicateHash { earlier, .. } if earlier == id => {
                write!(f, "{id} has one hash twice")
            }
            TableFault::DuplicateHash { earlier, .. } => {
                write!(f, "{earlier} and {id} have one hash: they are the same key")
            }
            TableFault::UnknownRole => {
                write!(f, "{id} has a role that the configuration does not declare")
            }
            TableFault::Scheme { expected: Scheme::Sha256, .. } => {
                write!(f, "the hash of {id} was made with a pepper, and none is configured")
            }
            TableFault::Scheme { expected: Scheme::HmacSha256, .. } => {
                write!(f, "the hash of {id} was made without the configured pepper")
            }
        }
    }
}

impl std::error::Error for TableError {}

/// What keeps `records` from being a table whose digests are made by the scheme `expected`.
pub(super) fn faults(records: &[KeyRecord], roles: &Roles, expected: Scheme) -> Vec<TableError> {
    let mut errors = Vec::new();
    let mut ids = HashSet::with_capacity(records.len());
    let mut owners = HashMap::with_capacity(records.len());
    for (record, key) in records.iter().enumerate() {
        let mut report = |fault| errors.push(TableError { record, id: key.id.clone(), fault });
        if !ids.insert(&key.id) {
            report(TableFault::DuplicateId);
        }
        if roles.find(key.role.as_str()).is_none() {
            report(TableFault::UnknownRole);
            continue;
        }
        for (field, digest, _) in digests(key) {
            if digest.scheme() != expected {
                report(TableFault::Scheme { field, expected });
                continue;
            }
            if let Some(&earlier) = owners.get(digest.as_bytes()) {
                let earlier = KeyId::clone(earlier);
                report(TableFault::DuplicateHash { field, earlier });
                continue;
            }
            owners.insert(digest.as_bytes(), &key.id);
        }
    }
    errors
}
