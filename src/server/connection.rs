//! One client connection: its state, its deadlines, and how it ends.
//!
//! hyper reads and writes the requests; [`serve`] drives it together with the connection's one
//! [`Deadline`], answers what came too slowly, and closes so that the client still reads our last answer.
//!
//! Never here: what is done with a request (see [`proxy`](crate::proxy)).

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Purpose;
use super::framing::HeadScan;
use super::handshake::Opened;
use super::peer::Peer;
use super::transport::Transport;
use super::wire::{SharedStream, Wire};
use super::worker::Drain;
use crate::config::{Limits, Timeouts};
use crate::deadline::Deadline;
use crate::proxy::Proxy;
use crate::proxy::error::Refusal;
use crate::proxy::forwarded::Proto;
use crate::proxy::tunnel::{self, Tunnel};

/// How long a client may take to read our last answer while it still sends: as long as nginx waits between
/// two reads of a lingering close.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what it still sends is read and thrown away meanwhile.
const LINGER_BYTES: usize = 1024 * 1024;

/// How long a client may still take to begin a request when the worker drains: it may be on its way, and is not
/// lost. The answer says that it is the last.
pub(super) const LAST_CALL: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waiting for a request.
    Idle,
    /// Reading a request's head.
    Head,
    /// Serving a request.
    Service,
}

/// How long the waits are that the connection itself begins.
#[derive(Clone, Copy, Debug)]
struct Waits {
    request_header: Duration,
    response_body_idle: Duration,
    keep_alive: Duration,
}

/// One client connection, as the requests on it see it. To a request of HTTP/2 its stream is a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    peer: Rc<Peer>,
    deadline: Deadline,
    waits: Waits,
    phase: Cell<Phase>,
    now: Cell<Instant>,
    /// The raw head that came, or is coming, in.
    head: Cell<HeadScan>,
    /// Whether `head` began where the request did, as far as can be told.
    is_head_whole: Cell<bool>,
    /// Whether everything written so far has left.
    is_flushed: Cell<bool>,
    /// Whether a part of the last request's body may still be coming.
    has_unread_body: Cell<bool>,
    /// Whether hyper's own refusal was replaced by ours.
    is_refused: Cell<bool>,
    /// Whether an answer broke off, which the client must not take for its end.
    is_broken: Cell<bool>,
    /// Whether the client takes nothing of what is written.
    is_blocked: Cell<bool>,
    /// Whether the next answer is the last.
    is_leaving: Cell<bool>,
}

impl ConnectionInfo {
    /// A connection from `peer` that nothing came over yet.
    pub fn new(peer: SocketAddr, proto: Proto, timeouts: &Timeouts) -> Self {
        let waits = Waits {
            request_header: timeouts.request_header,
            response_body_idle: timeouts.response_body_idle,
            keep_alive: timeouts.keep_alive,
        };
        Self::of(Rc::new(Peer::new(peer, proto)), waits)
    }

    /// A stream of this connection.
    pub(super) fn stream(&self) -> Self {
        Self::of(Rc::clone(&self.peer), self.waits)
    }

