//! Whether an endpoint should get requests: what failed lately, for how long it is left out, and how it comes back.
//!
//! An endpoint that failed several times in a row is ejected: left out for a while, and each time for twice as long.
//! Then requests themselves try it: one more failure ejects it again, and from the first success on it is back,
//! with a share that grows while it warms up.
//!
//! Apart from that, an endpoint that fails its health checks is left out until it passes them.
//!
//! A request reads atomics; the lock is taken by those that change something, while an endpoint has trouble.
//!
//! Never here: what happens when every endpoint is left out.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use super::settings::{Ejection, Health, Settings};

/// The share of an endpoint that nothing is wrong with.
pub(super) const WHOLE: u32 = 1 << 10;
/// The share with which warming up begins: enough to warm up by.
const FIRST_SHARE: u32 = WHOLE / 10;

/// What all workers think of an endpoint.
#[derive(Debug)]
pub(super) struct Standing {
    /// What the times below are counted from.
    epoch: Instant,
    /// 0 if nothing is wrong; else when it is, or was, to get requests again. From then on it warms up.
    back_at_ms: AtomicU64,
    /// Failures in a row.
    failures: AtomicU32,
    /// When it was ejected, until a success; 0 if it was not.
    ejected_at_ms: AtomicU64,
    fails_checks: AtomicBool,
    slow_start_ms: AtomicU64,
    history: Mutex<History>,
}

#[derive(Debug, Default)]
struct History {
    ejection: Ejection,
    /// How often it was ejected in a row, and until when the last time.
    ejections: u32,
    until_ms: u64,
    /// Health checks in a row whose result was not what `fails_checks` says.
    surprising_checks: u32,
}

impl Standing {
    pub(super) fn new(epoch: Instant) -> Self {
        Self {
            epoch,
            back_at_ms: AtomicU64::new(0),
            failures: AtomicU32::new(0),
            ejected_at_ms: AtomicU64::new(0),
            fails_checks: AtomicBool::new(false),
            slow_start_ms: AtomicU64::new(0),
            history: Mutex::default(),
        }
    }

    /// Goes on by the rules of a new generation.
    pub(super) fn configure(&self, settings: &Settings) {
        let mut history = self.lock();
        self.slow_start_ms.store(to_ms(settings.slow_start), Ordering::Relaxed);
        if settings.ejection.after == 0 && history.ejection.after != 0 {
            // Nobody ejects any more, so nobody would take it back.
            *history = History::default();
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_at_ms.store(0, Ordering::Relaxed);
            self.back_at_ms.store(0, Ordering::Relaxed);
        }
        history.ejection = settings.ejection.clone();
        if settings.health.is_none() {
            self.fails_checks.store(false, Ordering::Relaxed);
            history.surprising_checks = 0;
        }
    }

    /// How much of its share it gets `now`, of [`WHOLE`]; nothing while it is left out.
    pub(super) fn share(&self, now: Instant) -> u32 {
        if self.fails_checks.load(Ordering::Relaxed) {
            return 0;
        }
        match self.back_at_ms.load(Ordering::Relaxed) {
            0 => WHOLE,
            back_at => self.warmth(back_at, self.ms(now)),
        }
    }

    #[cold]
    fn warmth(&self, back_at: u64, now: u64) -> u32 {
        let slow_start = self.slow_start_ms.load(Ordering::Relaxed);
        match now.checked_sub(back_at) {
            None => 0,
            Some(since) if since >= slow_start => WHOLE,
            Some(since) => {
                let grown = since * u64::from(WHOLE) / slow_start;
                FIRST_SHARE.max(u32::try_from(grown).unwrap_or(WHOLE))
            }
        }
    }

    /// An exchange that began at `began` ended well. Says whether the endpoint is back by that.
    pub(super) fn succeeded(&self, began: Instant, now: Instant) -> bool {
        let back_at = self.back_at_ms.load(Ordering::Relaxed);
        if back_at == 0 && self.failures.load(Ordering::Relaxed) == 0 {
            return false;
        }
        self.recover(back_at, self.ms(began), self.ms(now))
    }

    #[cold]
    fn recover(&self, back_at: u64, began: u64, now: u64) -> bool {
        let ejected_at = self.ejected_at_ms.load(Ordering::Relaxed);
        // What began before says nothing of now: a server that goes down still ends what it began.
        if began < ejected_at {
            return false;
        }
        let is_in_row = self.failures.load(Ordering::Relaxed) > 0;
        if ejected_at == 0 && !is_in_row && self.warmth(back_at, now) < WHOLE {
            return false;
        }
        let _history = self.lock();
        self.failures.store(0, Ordering::Relaxed);
        let back_at = self.back_at_ms.load(Ordering::Relaxed).min(now);
        let is_warm = back_at == 0 || self.warmth(back_at, now) == WHOLE;
        self.back_at_ms.store(if is_warm { 0 } else { back_at }, Ordering::Relaxed);
        self.ejected_at_ms.swap(0, Ordering::Relaxed) > 0
    }

