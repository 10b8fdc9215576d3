//! A worker's connections to endpoints: made on demand, kept while idle, used by one request at a time.
//!
//! Never here: what goes over a connection (see [`Exchange`]), or whether a request may be tried again.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;

use super::Endpoint;
use super::connection::Connection;
use super::exchange::Exchange;
use super::introduction::Introduction;
use super::opening::Opening;
use super::request::RequestHead;

/// How long and how many idle connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Longest time without a request.
    pub keep_alive: Duration,
    /// Most idle connections to one endpoint.
    pub idle: usize,
}

/// A worker's connections.
#[derive(Debug, Default)]
pub struct Client {
    /// By [`Endpoint::place`].
    pools: RefCell<Vec<Option<Rc<Pool>>>>,
}

impl Client {
    /// Begins to use `endpoint` for one request, unless `most` do already.
    pub fn claim(&self, endpoint: &Arc<Endpoint>, most: Option<usize>) -> Option<Claim> {
        endpoint.begin_use(most).then(|| Claim { pool: self.pool(endpoint) })
    }

    /// Closes what has been idle for too long, was closed by its endpoint, or leads to where its name no longer
    /// does; to be called now and then.
    pub fn prune(&self, now: Instant, limits: PoolLimits) {
        for pool in self.pools.borrow().iter().flatten() {
            let generation = pool.endpoint.addresses().generation();
            if pool.generation.replace(generation) != generation {
                pool.idle.borrow_mut().clear();
            }
            pool.idle.borrow_mut().retain_mut(|idle| idle.is_good(now, limits));
        }
    }

    fn pool(&self, endpoint: &Arc<Endpoint>) -> Rc<Pool> {
        let (place, mut pools) = (endpoint.place(), self.pools.borrow_mut());
        if pools.len() <= place {
            pools.resize_with(place + 1, || None);
        }
        let make = || {
            let generation = Cell::new(endpoint.addresses().generation());
            Rc::new(Pool { endpoint: Arc::clone(endpoint), generation, idle: RefCell::default() })
        };
        Rc::clone(pools[place].get_or_insert_with(make))
    }
}

/// The use of an endpoint for one request: it counts there until this is dropped.
#[derive(Debug)]
pub struct Claim {
    pool: Rc<Pool>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.pool.endpoint.end_use();
    }
}

impl Claim {
    /// Of the idle connections that began with `opening`, for `client` if that introduces clients, the one that was
    /// used last, if there is one that still seems alive.
    ///
    /// # Errors
    /// There is none; a new one can be made.
    pub fn reuse(
        self,
        now: Instant,
        limits: PoolLimits,
        opening: Option<&Arc<Opening>>,
        client: Option<&Introduction>,
    ) -> Result<Lease, Self> {
        match self.pool.take(now, limits, opening, client) {
            Some(connection) => Ok(Lease { connection, claim: self, is_reused: true }),
            None => Err(self),
        }
    }

    /// A new connection, that begins so.
    ///
    /// # Errors
    /// What the system says, or why TLS is not spoken.
    pub async fn connect(
        self,
        opening: Option<&Arc<Opening>>,
        client: Option<Introduction>,
    ) -> io::Result<Lease> {
        let connection = Connection::open(&self.pool.endpoint, opening, client).await?;
        Ok(Lease { connection, claim: self, is_reused: false })
    }

    /// Keeps `connection` for the next request.
    pub(super) fn keep(self, connection: Connection, now: Instant, limits: PoolLimits) {
        self.pool.put(connection, now, limits);
    }
}

/// Idle connections to one endpoint; the one used last is at the back.
#[derive(Debug)]
struct Pool {
    endpoint: Arc<Endpoint>,
    /// Of the endpoint's addresses, when they were last looked at.
    generation: Cell<usize>,
    idle: RefCell<VecDeque<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Idle {
    fn is_good(&mut self, now: Instant, limits: PoolLimits) -> bool {
        now.saturating_duration_since(self.since) < limits.keep_alive && self.connection.is_quiet()
    }
}

impl Pool {
    /// What began otherwise is closed: there is a reload between. What is another client's stays.
    fn take(
        &self,
        now: Instant,
        limits: PoolLimits,
        opening: Option<&Arc<Opening>>,
        client: Option<&Introduction>,
    ) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        for place in (0..idle.len()).rev() {
            let is_current = idle[place].connection.began_with(opening);
            if is_current && !idle[place].connection.is_for(client) {
                continue;
            }
            let mut idle = idle.remove(place)?;
            if is_current && idle.is_good(now, limits) {
                return Some(idle.connection);
            }
        }
        None
    }

    fn put(&self, mut connection: Connection, now: Instant, limits: PoolLimits) {
        connection.rest();
        let mut idle = self.idle.borrow_mut();
        idle.push_back(Idle { connection, since: now });
        if idle.len() > limits.idle {
            idle.pop_front();
        }
    }
}

/// A connection to be used for one request; dropped unused, it closes.
#[derive(Debug)]
pub struct Lease {
    connection: Connection,
    claim: Claim,
    is_reused: bool,
}

impl Lease {
    /// Begins the exchange of the request made of `head` and `body`; nothing is sent before it is polled.
    pub fn exchange<B: Body<Data = Bytes> + Unpin>(
        self,
        head: RequestHead,
        body: B,
    ) -> Box<Exchange<B>> {
        Box::new(Exchange::new(self.connection, self.claim, self.is_reused, head, body))
    }
}