    fn of(peer: Rc<Peer>, waits: Waits) -> Self {
        Self {
            peer,
            deadline: Deadline::default(),
            waits,
            phase: Cell::new(Phase::Idle),
            now: Cell::new(Instant::now()),
            head: Cell::new(HeadScan::default()),
            is_head_whole: Cell::new(true),
            is_flushed: Cell::new(true),
            has_unread_body: Cell::new(false),
            is_refused: Cell::new(false),
            is_broken: Cell::new(false),
            is_blocked: Cell::new(false),
            is_leaving: Cell::new(false),
        }
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The wait that the connection is in.
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// When the driver last had its turn. Within one turn that is now; reading the clock for each of the eight
    /// times a request asks would cost more than all its timers.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// The driver has its turn: reads the clock.
    pub fn begin_turn(&self) -> Instant {
        let now = Instant::now();
        self.now.set(now);
        now
    }

    /// A request's head was read.
    pub fn request_started(&self, has_body: bool) {
        self.phase.set(Phase::Service);
        self.is_flushed.set(false);
        self.has_unread_body.set(has_body);
        self.deadline.clear();
    }

    /// Its answer was written, or never will be. `body_was_read`: to its end.
    pub fn request_ended(&self, now: Instant, body_was_read: bool) {
        self.phase.set(Phase::Idle);
        if body_was_read {
            self.has_unread_body.set(false);
        }
        // What came behind the head may be the beginning of another one, which has less time.
        let may_be_in_head = !self.head.get().leaves_nothing_behind();
        let longest =
            if may_be_in_head { self.waits.request_header } else { self.waits.keep_alive };
        self.deadline.start(now, longest.min(self.waits.keep_alive));
    }

    /// The last stream has ended.
    pub(super) fn wait_for_next(&self) {
        self.deadline.start(Instant::now(), self.waits.keep_alive);
    }

    /// An answer that had begun broke off.
    pub fn broke_off(&self) {
        self.is_broken.set(true);
    }

    /// Whether the request's head has both `Content-Length` and `Transfer-Encoding`.
    pub fn has_ambiguous_framing(&self) -> bool {
        self.head.get().has_both()
    }

    /// Whether [`has_ambiguous_framing`](Self::has_ambiguous_framing) is sure: a head that began in the same
    /// piece as the request before it was not seen whole. What follows such a request cannot be trusted to
    /// be where it seems to be.
    pub fn is_framing_certain(&self) -> bool {
        self.is_head_whole.get()
    }

    /// Whether no more requests are taken behind the one that is served.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    /// The next answer is the last.
    fn leave(&self) {
        self.is_leaving.set(true);
        if self.phase.get() == Phase::Idle {
            self.deadline.start(self.now(), LAST_CALL);
        }
    }

    /// Bytes came.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut head = self.head.get();
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.deadline.start(self.now(), self.waits.request_header);
            self.is_head_whole.set(head.leaves_nothing_behind());
            head = HeadScan::default();
        }
        head.feed(bytes);
        self.head.set(head);
    }

    /// What an attempt to write came to.
    pub(super) fn wrote<T>(&self, polled: &Poll<T>) {
        let was_blocked = self.is_blocked.replace(polled.is_pending());
        match polled {
            Poll::Pending if !was_blocked => {
                self.deadline.start(self.now(), self.waits.response_body_idle);
            }
            Poll::Ready(_) if was_blocked => self.deadline.clear(),
            Poll::Pending | Poll::Ready(_) => {}
        }
    }

    /// Everything written so far has left.
    pub(super) fn flushed(&self) {
        if self.phase.get() != Phase::Service {
            self.is_flushed.set(true);
        }
    }

    /// Whether no request is served and every answer has left.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase.get() != Phase::Service && self.is_flushed.get()
    }

    /// Whether a request is served that was read whole: nobody reads from the client then.
    fn waits_for_upstream(&self) -> bool {
        self.phase.get() == Phase::Service && !self.has_unread_body.get()
    }

    pub(super) fn set_refused(&self) {
        self.is_refused.set(true);
    }
}

/// Why a connection ended.
enum End {
    Closed(hyper::Result<()>),
    TooSlow,
    /// The client is gone.
    Reset,
    /// What goes over it is HTTP no more. The bytes came behind the last request.
    Tunnel(Box<Tunnel>, Bytes),
}

/// Serves the requests in HTTP/1 that come over a connection, to its end.
pub(super) async fn serve(opened: Opened, purpose: Purpose, proxy: Rc<Proxy>, drain: Rc<Drain>) {
    let Opened { transport, info: connection, registered: _registered, .. } = opened;
    connection.deadline.start(connection.begin_turn(), connection.waits.request_header);
    let stream: SharedStream = Rc::new(RefCell::new(transport));
    let wire = Wire::new(Rc::clone(&stream), Rc::clone(&connection), Rc::clone(&proxy));
    let http = builder(&proxy.snapshot().config.server.limits);
    let end = drive(&http, wire, purpose, &stream, &connection, &proxy, &drain).await;
    // hyper is done with it: the stream is ours alone again.
    let Some(stream) = Rc::into_inner(stream) else { return };
    match end {
        // Boxed, so that other connections do not carry the room for it.
        End::Tunnel(tunnel, unread) => {
            Box::pin(carry(tunnel, stream.into_inner(), unread)).await;
        }
        end => close(end, stream.into_inner(), &connection, &proxy).await,
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    if limits.headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.headers);
    }
    builder
        .half_close(true)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(MIN_BUFFER_BYTES))
        .header_read_timeout(None);
    builder
}

