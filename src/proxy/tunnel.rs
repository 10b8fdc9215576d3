//! A tunnel: bytes both ways between a client and an endpoint that has changed to another protocol.
//!
//! Whoever does not read holds back who sends: each way holds one buffer of bytes at most, and none while they are
//! taken. The end of one side's bytes is passed on, and the other way stays open. A tunnel ends when both ways have
//! ended, when one breaks, or when nothing goes over it for too long. The request's context lives in it, so that
//! its record tells of the whole.
//!
//! Never here: what the bytes mean, how the tunnel was opened, or how the client's stream is closed.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::body::RequestBody;
use super::context::{CLIENT_LEFT, RequestContext};
use super::error::Refusal;
use crate::panics;
use crate::upstream::client::Claim;
use crate::upstream::exchange::Exchange;
use crate::upstream::stream::Stream;

/// How much is read at once, and held for a side that does not take it: a whole record of TLS (RFC 8446 §5.1).
const BUFFER_BYTES: usize = 16 * 1024;
/// How often one way reads before the other has its turn: whoever sends without end must not keep it waiting.
const READS_A_TURN: usize = 8;

/// The code of a tunnel over which nothing went for too long.
const IDLE: &str = "tunnel_idle";
/// The code of one that was still open when the process had to end.
const CUT: &str = "tunnel_cut";

/// An endpoint that has changed the protocol, waiting for the client's stream.
pub struct Tunnel {
    context: Box<RequestContext>,
    endpoint: Stream,
    /// Counts it among the uses of the endpoint.
    _claim: Claim,
    /// The longest time in which nothing goes over it.
    longest_idle: Duration,
    /// From the client to the endpoint.
    up: Way,
    /// And back.
    down: Way,
}

/// How a tunnel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The client may take the end of its stream for one.
    Closed,
    /// It must not: something may be missing.
    Broken,
}

impl Tunnel {
    /// The tunnel that the answer of `exchange` opens.
    pub(super) fn new(
        exchange: Exchange<RequestBody>,
        mut context: Box<RequestContext>,
    ) -> Box<Self> {
        let (endpoint, unread, claim) = exchange.into_stream();
        let longest_idle = context.snapshot().config.server.timeouts.tunnel_idle;
        context.let_go();
        context.note(Some(CUT));
        let (up, down) = (Way::default(), Way::holding(unread));
        Box::new(Self { context, endpoint, _claim: claim, longest_idle, up, down })
    }

    /// Whether the protocol is WebSocket, which has no use for one way alone (RFC 6455 §7.1.1).
    pub fn is_websocket(&self) -> bool {
        self.context.asked().is_some_and(|asked| asked.protocol().is_websocket())
    }

    /// Carries bytes until the end; `unread` came from the client behind its request.
    pub async fn run<C>(mut self: Box<Self>, client: &mut C, unread: Bytes) -> End
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        self.up = Way::holding(unread);
        let connection = Rc::clone(self.context.connection());
        let deadline = connection.deadline();
        deadline.start(connection.begin_turn(), self.longest_idle);
        let (end, code) = poll_fn(|cx| {
            let now = connection.begin_turn();
            if let Some(reason) = self.context.revoked() {
                return Poll::Ready((End::Broken, Some(reason.problem().code)));
            }
            let before = self.moved();
            let Ok(polled) = panics::catch(|| self.poll(cx, client)) else {
                return Poll::Ready((End::Broken, Some(Refusal::Internal.problem().code)));
            };
            if self.moved() != before {
                deadline.start(now, self.longest_idle);
            }
            match polled {
                Poll::Pending => deadline.poll(cx).map(|()| (End::Closed, Some(IDLE))),
                Poll::Ready(Ok(())) => Poll::Ready((End::Closed, None)),
                Poll::Ready(Err(code)) => Poll::Ready((End::Broken, Some(code))),
            }
        })
        .await;
        self.context.note(code);
        if end == End::Broken {
            self.endpoint.reset_at_close();
        }
        end
    }

    /// Carries what can be carried now. On a break, the code of whoever made it.
    fn poll<C>(&mut self, cx: &mut Context<'_>, client: &mut C) -> Poll<Result<(), &'static str>>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let up = self.up.poll(cx, client, &mut self.endpoint);
        let down = self.down.poll(cx, &mut self.endpoint, client);
        let by_client = match (up, down) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            // One side is through, and the other does not wait to be told so.
            (Poll::Ready(Ok(())), Poll::Ready(Err(_))) => return Poll::Ready(Ok(())),
            (Poll::Ready(Err(_)), Poll::Ready(Ok(()))) => return Poll::Ready(Ok(())),
            (Poll::Ready(Err(broken)), _) => broken == Broken::Source,
            (_, Poll::Ready(Err(broken))) => broken == Broken::Sink,
            (Poll::Pending, _) | (_, Poll::Pending) => return Poll::Pending,
        };
        Poll::Ready(Err(match by_client {
            true => CLIENT_LEFT,
            false => Refusal::UpstreamProtocol.problem().code,
        }))
    }

    fn moved(&self) -> u64 {
        self.up.moved + self.down.moved
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // Whoever cuts a tunnel did not wake it before: the record ends now, not at the last byte.
        self.context.connection().begin_turn();
        self.context.count_tunnelled(self.up.moved, self.down.moved);
    }
}

/// One way through a tunnel.
#[derive(Debug, Default)]
struct Way {
    /// Bytes that came and were not taken yet.
    held: Bytes,
    /// How many were.
    moved: u64,
    /// Whether some may be on their way in a buffer of TLS.
    is_unflushed: bool,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// All came that ever will.
    Ending,
    /// And the other side was told.
    Ended,
}

