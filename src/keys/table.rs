//! The table requests are checked against: immutable, and searched by the digest's own bytes.
//!
//! Keys are spread over shards of about [`KEYS_PER_SHARD`], each of which is shared by its clones, so that a
//! later change to one key replaces one shard and shares all others.
//!
//! Never here: key material, files, or what a role may do.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use super::KeyRecord;
use super::format::{Digest, Hasher, KeyFormat, Scheme};
use super::shard::{self, Entry, Shard};
use crate::identity::{Identity, KeyId, Roles};

/// Keys a shard holds on average: few enough to make one anew in a fraction of a millisecond, and enough that
/// the list of the shards of a million keys stays in the cache.
const KEYS_PER_SHARD: usize = 750;

/// `Entry::validity` of a disabled key; of any other it is the Unix time in seconds from which on it is expired.
const DISABLED: i64 = i64::MIN;
/// `Entry::validity` of a key that never expires.
const FOREVER: i64 = i64::MAX;

/// Why a key lets nobody in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// No such key, or nothing that could be one.
    Unknown,
    /// The key was switched off.
    Disabled,
    /// The key's time is over.
    Expired,
}

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

/// Every key of one generation.
#[derive(Debug)]
pub struct KeyTable {
    /// Never empty.
    shards: Box<[Shard]>,
    keys: usize,
    hasher: Hasher,
    format: KeyFormat,
}

