//! What one worker counts of one secret: without atomics or locks, and without a look-up.
//!
//! Never here: what the other workers count.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Hour, Ranking, Tally, Use, hour_of};
use crate::policy::routes::RouteTable;

/// The counts since the last report. Routes are counted by their places in one table, which cost nothing to compare.
#[derive(Debug)]
pub struct UsageCell {
    routes: Arc<RouteTable>,
    is_previous: bool,
    new: RefCell<New>,
}

/// Small, for it is not in the cache when a key is used: a cell takes as many reads of memory as it has lines.
#[derive(Debug, Default)]
struct New {
    requests: [u32; 6],
    bytes_in: u64,
    bytes_out: u64,
    /// In microseconds since the Unix epoch.
    last: Option<(u64, IpAddr, Place)>,
    clients: Few<IpAddr>,
    routes: Few<Place>,
}

/// The place of a route, or the last number there is.
type Place = u32;

fn place_of(route: Option<usize>) -> Place {
    route.and_then(|route| Place::try_from(route).ok()).unwrap_or(Place::MAX)
}

/// What is counted by name, where most keys are used from one place for one thing.
#[derive(Debug)]
struct Few<K> {
    first: Option<(K, u32)>,
    others: Option<Box<Ranking<K>>>,
}

impl<K> Default for Few<K> {
    fn default() -> Self {
        Self { first: None, others: None }
    }
}

impl<K: PartialEq> Few<K> {
    fn add(&mut self, name: K) {
        match &mut self.first {
            None => self.first = Some((name, 1)),
            Some((first, count)) if *first == name => *count += 1,
            Some(_) => self.others.get_or_insert_default().add(name, 1),
        }
    }

    /// All of it, with other names.
    fn ranking<L: PartialEq>(self, name: impl Fn(K) -> L) -> Ranking<L> {
        let others = self.others.map(|others| *others).unwrap_or_default();
        let mut ranking = Ranking { others: others.others, ..Ranking::default() };
        let first = self.first.map(|(first, count)| (first, u64::from(count)));
        for (known, count) in first.into_iter().chain(others.named) {
            ranking.add(name(known), count);
        }
        ranking
    }
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The status it was answered with, if it was.
    pub status: Option<u16>,
    /// Whose request it was.
    pub client: IpAddr,
    /// The place of its route.
    pub route: Option<usize>,
    /// Bytes of content from the client.
    pub bytes_in: u64,
    /// And to it.
    pub bytes_out: u64,
}

impl UsageCell {
    /// For requests whose routes are in `routes`; `is_previous`: with a secret before a rotation.
    pub fn new(routes: &Arc<RouteTable>, is_previous: bool) -> Self {
        Self { routes: Arc::clone(routes), is_previous, new: RefCell::default() }
    }

    /// Whether its requests are those whose routes are in `routes`.
    pub fn is_of(&self, routes: &Arc<RouteTable>) -> bool {
        Arc::ptr_eq(&self.routes, routes)
    }

    /// A request begins, at `unix_micros`.
    pub fn begin(&self, unix_micros: u64, client: IpAddr, route: Option<usize>) {
        self.new.borrow_mut().last = Some((unix_micros, client, place_of(route)));
    }

    /// A request has ended.
    pub fn end(&self, ended: Ended) {
        let mut new = self.new.borrow_mut();
        let class = ended.status.map_or(0, |status| usize::from(status / 100).min(5));
        new.requests[class] += 1;
        new.bytes_in += ended.bytes_in;
        new.bytes_out += ended.bytes_out;
        new.clients.add(ended.client);
        new.routes.add(place_of(ended.route));
    }

    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        let new = self.new.borrow();
        new.last.is_none() && new.requests == [0; 6]
    }

    /// Takes all that was counted; what ended did so in the hour of `now`.
    pub fn take(&self, now: Timestamp) -> Tally {
        let new = self.new.take();
        let pattern = |place: Place| {
            let route = self.routes.routes().get(place as usize);
            route.map(|route| route.pattern().to_owned())
        };
        let last = new.last.map(|(unix_micros, client, route)| Use {
            at: Timestamp::from_microsecond(unix_micros as i64).unwrap_or(now),
            client,
            route: pattern(route),
        });
        let counts = new.requests.map(u64::from);
        let requests = counts.iter().sum();
        let clients = new.clients.ranking(|client| client);
        let hour = Hour { requests, clients, routes: new.routes.ranking(pattern) };
        Tally {
            requests: counts,
            bytes_in: new.bytes_in,
            bytes_out: new.bytes_out,
            last_of_previous: last.clone().filter(|_| self.is_previous),
            last,
            hours: (requests > 0).then_some((hour_of(now), hour)).into_iter().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_taken_once() {
        let routes = Arc::new(RouteTable::new(Vec::new()).unwrap());
        let cell = UsageCell::new(&routes, true);
        assert!(cell.is_empty());
        let client = IpAddr::from([10, 0, 0, 1]);
        cell.begin(1_700_000_000_000_000, client, Some(0));
        let ended = Ended { status: Some(204), client, route: Some(0), bytes_in: 5, bytes_out: 7 };
        cell.end(ended);
        cell.end(Ended { status: None, route: None, ..ended });
        let tally = cell.take(Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!(tally.requests, [1, 0, 1, 0, 0, 0]);
        assert_eq!((tally.bytes_in, tally.bytes_out), (10, 14));
        assert_eq!(tally.last, tally.last_of_previous);
        assert_eq!(tally.last.unwrap().route.as_deref(), Some("/{*rest}"));
        let hour = &tally.hours[&(1_700_000_000 / 3600)];
        assert_eq!((hour.requests, hour.clients.named()), (2, vec![(&client, 2)]));
        assert_eq!(hour.routes.named().len(), 2);
        assert!(cell.is_empty());
    }
}
