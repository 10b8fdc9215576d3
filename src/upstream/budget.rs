//! How often requests may be tried again: a part of those there were lately, so that retries do not break what is
//! already slow.
//!
//! Never here: whether a request is safe to repeat.

use std::time::{Duration, Instant};

use super::settings::Retries;

/// What counts as lately: the current stretch of this length, and the one before.
const STRETCH: Duration = Duration::from_secs(10);

/// A worker's requests to one upstream, and how many it tried again.
#[derive(Debug)]
pub(super) struct Budget {
    began: Instant,
    current: Counts,
    before: Counts,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    requests: u64,
    retries: u64,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, current: Counts::default(), before: Counts::default() }
    }

    /// Counts a request.
    pub(super) fn request(&mut self, now: Instant) {
        if now.saturating_duration_since(self.began) >= STRETCH {
            self.turn(now);
        }
        self.current.requests += 1;
    }

    /// Counts a retry, if there may be one.
    pub(super) fn retry(&mut self, now: Instant, limits: &Retries) -> bool {
        if now.saturating_duration_since(self.began) >= STRETCH {
            self.turn(now);
        }
        let sum = |of: fn(&Counts) -> u64| of(&self.current) + of(&self.before);
        let share = sum(|counts| counts.requests) * u64::from(limits.budget_percent) / 100;
        let is_left = sum(|counts| counts.retries) < share + u64::from(limits.budget_min);
        self.current.retries += u64::from(is_left);
        is_left
    }

    #[cold]
    fn turn(&mut self, now: Instant) {
        let is_next = now.saturating_duration_since(self.began) < 2 * STRETCH;
        self.before = if is_next { self.current } else { Counts::default() };
        self.current = Counts::default();
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Retries = Retries { attempts: 3, budget_percent: 20, budget_min: 2 };

    fn retries(budget: &mut Budget, now: Instant) -> usize {
        (0..100).filter(|_| budget.retry(now, &LIMITS)).count()
    }

    #[test]
    fn a_part_of_the_requests_and_a_few_more_may_be_tried_again() {
        let now = Instant::now();
        let mut budget = Budget::new(now);
        assert_eq!(retries(&mut budget, now), 2);
        (0..50).for_each(|_| budget.request(now));
        assert_eq!(retries(&mut budget, now), 10);
    }

    #[test]
    fn what_was_long_ago_counts_no_more() {
        let begin = Instant::now();
        let mut budget = Budget::new(begin);
        (0..50).for_each(|_| budget.request(begin));
        assert_eq!(retries(&mut budget, begin), 12);
        assert_eq!(retries(&mut budget, begin + STRETCH), 0, "the stretch before counts");
        assert_eq!(retries(&mut budget, begin + 2 * STRETCH), 2);
        (0..50).for_each(|_| budget.request(begin + 2 * STRETCH));
        assert_eq!(retries(&mut budget, begin + 9 * STRETCH), 2);
    }
}
