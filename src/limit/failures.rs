//! How often an address may fail to show a good key.
//!
//! A bucket of failures for each address, that empties steadily. When it is full the address is banned for a while; what
//! that means is for whoever asks: the proxy refuses what fails, the admin side whatever comes.
//!
//! Memory is bounded: addresses lie in sets of [`WAYS`], chosen by a keyed hash, and in a full set the one that would be
//! done with first gives its place to a new one. So every call looks at one set, however many addresses there are, and a
//! flood of new ones takes the places of those that are not banned.
//!
//! Never here: keys, or what an address gets to hear.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{IPV6_REST, network};

/// Parts with a lock of their own, so that workers rarely wait for each other.
const SHARDS: usize = 64;
/// Addresses that share a set: enough that sets fill evenly, and few enough to look at each time.
const WAYS: usize = 16;
/// The fewest addresses that can be remembered.
pub const ADDRESSES_MIN: usize = SHARDS * WAYS;
/// Marks IPv4 among the first halves of IPv6 addresses: nothing in ::/8 is ever assigned (RFC 4291 §2.4).
const IPV4: u64 = 1 << 32;

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Failures that fill the bucket; at least 1.
    pub limit: u32,
    /// How long a full bucket takes to be empty.
    pub window: Duration,
    /// How long an address is banned whose bucket is full.
    pub ban: Duration,
    /// Most addresses that are remembered; at least [`ADDRESSES_MIN`].
    pub addresses: usize,
}

/// What a failure comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has room in the bucket.
    Free,
    /// It fills the bucket: the address is banned from now on.
    Bans,
    /// The address is banned, for so long still. It does not add to that.
    Banned(Duration),
}

/// How many failures there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those that went into a bucket.
    pub counted: u64,
    /// Those of addresses that were banned.
    pub banned: u64,
}

/// The failures of every address. Shared by whoever sees some; those who do not, never come here.
#[derive(Debug)]
pub struct Failures {
    /// Keyed, or somebody with many addresses could choose those that share a set.
    hasher: RandomState,
    origin: Instant,
    shards: Box<[Mutex<Shard>]>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Shard {
    /// Whole sets; none before the first failure.
    entries: Vec<Entry>,
    totals: Totals,
}

/// One address. Times are microseconds since the origin, and never 0.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    network: u64,
    /// When its bucket will be empty; 0: nobody is here.
    empty_at: u64,
    /// When it was banned; 0: it was not.
    banned_at: u64,
}

/// Which bans were told of.
#[derive(Debug, Default)]
struct Told {
    next: u64,
    others: u64,
}

/// Between two bans that are told of.
const TELL_EVERY_US: u64 = 1_000_000;

impl Default for Failures {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            origin: Instant::now(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            told: Mutex::default(),
        }
    }
}

impl Failures {
    /// Somebody at `address` has failed.
    pub fn failed(&self, address: IpAddr, rule: &Rule, now: Instant) -> Verdict {
        let now = self.micros(now);
        let (network, hash) = self.place(address);
        let shard = &mut *self.lock(hash);
        shard.fit(rule, |network| self.hasher.hash_one(network));
        let entry = place_in(shard.set(hash), network, rule);
        if let Some(left) = entry.ban_left(rule, now) {
            shard.totals.banned += 1;
            return Verdict::Banned(left);
        }
        let (cost, window) = (micros(rule.window) / u64::from(rule.limit), micros(rule.window));
        entry.empty_at = entry.empty_at.max(now) + cost;
        let is_full = entry.empty_at - now + cost > window;
        if is_full {
            entry.banned_at = now;
        }
        shard.totals.counted += 1;
        if is_full { Verdict::Bans } else { Verdict::Free }
    }

    /// For how long `address` is still banned, if it is.
    pub fn ban_left(&self, address: IpAddr, rule: &Rule, now: Instant) -> Option<Duration> {
        let now = self.micros(now);
        let (network, hash) = self.place(address);
        let shard = &mut *self.lock(hash);
        let entry = shard.set(hash).iter().find(|entry| entry.is_of(network))?;
        entry.ban_left(rule, now)
    }

    /// Whether a ban that begins `now` is to be told of, and then how many before it were not: there may be more bans
    /// than anybody wants to read.
    pub fn tells(&self, now: Instant) -> Option<u64> {
        let now = self.micros(now);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if now < told.next {
            told.others += 1;
            return None;
        }
        told.next = now + TELL_EVERY_US;
        Some(std::mem::take(&mut told.others))
    }

    /// How many failures there were, since the start.
    pub fn totals(&self) -> Totals {
        let add = |sum: Totals, shard: &Mutex<Shard>| {
            let of_shard = lock(shard).totals;
            Totals { counted: sum.counted + of_shard.counted, banned: sum.banned + of_shard.banned }
        };
        self.shards.iter().fold(Totals::default(), add)
    }

    /// How many addresses are banned. Looks at each: for who asks now and then.
    pub fn banned(&self, rule: &Rule, now: Instant) -> usize {
        let now = self.micros(now);
        let is_banned = |entry: &&Entry| entry.ban_left(rule, now).is_some();
        self.shards.iter().map(|shard| lock(shard).entries.iter().filter(is_banned).count()).sum()
    }

