//! What one worker counts of one secret: without atomics or locks, and without a look-up.
//!
//! Never here: what the other workers count.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use jiff::Timestamp;

use super::{Hour, Ranking, Tally, Use, hour_of};
use crate::policy::routes::RouteTable;

/// The counts since the last report. Routes are counted by their places in one table, which cost nothing to compare.
#[derive(Debug, Default)]
pub struct UsageCell(RefCell<New>);

/// Small, for it is not in the cache when a key is used: a cell takes as many reads of memory as it has lines.
#[derive(Debug)]
struct New {
    requests: [u32; 6],
    bytes_in: u64,
    bytes_out: u64,
    /// When a request began last, in microseconds since the Unix epoch; zero if none did.
    last_unix_micros: u64,
    /// From where that came; an address of IPv4 as one of IPv6.
    last_client: Ipv6Addr,
    /// For what.
    last_route: Place,
    /// How many have ended that came from there for that. Most keys are used from one place for one thing.
    alike: u32,
    others: Option<Box<Others>>,
}

/// Those that came from elsewhere, or for something else, than the last one.
#[derive(Debug, Default)]
struct Others {
    clients: Ranking<Ipv6Addr>,
    routes: Ranking<Place>,
    /// Those that were refused before they went on, wherever they came from.
    refused: u64,
}

/// The place of a route, or the last number there is.
type Place = u32;

fn place_of(route: Option<usize>) -> Place {
    route.and_then(|route| Place::try_from(route).ok()).unwrap_or(Place::MAX)
}

/// In one form and in few bytes; [`IpAddr::to_canonical`] is the way back.
fn mapped(client: IpAddr) -> Ipv6Addr {
    match client {
        IpAddr::V4(client) => client.to_ipv6_mapped(),
        IpAddr::V6(client) => client,
    }
}

impl Default for New {
    fn default() -> Self {
        Self {
            requests: [0; 6],
            bytes_in: 0,
            bytes_out: 0,
            last_unix_micros: 0,
            last_client: Ipv6Addr::UNSPECIFIED,
            last_route: Place::MAX,
            alike: 0,
            others: None,
        }
    }
}

impl New {
    fn is_like_the_last(&self, client: Ipv6Addr, route: Place) -> bool {
        self.last_client == client && self.last_route == route
    }

    fn count_among_others(&mut self, client: Ipv6Addr, route: Place, count: u32) {
        let others = self.others.get_or_insert_default();
        others.clients.add(client, count.into());
        others.routes.add(route, count.into());
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
    /// Whether it went on: else it was refused before.
    pub is_admitted: bool,
}

impl UsageCell {
    /// A request begins, at `unix_micros`.
    pub fn begin(&self, unix_micros: u64, client: IpAddr, route: Option<usize>) {
        let new = &mut *self.0.borrow_mut();
        let (client, route) = (mapped(client), place_of(route));
        if !new.is_like_the_last(client, route) {
            if new.alike > 0 {
                new.count_among_others(new.last_client, new.last_route, new.alike);
            }
            (new.last_client, new.last_route, new.alike) = (client, route, 0);
        }
        new.last_unix_micros = unix_micros;
    }

    /// A request has ended.
    pub fn end(&self, ended: Ended) {
        let new = &mut *self.0.borrow_mut();
        let class = ended.status.map_or(0, |status| usize::from(status / 100).min(5));
        new.requests[class] += 1;
        new.bytes_in += ended.bytes_in;
        new.bytes_out += ended.bytes_out;
        if !ended.is_admitted {
            new.others.get_or_insert_default().refused += 1;
        }
        let (client, route) = (mapped(ended.client), place_of(ended.route));
        if new.is_like_the_last(client, route) {
            new.alike += 1;
        } else {
            new.count_among_others(client, route, 1);
        }
    }

    /// Whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        let new = self.0.borrow();
        new.last_unix_micros == 0 && new.requests == [0; 6]
    }

    /// Takes all that was counted of requests whose routes are in `routes`; what ended did so in the hour of `now`.
    /// `is_previous`: they came with a secret before a rotation.
    pub fn take(&self, routes: &RouteTable, is_previous: bool, now: Timestamp) -> Tally {
        let mut new = self.0.take();
        let pattern = |place: Place| {
            let route = routes.routes().get(place as usize);
            route.map(|route| route.pattern().to_owned())
        };
        let last = (new.last_unix_micros > 0).then(|| Use {
            at: Timestamp::from_microsecond(new.last_unix_micros as i64).unwrap_or(now),
            client: new.last_client.to_canonical(),
            route: pattern(new.last_route),
        });
        let counts = new.requests.map(u64::from);
        let requests = counts.iter().sum();
        let mut hours = BTreeMap::new();
        if requests > 0 {
            if new.alike > 0 {
                new.count_among_others(new.last_client, new.last_route, new.alike);
            }
            let Others { clients, routes, refused } =
                new.others.map(|others| *others).unwrap_or_default();
            let hour = Hour {
                requests,
                refused,
                clients: clients.renamed(|client| client.to_canonical()),
                routes: routes.renamed(pattern),
            };
            hours.insert(hour_of(now), hour);
        }
        Tally {
            requests: counts,
            bytes_in: new.bytes_in,
            bytes_out: new.bytes_out,
            last_of_previous: last.clone().filter(|_| is_previous),
            last,
            hours,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_taken_once() {
        let routes = RouteTable::new(Vec::new()).unwrap();
        let cell = UsageCell::default();
        assert!(cell.is_empty());
        let client = IpAddr::from([10, 0, 0, 1]);
        cell.begin(1_700_000_000_000_000, client, Some(0));
        let ended = Ended {
            status: Some(204),
            client,
            route: Some(0),
            bytes_in: 5,
            bytes_out: 7,
            is_admitted: true,
        };
        cell.end(ended);
        cell.end(Ended { status: None, route: None, is_admitted: false, ..ended });
        let tally = cell.take(&routes, true, Timestamp::from_second(1_700_000_000).unwrap());
        assert_eq!(tally.requests, [1, 0, 1, 0, 0, 0]);
        assert_eq!((tally.bytes_in, tally.bytes_out), (10, 14));
        assert_eq!(tally.last, tally.last_of_previous);
        assert_eq!(tally.last.unwrap().route.as_deref(), Some("/{*rest}"));
        let hour = &tally.hours[&(1_700_000_000 / 3600)];
        assert_eq!((hour.requests, hour.refused), (2, 1));
        assert_eq!(hour.clients.named(), [(&client, 2)]);
        assert_eq!(hour.routes.named().len(), 2);
        assert!(cell.is_empty());
    }
}
