//! The streams there are on both sides of the proxy, and what is done the same way with each.
//!
//! Small messages are written with the cheaper system call: for the usual one, a head alone or with a small body,
//! copying its pieces together and sending them with send(2) costs less than writev(2).
//!
//! Never here: what is written, or when.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

use crate::http1::inbox::Readable;

/// Up to so many bytes are copied together: more, and the copy costs what it saves.
const SMALL_BYTES: usize = 2048;

/// A stream to an endpoint.
#[derive(Debug)]
pub enum Stream {
    /// TCP.
    Tcp(TcpStream),
    /// A socket in the file system.
    Unix(UnixStream),
    /// TLS over TCP; boxed, so that a stream in clear does not carry the room for it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether, idle, it still seems good: nobody closed it, and nothing came that nobody asked for. Costs no system
    /// call but where something has happened to it.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        if self.poll_read_ready(&mut nobody).is_pending() {
            return true;
        }
        let read = match self {
            Self::Tcp(stream) => stream.try_read(&mut [0]),
            Self::Unix(stream) => stream.try_read(&mut [0]),
            Self::Tls(_) => return false,
        };
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Makes the coming close a reset, where there is such a thing.
    pub fn reset_at_close(&self) {
        match self {
            Self::Tcp(stream) => reset_at_close(stream),
            Self::Unix(_) => {}
            Self::Tls(stream) => reset_at_close(stream.get_ref().0),
        }
    }

    /// Writes `pieces`, or the beginning of them.
    pub(super) fn poll_write_gathered(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Tcp(stream) => write_gathered(stream, cx, pieces),
            Self::Unix(stream) => write_gathered(stream, cx, pieces),
            // rustls gathers them.
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, pieces),
        }
    }
}

impl Readable for Stream {
    /// Of TLS, what is not for us (a ticket, new keys) is taken in and is nothing; an end that an attacker could make is
    /// an error.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_fill_buf(cx).map_ok(drop),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_gathered(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Only TLS keeps something back.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// Writes `pieces`, or the beginning of them.
pub fn write_gathered<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    let mut filled = pieces.iter().filter(|piece| !piece.is_empty());
    if let (Some(only), None) = (filled.next(), filled.next()) {
        return Pin::new(stream).poll_write(cx, only);
    }
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SMALL_BYTES {
        return Pin::new(stream).poll_write_vectored(cx, pieces);
    }
    let mut message = [0; SMALL_BYTES];
    let mut len = 0;
    for piece in pieces {
        message[len..len + piece.len()].copy_from_slice(piece);
        len += piece.len();
    }
    Pin::new(stream).poll_write(cx, &message[..len])
}

/// Makes the coming close of `stream` a reset: the one end that nobody takes for the end of the bytes.
pub fn reset_at_close(stream: &TcpStream) {
    // One that is gone already needs none.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
