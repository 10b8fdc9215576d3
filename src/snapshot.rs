//! One generation of everything that can be reloaded, and the place where the current one is found.
//!
//! What must agree lives under one swap: a request loads the snapshot once and keeps it to its end, so it
//! never sees the routes of one generation with the keys of another.

use std::ops::Deref;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, Cache};
use jiff::Timestamp;

use crate::auth::challenge::Challenges;
use crate::auth::credentials::KeySources;
use crate::config::Config;
use crate::keys::KeyRecord;
use crate::keys::store::LoadedKeys;
use crate::keys::table::KeyTable;
use crate::limit::failures::Failures;
use crate::limit::meters::{Meters, Seed};
use crate::redact::Redactor;
use crate::tls::ServerConfig;
use crate::tls::upstreams::Targets;
use crate::upstream::client::PoolLimits;
use crate::upstream::opening::Opening;
use crate::upstream::{Registry, Upstream};

/// One generation.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the loads that were taken; the first is 1.
    pub generation: u64,
    /// What the operator wrote, routes compiled.
    pub config: Config,
    /// Every key.
    pub keys: KeyTable,
    /// What is kept of every key, for those who manage them; empty where nobody does.
    pub records: Arc<[KeyRecord]>,
    /// What TLS handshakes need; without it requests come in clear.
    pub tls: Option<Arc<ServerConfig>>,
    /// What handshakes with those who manage keys need.
    pub admin_tls: Option<Arc<ServerConfig>>,
    /// And those with endpoints.
    pub targets: Arc<Targets>,
    /// Where requests carry their key.
    pub sources: KeySources,
    /// What a refusal says about where a key belongs.
    pub challenges: Challenges,
    /// By their place in the configuration.
    pub upstreams: Vec<Upstream>,
    /// Whether an upstream is told who its clients are, and where they reached us.
    pub introduces_clients: bool,
    /// How long and how many idle connections to endpoints are kept.
    pub pool_limits: PoolLimits,
    /// How what a client sent is shown.
    pub redactor: Arc<Redactor>,
}

/// A generation as one worker holds it, for all of its requests. A clone counts on a line of memory of that worker alone:
/// one that all workers count on is the slowest thing a request can touch.
#[derive(Clone, Debug)]
#[expect(clippy::redundant_allocation, reason = "one counts within a worker, the other over all")]
pub struct Held(Rc<Arc<Snapshot>>);

impl Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// Where a worker finds the current one.
#[derive(Debug)]
pub struct Source {
    newest: Cache<Arc<ArcSwap<Snapshot>>, Arc<Snapshot>>,
    held: Held,
}

impl Source {
    /// Finds it in `current`.
    pub fn new(current: Arc<ArcSwap<Snapshot>>) -> Self {
        let held = Held(Rc::new(current.load_full()));
        Self { newest: Cache::new(current), held }
    }

    /// The current one.
    pub fn load(&mut self) -> Held {
        let newest = self.newest.load();
        if !Arc::ptr_eq(newest, &self.held.0) {
            self.held = Held(Rc::new(Arc::clone(newest)));
        }
        self.held.clone()
    }
}

/// What handshakes need, to whomever.
#[derive(Debug)]
pub struct Handshakes {
    /// With clients; without it requests come in clear.
    pub server: Option<Arc<ServerConfig>>,
    /// With those who manage keys.
    pub admin: Option<Arc<ServerConfig>>,
    /// With endpoints.
    pub targets: Arc<Targets>,
}

/// The current snapshot, and what outlives it.
#[derive(Debug)]
pub struct Shared {
    current: Arc<ArcSwap<Snapshot>>,
    endpoints: Registry,
    failures: Arc<Failures>,
    reloads: Reloads,
    meters: Arc<Meters>,
    /// Generations that requests may still have. Who lets go of one last frees all its keys, which takes longer than
    /// thousands of requests: that shall be no worker.
    retired: Mutex<Vec<Arc<Snapshot>>>,
}

/// What came of reloads.
#[derive(Debug)]
pub struct Reloads {
    taken: AtomicU64,
    refused: AtomicU64,
    last_taken_unix_ms: AtomicI64,
    is_refused: AtomicBool,
}

impl Reloads {
    fn new() -> Self {
        Self {
            taken: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            last_taken_unix_ms: AtomicI64::new(Timestamp::now().as_millisecond()),
            is_refused: AtomicBool::new(false),
        }
    }

