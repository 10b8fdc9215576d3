//! How many requests a key may send, as its entry says it.
//!
//! Never here: what its role says.

use std::ops::RangeInclusive;

use toml::de::DeValue;

use super::Reader;
use crate::diagnostics::Fault;
use crate::limit::requests::{COUNT, DAILY, RATE_HELP, Rate, RequestLimits};

impl Reader<'_, '_> {
    pub(super) fn limits(&mut self) -> RequestLimits {
        let rate = self.text("rate").and_then(|(text, span)| {
            let rate = Rate::parse(text);
            if rate.is_none() {
                self.faults.push(Fault::at(span, "`rate` is no rate").with_help(RATE_HELP));
            }
            rate
        });
        if let (Some((name, _)), false) =
            (self.fields.get_key_value("burst"), self.fields.contains_key("rate"))
        {
            let fault = Fault::at(name.span(), "`burst` without `rate`");
            self.faults.push(fault.with_help("a burst goes with its rate: write both, or neither"));
        }
        RequestLimits {
            rate,
            burst: self.number("burst", COUNT),
            concurrent: self.number("concurrent", COUNT),
            daily: self.number("daily", DAILY),
        }
    }

    fn number<T: TryFrom<u64>>(&mut self, field: &str, bounds: RangeInclusive<u64>) -> Option<T> {
        let value = self.fields.get(field)?;
        let number = match value.get_ref() {
            DeValue::Integer(number) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        };
        let number = number.filter(|number| bounds.contains(number));
        if number.is_none() {
            let (min, max) = bounds.into_inner();
            let fault = Fault::at(value.span(), format!("`{field}` is no number of requests"));
            let help = format!("write a number from {min} to {max}, without quotes");
            self.faults.push(fault.with_help(help));
        }
        number.and_then(|number| T::try_from(number).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::format::Hasher;
    use super::super::parse;
    use super::*;

    fn entry(lines: &str) -> String {
        let hash = Hasher::default().digest(b"a");
        format!(
            "[[keys]]\nid = \"a\"\nhash = \"{hash}\"\nlabel = \"l\"\nuser = \"u\"\nrole = \"r\"\n{lines}\n"
        )
    }

    #[test]
    fn limits_are_read() {
        let check = |lines: &str, expect: RequestLimits| {
            let (entries, faults) = parse(&entry(lines));
            assert_eq!((faults.len(), entries[0].record.limits), (0, expect), "{lines}");
        };
        let none = RequestLimits::default();
        check("", none);
        check("daily = 10_000", RequestLimits { daily: Some(10_000), ..none });
        let all = RequestLimits {
            rate: Rate::parse("100/s"),
            burst: Some(200),
            concurrent: Some(16),
            daily: Some(1_000_000_000_000),
        };
        check("rate = \"100/s\"\nburst = 200\nconcurrent = 16\ndaily = 1_000_000_000_000", all);
    }

    #[test]
    fn what_limits_nothing_is_a_fault_at_its_place() {
        let check = |line: &str, place: &str, expect: &str| {
            let text = entry(line);
            let (_, faults) = parse(&text);
            let [fault] = &faults[..] else { panic!("{line}: {faults:?}") };
            let found = fault.span.clone().map(|span| &text[span]);
            assert_eq!((found, &*fault.message), (Some(place), expect), "{line}");
        };
        check("rate = \"fast\"", "\"fast\"", "`rate` is no rate");
        check("rate = 100", "100", "`rate` is no text");
        check("burst = 5", "burst", "`burst` without `rate`");
        check("daily = 0", "0", "`daily` is no number of requests");
        check("daily = \"5\"", "\"5\"", "`daily` is no number of requests");
        check("concurrent = -1", "-1", "`concurrent` is no number of requests");
        check("concurrent = 1000001", "1000001", "`concurrent` is no number of requests");
    }
}
