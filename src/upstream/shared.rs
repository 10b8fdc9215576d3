//! A connection of HTTP/2 to an endpoint, which many requests use at once (RFC 9113).
//!
//! A task of its own drives it. Who uses it has a [`Place`]; there are no more than the endpoint takes, and so few
//! that every stream may hold a whole window of bytes that its client does not take, and the others go on all the
//! same. An endpoint that says nothing while requests wait is asked whether it is still there.
//!
//! Never here: what goes over a stream, or which connection a request gets.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{Ping, SendStream};
use http::Request;
use http::uri::Scheme;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::MAX_HEAD_BYTES;
use crate::deadline::Deadline;

/// Most requests at once, whatever the endpoint takes: what is usual among endpoints.
const MAX_STREAMS: usize = 100;
/// How much of an answer may wait for its client to take it: what HTTP/2 begins with (RFC 9113 §6.9.2), and enough
/// for 1 Gbit/s over half a millisecond.
const STREAM_WINDOW_BYTES: u32 = 64 * 1024 - 1;
/// The same for a connection: room for all streams, so that those nobody reads cannot take it from the others.
const CONNECTION_WINDOW_BYTES: u32 = MAX_STREAMS as u32 * (STREAM_WINDOW_BYTES + 1);
/// How much of an upload may wait on a stream to be written.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// How much small frames that nobody takes may cost, at 256 bytes less their length each, until the endpoint is
/// thought to attack us: the windows of ten streams full of the smallest messages.
const SMALL_FRAMES_BYTES: usize = 16 * 1024 * 1024;
/// Streams we have reset for which frames may still come.
const MAX_RESET_STREAMS: usize = 2 * MAX_STREAMS;

/// After so long without a byte, while requests wait, the endpoint is asked whether it is still there.
const QUIET: Duration = Duration::from_secs(10);
/// How long it may take to say so.
const PING_TIMEOUT: Duration = Duration::from_secs(10);
/// After how long it is asked once more if it said nothing else: servers of gRPC take it for an attack when they are
/// asked more often than every five minutes.
const NEXT_PING: Duration = Duration::from_secs(310);

/// A connection. Dropped, with all places on it, it closes.
pub(super) struct Shared {
    requests: SendRequest<Bytes>,
    scheme: Scheme,
    /// Its place among all that a worker made to the endpoint, from 1.
    pub(super) number: u64,
    usage: Rc<Usage>,
    idle_since: Cell<Option<Instant>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Shared({}, {:?})", self.number, self.usage)
    }
}

/// What its users and its driver know together.
#[derive(Debug, Default)]
struct Usage {
    places: Cell<usize>,
    /// Whether bytes came since the driver last looked.
    heard: Cell<bool>,
}

impl Shared {
    /// Speaks HTTP/2 over `stream`, and waits for the endpoint to do so too: then it is known how many requests it
    /// takes at once.
    ///
    /// # Errors
    /// What the system says, or that the endpoint speaks something else.
    pub(super) async fn open<S>(stream: S, scheme: Scheme, number: u64) -> io::Result<Rc<Self>>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let usage = Rc::new(Usage::default());
        let heard = Heard { stream, usage: Rc::clone(&usage) };
        let (requests, mut connection) = builder().handshake(heard).await.map_err(to_io)?;
        poll_fn(|cx| match Pin::new(&mut connection).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(to_io(error))),
            Poll::Pending if requests.current_max_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await?;
        tokio::task::spawn_local(drive(connection, Rc::clone(&usage)));
        Ok(Rc::new(Self { requests, scheme, number, usage, idle_since: Cell::new(None) }))
    }

    /// Whether it takes another request at all: it has not failed, and the endpoint did not say that it goes.
    pub(super) fn is_good(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        matches!(self.requests.clone().poll_ready(&mut nobody), Poll::Ready(Ok(())))
    }

    /// Whether it was without a request for `longest`; to be asked now and then.
    pub(super) fn is_idle(&self, now: Instant, longest: Duration) -> bool {
        if self.usage.places.get() > 0 {
            self.idle_since.set(None);
            return false;
        }
        let since = self.idle_since.get().unwrap_or(now);
        self.idle_since.set(Some(since));
        now.saturating_duration_since(since) >= longest
    }

    /// A place for one more request, if there is one.
    pub(super) fn enter(self: &Rc<Self>) -> Option<Place> {
        let places = &self.usage.places;
        let most = self.requests.current_max_send_streams().min(MAX_STREAMS);
        (places.get() < most).then(|| {
            places.set(places.get() + 1);
            self.idle_since.set(None);
            Place(Rc::clone(self))
        })
    }
}

/// The use of a connection for one request; it counts there until this is dropped.
#[derive(Debug)]
pub(super) struct Place(Rc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        let places = &self.0.usage.places;
        places.set(places.get() - 1);
    }
}

impl Place {
    /// The number of the connection.
    pub(super) fn number(&self) -> u64 {
        self.0.number
    }

    /// What the endpoint is asked by.
    pub(super) fn scheme(&self) -> &Scheme {
        &self.0.scheme
    }

