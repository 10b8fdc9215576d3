//! The streams an endpoint may be spoken to over, and writing small messages with the cheaper system call.
//!
//! For the usual message, a head alone or with a small body, copying its pieces together and sending them with
//! send(2) costs less than writev(2).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Up to so many bytes are copied together: more, and the copy costs what it saves.
const SMALL_BYTES: usize = 2048;

/// A stream to an endpoint.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    /// Whether something happened to it that reading would tell: bytes, the end, or an error.
    pub(super) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Unix(stream) => stream.poll_read_ready(cx),
        }
    }

    /// Reads what is there.
    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.try_read(buffer),
            Self::Unix(stream) => stream.try_read(buffer),
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
