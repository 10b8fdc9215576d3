//! What one worker measures: without atomics or locks. Whoever scrapes is given a copy, and adds the workers' up.
//!
//! Requests are counted by the place of their route. When the routes change, the counts of those that stay go along;
//! those of others are gone, and with them their series.
//!
//! Never here: anything with a bound that a client sets: no path, no address, no key.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::Histogram;
use crate::policy::routes::RouteTable;

/// Requests of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Requests {
    /// By the hundreds of their status; first those that ended without one, for their client had left.
    pub by_class: [u64; 6],
    /// How long they took, to the last byte of their answers; but not tunnels.
    pub durations: Histogram,
}

impl Requests {
    /// Adds what `other` counts.
    pub fn merge(&mut self, other: &Self) {
        for (sum, more) in self.by_class.iter_mut().zip(other.by_class) {
            *sum += more;
        }
        self.durations.merge(&other.durations);
    }
}

/// What an endpoint was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Asked {
    /// How often a request was sent to it, or was to be.
    pub attempts: u64,
    /// How many of these were not the request's first.
    pub retries: u64,
    /// How many failed by its fault.
    pub failures: u64,
    /// How long it took to the head of its answer.
    pub latencies: Histogram,
}

impl Asked {
    /// Adds what `other` counts.
    pub fn merge(&mut self, other: &Self) {
        self.attempts += other.attempts;
        self.retries += other.retries;
        self.failures += other.failures;
        self.latencies.merge(&other.latencies);
    }
}

/// A limit, and whose it is: `("rate", "key")`.
pub type Limited = (&'static str, &'static str);

/// All that a worker has counted since its start.
#[derive(Clone, Debug)]
pub struct Counts {
    /// Requests that have begun and not ended.
    pub in_flight: u64,
    routes: Arc<RouteTable>,
    /// By the place of their route, and behind those of all routes the others.
    requests: Vec<Requests>,
    /// Answers of ours, or ends of an answer, by code.
    pub codes: Vec<(&'static str, u64)>,
    /// Requests that were one too many, by the limit and by whose it is.
    pub limited: Vec<(Limited, u64)>,
    /// By the place of the endpoint in the registry, which all workers share; up to the last that was asked.
    pub endpoints: Vec<Asked>,
}

impl Counts {
    fn new(routes: &Arc<RouteTable>) -> Self {
        Self {
            in_flight: 0,
            routes: Arc::clone(routes),
            requests: vec![Requests::default(); routes.routes().len() + 1],
            codes: Vec::new(),
            limited: Vec::new(),
            endpoints: Vec::new(),
        }
    }

    /// Requests by the pattern of their route; `None`: of none.
    pub fn requests(&self) -> impl Iterator<Item = (Option<&str>, &Requests)> {
        let patterns = self.routes.routes().iter().map(|route| Some(route.pattern()));
        patterns.chain([None]).zip(&self.requests)
    }

    /// Goes over to other routes.
    fn switch(&mut self, routes: &Arc<RouteTable>) {
        let mut known: HashMap<_, _> = self
            .requests()
            .map(|(pattern, requests)| (pattern.map(str::to_owned), requests.clone()))
            .collect();
        let patterns = routes.routes().iter().map(|route| Some(route.pattern().to_owned()));
        let requests = patterns.chain([None]).map(|name| known.remove(&name).unwrap_or_default());
        (self.requests, self.routes) = (requests.collect(), Arc::clone(routes));
    }

    /// The requests of the route at `place` in `routes`.
    fn of(&mut self, routes: &Arc<RouteTable>, place: Option<usize>) -> &mut Requests {
        let own = match place {
            Some(place) if !Arc::ptr_eq(routes, &self.routes) => {
                // It began on routes that are gone.
                let pattern = routes.routes()[place].pattern();
                self.routes.routes().iter().position(|route| route.pattern() == pattern)
            }
            place => place,
        };
        let others = self.requests.len() - 1;
        &mut self.requests[own.unwrap_or(others)]
    }
}

/// A worker's own.
#[derive(Debug)]
pub struct Measures(RefCell<Counts>);

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The place of its route.
    pub route: Option<usize>,
    /// The status it was answered with, if it was.
    pub status: Option<u16>,
    /// Why it was refused, or broken off.
    pub code: Option<&'static str>,
    /// How long it took.
    pub duration: Duration,
}

/// What HTTP says with 101: a tunnel began.
const SWITCHING_PROTOCOLS: u16 = 101;

impl Measures {
    /// Nothing yet, on these routes.
    pub fn new(routes: &Arc<RouteTable>) -> Self {
        Self(RefCell::new(Counts::new(routes)))
    }

    /// A request begins on `routes`, which are the newest.
    pub fn begin(&self, routes: &Arc<RouteTable>) {
        let mut counts = self.0.borrow_mut();
        counts.in_flight += 1;
        if !Arc::ptr_eq(routes, &counts.routes) {
            counts.switch(routes);
        }
    }