    /// Begins a stream. `is_whole`: the request has no body.
    ///
    /// # Errors
    /// The connection has failed, or takes no more requests: nothing of this one was sent.
    pub(super) fn begin(
        &self,
        request: Request<()>,
        is_whole: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // A handle of its own: one that is kept would hold on to the last stream, and it could not be cancelled.
        self.0.requests.clone().send_request(request, is_whole)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_max_send_streams(0) // until the endpoint has said how many
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_header_list_size(MAX_HEAD_BYTES as u32)
        .data_frame_budget(SMALL_FRAMES_BYTES)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        // What is late on a stream that its client gave up is no fault, and must not add up to one.
        .max_local_error_reset_streams(None);
    builder
}

/// Drives `connection` to its end, or until the endpoint is no longer there: all streams fail then.
async fn drive<S>(mut connection: Connection<Heard<S>, Bytes>, usage: Rc<Usage>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut pings = connection.ping_pong().expect("it is asked for once");
    let deadline = Deadline::default();
    let (mut is_asked, mut was_used) = (false, false);
    poll_fn(|cx| {
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let now = tokio::time::Instant::now().into_std();
        let is_used = usage.places.get() > 0;
        if usage.heard.take() || is_used && !was_used {
            deadline.start(now, QUIET);
        }
        if is_asked && pings.poll_pong(cx).is_ready() {
            is_asked = false;
            deadline.start(now, NEXT_PING);
        }
        if !is_used && !is_asked {
            deadline.clear();
        }
        was_used = is_used;
        if deadline.poll(cx).is_pending() {
            return Poll::Pending;
        }
        if is_asked || pings.send_ping(Ping::opaque()).is_err() {
            return Poll::Ready(());
        }
        is_asked = true;
        deadline.start(now, PING_TIMEOUT);
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// `error` as one of the system, for who cannot reach an endpoint.
fn to_io(error: h2::Error) -> io::Error {
    let text = format!("the endpoint does not speak HTTP/2: {error}");
    error.into_io().unwrap_or_else(|| io::Error::other(text))
}

/// A stream that notes when bytes came.
struct Heard<S> {
    stream: S,
    usage: Rc<Usage>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            this.usage.heard.set(true);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::DuplexStream;

    use super::*;

    /// A connection to an endpoint that takes `most` requests at once, on a clock that stands while anybody works.
    fn run<F: Future<Output = ()>>(most: u32, test: impl FnOnce(Rc<Shared>, Endpoint) -> F) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (ours, theirs) = tokio::io::duplex(1 << 16);
            let endpoint = tokio::task::spawn_local(async move {
                let mut builder = h2::server::Builder::new();
                builder.max_concurrent_streams(most).handshake(theirs).await.expect("HTTP/2")
            });
            let shared = Shared::open(ours, Scheme::HTTP, 1).await.expect("HTTP/2");
            test(shared, endpoint.await.expect("no panic")).await;
        });
    }

    type Endpoint = h2::server::Connection<DuplexStream, Bytes>;

    async fn send(place: &Place) -> Result<(), h2::Error> {
        let (answer, _no_body) = place.begin(Request::new(()), true).expect("it is good");
        answer.await.map(drop)
    }

    #[test]
    fn there_are_as_many_places_as_the_endpoint_takes() {
        run(2, |shared, _endpoint| async move {
            let first = shared.enter().expect("a place");
            let _second = shared.enter().expect("a place");
            assert!(shared.enter().is_none());
            drop(first);
            assert!(shared.enter().is_some());
        });
        run(100_000, |shared, _endpoint| async move {
            let places: Vec<Place> = std::iter::from_fn(|| shared.enter()).collect();
            assert_eq!(places.len(), MAX_STREAMS, "more could take each other's window");
        });
    }

    #[test]
    fn it_is_idle_when_nobody_used_it_for_long() {
        run(1, |shared, _endpoint| async move {
            let (now, longest) = (Instant::now(), Duration::from_secs(5));
            assert!(!shared.is_idle(now, longest));
            assert!(shared.is_idle(now + longest, longest));
            let place = shared.enter();
            assert!(!shared.is_idle(now + longest, longest));
            drop(place);
            assert!(!shared.is_idle(now + 2 * longest, longest));
            assert!(shared.is_idle(now + 3 * longest, longest));
        });
    }

    #[test]
    fn an_endpoint_that_says_nothing_any_more_is_given_up() {
        run(1, |shared, endpoint| async move {
            let began = tokio::time::Instant::now();
            let place = shared.enter().expect("a place");
            let error = send(&place).await.expect_err("nobody answers");
            assert!(error.is_io(), "{error}");
            assert!(!shared.is_good());
            assert_eq!(began.elapsed().as_secs(), (QUIET + PING_TIMEOUT).as_secs());
            drop(endpoint);
        });
    }

    #[test]
    fn an_endpoint_that_is_there_may_think_for_as_long_as_it_likes() {
        run(1, |shared, mut endpoint| async move {
            let answer = tokio::task::spawn_local(async move {
                let (_request, mut respond) =
                    endpoint.accept().await.expect("a request").expect("a request");
                let thought = tokio::time::sleep(Duration::from_secs(3600));
                tokio::select! {
                    () = thought => {}
                    _none = endpoint.accept() => panic!("it was given up"),
                }
                respond.send_response(http::Response::new(()), true).expect("it is wanted");
                endpoint.accept().await.is_none()
            });
            let place = shared.enter().expect("a place");
            send(&place).await.expect("an answer");
            drop((place, shared));
            assert!(answer.await.expect("no panic"), "and closes when nobody wants it any more");
        });
    }
}
