//! How times, numbers and keys read.
//!
//! Never here: HTML.

use std::net::IpAddr;

use jiff::Timestamp;

use super::views::{Row, bars};
use crate::keys::{KeyRecord, KeyState};
use crate::usage::recorder::KeyUsage;
use crate::usage::{HOURS, Hour, Ranking, Use};

/// Names of a ranking that are listed.
const LISTED_MAX: usize = 5;

/// A moment: `24 Nov 2026, 21:03 UTC`.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%-d %b %Y, %H:%M UTC").to_string()
}

/// Its day.
pub(super) fn day(at: Timestamp) -> String {
    at.strftime("%-d %b %Y").to_string()
}

/// How long ago it is: `4 minutes ago`.
pub(super) fn ago(at: Timestamp, now: Timestamp) -> String {
    match now.as_second().saturating_sub(at.as_second()) {
        ..60 => "just now".to_owned(),
        passed => format!("{} ago", span(passed)),
    }
}

/// How long it is to go: `22 hours`.
pub(super) fn left(until: Timestamp, now: Timestamp) -> String {
    span(until.as_second().saturating_sub(now.as_second()).max(0))
}

/// Seconds in the largest unit of which there are two.
fn span(seconds: i64) -> String {
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")];
    let found = units.into_iter().find(|&(unit, _)| seconds >= 2 * unit).unwrap_or((1, "second"));
    counted((seconds / found.0).unsigned_abs(), found.1)
}

/// `1 key`, `1,234 keys`.
pub(super) fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

/// `1,234`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

/// A key in a list, and at the head of its own page.
pub(super) fn row(record: &KeyRecord, usage: Option<&KeyUsage>, now: Timestamp) -> Row {
    let state = record.state(now);
    let last = usage.and_then(|usage| usage.tally.last.as_ref());
    Row {
        id: record.id.to_string(),
        label: record.label.to_string(),
        start: record.start.clone().unwrap_or_default(),
        user: record.user.to_string(),
        role: record.role.to_string(),
        state: state.as_str(),
        tone: match state {
            KeyState::Enabled => "good",
            KeyState::Disabled => "bad",
            KeyState::Expired => "wait",
        },
        is_enabled: record.enabled,
        created: record.created_at.map_or_else(|| "unknown".to_owned(), day),
        last_used: last.map_or_else(|| "never".to_owned(), |last| ago(last.at, now)),
        spark: bars(&hours(usage, now), 96, 22),
    }
}

/// The requests of the last hours, the oldest first.
pub(super) fn hours(usage: Option<&KeyUsage>, now: Timestamp) -> Vec<u64> {
    let last = u64::try_from(now.as_second() / 3_600).unwrap_or_default();
    let hours = usage.map(|usage| &usage.tally.hours);
    let of = |hour| hours.and_then(|hours| hours.get(&hour)).map_or(0, |hour: &Hour| hour.requests);
    (0..HOURS).map(|back| of(last.saturating_sub(HOURS - 1 - back))).collect()
}

/// What a key was used for in the last hours, and is used for now.
pub(super) fn usage(usage: Option<&KeyUsage>, now: Timestamp) -> Vec<(&'static str, String)> {
    let Some(usage) = usage else {
        return vec![("Last used", "never".to_owned())];
    };
    let recent = usage.tally.recent();
    let mut facts = vec![("Requests", number(recent.requests))];
    if recent.requests > 0 {
        facts.push(("From", clients(&recent.clients)));
        facts.push(("Routes", routes(&recent.routes)));
    }
    facts.push(("Open now", number(usage.in_flight)));
    if let Some(last) = &usage.tally.last {
        facts.push(("Last used", used(last, now)));
    }
    facts
}

/// When and from where a key was used: `4 minutes ago from 192.0.2.7`.
pub(super) fn used(last: &Use, now: Timestamp) -> String {
    format!("{} from {}", ago(last.at, now), last.client)
}

/// Requests by how they ended, of all time.
pub(super) fn answers(usage: &KeyUsage) -> String {
    let names = ["without an answer", "1xx", "2xx", "3xx", "4xx", "5xx"];
    let counts = usage.tally.requests.iter().zip(names).filter(|&(&count, _)| count > 0);
    let texts = counts.map(|(&count, name)| format!("{} {name}", number(count)));
    Some(texts.collect::<Vec<_>>().join(", "))
        .filter(|text| !text.is_empty())
        .unwrap_or("none".into())
}

fn clients(ranking: &Ranking<IpAddr>) -> String {
    ranked(ranking, IpAddr::to_string)
}

fn routes(ranking: &Ranking<Option<String>>) -> String {
    ranked(ranking, |route| route.clone().unwrap_or_else(|| "no route".to_owned()))
}

fn ranked<K: PartialEq>(ranking: &Ranking<K>, name: impl Fn(&K) -> String) -> String {
    let named = ranking.named();
    let others =
        named.iter().skip(LISTED_MAX).map(|(_, count)| count).sum::<u64>() + ranking.others();
    let listed = named.iter().take(LISTED_MAX);
    let mut texts: Vec<_> =
        listed.map(|(what, count)| format!("{} ({})", name(what), number(*count))).collect();
    if others > 0 {
        texts.push(format!("others ({})", number(others)));
    }
    texts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn times_and_numbers_read_as_people_say_them() {
        let check = |passed: i64, expect: &str| assert_eq!(ago(at(0), at(passed)), expect);
        check(-5, "just now");
        check(59, "just now");
        check(60, "60 seconds ago");
        check(120, "2 minutes ago");
        check(7_199, "119 minutes ago");
        check(7_200, "2 hours ago");
        check(172_800, "2 days ago");
        assert_eq!(left(at(1), at(0)), "1 second");
        assert_eq!(left(at(0), at(9)), "0 seconds");
        assert_eq!(time(at(1_795_554_180)), "24 Nov 2026, 21:03 UTC");
        for (count, expect) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(number(count), expect);
        }
        assert_eq!((counted(1, "key"), counted(2, "key")), ("1 key".into(), "2 keys".into()));
    }

    #[test]
    fn hours_without_requests_are_there_too() {
        let mut usage = KeyUsage::default();
        usage.tally.hours.insert(100, Hour { requests: 7, ..Hour::default() });
        let hours = hours(Some(&usage), at(101 * 3_600));
        assert_eq!(hours.len(), 24);
        assert_eq!(hours[22..], [7, 0]);
        assert_eq!(hours.iter().sum::<u64>(), 7);
    }
}
