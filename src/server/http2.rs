//! One client connection that speaks HTTP/2 (RFC 9113): many requests at once, each on a stream.
//!
//! h2 keeps the protocol; here the connection is driven together with its one deadline, and each stream becomes a
//! task with a [`ConnectionInfo`] of its own, so that its waits are its own. What one stream may hold is bounded, and
//! less than what the connection may: one that nobody reads does not stop the others.
//!
//! Never here: what goes over a stream (see [`stream`]), or what is done with a request (see
//! [`proxy`](crate::proxy)).

mod duplex;
mod guard;
mod stream;
mod waiting;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, Connection};
use h2::{Ping, PingPong, Reason};
use tokio::time::{Instant, Sleep, sleep};

use self::guard::Guarded;
use super::Purpose;
use super::connection::ConnectionInfo;
use super::handshake::Opened;
use super::patience;
use super::worker::Siblings;
use crate::config::Limits;
use crate::proxy::Proxy;
use crate::rate::Pace;

/// How much of an upload may be on its way on one stream before the endpoint takes it: what HTTP/2 begins with
/// (RFC 9113 §6.9.2).
const STREAM_WINDOW_BYTES: u32 = 64 * 1024 - 1;
/// The same for all streams of a connection: sixteen that nobody reads leave the others alone, and a connection
/// holds no more than this.
const CONNECTION_WINDOW_BYTES: u32 = 16 * (STREAM_WINDOW_BYTES + 1);
/// How much of an answer may wait on one stream for its client to take it.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How long a client may take to say that it is still there.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client may take to close, once it was told to go, or that its WebSocket has ended.
const GOODBYE: Duration = Duration::from_secs(5);
/// How long one that floods us or breaks the protocol is left without an end of its connection: it would come back at once,
/// and a handshake takes more from us than most floods.
const PENALTY: Duration = Duration::from_secs(10);

/// How many streams a worker may have open, some 40 MiB of them, before a connection may have no more than [`FEW`]: each
/// holds a request and its client pays nothing for it.
const MANY: usize = 8192;
/// As many as browsers ask for at once without HTTP/2, and two more.
const FEW: usize = 8;