    fn took(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
        self.last_taken_unix_ms.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
        self.is_refused.store(false, Ordering::Relaxed);
    }

    /// One was refused: the files that there are now are not those in force.
    pub fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// How many were taken since the start, which does not count.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// How many were refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Whether the last one was.
    pub fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    /// When what is in force was taken, in milliseconds since the Unix epoch.
    pub fn last_taken_unix_ms(&self) -> i64 {
        self.last_taken_unix_ms.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Starts with generation 1.
    pub fn new(config: Config, keys: LoadedKeys, handshakes: Handshakes) -> Self {
        let endpoints = Registry::default();
        let first = Snapshot::new(config, keys, handshakes, &endpoints, 1);
        let current = Arc::new(ArcSwap::from_pointee(first));
        Self {
            current,
            endpoints,
            failures: Arc::default(),
            reloads: Reloads::new(),
            meters: Arc::default(),
            retired: Mutex::default(),
        }
    }

    /// The same, where `seed` tells what keys were used for before.
    pub fn seeded(self, seed: Seed) -> Self {
        Self { meters: Arc::new(Meters::new(seed)), ..self }
    }

    /// How often clients failed to show a good key.
    pub fn failures(&self) -> &Arc<Failures> {
        &self.failures
    }

    /// What was used of what is limited.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// What came of reloads.
    pub fn reloads(&self) -> &Reloads {
        &self.reloads
    }

    /// Where the current snapshot is found; for a worker's `arc_swap::Cache`.
    pub fn current(&self) -> Arc<ArcSwap<Snapshot>> {
        Arc::clone(&self.current)
    }

    /// Swaps in a new generation and says its number. To be called by one thread only.
    pub fn replace(&self, config: Config, keys: LoadedKeys, handshakes: Handshakes) -> u64 {
        let generation = self.current.load().generation + 1;
        let next = Snapshot::new(config, keys, handshakes, &self.endpoints, generation);
        let before = self.current.swap(Arc::new(next));
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).push(before);
        self.reloads.took();
        generation
    }

    /// Frees the generations that no request has any more, and the meters of whoever owes nothing. To be called now and
    /// then, by no worker.
    pub fn free_unused(&self) {
        let unix_s = u64::try_from(Timestamp::now().as_second()).unwrap_or_default();
        self.meters.sweep(self.meters.moment(Instant::now(), unix_s));
        // Nobody can take one again that nobody has.
        let is_held = |retired: &Arc<Snapshot>| Arc::strong_count(retired) > 1;
        self.retired.lock().unwrap_or_else(PoisonError::into_inner).retain(is_held);
    }
}

impl Snapshot {
    fn new(
        config: Config,
        keys: LoadedKeys,
        handshakes: Handshakes,
        registry: &Registry,
        generation: u64,
    ) -> Self {
        let Handshakes { server: tls, admin: admin_tls, targets } = handshakes;
        let upstream = |(place, configured): (usize, &crate::config::Upstream)| {
            let crate::config::Upstream { name, endpoints, settings, tls: _ } = configured;
            let endpoints = endpoints.iter().zip(&targets[place]).map(|(endpoint, target)| {
                let opening = Opening::new(settings.proxy_protocol, target.clone());
                (endpoint.address.clone(), endpoint.weight, opening)
            });
            let endpoints: Vec<_> = endpoints.collect();
            Upstream::new(registry, place, name, &endpoints, settings.clone())
        };
        let auth = &config.auth;
        Self {
            generation,
            keys: keys.table,
            records: keys.records,
            tls,
            admin_tls,
            upstreams: config.upstreams.iter().enumerate().map(upstream).collect(),
            targets,
            sources: KeySources::new(&auth.key_sources, auth.hide_credentials),
            challenges: Challenges::new(&config.realm, &auth.key_sources),
            introduces_clients: config
                .upstreams
                .iter()
                .any(|upstream| upstream.settings.proxy_protocol.is_some()),
            pool_limits: PoolLimits {
                keep_alive: config.server.timeouts.upstream_keep_alive,
                idle: config.server.limits.upstream_idle,
            },
            redactor: Arc::new(Redactor::new(
                config.keys.prefix.as_str(),
                auth.key_sources.iter().map(|s| s.name()),
            )),
            config,
        }
    }
}
