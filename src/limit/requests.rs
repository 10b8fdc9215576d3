//! How many requests there may be: as files say it, and which of two says more.
//!
//! Never here: how many there were (see [`meter`](super::meter)).

use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;

/// Requests of a rate: a million a second is more than a machine serves.
const RATE_MAX: u32 = 1_000_000;
/// What `burst` and `concurrent` may be.
pub const COUNT: RangeInclusive<u64> = 1..=1_000_000;
/// What `daily` may be: as many as a day has at the highest rate, and some.
pub const DAILY: RangeInclusive<u64> = 1..=1_000_000_000_000;

/// How a rate is written, for messages.
pub const RATE_HELP: &str =
    "write a number from 1 to 1000000 and a unit: \"100/s\", \"30/m\" or \"1000/h\"";

/// So many requests in so long, as it was written: `100/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rate {
    requests: u32,
    per: Per,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Per {
    Second,
    Minute,
    Hour,
}

impl Per {
    fn letter(self) -> char {
        match self {
            Self::Second => 's',
            Self::Minute => 'm',
            Self::Hour => 'h',
        }
    }

    fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

impl Rate {
    /// Reads what `Display` writes; nothing if it is no rate ([`RATE_HELP`] says what is one).
    pub fn parse(text: &str) -> Option<Self> {
        let (requests, unit) = text.split_once('/')?;
        let per = [Per::Second, Per::Minute, Per::Hour];
        let per = per.into_iter().find(|per| unit.chars().eq([per.letter()]))?;
        let is_plain = requests.bytes().all(|byte| byte.is_ascii_digit());
        let requests = requests.parse().ok().filter(|_| is_plain)?;
        (1..=RATE_MAX).contains(&requests).then_some(Self { requests, per })
    }

    /// The time from one request to the next, in nanoseconds; rounded up, so that there are never more.
    pub(super) fn interval_ns(self) -> u64 {
        (u64::from(self.per.seconds()) * 1_000_000_000).div_ceil(self.requests.into())
    }

    fn per_hour(self) -> u64 {
        u64::from(self.requests) * u64::from(3600 / self.per.seconds())
    }

    /// What comes in a second, at least one.
    fn burst(self) -> u32 {
        self.requests.div_ceil(self.per.seconds())
    }
}

impl Display for Rate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.per.letter())
    }
}

/// How many requests there may be; what is `None` has no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequestLimits {
    /// How fast they may come, on average.
    pub rate: Option<Rate>,
    /// How many may come at once after a silence; only with `rate`, and then a second's worth unless given.
    pub burst: Option<u32>,
    /// How many may be in flight.
    pub concurrent: Option<u32>,
    /// How many there may be in a day of UTC.
    pub daily: Option<u64>,
}

impl RequestLimits {
    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// How many may come at once: one without a rate.
    pub fn burst(self) -> u32 {
        self.burst.or(self.rate.map(Rate::burst)).unwrap_or(1)
    }

    /// These, with those of `others` where there is none here. A burst goes with its rate.
    pub fn or(self, others: Self) -> Self {
        let (rate, burst) = match self.rate {
            Some(rate) => (Some(rate), self.burst),
            None => (others.rate, others.burst),
        };
        let (concurrent, daily) =
            (self.concurrent.or(others.concurrent), self.daily.or(others.daily));
        Self { rate, burst, concurrent, daily }
    }

    /// The limits, by their names in files, that let more through at any time than those of `own` would.
    pub fn wider_than(self, own: Self) -> impl Iterator<Item = &'static str> {
        let per_hour = |limits: Self| limits.rate.map(Rate::per_hour);
        let burst = |limits: Self| limits.rate.map(|_| limits.burst());
        let faults = [
            ("rate", !is_at_most(per_hour(self), per_hour(own))),
            ("burst", self.rate.is_some() && !is_at_most(burst(self), burst(own))),
            ("concurrent", !is_at_most(self.concurrent, own.concurrent)),
            ("daily", !is_at_most(self.daily, own.daily)),
        ];
        faults.into_iter().filter_map(|(name, is_wider)| is_wider.then_some(name))
    }
}

