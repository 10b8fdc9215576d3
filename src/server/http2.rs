//! One client connection that speaks HTTP/2 (RFC 9113): many requests at once, each on a stream.
//!
//! hyper and h2 keep the protocol; each stream is a task with a [`ConnectionInfo`] of its own, so that its waits
//! are its own. What one stream may hold is bounded, and less than what the connection may: one that nobody reads
//! does not stop the others.
//!
//! Never here: what is done with a request (see [`proxy`](crate::proxy)).

use std::cell::Cell;
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};

use super::connection::ConnectionInfo;
use super::handshake::Opened;
use super::worker::Drain;
use super::{Purpose, body};
use crate::config::Limits;
use crate::proxy::Proxy;
use crate::proxy::body::{BrokenBody, ResponseBody};

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
/// How long a client may take to close, once it was told to go.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves the requests that come over a connection, to its end.
pub(super) async fn serve(opened: Opened, purpose: Purpose, proxy: Rc<Proxy>, drain: Rc<Drain>) {
    let Opened { transport, info, registered: _registered, .. } = opened;
    info.begin_turn();
    let (http, keep_alive) = {
        let server = &proxy.snapshot().config.server;
        info.deadline().start(info.now(), server.timeouts.request_header);
        let keep_alive = server.timeouts.keep_alive;
        (builder(&server.limits, keep_alive), keep_alive)
    };
    let open = Cell::new(0);
    let streams = Rc::new(Streams { connection: Rc::clone(&info), open, keep_alive });
    let service =
        service_fn(|request| answer(Rc::clone(&proxy), purpose, Stream::open(&streams), request));
    let mut requests = pin!(http.serve_connection(TokioIo::new(transport), service));
    let mut is_leaving = false;
    poll_fn(|cx| {
        info.begin_turn();
        loop {
            if requests.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if drain.has_begun() && !is_leaving {
                is_leaving = true;
                requests.as_mut().graceful_shutdown();
                continue;
            }
            if info.deadline().poll(cx).is_pending() {
                return Poll::Pending;
            }
            if streams.open.get() > 0 {
                continue;
            }
            if is_leaving {
                return Poll::Ready(());
            }
            is_leaving = true;
            requests.as_mut().graceful_shutdown();
            info.deadline().start(info.now(), GOODBYE);
        }
    })
    .await;
}

fn builder(limits: &Limits, keep_alive: Duration) -> http2::Builder<Spawn> {
    let mut builder = http2::Builder::new(Spawn);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(limits.header_bytes as u32)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .keep_alive_interval(keep_alive)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}

/// Answers the request on one stream.
async fn answer(
    proxy: Rc<Proxy>,
    purpose: Purpose,
    stream: Stream,
    request: Request<Incoming>,
) -> Result<Response<TimedBody>, Infallible> {
    stream.info.begin_turn();
    let response = match purpose {
        Purpose::Serve => {
            let (head, body) = request.into_parts();
            let body = body::Incoming::http2(body);
            stream.timed(pin!(proxy.handle(&stream.info, head, body))).await
        }
        Purpose::Redirect { port } => proxy.redirect(&stream.info, &request.into_parts().0, port),
    };
    Ok(response.map(|body| TimedBody { body, stream }))
}

/// The streams of a connection.
struct Streams {
    connection: Rc<ConnectionInfo>,
    open: Cell<usize>,
    /// How long the next one may be waited for.
    keep_alive: Duration,
}

/// One stream, until its answer has ended.
struct Stream {
    info: Rc<ConnectionInfo>,
    all: Rc<Streams>,
}

impl Stream {
    fn open(all: &Rc<Streams>) -> Self {
        all.open.set(all.open.get() + 1);
        all.connection.deadline().clear();
        Self { info: Rc::new(all.connection.stream()), all: Rc::clone(all) }
    }

    /// Drives `future` together with the stream's deadline: whoever waits in it sees that its wait was too long.
    async fn timed<F: Future>(&self, mut future: Pin<&mut F>) -> F::Output {
        poll_fn(|cx| self.poll(cx, |cx| future.as_mut().poll(cx))).await
    }

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
        let Streams { connection, open, keep_alive } = &*self.all;
        open.set(open.get() - 1);
        if open.get() == 0 {
            connection.deadline().start(Instant::now(), *keep_alive);
        }
    }
}

/// An answer's body, with the stream it goes out on.
struct TimedBody {
    body: ResponseBody,
    stream: Stream,
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let Self { body, stream } = self.get_mut();
        stream.poll(cx, |cx| Pin::new(&mut *body).poll_frame(cx))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Starts a stream's task on the worker's own thread.
#[derive(Clone)]
struct Spawn;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}
