//! A worker's connections to endpoints: made on demand, kept while idle, used by one request at a time.
//!
//! A connection goes back to the pool only through [`Lease::give_back`], after an exchange that both sides
//! ended well; dropping the lease closes it. So no request ever meets the rest of another one's answer.
//!
//! Never here: whether a failed exchange may be tried again (the caller knows the request), or headers.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::Endpoint;
use super::stream::Stream;

/// How much is read from an endpoint at once, and how large the head of an answer may be: enough for full
/// speed on a fast link, and little enough for thousands of connections.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// How long and how many idle connections are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Longest time without a request.
    pub keep_alive: Duration,
    /// Most idle connections to one endpoint.
    pub idle: usize,
}

/// A worker's connections.
pub struct Client<B> {
    /// By [`Endpoint::place`].
    pools: RefCell<Vec<Rc<Pool<B>>>>,
}

impl<B> Default for Client<B> {
    /// Without connections.
    fn default() -> Self {
        Self { pools: RefCell::default() }
    }
}

impl<B> Client<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The idle connection to `endpoint` that was used last, if there is one that still seems alive.
    pub fn reuse(&self, endpoint: &Endpoint, now: Instant, limits: PoolLimits) -> Option<Lease<B>> {
        let pool = self.pool(endpoint);
        loop {
            let idle = pool.idle.borrow_mut().pop_back()?;
            let is_fresh = now.saturating_duration_since(idle.since) < limits.keep_alive;
            if is_fresh && idle.sender.is_ready() {
                return Some(Lease { sender: idle.sender, pool, is_reused: true });
            }
        }
    }

    /// A new connection to `endpoint`.
    pub async fn connect(&self, endpoint: &Endpoint) -> io::Result<Lease<B>> {
        let stream = TcpStream::connect((endpoint.host.as_str(), endpoint.port)).await?;
        stream.set_nodelay(true)?;
        let mut builder = http1::Builder::new();
        builder.max_buf_size(MAX_BUFFER_BYTES);
        let handshake = builder.handshake(TokioIo::new(Stream(stream))).await;
        let (sender, connection) = handshake.map_err(io::Error::other)?;
        // How a connection ends is told to the request that uses it; an idle one has nobody to tell.
        tokio::task::spawn_local(async move { drop(connection.await) });
        Ok(Lease { sender, pool: self.pool(endpoint), is_reused: false })
    }

    /// Closes what has been idle for too long; to be called now and then.
    pub fn prune(&self, now: Instant, limits: PoolLimits) {
        for pool in self.pools.borrow().iter() {
            pool.idle.borrow_mut().retain(|idle| {
                let since = now.saturating_duration_since(idle.since);
                since < limits.keep_alive && !idle.sender.is_closed()
            });
        }
    }

    fn pool(&self, endpoint: &Endpoint) -> Rc<Pool<B>> {
        let mut pools = self.pools.borrow_mut();
        if pools.len() <= endpoint.place {
            pools.resize_with(endpoint.place + 1, || {
                Rc::new(Pool { idle: RefCell::new(VecDeque::new()) })
            });
        }
        Rc::clone(&pools[endpoint.place])
    }
}

/// Idle connections to one endpoint; the one used last is at the back.
struct Pool<B> {
    idle: RefCell<VecDeque<Idle<B>>>,
}

struct Idle<B> {
    sender: SendRequest<B>,
    since: Instant,
}

/// The sole use of a connection for one exchange.
pub struct Lease<B> {
    sender: SendRequest<B>,
    pool: Rc<Pool<B>>,
    is_reused: bool,
}

impl<B> Lease<B>
where
    B: Body<Data = Bytes> + 'static,
{
    /// Whether the connection served a request before: it may have died since without a sign.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Sends `request`; the future waits for the head of the answer. Its error gives the request back if
    /// nothing of it was written: sending it again is safe then, whatever it is.
    pub fn send(
        &mut self,
        request: Request<B>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<B>>>> + use<B> {
        self.sender.try_send_request(request)
    }

    /// Keeps the connection for the next request. To be called once the request was sent whole and the answer
    /// read whole; a connection that is to be closed after it closes by itself.
    pub fn give_back(self, now: Instant, limits: PoolLimits) {
        if self.sender.is_closed() {
            return;
        }
        let mut idle = self.pool.idle.borrow_mut();
        if idle.len() >= limits.idle {
            idle.pop_front();
        }
        idle.push_back(Idle { sender: self.sender, since: now });
    }
}
