//! How slow the other side may be: time that waiting for it uses up, and that bytes give back.
//!
//! A longest wait alone bounds nothing: a client that sends one byte within each could hold a request for ever. So
//! its waits are paid from one [`Allowance`], and each byte earns as much time as it takes at the smallest rate that
//! is allowed. There is never more of it than the longest wait: who was fast for a while may not be slow for ever.
//! Only time in which that side is what everybody waits for is counted.
//!
//! Never here: a timer (see [`deadline`](crate::deadline)), or what happens to who was too slow.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The bounds of an allowance.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The longest wait, and the most time there is.
    pub longest: Duration,
    /// Bytes a second; 0 for any.
    pub min_rate: u64,
}

/// How long one side may still keep the other waiting.
#[derive(Debug)]
pub struct Allowance {
    pace: Pace,
    left: Cell<Duration>,
    waits_since: Cell<Option<Instant>>,
}

impl Allowance {
    /// All there can be.
    pub fn full(pace: Pace) -> Self {
        Self { pace, left: Cell::new(pace.longest), waits_since: Cell::new(None) }
    }

    /// Gives back all there can be.
    pub fn refill(&self) {
        self.left.set(self.pace.longest);
        self.waits_since.set(None);
    }

    /// A wait begins; how long it may be.
    pub fn begin_wait(&self, now: Instant) -> Duration {
        if self.pace.min_rate == 0 {
            return self.pace.longest;
        }
        self.waits_since.set(Some(now));
        self.left.get()
    }

    /// The wait, if there is one, is over.
    pub fn end_wait(&self, now: Instant) {
        if let Some(since) = self.waits_since.take() {
            let waited = now.saturating_duration_since(since);
            self.left.set(self.left.get().saturating_sub(waited));
        }
    }

    /// Bytes came, or were taken.
    pub fn earn(&self, bytes: usize) {
        let left = self.left.get();
        // Nothing to give back: a side that was not waited for costs no division.
        if left < self.pace.longest {
            let nanos = (bytes as u64).saturating_mul(1_000_000_000);
            let earned = Duration::from_nanos(nanos / self.pace.min_rate.max(1));
            self.left.set(left.saturating_add(earned).min(self.pace.longest));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { longest: Duration::from_secs(30), min_rate: 500 };

    /// Waits for each of the `pieces`, (seconds, bytes), and then asks how long the next wait may be.
    #[track_caller]
    fn check(pace: Pace, pieces: &[(u64, usize)], expect_s: u64) {
        let allowance = Allowance::full(pace);
        let mut now = Instant::now();
        for &(seconds, bytes) in pieces {
            allowance.begin_wait(now);
            now += Duration::from_secs(seconds);
            allowance.end_wait(now);
            allowance.earn(bytes);
        }
        assert_eq!(allowance.begin_wait(now), Duration::from_secs(expect_s), "{pieces:?}");
    }

    #[test]
    fn waiting_uses_it_up_and_bytes_give_it_back() {
        check(PACE, &[], 30);
        check(PACE, &[(20, 0)], 10);
        check(PACE, &[(10, 0), (10, 0), (10, 0)], 0);
        check(PACE, &[(40, 0)], 0);
        check(PACE, &[(20, 5_000)], 20);
        // As fast as must be, for ever.
        check(PACE, &[(20, 10_000); 100], 30);
        check(PACE, &[(20, 9_500); 11], 19);
    }

    #[test]
    fn there_is_never_more_than_the_longest_wait() {
        check(PACE, &[(0, usize::MAX)], 30);
        check(PACE, &[(1, usize::MAX), (29, 0)], 1);
    }

    #[test]
    fn without_a_rate_only_the_longest_wait_counts() {
        check(Pace { min_rate: 0, ..PACE }, &[(29, 0), (29, 0)], 30);
    }

    #[test]
    fn what_is_no_wait_for_this_side_is_not_counted() {
        let allowance = Allowance::full(PACE);
        let now = Instant::now();
        allowance.begin_wait(now);
        allowance.end_wait(now + Duration::from_secs(5));
        allowance.end_wait(now + Duration::from_secs(25));
        assert_eq!(allowance.begin_wait(now + Duration::from_secs(99)).as_secs(), 25);
        allowance.refill();
        assert_eq!(allowance.begin_wait(now).as_secs(), 30);
    }
}
