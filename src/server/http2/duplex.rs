//! A stream of HTTP/2 as a tunnel uses it: bytes both ways in frames of DATA (RFC 8441 §5).
//!
//! END_STREAM is the end of one way, and a reset breaks both. Browsers leave their way of a WebSocket open when the other
//! has ended: they expect that all of it has, as a connection would. What the client does not read stays with the endpoint,
//! and what the endpoint does not read with the client: both have the stream's window, and no more.
//!
//! Never here: what the bytes mean.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::GOODBYE;

/// Both ways of a stream.
pub(super) struct Duplex {
    incoming: RecvStream,
    /// What came and was not read.
    unread: Bytes,
    outgoing: SendStream<Bytes>,
    has_said_all: bool,
    /// Whether the end of our way is soon the end of both.
    ends_together: bool,
    /// When the client has had its time to end its way.
    farewell: Option<Pin<Box<Sleep>>>,
}

impl Duplex {
    pub(super) fn new(
        incoming: RecvStream,
        outgoing: SendStream<Bytes>,
        ends_together: bool,
    ) -> Self {
        let (unread, has_said_all, farewell) = (Bytes::new(), false, None);
        Self { incoming, unread, outgoing, has_said_all, ends_together, farewell }
    }

    /// Closes so that the client knows it for the end.
    pub(super) fn close(mut self) {
        self.say_end();
    }

    /// Closes so that it does not.
    pub(super) fn reset(mut self) {
        self.outgoing.send_reset(Reason::CANCEL);
    }

    fn say_end(&mut self) {
        if !self.has_said_all {
            self.has_said_all = true;
            // A stream that is gone has ended for the client, too.
            let _ = self.outgoing.send_data(Bytes::new(), true);
        }
    }
}

impl AsyncRead for Duplex {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { incoming, unread, farewell, .. } = &mut *self;
        while unread.is_empty() {
            let Poll::Ready(data) = incoming.poll_data(cx) else {
                return match farewell {
                    Some(farewell) => farewell.as_mut().poll(cx).map(Ok),
                    None => Poll::Pending,
                };
            };
            match data {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => *unread = data,
                Some(Err(error)) => return Poll::Ready(Err(io::Error::other(error))),
            }
        }
        let read = unread.len().min(buf.remaining());
        buf.put_slice(&unread[..read]);
        unread.advance(read);
        // Only a stream that is gone does not take it.
        let _ = incoming.flow_control().release_capacity(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Duplex {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let Some(room) = ready!(poll_room(&mut self.outgoing, cx, buf.len())) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let data = Bytes::copy_from_slice(&buf[..room]);
        self.outgoing.send_data(data, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(room))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The connection's task sends what it was given.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.say_end();
        if self.ends_together && self.farewell.is_none() {
            self.farewell = Some(Box::pin(sleep(GOODBYE)));
            // Whoever reads had its turn, and does not wait for that yet.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }
}

/// Waits until the client takes some of `bytes`, which are one at least; `None` if it never will.
pub(super) fn poll_room(
    outgoing: &mut SendStream<Bytes>,
    cx: &mut Context<'_>,
    bytes: usize,
) -> Poll<Option<usize>> {
    outgoing.reserve_capacity(bytes);
    while outgoing.capacity() == 0 {
        match ready!(outgoing.poll_capacity(cx)) {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Poll::Ready(None),
        }
    }
    Poll::Ready(Some(outgoing.capacity().min(bytes)))
}