    /// An exchange that began at `began` failed by the endpoint's fault. Says for how long the endpoint is ejected,
    /// if it is by that.
    pub(super) fn failed(&self, began: Instant, now: Instant) -> Option<Duration> {
        let (began, now) = (self.ms(began), self.ms(now));
        let mut history = self.lock();
        let back_at = self.back_at_ms.load(Ordering::Relaxed);
        let is_old = began < self.ejected_at_ms.load(Ordering::Relaxed);
        if history.ejection.after == 0 || is_old || now < back_at {
            return None;
        }
        let failures = self.failures.load(Ordering::Relaxed).saturating_add(1);
        if failures < history.ejection.after {
            self.failures.store(failures, Ordering::Relaxed);
            return None;
        }
        let back_off = history.next_back_off(now);
        self.ejected_at_ms.store(now, Ordering::Relaxed);
        self.back_at_ms.store(now + to_ms(back_off), Ordering::Relaxed);
        // One more failure is enough when it is tried again.
        self.failures.store(history.ejection.after - 1, Ordering::Relaxed);
        Some(back_off)
    }

    /// Takes in the result of a health check. Says whether that changes what is thought of the endpoint.
    pub(super) fn checked(&self, is_good: bool, health: &Health, now: Instant) -> bool {
        let mut history = self.lock();
        let fails = self.fails_checks.load(Ordering::Relaxed);
        if is_good != fails {
            history.surprising_checks = 0;
            return false;
        }
        history.surprising_checks += 1;
        let needed = if fails { health.healthy_after } else { health.unhealthy_after };
        if history.surprising_checks < needed {
            return false;
        }
        history.surprising_checks = 0;
        if fails {
            self.back_at_ms.fetch_max(self.ms(now), Ordering::Relaxed);
        }
        self.fails_checks.store(!fails, Ordering::Relaxed);
        true
    }

    /// Milliseconds since the epoch, and 1, so that no moment is 0.
    fn ms(&self, at: Instant) -> u64 {
        to_ms(at.saturating_duration_since(self.epoch)) + 1
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().expect("nothing panics while holding it")
    }
}

impl History {
    /// For how long it is left out from `now_ms` on: twice as long each time, until it was good for as long as the
    /// longest.
    fn next_back_off(&mut self, now_ms: u64) -> Duration {
        let Ejection { after: _, back_off, max_back_off } = self.ejection;
        if now_ms.saturating_sub(self.until_ms) > to_ms(max_back_off) {
            self.ejections = 0;
        }
        let factor = 1_u32.checked_shl(self.ejections).unwrap_or(u32::MAX);
        let next = back_off.saturating_mul(factor).min(max_back_off);
        self.ejections = self.ejections.saturating_add(1);
        self.until_ms = now_ms + to_ms(next);
        next
    }
}

