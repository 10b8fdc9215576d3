//! What somebody has used of a quota: three numbers, shared by all workers, without a lock.
//!
//! The rate is GCRA (the virtual scheduling algorithm of ITU-T I.371): the one number it keeps is when the last request
//! that passed would have come, had all come at the rate. Limits are not kept here, so that others may hold from the
//! next request on.
//!
//! Never here: whose it is, or the clock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::quota::{Exceeded, Left, Limit, Quota};

const NS_PER_S: u64 = 1_000_000_000;
const DAY_S: u64 = 24 * 60 * 60;
/// Bits of a day's count; the number of the day is in the others.
const COUNT_BITS: u32 = 40;

/// A moment, on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Nanoseconds since some moment before; never goes back.
    pub ns: u64,
    /// Whole seconds since the Unix epoch.
    pub unix_s: u64,
}

impl Moment {
    fn day(self) -> u64 {
        self.unix_s / DAY_S
    }

    fn until_tomorrow_s(self) -> u64 {
        DAY_S - self.unix_s % DAY_S
    }
}

/// What somebody has used.
#[derive(Debug, Default)]
pub struct Meter {
    /// When the next request would come at the rate, in the nanoseconds of [`Moment`]: what lies ahead of now is used.
    due_ns: AtomicU64,
    /// A day since the Unix epoch, and its requests.
    today: AtomicU64,
    in_flight: AtomicU32,
}

impl Meter {
    /// Begins to count days, unless it does: with as many requests today as `known` knows of. To be called before a
    /// request is counted.
    pub(super) fn seed(&self, known: impl FnOnce() -> u64, now: Moment) {
        if self.today.load(Ordering::Relaxed) == 0 {
            let today = pack(now.day(), known().min((1 << COUNT_BITS) - 1));
            let (done, tried) = (Ordering::Relaxed, Ordering::Relaxed);
            // If another worker was faster, it knew the same.
            let _ = self.today.compare_exchange(0, today, done, tried);
        }
    }

    /// Lets a request in if all of `quota` allows one more; else nothing is used.
    ///
    /// # Errors
    /// What does not.
    pub fn admit(&self, quota: &Quota, now: Moment) -> Result<(), Exceeded> {
        let exceeded = |limit, retry_after_s: u64| Exceeded {
            holder: quota.holder(),
            limit,
            retry_after_s: u32::try_from(retry_after_s).unwrap_or(u32::MAX).max(1),
        };
        let limits = quota.limits();
        if limits.concurrent.is_some_and(|most| !self.enter(most)) {
            return Err(exceeded(Limit::Concurrent, 1));
        }
        if limits.daily.is_some_and(|most| !self.count(most, now)) {
            self.leave(quota);
            return Err(exceeded(Limit::Daily, now.until_tomorrow_s()));
        }
        if limits.rate.is_some()
            && let Err(wait_ns) = self.take(quota, now)
        {
            self.leave(quota);
            self.uncount(quota, now);
            return Err(exceeded(Limit::Rate, wait_ns.div_ceil(NS_PER_S)));
        }
        Ok(())
    }

    /// Takes back that one was let in at `now`, which goes no further.
    pub fn give_back(&self, quota: &Quota, now: Moment) {
        self.leave(quota);
        self.uncount(quota, now);
        self.due_ns.fetch_sub(quota.interval_ns(), Ordering::Relaxed);
    }