/// What is to hold from now on; `None` leaves a limit as it is, `Some(None)` takes it away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsChange {
    /// Without a rate there is no burst either.
    pub rate: Option<Option<Rate>>,
    /// How many at once.
    pub burst: Option<Option<u32>>,
    /// How many in flight.
    pub concurrent: Option<Option<u32>>,
    /// How many a day.
    pub daily: Option<Option<u64>>,
}

impl LimitsChange {
    /// Whether it leaves all as it is.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What `limits` are behind it.
    pub fn apply(self, limits: RequestLimits) -> RequestLimits {
        let is_unlimited = self.rate == Some(None);
        let burst = limits.burst.filter(|_| !is_unlimited);
        RequestLimits {
            rate: self.rate.unwrap_or(limits.rate),
            burst: self.burst.unwrap_or(burst),
            concurrent: self.concurrent.unwrap_or(limits.concurrent),
            daily: self.daily.unwrap_or(limits.daily),
        }
    }
}

fn is_at_most<T: PartialOrd>(value: Option<T>, most: Option<T>) -> bool {
    most.is_none_or(|most| value.is_some_and(|value| value <= most))
}

/// `100/s, 200 at once, 16 in flight, 10000 a day`; nothing where there is no limit.
impl Display for RequestLimits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rate = self.rate.map(|rate| format!("{rate}, {} at once", self.burst()));
        let concurrent = self.concurrent.map(|most| format!("{most} in flight"));
        let daily = self.daily.map(|most| format!("{most} a day"));
        let parts: Vec<_> = [rate, concurrent, daily].into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rate: &str, burst: Option<u32>) -> RequestLimits {
        let rate = (!rate.is_empty()).then(|| Rate::parse(rate).expect("a rate"));
        RequestLimits { rate, burst, ..RequestLimits::default() }
    }

    #[test]
    fn a_rate_is_read_as_it_is_written() {
        for text in ["1/s", "100/s", "30/m", "1000/h", "1000000/s"] {
            assert_eq!(Rate::parse(text).map(|rate| rate.to_string()).as_deref(), Some(text));
        }
        for text in [
            "",
            "/s",
            "1",
            "0/s",
            "1000001/s",
            "1/d",
            "1/sec",
            "1/",
            "+1/s",
            "-1/s",
            "1 /s",
            "1.5/s",
        ] {
            assert_eq!(Rate::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn without_a_burst_it_is_a_seconds_worth() {
        for (rate, expect) in [("100/s", 100), ("60/m", 1), ("90/m", 2), ("1/h", 1)] {
            assert_eq!(limits(rate, None).burst(), expect, "{rate}");
        }
        assert_eq!(limits("1/h", Some(3)).burst(), 3);
    }

    #[test]
    fn what_is_missing_is_taken_from_the_others_and_a_burst_goes_with_its_rate() {
        let own = RequestLimits { daily: Some(5), ..limits("1/s", None) };
        let role = RequestLimits { concurrent: Some(2), daily: Some(9), ..limits("9/s", Some(90)) };
        let expect = RequestLimits { concurrent: Some(2), daily: Some(5), ..limits("1/s", None) };
        assert_eq!(own.or(role), expect);
        assert_eq!(RequestLimits::default().or(role), role);
        assert_eq!(role.or(RequestLimits::default()), role);
    }

    #[test]
    fn wider_is_what_lets_more_through_at_any_time() {
        let check = |other: RequestLimits, own: RequestLimits, expect: &[&str]| {
            let wider: Vec<_> = other.wider_than(own).collect();
            assert_eq!(wider, expect, "{other} against {own}");
        };
        let none = RequestLimits::default();
        check(none, none, &[]);
        check(limits("1/s", None), none, &[]);
        check(none, limits("1/s", None), &["rate"]);
        check(limits("60/m", None), limits("1/s", None), &[]);
        check(limits("61/m", None), limits("1/s", None), &["rate", "burst"]);
        check(limits("1/s", Some(2)), limits("1/s", None), &["burst"]);
        let daily = |most| RequestLimits { daily: Some(most), ..none };
        check(daily(5), daily(5), &[]);
        check(daily(6), daily(5), &["daily"]);
        check(daily(6), limits("1/s", None), &["rate"]);
        let concurrent = |most| RequestLimits { concurrent: Some(most), ..none };
        check(concurrent(1), concurrent(2), &[]);
        check(concurrent(3), concurrent(2), &["concurrent"]);
    }
}