/// Which side of a way broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Broken {
    Source,
    Sink,
}

impl Way {
    fn holding(held: Bytes) -> Self {
        Self { held, ..Self::default() }
    }

    /// Carries what can be carried now, and is fair; ready at the end.
    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        for _ in 0..READS_A_TURN {
            ready!(self.poll_write_held(cx, sink))?;
            match self.phase {
                Phase::Open => ready!(self.poll_read(cx, source, sink))?,
                Phase::Ending => {
                    ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(|_| Broken::Sink)?;
                    self.phase = Phase::Ended;
                }
                Phase::Ended => return Poll::Ready(Ok(())),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_write_held<W>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<Result<(), Broken>>
    where
        W: AsyncWrite + Unpin,
    {
        while !self.held.is_empty() {
            match ready!(Pin::new(&mut *sink).poll_write(cx, &self.held)) {
                Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Sink)),
                Ok(written) => {
                    self.count(written);
                    self.held.advance(written);
                }
            }
            if self.held.is_empty() {
                self.held = Bytes::new();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes it; what is not taken is held. The buffer is on the stack: a tunnel that waits has none.
    fn poll_read<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
    ) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut space = [const { MaybeUninit::uninit() }; BUFFER_BYTES];
        let mut buffer = ReadBuf::uninit(&mut space);
        if Pin::new(&mut *source)
            .poll_read(cx, &mut buffer)
            .map_err(|_| Broken::Source)?
            .is_pending()
        {
            if self.is_unflushed {
                ready!(Pin::new(&mut *sink).poll_flush(cx)).map_err(|_| Broken::Sink)?;
                self.is_unflushed = false;
            }
            return Poll::Pending;
        }
        let read = buffer.filled();
        if read.is_empty() {
            self.phase = Phase::Ending;
            return Poll::Ready(Ok(()));
        }
        let written = match Pin::new(&mut *sink).poll_write(cx, read) {
            Poll::Pending => 0,
            Poll::Ready(written) => written.map_err(|_| Broken::Sink)?,
        };
        self.count(written);
        self.held = Bytes::copy_from_slice(&read[written..]);
        Poll::Ready(Ok(()))
    }

    fn count(&mut self, written: usize) {
        self.moved += written as u64;
        self.is_unflushed = true;
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufWriter, duplex};

    use super::*;

    /// Unconstrained: what is not woken must not be made to yield.
    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.expect("a runtime").block_on(tokio::task::unconstrained(test));
    }

    /// Carries as much as goes without waiting.
    fn carry(
        way: &mut Way,
        source: &mut (impl AsyncRead + Unpin),
        sink: &mut (impl AsyncWrite + Unpin),
    ) -> Poll<Result<(), Broken>> {
        let mut nobody = Context::from_waker(Waker::noop());
        (0..100).map(|_| way.poll(&mut nobody, source, sink)).last().expect("some turns")
    }

    #[test]
    fn what_was_taken_has_left_before_more_is_waited_for() {
        run(async {
            let (mut client, mut source) = duplex(64);
            let mut sink = BufWriter::new(Vec::new());
            let mut way = Way::holding(Bytes::from_static(b"one "));
            client.write_all(b"two").await.expect("room");
            assert!(carry(&mut way, &mut source, &mut sink).is_pending());
            assert_eq!((sink.get_ref().as_slice(), way.moved), (&b"one two"[..], 7));
        });
    }

    #[test]
    fn a_sink_that_does_not_take_holds_the_source_back() {
        run(async {
            let (mut client, mut source) = duplex(8 * BUFFER_BYTES);
            let (mut sink, mut endpoint) = duplex(10);
            let mut way = Way::default();
            let sent: Vec<u8> = (0..4 * BUFFER_BYTES).map(|i| (i % 251) as u8).collect();
            client.write_all(&sent).await.expect("room");
            assert!(carry(&mut way, &mut source, &mut sink).is_pending());
            assert_eq!((way.moved, way.held.len()), (10, BUFFER_BYTES - 10));
            drop(client);
            let mut received = Vec::new();
            loop {
                let has_ended = carry(&mut way, &mut source, &mut sink) == Poll::Ready(Ok(()));
                let mut piece = [0; 10];
                let read = endpoint.read(&mut piece).await.expect("bytes, or the end");
                received.extend_from_slice(&piece[..read]);
                if read == 0 {
                    assert!(has_ended);
                    break;
                }
            }
            assert!(received == sent);
            assert_eq!(way.held.len(), 0);
        });
    }

    #[test]
    fn who_sends_without_end_leaves_the_other_way_its_turn() {
        let mut way = Way::default();
        let (mut source, mut sink) = (tokio::io::repeat(0), tokio::io::sink());
        let mut nobody = Context::from_waker(Waker::noop());
        assert!(way.poll(&mut nobody, &mut source, &mut sink).is_pending());
        assert_eq!(way.moved, (READS_A_TURN * BUFFER_BYTES) as u64);
    }

    #[test]
    fn a_side_that_is_gone_breaks_the_way() {
        run(async {
            let (_client, mut source) = duplex(8);
            let (mut sink, endpoint) = duplex(8);
            drop(endpoint);
            let mut way = Way::holding(Bytes::from_static(b"lost"));
            let broken = Poll::Ready(Err(Broken::Sink));
            assert_eq!(carry(&mut way, &mut source, &mut sink), broken);
        });
    }
}
