//! What is measured of requests ([`cell`], one worker's part of it), and how Prometheus reads it ([`text`]).
//!
//! Never here: when it is asked for, or by whom.

pub mod cell;
pub mod text;

/// Upper ends of the buckets that durations are counted in, in microseconds: from what a proxy alone takes to what only
/// streams take, in steps that tell a quantile to a factor of two or so.
pub const BUCKETS_US: [u64; 15] = [
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 60_000_000,
];

/// Durations, counted. In this order, for the sum and the buckets of what is fast are then in one cache line, and whoever
/// counts requests before them is in it, too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Histogram {
    sum_us: u64,
    /// How many were in each bucket and not in the one before.
    buckets: [u64; BUCKETS_US.len()],
    /// How many were longer.
    longer: u64,
}

impl Histogram {
    /// Counts one.
    pub fn add(&mut self, micros: u64) {
        match BUCKETS_US.iter().position(|&end| micros <= end) {
            Some(bucket) => self.buckets[bucket] += 1,
            None => self.longer += 1,
        }
        self.sum_us += micros;
    }

    /// Adds what `other` counts.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.buckets.iter_mut().zip(other.buckets) {
            *sum += more;
        }
        self.longer += other.longer;
        self.sum_us += other.sum_us;
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum::<u64>() + self.longer
    }
}
