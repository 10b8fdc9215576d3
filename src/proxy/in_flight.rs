//! The requests of one worker that somebody's key let in, each until its answer or tunnel has ended, so that they can be
//! closed when the key is no longer good; and what becomes of the key is counted with them.
//!
//! A key in use is known by the very entry of the table that let it in: a secret before a rotation is another than the
//! one behind it, and a table that was made anew has new ones. What is asked of a newer table is the digest.
//!
//! Never here: how a request is closed (its [`Deadline`](crate::deadline::Deadline) is over, and whoever drives it
//! sees that), or what its client is told.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use slab::Slab;
use tokio::sync::mpsc::Sender;

use super::quota::Metered;
use crate::auth::Unauthenticated;
use crate::identity::Identity;
use crate::keys::table::{Found, KeyTable};
use crate::limit::meter::Meter;
use crate::limit::quota::Quota;
use crate::policy::routes::RouteTable;
use crate::server::connection::ConnectionInfo;
use crate::usage::Report;
use crate::usage::cell::UsageCell;

/// What a worker closes of one key.
#[derive(Debug)]
pub struct ClosedOfKey {
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// How many requests.
    pub requests: usize,
}

/// Where a worker says, once, what it closes. As long as something of that has not ended, it holds on to this.
pub type Closing = Sender<Vec<ClosedOfKey>>;

/// A secret in use on this worker. Every request of it reads all of this.
#[derive(Debug)]
pub(super) struct KeyInUse {
    identity: Arc<Identity>,
    /// How many requests of it are in flight here.
    requests: Cell<u32>,
    /// How many that were by the last report.
    reported: Cell<u32>,
    usage: UsageCell,
    rest: Box<Rest>,
}

// With the counts of its `Rc` it is two cache lines.
const _: () = assert!(size_of::<KeyInUse>() + 2 * size_of::<usize>() <= 128);

/// What is read of it when the table or the time changes, or a report is made.
#[derive(Debug)]
struct Rest {
    digest: [u8; 32],
    is_previous: bool,
    /// As the newest table says.
    expires_unix_s: Cell<Option<i64>>,
    /// In which the routes of its requests are.
    routes: Arc<RouteTable>,
    /// What it has used of its quotas, and of those of these routes.
    metered: RefCell<Vec<Rc<Metered>>>,
}

impl KeyInUse {
    fn new(found: Found<'_>, routes: &Arc<RouteTable>) -> Self {
        Self {
            identity: Arc::clone(found.identity()),
            requests: Cell::new(0),
            reported: Cell::new(0),
            usage: UsageCell::default(),
            rest: Box::new(Rest {
                digest: *found.digest(),
                is_previous: found.is_previous(),
                expires_unix_s: Cell::new(found.expires_unix_s()),
                routes: Arc::clone(routes),
                metered: RefCell::default(),
            }),
        }
    }

    /// What becomes of its requests.
    pub(super) fn usage(&self) -> &UsageCell {
        &self.usage
    }

    /// What it has used of `quota`, in the meter that `find` finds when it is first asked for.
    pub(super) fn metered(
        &self,
        quota: &Arc<Quota>,
        find: impl FnOnce(&str) -> Arc<Meter>,
    ) -> Rc<Metered> {
        let mut metered = self.rest.metered.borrow_mut();
        if let Some(known) = metered.iter().find(|known| Arc::ptr_eq(&known.quota, quota)) {
            return Rc::clone(known);
        }
        let meter = find(self.identity.key_id());
        let found = Rc::new(Metered { quota: Arc::clone(quota), meter });
        metered.push(Rc::clone(&found));
        found
    }

    /// What is new since the last report, if anything is.
    fn report(&self, now: Timestamp) -> Option<Report> {
        let in_flight = i64::from(self.requests.get()) - i64::from(self.reported.get());
        if in_flight == 0 && self.usage.is_empty() {
            return None;
        }
        self.reported.set(self.requests.get());
        let Rest { routes, is_previous, .. } = &*self.rest;
        let new = self.usage.take(routes, *is_previous, now);
        Some(Report { identity: Arc::clone(&self.identity), new, in_flight })
    }

