//! What becomes of each key: when, from where and for what it was last used, and how often.
//!
//! Each worker counts in cells of its own ([`cell`]) and reports what is new every few seconds; [`recorder`] adds the reports
//! of all workers up, and keeps the sums in a [`file`](mod@file) beside the keys. Every step adds [`Tally`]s, so that nothing is
//! lost or counted twice in whatever order they come, from several processes too.
//!
//! Never here: key material, a decision about a request, or a wait on its way.

pub mod cell;
mod file;
pub mod recorder;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;

/// Addresses, and routes, of an hour that are counted by name: enough to see who uses a key, and a bound on what one key
/// can make us hold.
pub const NAMED_MAX: usize = 16;
/// Hours that are told apart, the current one among them.
pub const HOURS: u64 = 24;

/// What is counted under one name, or behind the [`NAMED_MAX`] most used ones under none. A new name takes the place of
/// the least used one when that was used less.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ranking<K> {
    named: Vec<(K, u64)>,
    others: u64,
}

impl<K> Default for Ranking<K> {
    fn default() -> Self {
        Self { named: Vec::new(), others: 0 }
    }
}

impl<K: PartialEq> Ranking<K> {
    /// Counts `count` more of `name`.
    pub fn add(&mut self, name: K, count: u64) {
        if let Some((_, known)) = self.named.iter_mut().find(|(known, _)| *known == name) {
            *known += count;
        } else if self.named.len() < NAMED_MAX {
            self.named.push((name, count));
        } else if let Some(least) = self.named.iter_mut().min_by_key(|(_, known)| *known)
            && least.1 < count
        {
            self.others += least.1;
            *least = (name, count);
        } else {
            self.others += count;
        }
    }

    fn merge(&mut self, other: Self) {
        for (name, count) in other.named {
            self.add(name, count);
        }
        self.others += other.others;
    }

    /// The same under other names; where two names become one, so do their counts.
    fn renamed<L: PartialEq>(self, name: impl Fn(K) -> L) -> Ranking<L> {
        let mut renamed = Ranking { others: self.others, ..Ranking::default() };
        for (known, count) in self.named {
            renamed.add(name(known), count);
        }
        renamed
    }

    /// Those with a name, the most used first.
    pub fn named(&self) -> Vec<(&K, u64)> {
        let mut named: Vec<_> = self.named.iter().map(|(name, count)| (name, *count)).collect();
        named.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        named
    }

    /// How many were counted under no name.
    pub fn others(&self) -> u64 {
        self.others
    }
}

/// One use of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Use {
    /// When.
    pub at: Timestamp,
    /// From where: the peer, or whom a trusted proxy names.
    pub client: IpAddr,
    /// The pattern of the route; `None` where there was none.
    pub route: Option<String>,
}

/// The requests of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hour {
    /// How many ended.
    pub requests: u64,
    /// How many of them were refused before they went on.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: u64,
    /// Where they came from.
    pub clients: Ranking<IpAddr>,
    /// The patterns of their routes; `None` where there was none.
    pub routes: Ranking<Option<String>>,
}

/// What became of a key, in all or since something. Requests count when they have ended, and a use when it begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Requests by the hundreds of their status; first those that ended without one, for their client had left.
    pub requests: [u64; 6],
    /// Bytes of content from the client.
    pub bytes_in: u64,
    /// And to it.
    pub bytes_out: u64,
    /// When it was last used.
    pub last: Option<Use>,
    /// When the secret before its rotation was.
    pub last_of_previous: Option<Use>,
    /// The last [`HOURS`], by their number since the Unix epoch; hours without requests are left out.
    pub hours: BTreeMap<u64, Hour>,
}

impl Tally {
    /// Adds what `other` counts beside this.
    pub fn add(&mut self, other: Self) {
        for (sum, more) in self.requests.iter_mut().zip(other.requests) {
            *sum += more;
        }
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        later(&mut self.last, other.last);
        later(&mut self.last_of_previous, other.last_of_previous);
        for (number, hour) in other.hours {
            let own = self.hours.entry(number).or_default();
            own.requests += hour.requests;
            own.refused += hour.refused;
            own.clients.merge(hour.clients);
            own.routes.merge(hour.routes);
        }
    }

    /// Forgets the hours that are over for so long that nobody asks for them, at the hour `now`.
    fn forget_before(&mut self, now: u64) {
        let first = now.saturating_sub(HOURS - 1);
        if self.hours.first_key_value().is_some_and(|(&number, _)| number < first) {
            self.hours = self.hours.split_off(&first);
        }
    }

    /// The requests of each of the last [`HOURS`] at `now`, the current one last.
    pub fn hourly(&self, now: Timestamp) -> [u64; HOURS as usize] {
        let first = (hour_of(now) + 1).saturating_sub(HOURS);
        let mut hourly = [0; HOURS as usize];
        for (requests, number) in hourly.iter_mut().zip(first..) {
            *requests = self.hours.get(&number).map_or(0, |hour| hour.requests);
        }
        hourly
    }

    /// The requests since midnight UTC that went on, at `now`.
    pub fn admitted_today(&self, now: Timestamp) -> u64 {
        let midnight = hour_of(now) / HOURS * HOURS;
        let today = self.hours.range(midnight..).map(|(_, hour)| hour);
        today.map(|hour| hour.requests.saturating_sub(hour.refused)).sum()
    }