fn to_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: u32 = 3;

    /// A standing, and the moments it is asked at, by seconds since it was made.
    struct Course {
        standing: Standing,
        epoch: Instant,
    }

    impl Course {
        fn new(slow_start_s: u64) -> Self {
            let epoch = Instant::now();
            let standing = Standing::new(epoch);
            let ejection = Ejection {
                after: AFTER,
                back_off: Duration::from_secs(1),
                max_back_off: Duration::from_secs(60),
            };
            let slow_start = Duration::from_secs(slow_start_s);
            standing.configure(&Settings { ejection, slow_start, ..Settings::default() });
            Self { standing, epoch }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.epoch + Duration::from_secs_f64(seconds)
        }

        /// For how many seconds the failure of what began at `seconds` ejects it.
        fn fails(&self, seconds: f64) -> Option<u64> {
            let at = self.at(seconds);
            self.standing.failed(at, at).map(|back_off| back_off.as_secs())
        }

        fn succeeds(&self, seconds: f64) -> bool {
            self.standing.succeeded(self.at(seconds), self.at(seconds))
        }

        fn share(&self, seconds: f64) -> u32 {
            self.standing.share(self.at(seconds))
        }

        fn eject(&self, seconds: f64) {
            for _ in 1..AFTER {
                assert_eq!(self.fails(seconds), None);
            }
            assert_eq!(self.fails(seconds), Some(1));
        }
    }

    #[test]
    fn failures_in_a_row_eject() {
        let course = Course::new(0);
        for _ in 0..5 {
            assert_eq!((course.fails(1.0), course.fails(1.0)), (None, None));
            assert!(!course.succeeds(1.0), "it was never away");
            assert_eq!(course.share(1.0), WHOLE);
        }
        course.eject(2.0);
        assert_eq!((course.share(2.0), course.share(2.9), course.share(3.0)), (0, 0, WHOLE));
    }

    #[test]
    fn each_time_it_is_left_out_for_twice_as_long_up_to_the_longest() {
        let course = Course::new(0);
        course.eject(0.0);
        let mut now = 1.0;
        for expected in [2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(course.fails(now), Some(expected), "one failure is enough");
            assert_eq!(course.fails(now), None, "it is left out already");
            now += expected as f64;
        }
        assert!(course.succeeds(now));
        assert_eq!(
            (course.fails(now), course.fails(now), course.fails(now)),
            (None, None, Some(60))
        );
        now += 60.0;
        assert!(course.succeeds(now));
        now += 61.0;
        assert_eq!(
            (course.fails(now), course.fails(now), course.fails(now)),
            (None, None, Some(1))
        );
    }

    #[test]
    fn what_began_before_says_nothing() {
        let course = Course::new(0);
        course.eject(5.0);
        assert!(!course.standing.succeeded(course.at(4.9), course.at(7.0)));
        assert_eq!(course.standing.failed(course.at(4.9), course.at(7.0)), None);
        assert!(course.succeeds(7.0));
        assert_eq!(course.fails(7.0), None, "it begins to count anew");
    }

    #[test]
    fn who_serves_while_left_out_is_back() {
        let course = Course::new(0);
        course.eject(5.0);
        assert_eq!(course.share(5.5), 0);
        assert!(course.succeeds(5.5));
        assert_eq!(course.share(5.5), WHOLE);
    }

    #[test]
    fn the_share_grows_while_it_warms_up() {
        let course = Course::new(10);
        assert_eq!(course.share(0.0), WHOLE, "nobody is cold at the start");
        course.eject(0.0);
        let tenths = |seconds| (f64::from(course.share(seconds) * 10) / f64::from(WHOLE)).round();
        assert_eq!([0.5, 1.0, 6.0, 10.9, 11.0].map(tenths), [0.0, 1.0, 5.0, 10.0, 10.0]);
        assert!(course.succeeds(6.0));
        assert_eq!(tenths(6.0), 5.0, "a success makes nobody warm at once");
        assert!(!course.succeeds(11.0), "it was back before");
        assert_eq!(course.standing.back_at_ms.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn without_ejection_nobody_is_left_out() {
        let course = Course::new(0);
        course.eject(0.0);
        course.standing.configure(&Settings::default());
        assert_eq!(course.share(0.0), WHOLE);
        assert_eq!([0; 9].map(|_| course.fails(0.0)), [None; 9]);
    }

    fn health() -> Health {
        Health {
            path: "/".to_owned(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            healthy_after: 2,
            unhealthy_after: 3,
        }
    }

    #[test]
    fn checks_in_a_row_leave_it_out_and_bring_it_back() {
        let course = Course::new(0);
        let checks = |results: &[bool]| {
            let check = |&is_good| course.standing.checked(is_good, &health(), course.at(1.0));
            (results.iter().map(check).collect::<Vec<_>>(), course.share(1.0))
        };
        assert_eq!(checks(&[false, false, true, false, false]), (vec![false; 5], WHOLE));
        assert_eq!(checks(&[false]), (vec![true], 0));
        assert_eq!(checks(&[false, true, false, true]), (vec![false; 4], 0));
        assert!(!course.succeeds(1.0), "a request does not speak for the checks");
        assert_eq!(course.share(1.0), 0);
        assert_eq!(checks(&[true]), (vec![true], WHOLE));
    }

    #[test]
    fn who_passes_its_checks_again_warms_up() {
        let course = Course::new(10);
        for is_good in [false, false, false, true, true] {
            course.standing.checked(is_good, &health(), course.at(1.0));
        }
        assert_eq!((course.share(1.0), course.share(11.0)), (FIRST_SHARE, WHOLE));
    }

    #[test]
    fn nobody_fails_checks_that_are_no_more() {
        let course = Course::new(0);
        for _ in 0..3 {
            course.standing.checked(false, &health(), course.at(1.0));
        }
        let settings = Settings { health: Some(health()), ..Settings::default() };
        course.standing.configure(&settings);
        assert_eq!(course.share(1.0), 0);
        course.standing.configure(&Settings::default());
        assert_eq!(course.share(1.0), WHOLE);
    }
}
