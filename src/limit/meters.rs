//! The meters of everybody, for all workers: they outlive reloads, and are let go of when nothing is owed any more.
//!
//! A meter of a key is looked up when a worker begins to use the key, and that of an address with every request, under a
//! lock of one of many shards.
//!
//! Never here: what a quota allows.

use std::collections::HashMap;
use std::fmt::{self, Debug, Formatter};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::meter::{Meter, Moment};
use super::network;
use super::quota::Quota;

/// Enough that workers hardly ever wait for each other.
const SHARDS: usize = 64;
/// Addresses whose meters are kept, in all: some 10 MB. Beyond it, those that have used the least are forgotten.
const ADDRESSES_MAX: usize = 65_536;
/// How often those are let go of that owe nothing.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// How many requests of a key there were today before its meter counted them, by its id.
pub type Seed = Box<dyn Fn(&str) -> u64 + Send + Sync>;

/// All there are.
pub struct Meters {
    /// When [`Moment::ns`] was zero.
    epoch: Instant,
    seed: Seed,
    /// By the route, if they are one's, and the key's id.
    keys: Shards<(Arc<str>, Box<str>)>,
    /// By the route and the address.
    addresses: Shards<(Arc<str>, IpAddr)>,
    swept_ns: AtomicU64,
}

impl Debug for Meters {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (keys, addresses) = self.counts();
        f.debug_struct("Meters").field("keys", &keys).field("addresses", &addresses).finish()
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self::new(Box::new(|_| 0))
    }
}

impl Meters {
    /// None yet; `seed` says how many requests of a key there were today.
    pub fn new(seed: Seed) -> Self {
        Self {
            epoch: Instant::now(),
            seed,
            keys: Shards::new(usize::MAX),
            addresses: Shards::new(ADDRESSES_MAX / SHARDS),
            swept_ns: AtomicU64::new(0),
        }
    }

    /// `at`, which was `unix_s` seconds after the Unix epoch.
    pub fn moment(&self, at: Instant, unix_s: u64) -> Moment {
        let ns = at.saturating_duration_since(self.epoch).as_nanos();
        Moment { ns: u64::try_from(ns).unwrap_or(u64::MAX), unix_s }
    }

    /// What the key with this id has used of `quota`.
    pub fn of_key(&self, quota: &Quota, id: &str, now: Moment) -> Arc<Meter> {
        let meter = self.keys.find((Arc::clone(quota.route()), id.into()), now);
        // Of a route's, nobody knows it.
        if quota.limits().daily.is_some() && quota.route().is_empty() {
            meter.seed(|| (self.seed)(id), now);
        }
        meter
    }

    /// The same, if there is any: nothing is owed otherwise.
    pub fn known_of_key(&self, quota: &Quota, id: &str) -> Option<Arc<Meter>> {
        let key = (Arc::clone(quota.route()), id.into());
        self.keys.lock(&key).get(&key).cloned()
    }

    /// What whoever comes from `client` has used of `quota`. Of IPv6 a network of 64 bits counts as one: that is what a
    /// host gets.
    pub fn of_address(&self, quota: &Quota, client: IpAddr, now: Moment) -> Arc<Meter> {
        self.addresses.find((Arc::clone(quota.route()), network(client)), now)
    }

    /// Lets go of those that owe nothing, now and then. To be called by no worker.
    pub fn sweep(&self, now: Moment) {
        let interval = SWEEP_INTERVAL.as_nanos() as u64;
        let swept = self.swept_ns.load(Ordering::Relaxed);
        if now.ns.saturating_sub(swept) >= interval {
            self.swept_ns.store(now.ns, Ordering::Relaxed);
            self.keys.sweep(now);
            self.addresses.sweep(now);
        }
    }

    /// How many there are, of keys and of addresses.
    pub fn counts(&self) -> (usize, usize) {
        (self.keys.count(), self.addresses.count())
    }
}

type Shard<K> = HashMap<K, Arc<Meter>>;

/// Meters by something, in parts with a lock each.
struct Shards<K> {
    shards: Box<[Mutex<Shard<K>>]>,
    hasher: RandomState,
    /// Of one part.
    most: usize,
}

impl<K: Eq + Hash> Shards<K> {
    fn new(most: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { shards, hasher: RandomState::new(), most }
    }