    fn micros(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.origin)) + 1
    }

    /// What is counted as one, and its hash.
    fn place(&self, address: IpAddr) -> (u64, u64) {
        let network = match network(address) {
            IpAddr::V4(address) => IPV4 | u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> IPV6_REST) as u64,
        };
        (network, self.hasher.hash_one(network))
    }

    fn lock(&self, hash: u64) -> MutexGuard<'_, Shard> {
        lock(&self.shards[hash as usize % SHARDS])
    }
}

impl Shard {
    /// Makes room for as many addresses as `rule` says. Of those that are there, as many stay as fit.
    fn fit(&mut self, rule: &Rule, hash: impl Fn(u64) -> u64) {
        let sets = (rule.addresses / ADDRESSES_MIN).max(1);
        if self.entries.len() == sets * WAYS {
            return;
        }
        let earlier = std::mem::replace(&mut self.entries, vec![Entry::default(); sets * WAYS]);
        for entry in earlier.into_iter().filter(|entry| entry.empty_at > 0) {
            let place = first_done(self.set(hash(entry.network)), rule);
            if place.done_at(rule) < entry.done_at(rule) {
                *place = entry;
            }
        }
    }

    /// Where an address with this hash is, if anywhere.
    fn set(&mut self, hash: u64) -> &mut [Entry] {
        let sets = self.entries.len() / WAYS;
        if sets == 0 {
            return &mut [];
        }
        // Other bits than those that the shard was chosen by.
        let set = (hash >> 32) as usize % sets;
        &mut self.entries[set * WAYS..][..WAYS]
    }
}

impl Entry {
    fn is_of(&self, network: u64) -> bool {
        self.network == network && self.empty_at > 0
    }

    fn ban_left(&self, rule: &Rule, now: u64) -> Option<Duration> {
        let end = self.ban_end(rule)?;
        (now < end).then(|| Duration::from_micros(end - now))
    }

    fn ban_end(&self, rule: &Rule) -> Option<u64> {
        (self.banned_at > 0).then(|| self.banned_at + micros(rule.ban))
    }

    /// When there is nothing to be remembered any more.
    fn done_at(&self, rule: &Rule) -> u64 {
        self.empty_at.max(self.ban_end(rule).unwrap_or(0))
    }
}

/// The place of `network` in its set; a new one takes that of whoever would be done with first.
fn place_in<'a>(set: &'a mut [Entry], network: u64, rule: &Rule) -> &'a mut Entry {
    match set.iter().position(|entry| entry.is_of(network)) {
        Some(known) => &mut set[known],
        None => {
            let place = first_done(set, rule);
            *place = Entry { network, ..Entry::default() };
            place
        }
    }
}

