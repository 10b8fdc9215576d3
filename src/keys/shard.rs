//! A shard of the key table: finds a digest with one read of its memory, however large the table is.
//!
//! Among a million keys a look-up mostly waits for memory, so what counts is how many reads wait for one another.
//! A perfect hash needs no search: a digest names a bucket, the bucket's *pilot* (a byte; a million keys have 250 KB
//! of them, which stay in the cache) says which place of its probe sequence is the digest's own, and that place is
//! one cache line. This is "hash and displace" (Belazzougui, Botelho and Dietzfelbinger, 2009). It costs 14 bytes a
//! key more than a hash table and a search for pilots when it is built, and saves a fifth of the look-up.
//!
//! Never here: how many shards there are, two entries of one digest, or a change: a shard is made anew.

use std::cmp::Reverse;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use crate::identity::Identity;

/// Entries of a bucket on average. More save pilots, and find them less easily.
const ENTRIES_PER_BUCKET: usize = 4;
/// Places for each bucket. A fifth stays free, without which the last buckets would find no pilot.
const PLACES_PER_BUCKET: usize = 5;
/// The pilot of a bucket that found none: its entries stand behind the places, and are searched one by one.
/// That befalls one in 5,000 entries, and digests that somebody wrote by hand.
const SPILLED: u8 = u8::MAX;

/// One digest and who it stands for. Alone in a cache line: in 48 bytes every other one would need two.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Entry {
    /// The digest of a key.
    pub(super) digest: [u8; 32],
    /// Until when it lets somebody in.
    pub(super) validity: i64,
    /// Whom.
    pub(super) identity: Arc<Identity>,
    /// Whether it is that of a secret before a rotation.
    pub(super) is_previous: bool,
}

const _: () = assert!(size_of::<Option<Entry>>() == 64);

/// Some entries. A clone shares them; both parts are reached without a step between.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// [`PLACES_PER_BUCKET`] for each pilot, then what is [`SPILLED`].
    slots: Arc<[Option<Entry>]>,
    /// One for each bucket; never empty.
    pilots: Arc<[u8]>,
}

impl Shard {
    /// Holds `entries`, whose digests differ.
    pub(super) fn new(entries: Vec<Entry>) -> Self {
        let bucket_count = entries.len().div_ceil(ENTRIES_PER_BUCKET).max(1);
        let mut slots: Vec<_> = (0..bucket_count * PLACES_PER_BUCKET).map(|_| None).collect();
        let mut pilots = vec![SPILLED; bucket_count];
        let mut spilled = Vec::new();
        for (number, bucket) in largest_first(buckets(entries, bucket_count)) {
            let Some(pilot) = find_pilot(&bucket, &slots) else {
                spilled.extend(bucket);
                continue;
            };
            pilots[number] = pilot;
            for entry in bucket {
                let place = place(&entry.digest, pilot, slots.len());
                slots[place] = Some(entry);
            }
        }
        slots.extend(spilled.into_iter().map(Some));
        Self { slots: slots.into(), pilots: pilots.into() }
    }

    /// All entries, in no order.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flatten()
    }

    /// The entry of `digest`. Bucket and place only say where it would be: whether it is there, all 256 bits
    /// decide, in constant time.
    pub(super) fn find(&self, digest: &[u8; 32]) -> Option<&Entry> {
        let places = self.pilots.len() * PLACES_PER_BUCKET;
        let pilot = self.pilots[bucket(digest, self.pilots.len())];
        if pilot == SPILLED {
            let mut spilled = self.slots[places..].iter().flatten();
            return spilled.find(|entry| is_same(&entry.digest, digest));
        }
        let entry = self.slots[place(digest, pilot, places)].as_ref();
        entry.filter(|entry| is_same(&entry.digest, digest))
    }
}

/// The entries of each bucket.
fn buckets(entries: Vec<Entry>, count: usize) -> Vec<Vec<Entry>> {
    let mut buckets: Vec<_> = (0..count).map(|_| Vec::new()).collect();
    for entry in entries {
        buckets[bucket(&entry.digest, count)].push(entry);
    }
    buckets
}

/// Buckets with their numbers, in the order in which pilots are found most easily: while there is room.
fn largest_first(buckets: Vec<Vec<Entry>>) -> Vec<(usize, Vec<Entry>)> {
    let mut buckets: Vec<_> = buckets.into_iter().enumerate().collect();
    buckets.sort_by_key(|(_, bucket)| Reverse(bucket.len()));
    buckets
}

/// The first pilot that puts every entry of `bucket` into a free place of its own.
fn find_pilot(bucket: &[Entry], slots: &[Option<Entry>]) -> Option<u8> {
    (0..SPILLED).find(|&pilot| {
        let place = |entry: &Entry| place(&entry.digest, pilot, slots.len());
        bucket.iter().enumerate().all(|(number, entry)| {
            let own = place(entry);
            slots[own].is_none() && bucket[..number].iter().all(|other| place(other) != own)
        })
    })
}