impl KeyTable {
    /// Builds the table of `records`.
    ///
    /// # Errors
    /// Every record that cannot be part of it, in the order given.
    pub fn build(
        records: &[KeyRecord],
        roles: &Roles,
        hasher: Hasher,
        format: KeyFormat,
    ) -> Result<Self, Vec<TableError>> {
        let mut shards = empty_shards(records.len());
        let mut errors = Vec::new();
        let mut ids = HashSet::with_capacity(records.len());
        let mut owners = HashMap::with_capacity(records.len());
        for (record, key) in records.iter().enumerate() {
            let mut report = |fault| errors.push(TableError { record, id: key.id.clone(), fault });
            if !ids.insert(&key.id) {
                report(TableFault::DuplicateId);
            }
            let Some(role) = roles.find(key.role.as_str()) else {
                report(TableFault::UnknownRole);
                continue;
            };
            let identity = Identity::new(&key.id, &key.user, &key.label, Arc::clone(role));
            let identity = Arc::new(identity.narrowed(key.scopes.clone()));
            for (field, digest, validity) in digests(key) {
                let expected = hasher.scheme();
                if digest.scheme() != expected {
                    report(TableFault::Scheme { field, expected });
                    continue;
                }
                let digest = digest.as_bytes();
                if let Some(&earlier) = owners.get(digest) {
                    let earlier = KeyId::clone(earlier);
                    report(TableFault::DuplicateHash { field, earlier });
                    continue;
                }
                owners.insert(digest, &key.id);
                let entry = Entry { digest: *digest, validity, identity: Arc::clone(&identity) };
                let shard = shard::shard(digest, shards.len());
                shards[shard].push(entry);
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let shards = shards.into_iter().map(Shard::new).collect();
        Ok(Self { shards, keys: records.len(), hasher, format })
    }

    /// Who `key` stands for at `now_unix_s`, in seconds since 1970. Allocates nothing.
    ///
    /// The time it takes tells nothing about a key: what is searched for is its digest, and digests are
    /// compared in constant time.
    pub fn lookup(&self, key: &[u8], now_unix_s: i64) -> Result<&Arc<Identity>, Rejection> {
        if !self.format.is_plausible(key) {
            return Err(Rejection::Unknown);
        }
        let digest = self.hasher.digest(key);
        let digest = digest.as_bytes();
        let shard = &self.shards[shard::shard(digest, self.shards.len())];
        let entry = shard.find(digest).ok_or(Rejection::Unknown)?;
        match entry.validity {
            DISABLED => Err(Rejection::Disabled),
            validity if now_unix_s < validity => Ok(&entry.identity),
            _ => Err(Rejection::Expired),
        }
    }

    /// The number of keys, disabled and expired ones among them.
    pub fn len(&self) -> usize {
        self.keys
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }
}

/// The digests by which a key is known, each with the [`Entry::validity`] it gives.
fn digests(key: &KeyRecord) -> impl Iterator<Item = (HashField, &Digest, i64)> {
    let validity = match (key.enabled, key.expires_at) {
        (false, _) => DISABLED,
        (true, None) => FOREVER,
        (true, Some(expires_at)) => expires_at.as_second(),
    };
    let previous = key
        .previous
        .as_ref()
        .map(|(digest, until)| (HashField::Previous, digest, validity.min(until.as_second())));
    [(HashField::Current, &key.hash, validity)].into_iter().chain(previous)
}

/// As many shards as `keys` need, without entries.
fn empty_shards(keys: usize) -> Vec<Vec<Entry>> {
    let count = keys.div_ceil(KEYS_PER_SHARD).max(1);
    (0..count).map(|_| Vec::with_capacity(keys.div_ceil(count))).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::super::format::{Pepper, Prefix};
    use super::*;
    use crate::identity::{Label, RoleDeclaration, RoleName, UserName};
    use crate::redact::Secret;

    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record(id: &str, key: &str) -> KeyRecord {
        KeyRecord {
            id: KeyId::new(id).unwrap(),
            hash: Hasher::default().digest(key.as_bytes()),
            start: None,
            label: Label::new("a label").unwrap(),
            user: UserName::new("alice").unwrap(),
            role: RoleName::new("viewer").unwrap(),
            created_at: None,
            enabled: true,
            expires_at: None,
            scopes: None,
            disabled_at: None,
            disabled_by: None,
            disabled_reason: None,
            previous: None,
        }
    }

    fn build_with(hasher: Hasher, records: &[KeyRecord]) -> Result<KeyTable, Vec<TableError>> {
        let viewer = RoleDeclaration {
            name: RoleName::new("viewer").unwrap(),
            inherits: Vec::new(),
            admin: Default::default(),
        };
        let roles = Roles::new(&[viewer]).unwrap();
        KeyTable::build(records, &roles, hasher, KeyFormat::new(Prefix::new("kw").unwrap()))
    }

    fn build(records: &[KeyRecord]) -> Result<KeyTable, Vec<TableError>> {
        build_with(Hasher::default(), records)
    }

    fn faults(records: &[KeyRecord]) -> Vec<String> {
        build(records).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_key_is_found_by_its_bytes_alone() {
        let table = build(&[record("key_a", "secret-a"), record("key_b", "secret-b")]).unwrap();
        let check = |key: &[u8], expect: Result<&str, Rejection>| {
            assert_eq!(table.lookup(key, NOW).map(|found| found.key_id()), expect);
        };
        check(b"secret-a", Ok("key_a"));
        check(b"secret-b", Ok("key_b"));
        check(b"secret-c", Err(Rejection::Unknown));
        check(b"secret-a ", Err(Rejection::Unknown));
        check(b"short", Err(Rejection::Unknown));
        check(b"", Err(Rejection::Unknown));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn every_one_of_many_keys_is_found_whatever_its_shard() {
        let key = |n: usize| format!("secret-{n:05}");
        let records: Vec<_> = (0..3000).map(|n| record(&format!("key_{n}"), &key(n))).collect();
        let table = build(&records).unwrap();
        assert_eq!(table.shards.len(), 4);
        for n in 0..3000 {
            let found = table.lookup(key(n).as_bytes(), NOW).unwrap();
            assert_eq!(found.key_id(), format!("key_{n}"));
        }
        assert_eq!(table.lookup(key(3000).as_bytes(), NOW).unwrap_err(), Rejection::Unknown);
    }

    #[test]
    fn a_key_is_valid_until_the_second_it_expires() {
        let mut key = record("key_a", "secret-a");
        key.expires_at = Some(at(NOW));
        let check = |key: &KeyRecord, now, expect: Result<(), Rejection>| {
            let table = build(std::slice::from_ref(key)).unwrap();
            assert_eq!(table.lookup(b"secret-a", now).map(|_| ()), expect);
        };
        check(&key, NOW - 1, Ok(()));
        check(&key, NOW, Err(Rejection::Expired));
        key.enabled = false;
        check(&key, NOW - 1, Err(Rejection::Disabled));
        check(&key, NOW, Err(Rejection::Disabled));
    }

    #[test]
    fn the_previous_secret_lives_until_its_own_end_and_never_longer_than_the_key() {
        let mut key = record("key_a", "secret-a");
        key.previous = Some((Hasher::default().digest(b"secret-0"), at(NOW)));
        let check = |key: &KeyRecord, now, expect: Result<(), Rejection>| {
            let table = build(std::slice::from_ref(key)).unwrap();
            assert_eq!(table.lookup(b"secret-0", now).map(|_| ()), expect);
        };
        check(&key, NOW - 1, Ok(()));
        check(&key, NOW, Err(Rejection::Expired));
        key.expires_at = Some(at(NOW - 10));
        check(&key, NOW - 1, Err(Rejection::Expired));
        key.enabled = false;
        check(&key, NOW - 11, Err(Rejection::Disabled));
    }

    #[test]
    fn every_record_that_does_not_fit_is_named() {
        let mut other_role = record("key_d", "secret-d");
        other_role.role = RoleName::new("wizard").unwrap();
        let mut rotated = record("key_e", "secret-e");
        rotated.previous = Some((rotated.hash, at(NOW)));
        let records = [
            record("key_a", "secret-a"),
            record("key_b", "secret-a"),
            record("key_a", "secret-c"),
            other_role,
            rotated,
        ];
        assert_eq!(
            faults(&records),
            [
                "key_a and key_b have one hash: they are the same key",
                "two keys have the id key_a",
                "key_d has a role that the configuration does not declare",
                "key_e has one hash twice",
            ]
        );
    }

    #[test]
    fn a_digest_of_another_scheme_is_refused() {
        let pepper = Arc::new(Pepper::new(Secret::new(vec![7; 16])).unwrap());
        let peppered = Hasher::new(Some(pepper));
        let plain = record("key_a", "secret-a");
        let mut with_pepper = record("key_b", "secret-a");
        with_pepper.hash = peppered.digest(b"secret-a");

        assert_eq!(
            faults(std::slice::from_ref(&with_pepper)),
            ["the hash of key_b was made with a pepper, and none is configured"]
        );
        let errors = build_with(peppered.clone(), &[plain]).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            "the hash of key_a was made without the configured pepper"
        );
        let table = build_with(peppered, &[with_pepper]).unwrap();
        assert_eq!(table.lookup(b"secret-a", NOW).unwrap().key_id(), "key_b");
    }
}
