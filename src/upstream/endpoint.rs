//! One server of an upstream: its address, and what all workers together know of it.
//!
//! Endpoints are kept in the [`Registry`] beside the snapshots, so that a reload forgets nothing. Workers share
//! what they know in relaxed atomics, at two for a request.
//!
//! Never here: connections (each worker has its own), or which endpoint is chosen.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use http::HeaderValue;

use super::health::Unhealthy;
use super::load::{self, Load};
use super::names::Addresses;
use super::settings::{Address, Health, Settings};
use super::standing::Standing;

/// One server.
#[derive(Debug)]
pub struct Endpoint {
    /// Its place in the [`Registry`]; stays the same over reloads.
    place: usize,
    address: Address,
    addresses: Addresses,
    name: String,
    authority: HeaderValue,
    upstream: String,
    standing: Standing,
    in_use: InUse,
    load: Arc<Load>,
}

/// On a cache line of its own: it changes with every request, and what stands beside it is read with every one.
#[derive(Debug, Default)]
#[repr(align(128))]
struct InUse(AtomicUsize);

impl Endpoint {
    /// `host:port` or `unix:path`, what logs name it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a `Host` field calls it.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }

    /// Its place in the [`Registry`].
    pub fn place(&self) -> usize {
        self.place
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Where its address leads.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// How many connections to it serve a request or are being made for one, of all workers.
    pub fn in_use(&self) -> usize {
        self.in_use.0.load(Ordering::Relaxed)
    }

    /// An exchange with it that began at `began` was brought to its end.
    pub fn succeeded(&self, began: Instant, now: Instant) {
        if self.standing.succeeded(began, now) {
            let (upstream, endpoint) = (&*self.upstream, self.name());
            tracing::info!(upstream, endpoint, "endpoint is back");
        }
    }

    /// An exchange with it that began at `began` failed by its fault.
    pub fn failed(&self, began: Instant, now: Instant) {
        if let Some(back_off) = self.standing.failed(began, now) {
            let (upstream, endpoint) = (&*self.upstream, self.name());
            let for_ms = u64::try_from(back_off.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(
                upstream,
                endpoint,
                for_ms,
                "endpoint is left out after failures in a row"
            );
        }
    }

    /// Takes in the result of a health check.
    pub(super) fn checked(&self, result: Result<(), Unhealthy>, health: &Health, now: Instant) {
        if !self.standing.checked(result.is_ok(), health, now) {
            return;
        }
        let (upstream, endpoint) = (&*self.upstream, self.name());
        match result {
            Ok(()) => tracing::info!(upstream, endpoint, "endpoint passes its health checks"),
            Err(reason) => {
                tracing::warn!(upstream, endpoint, %reason, "endpoint fails its health checks");
            }
        }
    }

    /// Whether it gets requests `now`: it is not left out, and passes its health checks.
    pub fn is_up(&self, now: Instant) -> bool {
        self.share(now) > 0
    }

    /// How much of its share it gets `now`, of [`WHOLE`](super::standing::WHOLE).
    pub(super) fn share(&self, now: Instant) -> u32 {
        self.standing.share(now)
    }

    /// Counts one more use, unless there are `most` already.
    pub(super) fn begin_use(&self, most: Option<usize>) -> bool {
        let count = &self.in_use.0;
        match most {
            Some(most) => load::enter(count, most),
            None => {
                count.fetch_add(1, Ordering::Relaxed);
                true
            }
        }
    }

    pub(super) fn end_use(&self) {
        self.in_use.0.fetch_sub(1, Ordering::SeqCst);
        self.load.freed();
    }
}

/// Every endpoint, and every upstream, this process has known. What is known of one outlives a reload.
#[derive(Debug)]
pub struct Registry {
    /// What the endpoints count their times from.
    epoch: Instant,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    endpoints: HashMap<Key, Arc<Endpoint>>,
    /// By the upstream's name.
    loads: HashMap<String, Arc<Load>>,
}

/// An upstream's name and an address: two upstreams may judge the same server differently.
type Key = (String, Address);

impl Default for Registry {
    fn default() -> Self {
        Self { epoch: Instant::now(), known: Mutex::default() }
    }
}

impl Registry {
    /// The endpoint of `upstream` at `address`, the same one whenever it is asked for; from now on it goes by
    /// `settings`.
    ///
    /// # Panics
    /// If the address cannot stand in a `Host` header; the configuration's check rules that out.
    pub fn endpoint(
        &self,
        upstream: &str,
        address: &Address,
        settings: &Settings,
    ) -> Arc<Endpoint> {
        let load = self.load(upstream);
        let known = &mut self.known().endpoints;
        let place = known.len();
        let make = || {
            let authority = HeaderValue::try_from(address.authority());
            Arc::new(Endpoint {
                place,
                name: match address {
                    Address::Tcp { .. } | Address::Tls { .. } => address.authority(),
                    Address::Unix(_) => address.to_string(),
                },
                address: address.clone(),
                addresses: Addresses::new(address),
                authority: authority.expect("a checked host is header-safe"),
                upstream: upstream.to_owned(),
                standing: Standing::new(self.epoch),
                in_use: InUse::default(),
                load,
            })
        };
        let key = (upstream.to_owned(), address.clone());
        let endpoint = Arc::clone(known.entry(key).or_insert_with(make));
        endpoint.standing.configure(settings);
        endpoint
    }

    /// What the upstream called `upstream` has to do.
    pub(super) fn load(&self, upstream: &str) -> Arc<Load> {
        Arc::clone(self.known().loads.entry(upstream.to_owned()).or_default())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while holding the registry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(registry: &Registry, upstream: &str, host: &str) -> Arc<Endpoint> {
        let address = Address::Tcp { host: host.to_owned(), port: 80 };
        registry.endpoint(upstream, &address, &Settings::default())
    }

    #[test]
    fn an_endpoint_stays_the_same_over_reloads() {
        let registry = Registry::default();
        let first = known(&registry, "a", "app");
        let other = known(&registry, "a", "::1");
        first.begin_use(None);
        assert!(Arc::ptr_eq(&first, &known(&registry, "a", "app")));
        assert_eq!(known(&registry, "a", "app").in_use(), 1);
        assert_eq!((first.place, other.place), (0, 1));
        assert_eq!((first.name(), other.name()), ("app:80", "[::1]:80"));
    }

    #[test]
    fn two_upstreams_know_the_same_server_apart() {
        let registry = Registry::default();
        let (a, b) = (known(&registry, "a", "app"), known(&registry, "b", "app"));
        assert!(!Arc::ptr_eq(&a, &b));
    }
}
