//! One clock per worker: monotonic readings, and the wall-clock time that belongs to them.
//!
//! A request needs the time at its start, around the upstream, and at its end, both as a duration and as a
//! date. Reading two clocks each time would double that cost, so the date is derived from the monotonic
//! reading and an anchor that is renewed every second.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How old the anchor may become: a step of the wall clock is followed after this long.
const ANCHOR_AGE: Duration = Duration::from_secs(1);

/// A worker's clock.
#[derive(Debug)]
pub struct Clock {
    /// A moment on both clocks; the second is in microseconds since the Unix epoch.
    anchor: Cell<(Instant, u64)>,
}

impl Clock {
    /// A clock that shows the right time.
    pub fn new() -> Self {
        Self { anchor: Cell::new(anchor()) }
    }

    /// Now.
    pub fn now(&self) -> Instant {
        Instant::now()
    }

    /// `at` in microseconds since the Unix epoch.
    pub fn unix_micros(&self, at: Instant) -> u64 {
        let (instant, micros) = self.anchor.get();
        let since = at.saturating_duration_since(instant);
        if since < ANCHOR_AGE {
            return micros + since.as_micros() as u64;
        }
        let (instant, micros) = anchor();
        self.anchor.set((instant, micros));
        micros - instant.saturating_duration_since(at).as_micros() as u64
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn anchor() -> (Instant, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), now.as_micros() as u64)
}
