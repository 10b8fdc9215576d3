//! The bytes of one client connection, on their way to and from hyper.
//!
//! Two things need the bytes themselves. The wait for a request's head begins with its first byte. And what
//! hyper refuses to parse never reaches [`Proxy::handle`]: hyper answers it with a bare status, which is
//! replaced here by a problem document like every other refusal, and logged.
//!
//! Never here: bytes changed in any other case.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::connection::ConnectionInfo;
use crate::proxy::Proxy;
use crate::proxy::error::Refusal;
use crate::upstream::stream::write_gathered;

/// A client's stream, shared between hyper and the connection's driver, which closes it.
pub(super) type SharedStream = Rc<RefCell<TcpStream>>;

pub(super) struct Wire {
    stream: SharedStream,
    connection: Rc<ConnectionInfo>,
    proxy: Rc<Proxy>,
    /// What is still to be written in place of hyper's bare answer.
    refusal: Option<Bytes>,
}

impl Wire {
    pub(super) fn new(
        stream: SharedStream,
        connection: Rc<ConnectionInfo>,
        proxy: Rc<Proxy>,
    ) -> Self {
        Self { stream, connection, proxy, refusal: None }
    }

    /// Replaces `bytes` if they are an answer of hyper's own: all our answers are flushed, no request is
    /// being served, so nobody else can have written it.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if !self.connection.is_quiet() || !bytes.starts_with(b"HTTP/1.1 4") {
            return false;
        }
        let refusal = match bytes.get(9..12) {
            Some(b"431" | b"414") => Refusal::HeadersTooLarge,
            _ => Refusal::Unparsable,
        };
        self.refusal = Some(self.proxy.refuse_unread(&self.connection, refusal));
        self.connection.set_refused();
        true
    }

    fn poll_refusal(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(refusal) = self.refusal.as_mut().filter(|refusal| refusal.has_remaining()) {
            let written = ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, refusal))?;
            refusal.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, buf))?;
        if buf.filled().len() > before {
            self.connection.received(&buf.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.replaces(buf) {
            return Poll::Ready(Ok(buf.len()));
        }
        Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if bufs.first().is_some_and(|first| self.replaces(first)) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        write_gathered(&mut *self.stream.borrow_mut(), cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        self.connection.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_refusal(cx))?;
        Pin::new(&mut *self.stream.borrow_mut()).poll_shutdown(cx)
    }
}
