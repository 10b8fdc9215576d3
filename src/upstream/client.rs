//! A worker's connections to endpoints: made on demand, kept while idle. One of HTTP/1 is used by one request at a
//! time, one of HTTP/2 by as many as the endpoint takes; then there is a second.
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
use tokio::sync::Mutex;

use super::connection::Connection;
use super::exchange::Exchange;
use super::head::{Head, Way};
use super::introduction::Introduction;
use super::opening::{self, Opening};
use super::shared::{Place, Shared};
use super::{Endpoint, http1, http2};

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
                pool.shared.borrow_mut().clear();
            }
            pool.idle.borrow_mut().retain_mut(|idle| idle.is_good(now, limits));
            pool.shared.borrow_mut().retain(|one| !one.connection.is_idle(now, limits.keep_alive));
        }
    }

    fn pool(&self, endpoint: &Arc<Endpoint>) -> Rc<Pool> {
        let (place, mut pools) = (endpoint.place(), self.pools.borrow_mut());
        if pools.len() <= place {
            pools.resize_with(place + 1, || None);
        }
        let make = || {
            let generation = Cell::new(endpoint.addresses().generation());
            Rc::new(Pool {
                endpoint: Arc::clone(endpoint),
                generation,
                idle: RefCell::default(),
                shared: RefCell::default(),
                opened: Mutex::default(),
            })
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
    /// A connection that began with `opening`, for `client` if that introduces clients, and still seems alive: of
    /// HTTP/1 the idle one that was used last.
    ///
    /// # Errors
    /// There is none; a new one can be made.
    pub fn reuse(
        self,
        way: Way,
        now: Instant,
        limits: PoolLimits,
        opening: Option<&Arc<Opening>>,
        client: Option<&Introduction>,
    ) -> Result<Lease, Self> {
        let found = match way {
            Way::Http1 => self.pool.take(now, limits, opening, client).map(Leased::Http1),
            Way::Http2 { after } => self.pool.place(after, opening, client).map(Leased::Http2),
        };
        match found {
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
        way: Way,
        opening: Option<&Arc<Opening>>,
        client: Option<Introduction>,
    ) -> io::Result<Lease> {
        let endpoint = &self.pool.endpoint;
        let connection = match way {
            Way::Http1 => Leased::Http1(Connection::open(endpoint, opening, client).await?),
            Way::Http2 { after } => {
                Leased::Http2(Box::pin(self.pool.open(after, opening, client)).await?)
            }
        };
        Ok(Lease { connection, claim: self, is_reused: false })
    }

    /// Keeps `connection` for the next request.
    pub(super) fn keep(self, connection: Connection, now: Instant, limits: PoolLimits) {
        self.pool.put(connection, now, limits);
    }
}

/// Connections to one endpoint.
#[derive(Debug)]
struct Pool {
    endpoint: Arc<Endpoint>,
    /// Of the endpoint's addresses, when they were last looked at.
    generation: Cell<usize>,
    /// Those of HTTP/1 that are idle; the one used last is at the back.
    idle: RefCell<VecDeque<Idle>>,
    /// Those of HTTP/2, by their numbers.
    shared: RefCell<Vec<Opened>>,
    /// How many of HTTP/2 were opened so far. Held while one more is: who comes meanwhile waits for that one.
    opened: Mutex<u64>,
}

/// A connection of HTTP/2, and what it began with, and for whom.
#[derive(Debug)]
struct Opened {
    connection: Rc<Shared>,
    opening: Option<Arc<Opening>>,
    client: Option<Introduction>,
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

    /// A place on a connection of HTTP/2 that was opened behind the one with the number `after`, and so. What began
    /// otherwise takes no more requests: there is a reload between.
    fn place(
        &self,
        after: u64,
        opening: Option<&Arc<Opening>>,
        client: Option<&Introduction>,
    ) -> Option<Place> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|one| one.connection.is_good() && one.opening.as_ref() == opening);
        shared
            .iter()
            .filter(|one| one.connection.number > after && one.client.as_ref() == client)
            .find_map(|one| one.connection.enter())
    }

    /// The same, on a new one if need be.
    async fn open(
        &self,
        after: u64,
        opening: Option<&Arc<Opening>>,
        client: Option<Introduction>,
    ) -> io::Result<Place> {
        let mut opened = self.opened.lock().await;
        if let Some(place) = self.place(after, opening, client.as_ref()) {
            return Ok(place);
        }
        let connection = Connection::open(&self.endpoint, opening, client).await?;
        let (stream, _nothing_came_yet) = connection.into_parts();
        let connection = Shared::open(stream, opening::scheme(opening), *opened + 1).await?;
        *opened = connection.number;
        let place = connection.enter().ok_or(io::ErrorKind::ConnectionRefused)?;
        self.shared.borrow_mut().push(Opened { connection, opening: opening.cloned(), client });
        Ok(place)
    }
}

/// A connection to be used for one request; dropped unused, one of HTTP/1 closes.
#[derive(Debug)]
pub struct Lease {
    connection: Leased,
    claim: Claim,
    is_reused: bool,
}

impl Lease {
    /// Begins the exchange of the request made of `head` and `body`; nothing is sent before it is polled.
    ///
    /// # Panics
    /// If the head is not of the protocol that the connection was asked for.
    pub fn exchange<B: Body<Data = Bytes> + Unpin>(self, head: Head, body: B) -> Box<Exchange<B>> {
        let Self { connection, claim, is_reused } = self;
        Box::new(match (connection, head) {
            (Leased::Http1(connection), Head::Http1(head)) => {
                Exchange::Http1(http1::Exchange::new(connection, claim, is_reused, head, body))
            }
            (Leased::Http2(place), Head::Http2(head)) => {
                let exchange = http2::Exchange::new(place, claim, is_reused, head, body);
                Exchange::Http2(Box::new(exchange))
            }
            _ => unreachable!("a connection is asked for by the head's own way"),
        })
    }
}

#[derive(Debug)]
enum Leased {
    Http1(Connection),
    Http2(Place),
}