/// What hyper takes unasked, and then parses without allocating.
const HYPER_MAX_HEADERS: usize = 100;
/// The smallest buffer that hyper takes.
const MIN_BUFFER_BYTES: usize = 8192;

async fn drive(
    http: &http1::Builder,
    wire: Wire,
    purpose: Purpose,
    stream: &SharedStream,
    connection: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
    drain: &Drain,
) -> End {
    let opened = &RefCell::new(None);
    let service = service_fn(|request| {
        let answer = match purpose {
            Purpose::Serve => Either::Left(proxy.handle(connection, request)),
            Purpose::Redirect { port } => {
                Either::Right(ready(proxy.redirect(connection, request, port)))
            }
        };
        answer.map(move |mut answer| {
            *opened.borrow_mut() = answer.body_mut().take_tunnel();
            Ok::<_, Infallible>(answer)
        })
    });
    let mut requests = http.serve_connection(TokioIo::new(wire), service);
    let end = poll_fn(|cx| {
        connection.begin_turn();
        loop {
            if let Poll::Ready(result) = requests.poll_unpin(cx) {
                return Poll::Ready(End::Closed(result));
            }
            // Behind a 101 there is nothing to shut down, and hyper would no longer flush it.
            if drain.has_begun() && !connection.is_leaving() && opened.borrow().is_none() {
                connection.leave();
                // Its answer may have begun, and said that others may follow.
                if connection.phase.get() == Phase::Service {
                    Pin::new(&mut requests).graceful_shutdown();
                    continue;
                }
            }
            if connection.waits_for_upstream() && stream.borrow().has_reset(cx) {
                return Poll::Ready(End::Reset);
            }
            if connection.deadline.poll(cx).is_pending() {
                return Poll::Pending;
            }
            match connection.phase.get() {
                Phase::Idle => return Poll::Ready(End::Closed(Ok(()))),
                Phase::Head => return Poll::Ready(End::TooSlow),
                Phase::Service if connection.is_blocked.get() => {
                    connection.broke_off();
                    return Poll::Ready(End::Closed(Ok(())));
                }
                // Whoever waits sees that its wait was too long, and answers.
                Phase::Service => {}
            }
        }
    })
    .await;
    match (end, opened.take()) {
        (End::Closed(Ok(())), Some(tunnel)) => End::Tunnel(tunnel, requests.into_parts().read_buf),
        (end, _) => end,
    }
}

/// Hands the client's stream to a tunnel, to its end.
async fn carry(tunnel: Box<Tunnel>, mut stream: Transport, unread: Bytes) {
    match tunnel.run(&mut stream, unread).await {
        tunnel::End::Closed => {
            let _ = tokio::time::timeout(LINGER, stream.close()).await;
        }
        tunnel::End::Broken => stream.reset(),
    }
}

async fn close(
    end: End,
    mut stream: Transport,
    connection: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
) {
    let refusal = match &end {
        End::TooSlow => Some(Refusal::RequestTimeout),
        End::Closed(Err(error)) if error.is_parse() && !connection.is_refused.get() => {
            Some(Refusal::Unparsable)
        }
        End::Closed(_) | End::Reset | End::Tunnel(..) => None,
    };
    if connection.is_broken.get() {
        stream.reset();
    } else if let Some(refusal) = refusal {
        turn_away(stream, refusal, connection, proxy).await;
    } else if connection.is_refused.get() || connection.has_unread_body.get() {
        let _ = tokio::time::timeout(LINGER, linger(&mut stream)).await;
    } else {
        let _ = tokio::time::timeout(LINGER, stream.close()).await;
    }
}

/// Answers what could not be read as a request, and closes.
pub(super) async fn turn_away(
    mut stream: Transport,
    refusal: Refusal,
    connection: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
) {
    let answer = proxy.refuse_unread(connection, refusal);
    let _ = tokio::time::timeout(LINGER, stream.write_all(&answer)).await;
    let _ = tokio::time::timeout(LINGER, linger(&mut stream)).await;
}

/// Closing while the client still sends would reset the connection, and with it our last answer.
async fn linger(stream: &mut Transport) -> io::Result<()> {
    stream.shutdown().await?;
    let mut thrown_away = 0;
    let mut buffer = [0; 4096];
    while thrown_away < LINGER_BYTES {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => thrown_away += read,
        }
    }
    Ok(())
}
