//! How many requests a key may send, as bodies and forms say it, and as it is shown with what was used.
//!
//! Never here: who may give what (see [`rights`](super::rights)).

use std::ops::RangeInclusive;
use std::time::Instant;

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::body::Faults;
use crate::keys::KeyRecord;
use crate::limit::quota::Quota;
use crate::limit::requests::{COUNT, DAILY, LimitsChange, RATE_HELP, Rate, RequestLimits};
use crate::snapshot::Shared;
use crate::usage::recorder::KeyUsage;

/// What is asked for; `None` is left out.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) rate: Option<String>,
    pub(super) burst: Option<u64>,
    pub(super) concurrent: Option<u64>,
    pub(super) daily: Option<u64>,
}

impl Given {
    /// The same, checked.
    pub(super) fn check(self, faults: &mut Faults) -> RequestLimits {
        RequestLimits {
            rate: rate(faults, self.rate.as_deref()),
            burst: number(faults, "burst", self.burst, COUNT),
            concurrent: number(faults, "concurrent", self.concurrent, COUNT),
            daily: number(faults, "daily", self.daily, DAILY),
        }
    }
}

/// What is asked to be changed; `Some(None)` takes a limit away.
#[derive(Debug, Default)]
pub(super) struct GivenChange {
    pub(super) rate: Option<Option<String>>,
    pub(super) burst: Option<Option<u64>>,
    pub(super) concurrent: Option<Option<u64>>,
    pub(super) daily: Option<Option<u64>>,
}

impl GivenChange {
    /// The same, checked.
    pub(super) fn check(self, faults: &mut Faults) -> LimitsChange {
        LimitsChange {
            rate: self.rate.map(|text| rate(faults, text.as_deref())),
            burst: self.burst.map(|given| number(faults, "burst", given, COUNT)),
            concurrent: self.concurrent.map(|given| number(faults, "concurrent", given, COUNT)),
            daily: self.daily.map(|given| number(faults, "daily", given, DAILY)),
        }
    }
}

fn rate(faults: &mut Faults, text: Option<&str>) -> Option<Rate> {
    let read = |text: &str| {
        Rate::parse(text.trim())
            .ok_or_else(|| format!("is no rate: {}", RATE_HELP.replace('"', "")))
    };
    faults.take_some("rate", text, read)
}

fn number<T: TryFrom<u64>>(
    faults: &mut Faults,
    field: &'static str,
    given: Option<u64>,
    bounds: RangeInclusive<u64>,
) -> Option<T> {
    let given = given?;
    let number = T::try_from(given).ok().filter(|_| bounds.contains(&given));
    if number.is_none() {
        let (min, max) = bounds.into_inner();
        faults.add(field, format!("must be a number from {min} to {max}"));
    }
    number
}

/// What holds for a key, its role's limits among it.
#[derive(Clone, Copy, Debug)]
pub(super) struct InForce {
    pub(super) limits: RequestLimits,
    /// Requests that went on since midnight UTC.
    pub(super) today: u64,
}

impl InForce {
    /// Of the key of `record`; `usage` is what it was used for.
    pub(super) fn of(record: &KeyRecord, usage: Option<&KeyUsage>, shared: &Shared) -> Self {
        let now = Timestamp::now();
        let role = shared.current().load().config.roles.find(record.role.as_str()).cloned();
        let limits = record.limits.or(role.map(|role| role.limits()).unwrap_or_default());
        let id = record.id.as_str();
        let meter = Quota::of_key(limits)
            .filter(|_| limits.daily.is_some())
            .and_then(|quota| shared.meters().known_of_key(&quota, id));
        let today = match meter {
            Some(meter) => {
                let unix_s = u64::try_from(now.as_second()).unwrap_or_default();
                meter.today(shared.meters().moment(Instant::now(), unix_s))
            }
            None => usage.map(|usage| usage.tally.admitted_today(now)).unwrap_or_default(),
        };
        Self { limits, today }
    }
}

/// Limits that hold for a key, as they are shown.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Limits {
    /// How fast requests may come, on average; null: no limit.
    #[schema(examples("100/s"))]
    rate: Option<String>,
    /// How many may come at once, after a silence; null without a rate.
    burst: Option<u32>,
    /// How many may be in flight; null: no limit.
    concurrent: Option<u32>,
    /// How many there may be in a day of UTC; null: no limit.
    daily: Option<u64>,
    /// How many went on since midnight UTC.
    today: u64,
}

impl From<InForce> for Limits {
    fn from(InForce { limits, today }: InForce) -> Self {
        Self {
            today,
            rate: limits.rate.map(|rate| rate.to_string()),
            burst: limits.rate.map(|_| limits.burst()),
            concurrent: limits.concurrent,
            daily: limits.daily,
        }
    }
}