/// Serves the requests that come over a connection, to its end.
pub(super) async fn serve(
    opened: Opened,
    purpose: Purpose,
    proxy: Rc<Proxy>,
    siblings: Rc<Siblings>,
) {
    let Opened { transport, info, registered: _registered, .. } = opened;
    info.begin_turn();
    let (builder, keep_alive, pace) = {
        let server = &proxy.snapshot().config.server;
        info.deadline().start(info.now(), server.timeouts.request_header);
        (builder(&server.limits), server.timeouts.keep_alive, patience::pace(server))
    };
    let transport = Rc::new(RefCell::new(transport));
    let guarded = Guarded::new(Rc::clone(&transport), info.now());
    let budget = guarded.budget();
    let Some(mut requests) = begin(&builder, guarded, &info).await else { return };
    let mut heartbeat = Heartbeat::of(&mut requests, keep_alive);
    let streams = Rc::new(Streams::of(&info, Rc::clone(&siblings), keep_alive, pace));
    let (mut is_leaving, mut is_cut) = (false, false);
    let is_at_fault = poll_fn(|cx| {
        info.begin_turn();
        loop {
            while let Poll::Ready(accepted) = requests.poll_accept(cx) {
                let (request, mut respond) = match accepted {
                    Some(Ok(accepted)) => accepted,
                    Some(Err(error)) => {
                        return Poll::Ready(error.is_go_away() && error.is_library());
                    }
                    None => return Poll::Ready(is_cut),
                };
                let Some(stream) = Stream::open(&streams) else {
                    respond.send_reset(Reason::REFUSED_STREAM);
                    continue;
                };
                let answer = stream::answer(Rc::clone(&proxy), purpose, stream, request, respond);
                tokio::task::spawn_local(answer);
            }
            if budget.is_overdrawn() && !is_cut {
                is_cut = true;
                requests.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                // It may not even take that.
                info.deadline().set_end(Some(info.now() + GOODBYE));
                continue;
            }
            if heartbeat.poll_missing(cx).is_ready() {
                return Poll::Ready(false);
            }
            if siblings.are_leaving() && !is_leaving {
                is_leaving = true;
                requests.graceful_shutdown();
                continue;
            }
            if info.deadline().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if streams.open.get() > 0 && !is_cut {
                continue;
            }
            if is_leaving || is_cut {
                return Poll::Ready(is_cut);
            }
            is_leaving = true;
            requests.graceful_shutdown();
            info.deadline().start(info.now(), GOODBYE);
        }
    })
    .await;
    // Its streams end with it.
    drop(requests);
    if is_at_fault {
        info.deadline().lift_end();
        info.deadline().start(info.now(), PENALTY);
        let is_over =
            |cx: &mut Context<'_>| siblings.are_leaving() || info.deadline().poll(cx).is_ready();
        poll_fn(|cx| if is_over(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
    } else if let Some(transport) = Rc::into_inner(transport) {
        transport.into_inner().linger().await;
    }
}

fn builder(limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(limits.header_bytes as u32)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .enable_connect_protocol();
    builder
}

/// Reads the client's preface, and sends ours; `None` if it does not come, or not in time.
async fn begin(
    builder: &Builder,
    transport: Guarded,
    info: &ConnectionInfo,
) -> Option<Connection<Guarded, Bytes>> {
    let mut handshake = builder.handshake(transport);
    poll_fn(|cx| match Pin::new(&mut handshake).poll(cx) {
        Poll::Ready(begun) => Poll::Ready(begun.ok()),
        Poll::Pending => info.deadline().poll(cx).map(|()| None),
    })
    .await
}

/// Asks now and then whether the client is still there: one that is gone without a word would keep its tunnels.
struct Heartbeat {
    pings: PingPong,
    every: Duration,
    timer: Pin<Box<Sleep>>,
    awaits_pong: bool,
}

impl Heartbeat {
    fn of(connection: &mut Connection<Guarded, Bytes>, every: Duration) -> Self {
        let pings = connection.ping_pong().expect("it is taken once");
        Self { pings, every, timer: Box::pin(sleep(every)), awaits_pong: false }
    }

    /// Ready when the client has not answered in time.
    fn poll_missing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.awaits_pong && self.pings.poll_pong(cx).is_ready() {
                self.wait(false, self.every);
            }
            ready!(self.timer.as_mut().poll(cx));
            if self.awaits_pong {
                return Poll::Ready(());
            }
            // It fails on a connection that has ended: whoever drives that will see it.
            if self.pings.send_ping(Ping::opaque()).is_err() {
                return Poll::Pending;
            }
            self.wait(true, PING_TIMEOUT);
        }
    }

    fn wait(&mut self, awaits_pong: bool, longest: Duration) {
        self.awaits_pong = awaits_pong;
        self.timer.as_mut().reset(Instant::now() + longest);
    }
}

/// The streams of a connection.
struct Streams {
    connection: Rc<ConnectionInfo>,
    open: Cell<usize>,
    /// Refusals that wait for the client to make room.
    refusals_waiting: Cell<u32>,
    siblings: Rc<Siblings>,
    /// How long the next one may be waited for.
    keep_alive: Duration,
    /// How slowly the client may take an answer.
    pace: Pace,
}

impl Streams {
    fn of(
        connection: &Rc<ConnectionInfo>,
        siblings: Rc<Siblings>,
        keep_alive: Duration,
        pace: Pace,
    ) -> Self {
        let (open, refusals_waiting) = (Cell::new(0), Cell::new(0));
        Self {
            connection: Rc::clone(connection),
            open,
            refusals_waiting,
            siblings,
            keep_alive,
            pace,
        }
    }
}

/// One stream, until its answer has ended.
struct Stream {
    info: Rc<ConnectionInfo>,
    all: Rc<Streams>,
}

impl Stream {
    /// One more; `None` if there is no room for it.
    fn open(all: &Rc<Streams>) -> Option<Self> {
        let (open, of_worker) = (all.open.get(), all.siblings.streams.get());
        if of_worker >= MANY && open >= FEW {
            return None;
        }
        all.open.set(open + 1);
        all.siblings.streams.set(of_worker + 1);
        all.connection.deadline().clear();
        Some(Self { info: Rc::new(all.connection.stream()), all: Rc::clone(all) })
    }

    /// Polls together with the stream's deadline: whoever waits in there sees that its wait was too long.
    fn poll<T>(
        &self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.info.begin_turn();
        loop {
            let polled = poll(cx);
            if polled.is_ready() || self.info.deadline().poll(cx).is_pending() {
                return polled;
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let Streams { connection, open, keep_alive, siblings, .. } = &*self.all;
        open.set(open.get() - 1);
        siblings.streams.set(siblings.streams.get() - 1);
        if open.get() == 0 {
            connection.deadline().start(connection.begin_turn(), *keep_alive);
        }
    }
}
