//! Times as logs show them: RFC 3339, UTC, milliseconds.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Writes times, and works out the calendar once a second only.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    /// The second `text` stands for, since 1970.
    second: Option<u64>,
    /// `2026-11-23T10:00:00`
    text: String,
}

impl Stamp {
    /// Appends `time`, 24 bytes. A time before 1970 or after 9999 is a broken clock: its nearest end.
    pub(super) fn push(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since_epoch = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let second = since_epoch.as_secs();
        if self.second != Some(second) {
            let timestamp = i64::try_from(second).ok().and_then(|s| Timestamp::from_second(s).ok());
            self.text =
                timestamp.unwrap_or(Timestamp::MAX).strftime("%Y-%m-%dT%H:%M:%S").to_string();
            self.second = Some(second);
        }
        out.extend_from_slice(self.text.as_bytes());
        let millis = since_epoch.subsec_millis();
        out.extend_from_slice(&[
            b'.',
            digit(millis / 100),
            digit(millis / 10),
            digit(millis),
            b'Z',
        ]);
    }
}

fn digit(number: u32) -> u8 {
    b'0' + (number % 10) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339() {
        let mut stamp = Stamp::default();
        let mut check = |millis: u64, expect: &str| {
            let mut out = Vec::new();
            stamp.push(&mut out, SystemTime::UNIX_EPOCH + Duration::from_millis(millis));
            assert_eq!(String::from_utf8(out).as_deref(), Ok(expect));
        };
        check(0, "1970-01-01T00:00:00.000Z");
        check(1_795_428_127_009, "2026-11-23T10:02:07.009Z");
        check(1_795_428_127_999, "2026-11-23T10:02:07.999Z");
        check(1_795_428_128_120, "2026-11-23T10:02:08.120Z");
        check(u64::MAX, "9999-12-30T22:00:00.615Z");
    }

    #[test]
    fn a_clock_before_1970_does_no_harm() {
        let mut out = Vec::new();
        Stamp::default().push(&mut out, SystemTime::UNIX_EPOCH - Duration::from_secs(1));
        assert_eq!(out, b"1970-01-01T00:00:00.000Z");
    }
}