    /// The requests of the last [`HOURS`] as one hour.
    pub fn recent(&self) -> Hour {
        let mut recent = Hour::default();
        for hour in self.hours.values() {
            recent.requests += hour.requests;
            recent.refused += hour.refused;
            recent.clients.merge(hour.clients.clone());
            recent.routes.merge(hour.routes.clone());
        }
        recent
    }
}

/// What the file at `path` tells of every key, by id; nothing if there is none. It may be some [`UsageFile::interval`] old.
///
/// [`UsageFile::interval`]: crate::config::UsageFile::interval
///
/// # Errors
/// It cannot be read.
pub fn load(path: &Path) -> io::Result<HashMap<Box<str>, Tally>> {
    file::load(path, hour_of(Timestamp::now()))
}

/// Whether nobody has used a key since the moment `since`, which was last used at `last`; one that never was counts from
/// when it was made.
pub fn is_unused(last: Option<Timestamp>, created: Option<Timestamp>, since: Timestamp) -> bool {
    // Where it is not known when it was made, it was made elsewhere, before.
    last.max(created).is_none_or(|moment| moment < since)
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The later of two uses.
fn later(known: &mut Option<Use>, other: Option<Use>) {
    let is_later = |other: &Use| known.as_ref().is_none_or(|known| known.at < other.at);
    if other.as_ref().is_some_and(is_later) {
        *known = other;
    }
}

/// The hour of a moment, since the Unix epoch.
fn hour_of(at: Timestamp) -> u64 {
    u64::try_from(at.as_second() / 3600).unwrap_or_default()
}

/// What a worker reports of one key: what is new since its last report.
#[derive(Debug)]
pub struct Report {
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// What is new.
    pub new: Tally,
    /// How many more requests, or less, are in flight.
    pub in_flight: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(second: i64) -> Option<Use> {
        let at = Timestamp::from_second(second).unwrap();
        Some(Use { at, client: IpAddr::from([127, 0, 0, 1]), route: None })
    }

    #[test]
    fn a_ranking_keeps_the_most_used_and_the_sum() {
        let mut ranking = Ranking::default();
        for name in 0..40_u64 {
            ranking.add(name, 1 + name % 20);
        }
        ranking.add(100, 50);
        let named = ranking.named();
        assert_eq!((named.len(), named[0]), (NAMED_MAX, (&100, 50)));
        let sum = named.iter().map(|(_, count)| count).sum::<u64>() + ranking.others();
        assert_eq!(sum, 2 * (1..=20).sum::<u64>() + 50);
    }

    #[test]
    fn tallies_add_up_in_any_order() {
        let one = |hour: u64, second: i64| Tally {
            requests: [0, 0, 1, 0, 2, 0],
            bytes_in: 3,
            bytes_out: 4,
            last: used(second),
            last_of_previous: None,
            hours: BTreeMap::from([(hour, Hour { requests: 3, ..Hour::default() })]),
        };
        let parts = [one(5, 30), one(6, 10), one(5, 20)];
        let sum = |order: [usize; 3]| {
            let mut sum = Tally::default();
            order.into_iter().for_each(|place| sum.add(parts[place].clone()));
            sum
        };
        let whole = sum([0, 1, 2]);
        assert_eq!((whole.requests, whole.last.clone()), ([0, 0, 3, 0, 6, 0], used(30)));
        assert_eq!((whole.hours[&5].requests, whole.recent().requests), (6, 9));
        assert_eq!(whole, sum([2, 1, 0]));
    }

    #[test]
    fn the_current_hour_is_the_last_of_the_hourly_counts() {
        let hour = |requests| Hour { requests, ..Hour::default() };
        let hours = [(76, hour(9)), (77, hour(1)), (99, hour(2)), (100, hour(3))].into();
        let tally = Tally { hours, ..Tally::default() };
        let hourly = tally.hourly(Timestamp::from_second(100 * 3600 + 1800).unwrap());
        assert_eq!((hourly[0], hourly[22], hourly[23]), (1, 2, 3));
        assert_eq!(hourly.iter().sum::<u64>(), 6);
    }

    #[test]
    fn a_day_counts_from_midnight_what_was_not_refused() {
        let hour = |requests, refused| Hour { requests, refused, ..Hour::default() };
        let hours = [(71, hour(9, 0)), (72, hour(5, 2)), (80, hour(1, 0))].into();
        let tally = Tally { hours, ..Tally::default() };
        let today = |hour: i64| tally.admitted_today(Timestamp::from_second(hour * 3600).unwrap());
        assert_eq!([today(72), today(80), today(95), today(96)], [4, 4, 4, 0]);
    }

    #[test]
    fn a_key_that_was_never_used_counts_from_when_it_was_made() {
        let second = |second| Some(Timestamp::from_second(second).unwrap());
        let check = |last, created, expect| {
            assert_eq!(is_unused(last, created, Timestamp::from_second(50).unwrap()), expect);
        };
        check(second(49), second(10), true);
        check(second(50), second(10), false);
        check(None, second(49), true);
        check(None, second(50), false);
        check(None, None, true);
        check(second(60), None, false);
    }

    #[test]
    fn hours_are_forgotten_a_day_later() {
        let mut tally = Tally::default();
        for number in 100..130 {
            tally.hours.insert(number, Hour::default());
        }
        tally.forget_before(129);
        assert_eq!(tally.hours.len() as u64, HOURS);
        assert_eq!(tally.hours.first_key_value().map(|(&number, _)| number), Some(106));
    }
}
