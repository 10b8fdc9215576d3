//! One clock per worker: monotonic readings, and the wall-clock time that belongs to them.
//!
//! A request needs the time at its start, around the upstream, and at its end, both as a duration and as a
//! date. Reading two clocks each time would double that cost, so the date is derived from the monotonic
//! reading and an anchor that is renewed every second.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

/// How old the anchor may become: a step of the wall clock is followed after this long.
const ANCHOR_AGE: Duration = Duration::from_secs(1);

/// A date as HTTP writes it: `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7).
pub type HttpDate = [u8; 29];

/// A worker's clock.
#[derive(Debug)]
pub struct Clock {
    /// A moment on both clocks; the second is in microseconds since the Unix epoch.
    anchor: Cell<(Instant, u64)>,
    /// A second since the Unix epoch as a date: most answers of a second share it.
    date: Cell<(u64, HttpDate)>,
}

impl Clock {
    /// A clock that shows the right time.
    pub fn new() -> Self {
        Self { anchor: Cell::new(anchor()), date: Cell::new((0, http_date(0))) }
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

    /// `at` as HTTP writes it.
    pub fn http_date(&self, at: Instant) -> HttpDate {
        let second = self.unix_micros(at) / 1_000_000;
        let (known, date) = self.date.get();
        if known == second {
            return date;
        }
        let date = http_date(second);
        self.date.set((second, date));
        date
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

fn http_date(unix_s: u64) -> HttpDate {
    let text = Timestamp::from_second(unix_s as i64)
        .ok()
        .and_then(|at| DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok());
    let date = text.and_then(|text| text.into_bytes().try_into().ok());
    date.expect("every date until the year 9999 has one length")
}

fn anchor() -> (Instant, u64) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (Instant::now(), now.as_micros() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_written_as_http_wants_it() {
        assert_eq!(&http_date(784_111_777), b"Sun, 06 Nov 1994 08:49:37 GMT");
        let clock = Clock::new();
        let now = clock.now();
        let second = clock.unix_micros(now) / 1_000_000;
        assert_eq!([clock.http_date(now), clock.http_date(now)], [http_date(second); 2]);
    }
}
