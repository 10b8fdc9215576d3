//! `limits` of a role or a route: how many requests there may be.

use crate::config::check::Check;
use crate::config::raw::{self, Section};
use crate::limit::requests::{COUNT, DAILY, RATE_HELP, Rate, RequestLimits};

/// The limits in `section`, whose place in the file is `name`.
pub(super) fn limits(
    check: &mut Check<'_>,
    name: &str,
    section: Section<raw::RequestLimits>,
) -> RequestLimits {
    let span = section.0.as_ref().map(|given| given.0.span());
    let before = check.faults();
    let raw = check.section(name, section);
    let has_rate = raw.rate.0.is_some();
    let rate = check.text(raw.rate).and_then(|text| {
        let rate = Rate::parse(&text.value);
        if rate.is_none() {
            check.fault(text.span, format!("{} is no rate", text.shown), RATE_HELP);
        }
        rate
    });
    let burst_span = raw.burst.0.as_ref().map(|given| given.0.span());
    let mut count = |field| check.number(field, *COUNT.start(), *COUNT.end());
    let small = |number: u64| u32::try_from(number).ok();
    let (burst, concurrent) =
        (count(raw.burst).and_then(small), count(raw.concurrent).and_then(small));
    let daily = check.number(raw.daily, *DAILY.start(), *DAILY.end());
    if let (Some(span), false) = (burst_span, has_rate) {
        let help = "write rate = \"100/s\", say, beside it, or remove burst";
        check.fault(span, "a burst without a rate limits nothing", help);
    }
    let limits = RequestLimits { rate, burst, concurrent, daily };
    if let Some(span) = span.filter(|_| limits.is_empty() && check.faults() == before) {
        check.fault(
            span,
            "these limits limit nothing",
            "write rate, concurrent or daily, or remove limits",
        );
    }
    limits
}