/// An empty place, or else whoever is done with first.
fn first_done<'a>(set: &'a mut [Entry], rule: &Rule) -> &'a mut Entry {
    set.iter_mut().min_by_key(|entry| entry.done_at(rule)).expect("a set has places")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 4)
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // What is in it is sound after every line.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// At least `wait`, in whole seconds, as `Retry-After` says it.
pub fn retry_after_s(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000).max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Duration = Duration::from_secs(3);
    const RULE: Rule = Rule {
        limit: 20,
        window: Duration::from_secs(60),
        ban: Duration::from_secs(300),
        addresses: 4 * ADDRESSES_MIN,
    };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Address number `number`, in 10.0.0.0/8.
    fn numbered(number: usize) -> IpAddr {
        IpAddr::from((0x0a00_0000 + number as u32).to_be_bytes())
    }

    fn start(failures: &Failures) -> Instant {
        failures.origin
    }

    fn ban(failures: &Failures, address: IpAddr, at: Instant) {
        for _ in 1..RULE.limit {
            assert_eq!(failures.failed(address, &RULE, at), Verdict::Free);
        }
        assert_eq!(failures.failed(address, &RULE, at), Verdict::Bans);
    }

    #[test]
    fn a_full_bucket_bans_for_a_while_and_is_empty_then() {
        let failures = Failures::default();
        let (at, address) = (start(&failures), ip("192.0.2.1"));
        ban(&failures, address, at);
        assert_eq!(failures.failed(address, &RULE, at), Verdict::Banned(RULE.ban));
        assert_eq!(failures.ban_left(address, &RULE, at + COST), Some(RULE.ban - COST));
        // The same machine, written otherwise; and another.
        assert!(failures.ban_left(ip("::ffff:192.0.2.1"), &RULE, at).is_some());
        assert_eq!(failures.failed(ip("192.0.2.2"), &RULE, at), Verdict::Free);
        let last = at + RULE.ban - Duration::from_micros(1);
        assert!(matches!(failures.failed(address, &RULE, last), Verdict::Banned(_)));
        assert_eq!(failures.ban_left(address, &RULE, at + RULE.ban), None);
        ban(&failures, address, at + RULE.ban);
        assert_eq!(failures.totals(), Totals { counted: 41, banned: 2 });
    }

    #[test]
    fn who_fails_more_slowly_than_the_bucket_empties_is_not_banned() {
        let failures = Failures::default();
        for number in 0..1000 {
            let at = start(&failures) + number * COST;
            assert_eq!(failures.failed(ip("192.0.2.1"), &RULE, at), Verdict::Free, "{number}");
        }
    }

    #[test]
    fn a_ban_that_is_shorter_than_the_window_gives_back_failure_by_failure() {
        let failures = Failures::default();
        let (at, address) = (start(&failures), ip("192.0.2.1"));
        let rule = Rule { ban: COST, ..RULE };
        ban(&failures, address, at);
        for number in 1..5 {
            let later = at + number * COST;
            assert_eq!(failures.failed(address, &rule, later), Verdict::Bans, "{number}");
            assert_eq!(failures.failed(address, &rule, later), Verdict::Banned(COST));
        }
    }

    #[test]
    fn one_failure_may_be_too_many() {
        let failures = Failures::default();
        let rule = Rule { limit: 1, ..RULE };
        let at = start(&failures);
        assert_eq!(failures.failed(ip("192.0.2.1"), &rule, at), Verdict::Bans);
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        let failures = Failures::default();
        let at = start(&failures);
        for last in 0..RULE.limit {
            failures.failed(ip(&format!("2001:db8::{last}")), &RULE, at);
        }
        assert!(failures.ban_left(ip("2001:db8::ffff:1"), &RULE, at).is_some());
        assert!(failures.ban_left(ip("2001:db8:0:1::1"), &RULE, at).is_none());
        assert!(failures.ban_left(ip("::1"), &RULE, at).is_none());
    }

    #[test]
    fn memory_is_bounded_and_who_is_banned_is_remembered() {
        let failures = Failures::default();
        let at = start(&failures);
        let guesser = ip("192.0.2.1");
        ban(&failures, guesser, at);
        for number in 0..20 * RULE.addresses {
            failures.failed(numbered(number), &RULE, at);
        }
        let held: usize = failures.shards.iter().map(|shard| lock(shard).entries.capacity()).sum();
        assert_eq!(held, RULE.addresses);
        assert!(failures.ban_left(guesser, &RULE, at).is_some());
        assert_eq!(failures.banned(&RULE, at), 1);
        assert_eq!(size_of::<Entry>(), 24, "README.md says how much memory it takes");
        // Once it is done with, it goes like the others.
        let later = at + 2 * RULE.ban;
        for number in 0..20 * RULE.addresses {
            failures.failed(numbered(number), &RULE, later);
        }
        let (network, hash) = failures.place(guesser);
        assert!(!failures.lock(hash).set(hash).iter().any(|entry| entry.is_of(network)));
    }

    #[test]
    fn addresses_are_spread_so_that_most_fit() {
        let failures = Failures::default();
        let rule = Rule { limit: 1, ..RULE };
        let count = rule.addresses / 2;
        for number in 0..count {
            failures.failed(numbered(number), &rule, start(&failures));
        }
        // The hash differs from run to run; at half a load, sets of 16 overflow once in a hundred.
        let banned = failures.banned(&rule, start(&failures));
        assert!(banned > count * 9 / 10 && banned <= count, "{banned} of {count}");
    }

    #[test]
    fn another_rule_holds_at_once_and_forgets_nobody_that_has_room() {
        let failures = Failures::default();
        let (at, guesser) = (start(&failures), ip("192.0.2.1"));
        ban(&failures, guesser, at);
        for addresses in [64 * ADDRESSES_MIN, ADDRESSES_MIN, 3 * ADDRESSES_MIN] {
            let rule = Rule { addresses, ..RULE };
            for number in 0..2 * addresses {
                failures.failed(numbered(number), &rule, at);
            }
            let shards = failures.shards.iter();
            assert_eq!(shards.map(|shard| lock(shard).entries.len()).sum::<usize>(), addresses);
            assert!(failures.ban_left(guesser, &rule, at).is_some());
        }
        let shorter = Rule { ban: COST, ..RULE };
        assert_eq!(failures.ban_left(guesser, &shorter, at), Some(COST));
        assert_eq!(failures.ban_left(guesser, &shorter, at + COST), None);
    }

    #[test]
    fn of_many_bans_some_are_told_of_with_how_many_were_not() {
        let failures = Failures::default();
        let at = start(&failures);
        assert_eq!(failures.tells(at), Some(0));
        assert_eq!(failures.tells(at), None);
        assert_eq!(failures.tells(at), None);
        assert_eq!(failures.tells(at + Duration::from_secs(1)), Some(2));
        assert_eq!(failures.tells(at + Duration::from_secs(5)), Some(0));
    }

    #[test]
    fn a_wait_is_said_in_seconds_that_are_enough() {
        let check = |ms, expect| assert_eq!(retry_after_s(Duration::from_millis(ms)), expect);
        check(0, 1);
        check(1000, 1);
        check(1001, 2);
        check(299_999, 300);
    }
}
