//! How long answers took, of all connections together, in a histogram with three digits.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::generator::Outcome;
use crate::support::Failure;

/// The longest that can be told apart: no answer may take more than that in all.
const LONGEST_US: u64 = 120_000_000;

/// All that was recorded. Clones share it; the load is one thread, so that nobody ever waits for the lock.
#[derive(Clone)]
pub(crate) struct Latencies(Arc<Mutex<Histogram<u64>>>);

impl Latencies {
    pub(crate) fn new() -> Result<Latencies, Failure> {
        Ok(Latencies(Arc::new(Mutex::new(Histogram::new_with_max(LONGEST_US, 3)?))))
    }

    /// Counts an answer that comes now; gives back when that is.
    pub(crate) fn record(&self, since: Instant) -> Instant {
        let now = Instant::now();
        let took_us = now.duration_since(since).as_micros() as u64;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).saturating_record(took_us);
        now
    }

    /// What is said at the end of a load that took so long.
    pub(crate) fn outcome(&self, took: Duration) -> Outcome {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Outcome {
            requests: all.len(),
            duration_us: took.as_micros() as u64,
            p50_us: all.value_at_quantile(0.5),
            p99_us: all.value_at_quantile(0.99),
            p999_us: all.value_at_quantile(0.999),
        }
    }
}
