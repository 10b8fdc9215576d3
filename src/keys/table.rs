//! The table requests are checked against: immutable, and searched by the digest's own bytes.
//!
//! Keys are spread over shards of about [`KEYS_PER_SHARD`], each of which is shared by its clones, so that the table
//! behind a change of one key has one shard of its own and shares all others.
//!
//! Never here: key material, files, or what a role may do.

mod faults;

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::KeyRecord;
use super::format::{Digest, Hasher, KEY_MAX_BYTES, KeyFormat};
use super::shard::{self, Entry, Shard};
use crate::identity::{Identity, Roles};
use crate::limit::quota::Quota;
use crate::limit::requests::RequestLimits;

pub use faults::{HashField, TableError, TableFault};

/// Keys a shard holds on average: few enough to make one anew in a fraction of a millisecond, and enough that
/// the list of the shards of a million keys stays in the cache. The slots of most shards have 50 to 56 KiB, of which
/// mimalloc wastes a twentieth; of 56 to 64 KiB it wastes a quarter.
const KEYS_PER_SHARD: usize = 680;

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

/// Every key of one generation. A clone shares its shards.
#[derive(Clone, Debug)]
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
        let scheme = hasher.scheme();
        let mut builder = Builder::new(records.len(), roles, hasher, format);
        let is_good = records.iter().all(|key| builder.add(key).is_some());
        let table = if is_good { builder.finish() } else { None };
        table.ok_or_else(|| faults::faults(records, roles, scheme))
    }

    /// The table of `records`: at `changed` they are other than `removed`, which stood there when this one was built, with
    /// the same roles. It has shards of its own where one of those is, and shares all others. `None` if it would need
    /// another number of them, or any record is at fault: [`build`](Self::build) says which.
    pub(super) fn rebuilt(
        &self,
        removed: &[KeyRecord],
        records: &[KeyRecord],
        changed: Range<usize>,
        roles: &Roles,
        hasher: Hasher,
        format: KeyFormat,
    ) -> Option<Self> {
        let count = self.shards.len();
        if shard_count(records.len()) != count || hasher.scheme() != self.hasher.scheme() {
            return None;
        }
        let ids: HashSet<_> = records.iter().map(|key| &key.id).collect();
        if ids.len() != records.len() {
            return None;
        }
        let mut quotas = Quotas::new();
        let mut anew: Vec<Option<Vec<Entry>>> = (0..count).map(|_| None).collect();
        for (_, digest, _) in removed.iter().chain(&records[changed.clone()]).flat_map(digests) {
            if digest.scheme() != hasher.scheme() {
                return None;
            }
            anew[shard::shard(digest.as_bytes(), count)].get_or_insert_default();
        }
        for (place, key) in records.iter().enumerate() {
            let mut of_both = None;
            for (field, digest, validity) in digests(key) {
                let digest = digest.as_bytes();
                let shard = shard::shard(digest, count);
                let Some(entries) = &mut anew[shard] else { continue };
                let identity = match of_both.take() {
                    Some(identity) => identity,
                    None if changed.contains(&place) => identity(key, roles, &mut quotas)?,
                    None => Arc::clone(&self.shards[shard].find(digest)?.identity),
                };
                of_both = Some(Arc::clone(&identity));
                let is_previous = field == HashField::Previous;
                entries.push(Entry { digest: *digest, validity, identity, is_previous });
            }
        }
        let mut shards = self.shards.clone();
        for (shard, entries) in shards.iter_mut().zip(anew) {
            let Some(entries) = entries else { continue };
            // Those of the others have not changed.
            *shard = distinct(entries)?;
        }
        Some(Self { shards, keys: records.len(), hasher, format })
    }

    /// The same keys, for a configuration that says otherwise how others look.
    pub(super) fn with(self, hasher: Hasher, format: KeyFormat) -> Option<Self> {
        (hasher.scheme() == self.hasher.scheme()).then_some(Self { hasher, format, ..self })
    }

    /// Who `key` stands for at `now_unix_s`, in seconds since 1970. Allocates nothing.
    ///
    /// The time it takes tells nothing about a key: what is searched for is its digest, and digests are
    /// compared in constant time. What cannot be a key is searched for all the same, so that it takes as long as one that
    /// nobody has; of what is longer than a key, as much as a key may have.
    pub fn lookup(&self, key: &[u8], now_unix_s: i64) -> Result<Found<'_>, Rejection> {
        let is_plausible = self.format.is_plausible(key);
        let digest = self.hasher.digest(&key[..key.len().min(KEY_MAX_BYTES)]);
        let found = self.lookup_digest(digest.as_bytes(), now_unix_s);
        if is_plausible { found } else { Err(Rejection::Unknown) }
    }

    /// The same for a key whose digest is known from an earlier look-up: whether it is still good.
    pub fn lookup_digest(
        &self,
        digest: &[u8; 32],
        now_unix_s: i64,
    ) -> Result<Found<'_>, Rejection> {
        #[cfg(test)]
        tests::SEARCHES.set(tests::SEARCHES.get() + 1);
        let shard = &self.shards[shard::shard(digest, self.shards.len())];
        let entry = shard.find(digest).ok_or(Rejection::Unknown)?;
        match entry.validity {
            DISABLED => Err(Rejection::Disabled),
            validity if now_unix_s < validity => Ok(Found(entry)),
            _ => Err(Rejection::Expired),
        }
    }

    /// Whom they stand for, once for each secret.
    pub fn identities(&self) -> impl Iterator<Item = &Identity> {
        self.shards.iter().flat_map(Shard::entries).map(|entry| &*entry.identity)
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

/// Takes records one after the other, and holds on to none.
pub(super) struct Builder<'a> {
    roles: &'a Roles,
    hasher: Hasher,
    format: KeyFormat,
    quotas: Quotas,
    shards: Vec<Vec<Entry>>,
    keys: usize,
}