    /// A request that began on `routes` has ended.
    pub fn end(&self, routes: &Arc<RouteTable>, ended: Ended) {
        let mut counts = self.0.borrow_mut();
        counts.in_flight -= 1;
        let requests = counts.of(routes, ended.route);
        let class = ended.status.map_or(0, |status| usize::from(status / 100).min(5));
        requests.by_class[class] += 1;
        if ended.status != Some(SWITCHING_PROTOCOLS) {
            requests.durations.add(ended.duration.as_micros() as u64);
        }
        if let Some(code) = ended.code {
            count_one(&mut counts.codes, code);
        }
    }

    /// A request was one too many.
    pub fn limited(&self, by: Limited) {
        count_one(&mut self.0.borrow_mut().limited, by);
    }

    /// A request goes to the endpoint at `place`.
    pub fn attempt(&self, place: usize, is_first: bool) {
        self.with(place, |asked| {
            asked.attempts += 1;
            asked.retries += u64::from(!is_first);
        });
    }

    /// The endpoint at `place` has failed one.
    pub fn failed(&self, place: usize) {
        self.with(place, |asked| asked.failures += 1);
    }

    /// The endpoint at `place` has begun to answer one, after so long.
    pub fn answered(&self, place: usize, latency: Duration) {
        self.with(place, |asked| asked.latencies.add(latency.as_micros() as u64));
    }

    fn with(&self, place: usize, count: impl FnOnce(&mut Asked)) {
        let endpoints = &mut self.0.borrow_mut().endpoints;
        if place >= endpoints.len() {
            endpoints.resize_with(place + 1, Asked::default);
        }
        count(&mut endpoints[place]);
    }

    /// A copy of all of it.
    pub fn counts(&self) -> Counts {
        self.0.borrow().clone()
    }
}

/// There are some thirty names.
fn count_one<K: PartialEq>(counts: &mut Vec<(K, u64)>, name: K) {
    match counts.iter_mut().find(|(known, _)| *known == name) {
        Some((_, count)) => *count += 1,
        None => counts.push((name, 1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::routes::{Access, RouteRule};
    use crate::policy::upgrades::Upgrades;

    fn routes(patterns: &[&str]) -> Arc<RouteTable> {
        let rule = |&path: &&str| RouteRule {
            path: path.to_owned(),
            methods: None,
            access: Access::AnyKey,
            client_subjects: Vec::new(),
            upgrades: Upgrades::default(),
            quota: None,
            upstream: 0,
            allow_ambiguous_paths: false,
        };
        Arc::new(RouteTable::new(patterns.iter().map(rule).collect()).unwrap())
    }

    #[track_caller]
    fn check(measures: &Measures, expect: &[(Option<&str>, u64)]) {
        let counts = measures.counts();
        let requests = counts.requests();
        let found: Vec<_> =
            requests.map(|(route, requests)| (route, requests.by_class.iter().sum())).collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn counts_follow_their_route_over_a_reload() {
        let (old, new) = (routes(&["/a", "/b"]), routes(&["/c", "/b"]));
        let measures = Measures::new(&old);
        let ended = |route| Ended {
            route,
            status: Some(200),
            code: None,
            duration: Duration::from_millis(3),
        };
        (0..5).for_each(|_| measures.begin(&old));
        for route in [Some(0), Some(1), None] {
            measures.end(&old, ended(route));
        }
        check(&measures, &[(Some("/a"), 1), (Some("/b"), 1), (None, 1)]);
        measures.begin(&new);
        check(&measures, &[(Some("/c"), 0), (Some("/b"), 1), (None, 1)]);
        // Two began before.
        measures.end(&old, ended(Some(0)));
        measures.end(&old, ended(Some(1)));
        measures.end(&new, ended(Some(0)));
        check(&measures, &[(Some("/c"), 1), (Some("/b"), 2), (None, 2)]);
        assert_eq!(measures.counts().in_flight, 0);
    }

    #[test]
    fn a_tunnel_counts_and_its_duration_does_not() {
        let routes = routes(&["/a"]);
        let measures = Measures::new(&routes);
        let ended = |status, code| Ended {
            route: Some(0),
            status,
            code,
            duration: Duration::from_secs(3600),
        };
        for (status, code) in [(Some(101), Some("tunnel_idle")), (None, Some("client_left"))] {
            measures.begin(&routes);
            measures.end(&routes, ended(status, code));
        }
        let counts = measures.counts();
        let (_, requests) = counts.requests().next().unwrap();
        assert_eq!(requests.by_class, [1, 1, 0, 0, 0, 0]);
        assert_eq!(requests.durations.count(), 1);
        assert_eq!(counts.codes, [("tunnel_idle", 1), ("client_left", 1)]);
    }
}