    /// Who uses it.
    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }
}

/// A request, among those in flight.
#[derive(Debug)]
struct Request {
    key: Rc<KeyInUse>,
    connection: Rc<ConnectionInfo>,
    /// Why it is closed.
    revoked: Option<Unauthenticated>,
    /// Held until it has ended.
    _closing: Option<Closing>,
}

/// The place of a request among those in flight; it is to be given back.
#[derive(Debug)]
pub(super) struct Place {
    key: Rc<KeyInUse>,
    number: usize,
}

impl Place {
    /// The key that let it in.
    pub(super) fn key(&self) -> &KeyInUse {
        &self.key
    }
}

/// Those of one worker.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    keys: RefCell<KeysInUse>,
    requests: RefCell<Slab<Request>>,
    /// When the first of the keys in use expires, or earlier.
    next_expiry_unix_s: Cell<Option<i64>>,
}

/// Their keys.
#[derive(Debug, Default)]
struct KeysInUse {
    /// The newest.
    routes: Option<Arc<RouteTable>>,
    /// Those whose routes are the newest, by the address of the identity, which lives as long as its entry here, and
    /// whether the secret is a previous one.
    current: HashMap<usize, Rc<KeyInUse>, BuildHasherDefault<Address>>,
    /// Those whose requests are on routes before.
    replaced: Vec<Rc<KeyInUse>>,
}

impl KeysInUse {
    fn go_over_to(&mut self, routes: &Arc<RouteTable>) {
        self.routes = Some(Arc::clone(routes));
        self.replaced.extend(self.current.drain().map(|(_, key)| key));
    }

    fn in_flight(&self) -> impl Iterator<Item = &Rc<KeyInUse>> {
        let all = self.current.values().chain(&self.replaced);
        all.filter(|key| key.requests.get() > 0)
    }
}

impl InFlight {
    /// `found` has let in the request on `connection`, whose route is in `routes`.
    pub(super) fn enter(
        &self,
        found: Found<'_>,
        routes: &Arc<RouteTable>,
        connection: &Rc<ConnectionInfo>,
    ) -> Place {
        // Identities are aligned to more than a byte: the lowest bit is free.
        let address = Arc::as_ptr(found.identity()).addr() | usize::from(found.is_previous());
        let mut keys = self.keys.borrow_mut();
        if !keys.routes.as_ref().is_some_and(|newest| Arc::ptr_eq(newest, routes)) {
            keys.go_over_to(routes);
        }
        let key = keys.current.entry(address).or_insert_with(|| {
            self.expect(found.expires_unix_s());
            Rc::new(KeyInUse::new(found, routes))
        });
        let key = Rc::clone(key);
        key.requests.set(key.requests.get() + 1);
        let (connection, request_key) = (Rc::clone(connection), Rc::clone(&key));
        let request = Request { key: request_key, connection, revoked: None, _closing: None };
        Place { key, number: self.requests.borrow_mut().insert(request) }
    }

    /// A key in use expires then.
    fn expect(&self, expiry_unix_s: Option<i64>) {
        if let Some(expiry) = expiry_unix_s
            && self.next_expiry_unix_s.get().is_none_or(|next| expiry < next)
        {
            self.next_expiry_unix_s.set(Some(expiry));
        }
    }

    /// The request at `place` has ended.
    pub(super) fn leave(&self, place: &Place) {
        let request = self.requests.borrow_mut().remove(place.number);
        request.key.requests.set(request.key.requests.get() - 1);
    }

    /// Why the request at `place` is closed, if it is.
    pub(super) fn revoked(&self, place: &Place) -> Option<Unauthenticated> {
        self.requests.borrow()[place.number].revoked
    }

