//! Upstreams: named groups of endpoints, and the way to them.
//!
//! Never here: which requests may go there (a [`Permit`](crate::policy::Permit) says so), or their headers.

#[doc(hidden)]
pub mod answer;
pub mod balance;
mod budget;
pub mod client;
mod connection;
pub mod endpoint;
pub mod exchange;
pub mod head;
pub mod health;
mod http1;
mod http2;
pub mod introduction;
mod kept;
pub mod load;
pub mod names;
pub mod opening;
pub mod request;
pub mod settings;
mod shared;
mod standing;
pub mod stream;
mod tasks;

use std::sync::Arc;
use std::time::Instant;

pub use endpoint::{Endpoint, Registry};
use load::Load;
use opening::Opening;
use settings::{Address, Settings};

/// A named group of endpoints that serve the same.
#[derive(Debug)]
pub struct Upstream {
    /// Its place in the configuration.
    pub place: usize,
    /// Its name there.
    pub name: String,
    /// Its endpoints; never empty.
    pub members: Vec<Member>,
    /// How they are used.
    pub settings: Settings,
    /// What they have to do together.
    pub load: Arc<Load>,
    /// The places of the members in the order in which they take turns.
    round: Box<[u16]>,
}

/// An endpoint as a member of its upstream.
#[derive(Debug)]
pub struct Member {
    /// What outlives a reload.
    pub endpoint: Arc<Endpoint>,
    /// How much it takes, measured by the others.
    pub weight: u32,
    /// What connections to it begin with before the first request, if with anything.
    pub opening: Option<Arc<Opening>>,
    /// What tells it from the others where callers are spread by a hash.
    seed: u64,
}

impl Upstream {
    /// Whether any endpoint gets requests `now`.
    pub fn is_up(&self, now: Instant) -> bool {
        self.members.iter().any(|member| member.endpoint.is_up(now))
    }

    /// The upstream `name` at `place` in the configuration, with these endpoints, their weights, and what connections to
    /// them begin with.
    pub fn new(
        registry: &Registry,
        place: usize,
        name: &str,
        endpoints: &[(Address, u32, Option<Arc<Opening>>)],
        settings: Settings,
    ) -> Self {
        let member = |(address, weight, opening): &(Address, u32, Option<Arc<Opening>>)| Member {
            endpoint: registry.endpoint(name, address, &settings),
            weight: *weight,
            opening: opening.clone(),
            seed: balance::hash(address.to_string().as_bytes()),
        };
        let weights: Vec<u32> = endpoints.iter().map(|(_, weight, _)| *weight).collect();
        Self {
            place,
            name: name.to_owned(),
            members: endpoints.iter().map(member).collect(),
            load: registry.load(name),
            settings,
            round: balance::round(&weights),
        }
    }
}