    /// A request that was let in by `quota` has ended.
    pub fn leave(&self, quota: &Quota) {
        if quota.limits().concurrent.is_some() {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn enter(&self, most: u32) -> bool {
        let one_more = |count: u32| (count < most).then_some(count + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn count(&self, most: u64, now: Moment) -> bool {
        let one_more = |today| {
            let (day, count) = at_day(today, now.day());
            (count < most).then(|| pack(day, count + 1))
        };
        self.today.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok()
    }

    fn uncount(&self, quota: &Quota, now: Moment) {
        if quota.limits().daily.is_none() {
            return;
        }
        let one_less = |today| {
            // When the day has ended meanwhile, so has the count.
            let (day, count) = unpack(today);
            (day >= now.day() && count > 0).then(|| pack(day, count - 1))
        };
        let _ = self.today.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
    }

    /// One at the rate; or in how many nanoseconds there may be one.
    fn take(&self, quota: &Quota, now: Moment) -> Result<(), u64> {
        let mut due = self.due_ns.load(Ordering::Relaxed);
        loop {
            let next = due.max(now.ns) + quota.interval_ns();
            let too_early = next.saturating_sub(now.ns + quota.burst_ns());
            if too_early > 0 {
                return Err(too_early);
            }
            let (done, tried) = (Ordering::Relaxed, Ordering::Relaxed);
            match self.due_ns.compare_exchange_weak(due, next, done, tried) {
                Ok(_) => return Ok(()),
                Err(newer) => due = newer,
            }
        }
    }

    /// What is left of each limit.
    pub fn left(&self, quota: &Quota, now: Moment) -> impl Iterator<Item = Left> {
        let limits = quota.limits();
        let rate = limits.rate.map(|_| {
            let used_ns = self.due_ns.load(Ordering::Relaxed).saturating_sub(now.ns);
            // Limits may have become narrower since.
            let left_ns = quota.burst_ns().saturating_sub(used_ns);
            let requests = left_ns / quota.interval_ns();
            let one_more_ns = (requests + 1) * quota.interval_ns();
            let wait_ns = (one_more_ns + used_ns).saturating_sub(quota.burst_ns());
            let more_in_s = (used_ns > 0).then(|| wait_ns.div_ceil(NS_PER_S));
            Left { limit: Limit::Rate, requests, more_in_s }
        });
        let daily = limits.daily.map(|most| {
            let requests = most.saturating_sub(self.today(now));
            let more_in_s = Some(now.until_tomorrow_s());
            Left { limit: Limit::Daily, requests, more_in_s }
        });
        let concurrent = limits.concurrent.map(|most| {
            let in_flight = self.in_flight.load(Ordering::Relaxed);
            let requests = most.saturating_sub(in_flight).into();
            Left { limit: Limit::Concurrent, requests, more_in_s: None }
        });
        [rate, daily, concurrent].into_iter().flatten()
    }

    /// How many requests there were today; none where no quota counted them.
    pub fn today(&self, now: Moment) -> u64 {
        at_day(self.today.load(Ordering::Relaxed), now.day()).1
    }

    /// How many are in flight, where that is limited.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// How much of it is used, to be compared: nothing if a new one would say the same.
    pub(super) fn owed(&self, now: Moment) -> Option<(u32, u64, u64)> {
        let due_ns = self.due_ns.load(Ordering::Relaxed).saturating_sub(now.ns);
        let owed = (self.in_flight(), self.today(now), due_ns);
        (owed != (0, 0, 0)).then_some(owed)
    }
}

fn pack(day: u64, count: u64) -> u64 {
    day << COUNT_BITS | count
}

fn unpack(today: u64) -> (u64, u64) {
    (today >> COUNT_BITS, today & ((1 << COUNT_BITS) - 1))
}

/// What counts on `day`: a worker's clock may be a moment ahead of another's at midnight, but no clock is by days, unless
/// it was set.
fn at_day(today: u64, day: u64) -> (u64, u64) {
    let (known, count) = unpack(today);
    if known == day || known == day + 1 { (known, count) } else { (day, 0) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::requests::{Rate, RequestLimits};
    use super::*;

    const DAY: u64 = 20_000;

    fn at_ns(ns: u64) -> Moment {
        Moment { ns, unix_s: DAY * DAY_S + ns / NS_PER_S }
    }

    fn at_ms(ms: u64) -> Moment {
        at_ns(ms * 1_000_000)
    }

    fn quota(rate: &str, burst: u32) -> Arc<Quota> {
        let rate = Some(Rate::parse(rate).expect("a rate"));
        let limits = RequestLimits { rate, burst: Some(burst), ..RequestLimits::default() };
        Quota::of_key(limits).expect("a limit")
    }

    fn refused(admitted: Result<(), Exceeded>) -> Option<(Limit, u32)> {
        admitted.err().map(|exceeded| (exceeded.limit, exceeded.retry_after_s))
    }

    #[test]
    fn a_burst_passes_then_one_an_interval() {
        let (meter, quota) = (Meter::default(), quota("10/s", 3));
        let admit = |ms| refused(meter.admit(&quota, at_ms(ms)));
        for _ in 0..3 {
            assert_eq!(admit(5000), None);
        }
        assert_eq!(admit(5000), Some((Limit::Rate, 1)));
        assert_eq!(admit(5099), Some((Limit::Rate, 1)));
        assert_eq!(admit(5100), None);
        assert_eq!(admit(5100), Some((Limit::Rate, 1)));
        // After a silence it is a burst again, and no more.
        for _ in 0..3 {
            assert_eq!(admit(60_000), None);
        }
        assert_eq!(admit(60_000), Some((Limit::Rate, 1)));
    }

    #[test]
    fn what_is_left_and_when_there_is_more() {
        let (meter, quota) = (Meter::default(), quota("1/m", 3));
        let left = |ms| {
            let left = meter.left(&quota, at_ms(ms)).next().expect("a rate");
            (left.requests, left.more_in_s)
        };
        assert_eq!(left(0), (3, None));
        for expect in [2, 1, 0] {
            assert_eq!(meter.admit(&quota, at_ms(0)), Ok(()));
            assert_eq!(left(0), (expect, Some(60)));
        }
        assert_eq!(refused(meter.admit(&quota, at_ms(1500))), Some((Limit::Rate, 59)));
        assert_eq!(left(1500), (0, Some(59)));
        assert_eq!(left(60_000), (1, Some(60)));
        assert_eq!(left(179_999), (2, Some(1)));
        assert_eq!(left(180_000), (3, None));
    }

    #[test]
    fn a_day_ends_at_midnight() {
        let limits = RequestLimits { daily: Some(2), ..RequestLimits::default() };
        let (meter, quota) = (Meter::default(), Quota::of_key(limits).expect("a limit"));
        let at = |day, second| Moment { ns: 0, unix_s: day * DAY_S + second };
        let admit = |day, second| refused(meter.admit(&quota, at(day, second)));
        assert_eq!([admit(DAY, 0), admit(DAY, 9)], [None, None]);
        assert_eq!(admit(DAY, DAY_S - 7), Some((Limit::Daily, 7)));
        assert_eq!(admit(DAY + 1, 0), None);
        // Another worker's clock is a moment behind.
        assert_eq!(admit(DAY, DAY_S - 1), None);
        assert_eq!(admit(DAY, DAY_S - 1), Some((Limit::Daily, 1)));
        assert_eq!(admit(DAY + 1, 0), Some((Limit::Daily, DAY_S as u32)));
        // The clock was ahead by a year.
        assert_eq!(admit(DAY - 365, 0), None);
    }

    #[test]
    fn what_is_refused_uses_nothing() {
        let limits = RequestLimits {
            rate: Rate::parse("1/h"),
            burst: Some(2),
            concurrent: Some(3),
            daily: Some(4),
        };
        let (meter, quota) = (Meter::default(), Quota::of_key(limits).expect("a limit"));
        let admit = || refused(meter.admit(&quota, at_ms(0))).map(|(limit, _)| limit);
        let used = || (meter.in_flight(), meter.today(at_ms(0)));
        assert_eq!([admit(), admit()], [None, None]);
        assert_eq!((admit(), used()), (Some(Limit::Rate), (2, 2)));
        meter.leave(&quota);
        assert_eq!((admit(), used()), (Some(Limit::Rate), (1, 2)));
        meter.give_back(&quota, at_ms(0));
        assert_eq!(used(), (0, 1));
        assert_eq!((admit(), used()), (None, (1, 2)));
        assert_eq!(admit(), Some(Limit::Rate));
    }

    #[test]
    fn as_many_as_may_be_are_in_flight() {
        let limits = RequestLimits { concurrent: Some(1), ..RequestLimits::default() };
        let (meter, quota) = (Meter::default(), Quota::of_key(limits).expect("a limit"));
        assert_eq!(meter.admit(&quota, at_ms(0)), Ok(()));
        assert_eq!(refused(meter.admit(&quota, at_ms(0))), Some((Limit::Concurrent, 1)));
        assert!(meter.owed(at_ms(0)).is_some());
        meter.leave(&quota);
        assert_eq!(meter.owed(at_ms(0)), None);
        assert_eq!(meter.admit(&quota, at_ms(0)), Ok(()));
    }

    #[test]
    fn threads_share_a_burst_to_the_last_request() {
        let (meter, quota) = (Meter::default(), quota("1/h", 1000));
        let passed = || (0..1000).filter(|_| meter.admit(&quota, at_ms(0)).is_ok()).count();
        let counts: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(passed)).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!(counts.iter().sum::<usize>(), 1000, "{counts:?}");
    }

    proptest! {
        /// A bucket that leaks, in rational numbers: what GCRA is another form of.
        #[test]
        fn it_is_a_leaky_bucket(
            requests in 1_u32..2000,
            burst in 1_u32..50,
            steps in prop::collection::vec(0_u64..2_000_000_000, 1..200),
        ) {
            let quota = quota(&format!("{requests}/s"), burst);
            let (meter, interval) = (Meter::default(), quota.interval_ns());
            let (mut now, mut level) = (0, 0_u64);
            for step in steps {
                now += step / u64::from(requests);
                level = level.saturating_sub(step / u64::from(requests));
                let has_room = level + interval <= interval * u64::from(burst);
                level += if has_room { interval } else { 0 };
                prop_assert_eq!(meter.admit(&quota, at_ns(now)).is_ok(), has_room);
                let left = meter.left(&quota, at_ns(now)).next().expect("a rate").requests;
                prop_assert_eq!(left, (interval * u64::from(burst) - level) / interval);
            }
        }
    }
}