impl<'a> Builder<'a> {
    /// For as many as `keys`.
    pub(super) fn new(keys: usize, roles: &'a Roles, hasher: Hasher, format: KeyFormat) -> Self {
        let shards = empty_shards(keys);
        Self { roles, hasher, format, quotas: Quotas::new(), shards, keys: 0 }
    }

    /// Takes one more; `None` if it cannot be part of any table with these roles.
    pub(super) fn add(&mut self, key: &KeyRecord) -> Option<()> {
        let identity = identity(key, self.roles, &mut self.quotas)?;
        let count = self.shards.len();
        for (field, digest, validity) in digests(key) {
            if digest.scheme() != self.hasher.scheme() {
                return None;
            }
            let (digest, identity) = (*digest.as_bytes(), Arc::clone(&identity));
            let is_previous = field == HashField::Previous;
            let entry = Entry { digest, validity, identity, is_previous };
            self.shards[shard::shard(&digest, count)].push(entry);
        }
        self.keys += 1;
        Some(())
    }

    /// Their table; `None` if two of them have an id or a digest in common.
    pub(super) fn finish(self) -> Option<KeyTable> {
        let Self { hasher, format, shards, keys, .. } = self;
        let ids: HashSet<_> =
            shards.iter().flatten().map(|entry| entry.identity.key_id()).collect();
        if ids.len() != keys {
            return None;
        }
        drop(ids);
        let shards = shards.into_iter().map(distinct).collect::<Option<_>>()?;
        Some(KeyTable { shards, keys, hasher, format })
    }
}

/// The shard of `entries`, unless two have one digest. Equal digests are in one shard.
fn distinct(entries: Vec<Entry>) -> Option<Shard> {
    let digests = entries.iter().map(|entry| &entry.digest).collect::<HashSet<_>>().len();
    (digests == entries.len()).then(|| Shard::new(entries))
}

/// A secret that lets somebody in.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a>(&'a Entry);