    /// Closes the requests of all keys that are not good by `table` at `now_unix_s`, and says so to `closing`.
    pub(super) fn close_revoked(&self, table: &KeyTable, now_unix_s: i64, closing: &Closing) {
        self.close(Some(closing), |key| match table.lookup_digest(&key.rest.digest, now_unix_s) {
            Ok(found) => {
                key.rest.expires_unix_s.set(found.expires_unix_s());
                self.expect(found.expires_unix_s());
                None
            }
            Err(rejection) => Some(rejection.into()),
        });
    }

    /// Closes the requests of the keys that have expired.
    pub(super) fn close_expired(&self, now_unix_s: i64) {
        let has_come = |expiry: Option<i64>| expiry.is_some_and(|expiry| expiry <= now_unix_s);
        if !has_come(self.next_expiry_unix_s.get()) {
            return;
        }
        self.close(None, |key| {
            has_come(key.rest.expires_unix_s.get()).then_some(Unauthenticated::KeyExpired)
        });
        let keys = self.keys.borrow();
        let in_use = keys.current.values().chain(&keys.replaced);
        let expiries = in_use.filter_map(|key| key.rest.expires_unix_s.get());
        let to_come = expiries.filter(|&expiry| expiry > now_unix_s);
        self.next_expiry_unix_s.set(to_come.min());
    }

    /// What is new of each key since the last time. Lets go of those that were not used since.
    pub(super) fn report(&self) -> Vec<Report> {
        let now = Timestamp::now();
        let mut reports = Vec::new();
        let mut was_used = |key: &Rc<KeyInUse>| {
            let report = key.report(now);
            let is_new = report.is_some();
            reports.extend(report);
            is_new
        };
        let is_in_flight = |key: &Rc<KeyInUse>| key.requests.get() > 0;
        let keys = &mut *self.keys.borrow_mut();
        // Whoever asks again and again is not to be made anew each time: that is ten reads of memory.
        keys.current.retain(|_, key| was_used(key) || is_in_flight(key));
        keys.replaced.retain(|key| {
            was_used(key);
            is_in_flight(key)
        });
        reports
    }

    /// Closes the requests of every key that `fault` finds one with.
    fn close(
        &self,
        closing: Option<&Closing>,
        fault: impl Fn(&KeyInUse) -> Option<Unauthenticated>,
    ) {
        let keys = self.keys.borrow();
        let bad = keys.in_flight().filter_map(|key| Some((Rc::as_ptr(key), fault(key)?)));
        let bad: HashMap<_, _> = bad.collect();
        if bad.is_empty() {
            return;
        }
        let mut closed: HashMap<_, ClosedOfKey> = HashMap::new();
        let now = Instant::now();
        for (_, request) in self.requests.borrow_mut().iter_mut() {
            let key = Rc::as_ptr(&request.key);
            let (None, Some(&reason)) = (request.revoked, bad.get(&key)) else { continue };
            request.revoked = Some(reason);
            request._closing = closing.cloned();
            request.connection.deadline().end_now(now);
            let identity = || Arc::clone(&request.key.identity);
            let of_key = closed
                .entry(key)
                .or_insert_with(|| ClosedOfKey { identity: identity(), requests: 0 });
            of_key.requests += 1;
        }
        let closed: Vec<_> = closed.into_values().collect();
        closed.iter().for_each(ClosedOfKey::log);
        if let Some(closing) = closing {
            // There is room for one message of each worker; who asked may have stopped waiting.
            let _ = closing.try_send(closed);
        }
    }
}

impl ClosedOfKey {
    fn log(&self) {
        let (key_id, requests) = (self.identity.key_id(), self.requests);
        tracing::info!(key_id, requests, "closed what a key held open that is no longer good");
    }
}

/// An address as its own hash, stirred: only its middle bits differ from one to the next.
#[derive(Default)]
struct Address(u64);

impl Hasher for Address {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only addresses are hashed");
    }

    fn write_usize(&mut self, address: usize) {
        // Fibonacci hashing (Knuth, TAOCP 3, §6.4); the table takes the highest bits and the lowest.
        let product = (address as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        self.0 = product ^ (product >> 32);
    }
}
