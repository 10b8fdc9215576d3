//! Which endpoint of an upstream a request goes to: each in turn, counted by every worker for itself.

use std::cell::Cell;
use std::sync::Arc;

use super::{Endpoint, Upstream};

/// A worker's place in the round.
#[derive(Debug, Default)]
pub struct RoundRobin(Cell<usize>);

impl RoundRobin {
    /// Every endpoint of `upstream` once, beginning with the one whose turn it is.
    pub fn candidates<'a>(
        &self,
        upstream: &'a Upstream,
    ) -> impl Iterator<Item = &'a Arc<Endpoint>> + use<'a> {
        let turn = self.0.get();
        self.0.set(turn.wrapping_add(1));
        let count = upstream.endpoints.len();
        (0..count).map(move |step| &upstream.endpoints[(turn % count + step) % count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Registry;

    #[test]
    fn every_request_begins_at_the_next_endpoint_and_sees_all() {
        let registry = Registry::default();
        let endpoints = ["a", "b", "c"].map(|host| registry.endpoint("app", host, 80)).to_vec();
        let upstream = Upstream { name: "app".to_owned(), endpoints };
        let round = RoundRobin::default();
        let names = || round.candidates(&upstream).map(|e| e.name()).collect::<Vec<_>>().join(" ");
        let rounds = [names(), names(), names(), names()];
        assert_eq!(
            rounds,
            ["a:80 b:80 c:80", "b:80 c:80 a:80", "c:80 a:80 b:80", "a:80 b:80 c:80"]
        );
    }
}