impl<'a> Found<'a> {
    /// Whom.
    pub fn identity(self) -> &'a Arc<Identity> {
        &self.0.identity
    }

    /// What it is known by.
    pub fn digest(self) -> &'a [u8; 32] {
        &self.0.digest
    }

    /// The Unix time in seconds from which on it does not any more; `None` if that never comes.
    pub fn expires_unix_s(self) -> Option<i64> {
        Some(self.0.validity).filter(|&validity| validity != FOREVER)
    }

    /// Whether it is the secret before a rotation.
    pub fn is_previous(self) -> bool {
        self.0.is_previous
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

/// Many keys have the same limits, and share what is made of them.
type Quotas = HashMap<RequestLimits, Option<Arc<Quota>>>;

/// Who `key` stands for; nobody if its role is not declared.
fn identity(key: &KeyRecord, roles: &Roles, quotas: &mut Quotas) -> Option<Arc<Identity>> {
    let role = roles.find(key.role.as_str())?;
    let quota = match key.limits.is_empty() {
        true => role.quota().cloned(),
        false => {
            let limits = key.limits.or(role.limits());
            quotas.entry(limits).or_insert_with(|| Quota::of_key(limits)).clone()
        }
    };
    let identity = Identity::new(&key.id, &key.user, &key.label, Arc::clone(role));
    Some(Arc::new(identity.narrowed(key.scopes.clone()).limited(quota)))
}

/// How many shards `keys` need.
fn shard_count(keys: usize) -> usize {
    keys.div_ceil(KEYS_PER_SHARD).max(1)
}

/// As many shards as `keys` need, without entries.
fn empty_shards(keys: usize) -> Vec<Vec<Entry>> {
    let count = shard_count(keys);
    (0..count).map(|_| Vec::with_capacity(keys.div_ceil(count))).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use jiff::Timestamp;

    use super::super::format::{Pepper, Prefix};
    use super::*;
    use crate::identity::{RoleDeclaration, RoleName};
    use crate::redact::Secret;

    const NOW: i64 = 1_800_000_000;

    thread_local! {
        /// How often a digest was searched for.
        pub(super) static SEARCHES: Cell<usize> = const { Cell::new(0) };
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn record(id: &str, key: &str) -> KeyRecord {
        KeyRecord::sample(id, key)
    }

    fn roles() -> Roles {
        let viewer = RoleDeclaration {
            name: RoleName::new("viewer").unwrap(),
            inherits: Vec::new(),
            admin: Default::default(),
            limits: Default::default(),
        };
        Roles::new(&[viewer]).unwrap()
    }

    fn format() -> KeyFormat {
        KeyFormat::new(Prefix::new("kw").unwrap())
    }

    fn build_with(hasher: Hasher, records: &[KeyRecord]) -> Result<KeyTable, Vec<TableError>> {
        KeyTable::build(records, &roles(), hasher, format())
    }

    fn build(records: &[KeyRecord]) -> Result<KeyTable, Vec<TableError>> {
        build_with(Hasher::default(), records)
    }

    fn faults(records: &[KeyRecord]) -> Vec<String> {
        build(records).unwrap_err().iter().map(ToString::to_string).collect()
    }

    /// Time is what somebody outside could measure; work is what a test can count on any machine.
    #[test]
    fn what_cannot_be_a_key_costs_the_same_work_as_one_that_nobody_has() {
        let longest = "x".repeat(KEY_MAX_BYTES);
        let table = build(&[record("key_a", "secret-a"), record("key_b", &longest)]).unwrap();
        for key in [
            "nobody-has-this",
            "short",
            "",
            "with space inside",
            "kw_0123456789abcdefghijABCDEFGHIJ000000",
            &format!("{longest}y"),
        ] {
            let before = SEARCHES.get();
            assert_eq!(table.lookup(key.as_bytes(), NOW).err(), Some(Rejection::Unknown), "{key}");
            assert_eq!(SEARCHES.get() - before, 1, "{key}");
        }
        assert!(table.lookup(longest.as_bytes(), NOW).is_ok());
    }

    #[test]
    fn a_key_is_found_by_its_bytes_alone() {
        let table = build(&[record("key_a", "secret-a"), record("key_b", "secret-b")]).unwrap();
        let check = |key: &[u8], expect: Result<&str, Rejection>| {
            let found = table.lookup(key, NOW).map(|found| found.identity().key_id());
            assert_eq!(found, expect);
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
        let count = 4 * KEYS_PER_SHARD;
        let records: Vec<_> = (0..count).map(|n| record(&format!("key_{n}"), &key(n))).collect();
        let table = build(&records).unwrap();
        assert_eq!(table.shards.len(), 4);
        for n in 0..count {
            let found = table.lookup(key(n).as_bytes(), NOW).unwrap();
            assert_eq!(found.identity().key_id(), format!("key_{n}"));
        }
        assert_eq!(table.lookup(key(count).as_bytes(), NOW).unwrap_err(), Rejection::Unknown);
    }

    /// The table of `before` with the records at `removed` replaced by `added`.
    fn rebuild(
        before: &[KeyRecord],
        removed: Range<usize>,
        added: &[KeyRecord],
    ) -> (KeyTable, Vec<KeyRecord>, Option<KeyTable>) {
        let table = build(before).unwrap();
        let mut after = before.to_vec();
        after.splice(removed.clone(), added.iter().cloned());
        let changed = removed.start..removed.start + added.len();
        let (removed, hasher) = (&before[removed], Hasher::default());
        let rebuilt = table.rebuilt(removed, &after, changed, &roles(), hasher, format());
        (table, after, rebuilt)
    }

    #[test]
    fn behind_a_change_most_of_the_table_is_shared_and_all_of_it_is_as_if_built_anew() {
        let key = |n: usize| {
            let mut key = record(&format!("key_{n}"), &format!("secret-{n:05}"));
            let old = Hasher::default().digest(format!("old-{n}").as_bytes());
            key.previous = n.is_multiple_of(3).then_some((old, at(NOW + 10)));
            key
        };
        let count = 4 * KEYS_PER_SHARD - 10;
        let records: Vec<_> = (0..count).map(key).collect();
        let disabled = KeyRecord { enabled: false, ..key(1200) };
        let (hash, old) = (Hasher::default().digest(b"rotated"), (key(1201).hash, at(NOW + 5)));
        let rotated = KeyRecord { hash, previous: Some(old), ..key(1201) };
        let check = |removed, added: &[KeyRecord], shards_of_its_own: usize| {
            let (before, after, rebuilt) = rebuild(&records, removed, added);
            let (rebuilt, anew) = (rebuilt.expect("it can be"), build(&after).unwrap());
            assert_eq!(rebuilt.len(), after.len());
            let mut own = HashSet::new();
            for (_, digest, _) in records.iter().chain(added).flat_map(digests) {
                let digest = digest.as_bytes();
                let told = |table: &KeyTable| {
                    table.lookup_digest(digest, NOW).map(|found| {
                        let identity = found.identity();
                        let names =
                            [identity.key_id(), identity.user(), identity.role().name().as_str()];
                        (names.map(str::to_owned), found.expires_unix_s(), found.is_previous())
                    })
                };
                assert_eq!(told(&rebuilt), told(&anew));
                let place = |table: &KeyTable| {
                    table
                        .lookup_digest(digest, NOW)
                        .ok()
                        .map(|found| std::ptr::from_ref(found.digest()))
                };
                if place(&rebuilt) != place(&before) {
                    own.insert(shard::shard(digest, 4));
                }
            }
            assert_eq!(own.len(), shards_of_its_own);
            for key in after.iter().filter(|key| key.enabled && key.previous.is_some()) {
                let identity = |digest: &Digest| {
                    rebuilt.lookup_digest(digest.as_bytes(), NOW).unwrap().identity()
                };
                let previous = key.previous.unwrap().0;
                assert!(Arc::ptr_eq(identity(&key.hash), identity(&previous)), "{}", key.id);
            }
        };
        check(0..0, &[], 0);
        check(1202..1203, &[KeyRecord { enabled: false, ..key(1202) }], 1);
        check(1202..1203, &[], 1);
        check(count..count, &[key(4000)], 1);
        // Five digests, which lie in three of the four.
        check(1200..1202, &[disabled, rotated], 3);
    }

    #[test]
    fn nothing_is_shared_where_a_record_is_at_fault_or_the_shards_do_not_suffice() {
        let key = |n: usize| record(&format!("key_{n}"), &format!("secret-{n:05}"));
        let records: Vec<_> = (0..KEYS_PER_SHARD).map(key).collect();
        let is_refused = |added: KeyRecord| rebuild(&records, 9..10, &[added]).2.is_none();
        assert!(!is_refused(key(9)));
        assert!(is_refused(KeyRecord { id: key(600).id, ..key(9) }));
        assert!(is_refused(KeyRecord { hash: key(600).hash, ..key(9) }));
        assert!(is_refused(KeyRecord { previous: Some((key(600).hash, at(NOW))), ..key(9) }));
        assert!(is_refused(KeyRecord { role: RoleName::new("wizard").unwrap(), ..key(9) }));
        let pepper = Arc::new(Pepper::new(Secret::new(vec![7; 16])).unwrap());
        let peppered = Hasher::new(Some(pepper));
        assert!(is_refused(KeyRecord { hash: peppered.digest(b"secret-00009"), ..key(9) }));
        let end = KEYS_PER_SHARD..KEYS_PER_SHARD;
        assert!(rebuild(&records, end, &[key(KEYS_PER_SHARD)]).2.is_none());
        let table = build(&records).unwrap();
        assert!(table.rebuilt(&[], &records, 0..0, &roles(), peppered.clone(), format()).is_none());
        assert!(table.with(peppered, format()).is_none());
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
    fn a_digest_tells_of_its_secret_what_the_secret_would() {
        let mut key = record("key_a", "secret-a");
        key.previous = Some((Hasher::default().digest(b"secret-0"), at(NOW + 10)));
        let table = build(&[key]).unwrap();
        let check = |secret: &[u8], is_previous, expires| {
            let found = table.lookup(secret, NOW).unwrap();
            assert_eq!((found.is_previous(), found.expires_unix_s()), (is_previous, expires));
            let again = table.lookup_digest(found.digest(), NOW).unwrap();
            assert!(Arc::ptr_eq(again.identity(), found.identity()));
        };
        check(b"secret-a", false, None);
        check(b"secret-0", true, Some(NOW + 10));
        let old = *table.lookup(b"secret-0", NOW).unwrap().digest();
        assert_eq!(table.lookup_digest(&old, NOW + 10).unwrap_err(), Rejection::Expired);
        assert_eq!(table.lookup_digest(&[7; 32], NOW).unwrap_err(), Rejection::Unknown);
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
        assert_eq!(table.lookup(b"secret-a", NOW).unwrap().identity().key_id(), "key_b");
    }
}