    fn lock(&self, key: &K) -> MutexGuard<'_, Shard<K>> {
        let shard = self.hasher.hash_one(key) as usize % SHARDS;
        lock(&self.shards[shard])
    }

    /// The one of `key`, or a new one. Whoever has it keeps it from being let go of.
    fn find(&self, key: K, now: Moment) -> Arc<Meter> {
        let mut shard = self.lock(&key);
        if let Some(meter) = shard.get(&key) {
            return Arc::clone(meter);
        }
        if shard.len() >= self.most {
            make_room(&mut shard, now);
        }
        Arc::clone(shard.entry(key).or_default())
    }

    fn sweep(&self, now: Moment) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.retain(|_, meter| is_in_use(meter) || meter.owed(now).is_some());
            if shard.capacity() > 4 * shard.len() {
                shard.shrink_to_fit();
            }
        }
    }

    fn count(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

/// Lets go of the half that has used the least, so that this is not done for each; not of any that is in use: they are
/// bounded by the requests in flight.
fn make_room<K: Eq + Hash>(shard: &mut Shard<K>, now: Moment) {
    let mut owed: Vec<_> = shard.values().map(|meter| meter.owed(now)).collect();
    let half = owed.len() / 2;
    let (_, median, _) = owed.select_nth_unstable(half);
    let median = *median;
    let mut excess = half.max(1);
    shard.retain(|_, meter| {
        let goes = excess > 0 && !is_in_use(meter) && meter.owed(now) <= median;
        excess -= usize::from(goes);
        !goes
    });
}

/// Whether somebody else has it: only under the lock does anybody get it.
fn is_in_use(meter: &Arc<Meter>) -> bool {
    Arc::strong_count(meter) > 1
}

/// Maps are whole between two calls, whoever panicked.
fn lock<K>(shard: &Mutex<Shard<K>>) -> MutexGuard<'_, Shard<K>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::requests::{Rate, RequestLimits};
    use super::*;

    fn quota(burst: u32) -> Arc<Quota> {
        let rate = Rate::parse("1/h");
        let limits = RequestLimits { rate, burst: Some(burst), ..RequestLimits::default() };
        Quota::of_route(limits, "/x").expect("a limit")
    }

    fn at_s(s: u64) -> Moment {
        Moment { ns: s * 1_000_000_000, unix_s: s }
    }

    #[test]
    fn what_owes_nothing_and_is_not_in_use_is_let_go_of() {
        let (meters, quota) = (Meters::default(), quota(3));
        let held = meters.of_key(&quota, "held", at_s(0));
        assert!(Arc::ptr_eq(&held, &meters.of_key(&quota, "held", at_s(0))));
        assert_eq!(meters.of_key(&quota, "owing", at_s(0)).admit(&quota, at_s(0)), Ok(()));
        drop(meters.of_key(&quota, "idle", at_s(0)));
        drop(meters.of_address(&quota, IpAddr::from([1, 2, 3, 4]), at_s(0)));
        assert_eq!(meters.counts(), (3, 1));
        meters.sweep(at_s(20));
        assert_eq!(meters.counts(), (2, 0));
        assert!(meters.known_of_key(&quota, "idle").is_none());
        drop(held);
        meters.sweep(at_s(29));
        assert_eq!(meters.counts(), (2, 0), "not that often");
        meters.sweep(at_s(3600));
        assert_eq!(meters.counts(), (0, 0));
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let (meters, quota) = (Meters::default(), quota(3));
        let of =
            |client: &str| meters.of_address(&quota, client.parse().expect("an address"), at_s(0));
        assert!(Arc::ptr_eq(&of("2001:db8::1"), &of("2001:db8::ffff:1")));
        assert!(!Arc::ptr_eq(&of("2001:db8::1"), &of("2001:db8:0:1::1")));
        assert!(Arc::ptr_eq(&of("192.0.2.1"), &of("::ffff:192.0.2.1")));
        assert!(!Arc::ptr_eq(&of("192.0.2.1"), &of("192.0.2.2")));
    }

    #[test]
    fn under_random_sources_memory_is_bounded_and_who_has_used_most_is_remembered() {
        let (meters, quota) = (Meters::default(), quota(3));
        let heavy = IpAddr::from([10, 0, 0, 1]);
        for _ in 0..3 {
            assert_eq!(meters.of_address(&quota, heavy, at_s(0)).admit(&quota, at_s(0)), Ok(()));
        }
        let in_use = meters.of_address(&quota, IpAddr::from([10, 0, 0, 2]), at_s(0));
        for number in 0..4 * ADDRESSES_MAX as u32 {
            let client = IpAddr::from((0x2000_0000 + number).to_be_bytes());
            let meter = meters.of_address(&quota, client, at_s(0));
            assert_eq!(meter.admit(&quota, at_s(0)), Ok(()));
        }
        assert!(meters.counts().1 <= ADDRESSES_MAX, "{meters:?}");
        assert!(meters.of_address(&quota, heavy, at_s(0)).admit(&quota, at_s(0)).is_err());
        let again = meters.of_address(&quota, IpAddr::from([10, 0, 0, 2]), at_s(0));
        assert!(Arc::ptr_eq(&again, &in_use));
    }

    #[test]
    fn a_daily_quota_of_a_key_begins_with_what_is_known_of_today() {
        let meters = Meters::new(Box::new(|id| if id == "key_a" { 4 } else { 0 }));
        let limits = RequestLimits { daily: Some(5), ..RequestLimits::default() };
        let quota = Quota::of_key(limits).expect("a limit");
        let admit = |id: &str| meters.of_key(&quota, id, at_s(0)).admit(&quota, at_s(0)).is_ok();
        assert_eq!([admit("key_a"), admit("key_a"), admit("key_b")], [true, false, true]);
        // The limit may come later than the meter, on the same day.
        let rate = self::quota(9).limits();
        let rate = Quota::of_key(rate).expect("a limit");
        let meters = Meters::new(Box::new(|_| 5));
        let meter = meters.of_key(&rate, "key_a", at_s(0));
        assert_eq!((meter.admit(&rate, at_s(0)), meter.today(at_s(0))), (Ok(()), 0));
        drop(meters.of_key(&quota, "key_a", at_s(0)));
        assert_eq!(meter.today(at_s(0)), 5);
        // A route's begin anew: usage does not count them apart.
        let route = Quota::of_route(limits, "/x").expect("a limit");
        assert_eq!(meters.of_key(&route, "key_a", at_s(0)).today(at_s(0)), 0);
    }
}