/// The shard of a digest among `shards`.
pub(super) fn shard(digest: &[u8; 32], shards: usize) -> usize {
    scale(word(digest, 0), shards)
}

/// The bucket of a digest among `buckets`.
fn bucket(digest: &[u8; 32], buckets: usize) -> usize {
    scale(word(digest, 1), buckets)
}

/// The place at `pilot` in the digest's probe sequence (double hashing), among `places`.
fn place(digest: &[u8; 32], pilot: u8, places: usize) -> usize {
    let (start, step) = (word(digest, 2), word(digest, 3));
    scale(start.wrapping_add(step.wrapping_mul(u32::from(pilot))), places)
}

/// Four bytes of a digest, as they are: a digest is its own hash, and each use takes bytes of its own.
fn word(digest: &[u8; 32], number: usize) -> u32 {
    let bytes = digest.as_chunks().0[number];
    u32::from_le_bytes(bytes)
}

/// `word`, evenly spread over `0..count` without a division.
fn scale(word: u32, count: usize) -> usize {
    ((u64::from(word) * count as u64) >> 32) as usize
}

/// Whether two digests are equal, in a time that does not depend on where they differ. The differences of
/// all bytes are gathered before one constant-time comparison: byte by byte that costs 25 times as much.
fn is_same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    let difference = one.iter().zip(other).fold(0, |difference, (a, b)| difference | (a ^ b));
    difference.ct_eq(&0_u8).into()
}

#[cfg(test)]
mod tests {
    use super::super::format::Hasher;
    use super::*;
    use crate::identity::{KeyId, Label, RoleDeclaration, RoleName, Roles, UserName};

    fn identity() -> Arc<Identity> {
        let name = RoleName::new("viewer").unwrap();
        let viewer = RoleDeclaration {
            name,
            inherits: Vec::new(),
            admin: Default::default(),
            limits: Default::default(),
        };
        let roles = Roles::new(&[viewer]).unwrap();
        let role = Arc::clone(roles.find("viewer").unwrap());
        let (id, user) = (KeyId::new("key_a").unwrap(), UserName::new("alice").unwrap());
        Arc::new(Identity::new(&id, &user, &Label::new("a label").unwrap(), role))
    }

    /// Entries of `digests`, numbered by their validity.
    fn shard(digests: &[[u8; 32]]) -> Shard {
        let identity = identity();
        let entry = |(&digest, validity)| Entry {
            digest,
            validity,
            identity: identity.clone(),
            is_previous: false,
        };
        Shard::new(digests.iter().zip(0..).map(entry).collect())
    }

    fn digest(number: usize) -> [u8; 32] {
        *Hasher::default().digest(number.to_string().as_bytes()).as_bytes()
    }

    fn spilled(shard: &Shard) -> usize {
        shard.slots.len() - shard.pilots.len() * PLACES_PER_BUCKET
    }

    #[track_caller]
    fn assert_finds_each(shard: &Shard, digests: &[[u8; 32]]) {
        for (digest, number) in digests.iter().zip(0..) {
            assert_eq!(shard.find(digest).map(|entry| entry.validity), Some(number));
        }
    }

    #[test]
    fn a_shard_of_any_size_finds_its_entries_and_no_other() {
        for size in [0, 1, 2, 3, 4, 5, 100, 750, 5000] {
            let digests: Vec<_> = (0..size).map(digest).collect();
            let shard = shard(&digests);
            assert_finds_each(&shard, &digests);
            assert!((size..2 * size + 100).all(|other| shard.find(&digest(other)).is_none()));
        }
    }

    #[test]
    fn hardly_any_entry_of_a_real_digest_is_spilled() {
        let digests: Vec<_> = (0..20_000).map(digest).collect();
        let all: usize = digests.chunks(750).map(|digests| spilled(&shard(digests))).sum();
        assert!(all <= 20, "{all} of 20,000");
    }

    #[test]
    fn digests_that_somebody_wrote_by_hand_are_found_too() {
        // They differ in their last bytes alone: one bucket, one probe sequence.
        let digests: Vec<_> = (0..300_u16)
            .map(|number| {
                let mut digest = [0; 32];
                digest[30..].copy_from_slice(&number.to_be_bytes());
                digest
            })
            .collect();
        let shard = shard(&digests);
        assert_eq!(spilled(&shard), 300);
        assert_finds_each(&shard, &digests);
        assert!(shard.find(&[1; 32]).is_none());
    }

    #[test]
    fn every_bit_of_a_digest_counts() {
        let shard = shard(&[digest(0)]);
        for bit in 0..256 {
            let mut other = digest(0);
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(shard.find(&other).is_none(), "bit {bit}");
        }
    }
}
