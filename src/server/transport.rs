//! The stream of a client's connection: TCP, or TLS over it.
//!
//! What a socket can do and TLS cannot (to look without reading, to reset) is done on the TCP below.
//!
//! Never here: a handshake (see [`handshake`](super::handshake)), or what the bytes mean.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

use super::connection::{LINGER, LINGER_BYTES};
use crate::http1::inbox::Readable;
use crate::upstream::stream::{reset_at_close, write_gathered};

/// A client's stream.
pub(super) enum Transport {
    Plain(TcpStream),
    /// Boxed, so that a plain connection does not carry the room for it.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// The socket, where what is sent over it goes in clear.
    pub(super) fn in_clear(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(stream) => Some(stream),
            Self::Tls(_) => None,
        }
    }

    /// Whether the client has reset the connection; otherwise the task is woken when it does. One that only
    /// ended its side still reads the answer.
    pub(super) fn has_reset(&self, cx: &mut Context<'_>) -> bool {
        let mut byte = [0];
        let peeked = self.tcp().poll_peek(cx, &mut ReadBuf::new(&mut byte));
        matches!(peeked, Poll::Ready(Err(_)))
    }

    /// Closes by a reset: the one end that no client takes for the end of a body without a length.
    pub(super) fn reset(self) {
        reset_at_close(self.tcp());
    }

    /// Ends our side, and closes when the client has ended its own, has had its time, or has sent too much. Closing while
    /// it still sends would reset the connection, and with it our last answer.
    pub(super) async fn linger(mut self) {
        let read_away = async {
            self.shutdown().await?;
            let mut thrown_away = 0;
            // Not in the future of every connection, most of which never come here.
            let mut buffer = vec![0; 4096];
            while thrown_away < LINGER_BYTES {
                match self.read(&mut buffer).await? {
                    0 => break,
                    read => thrown_away += read,
                }
            }
            io::Result::Ok(())
        };
        // Whatever became of it, it is over.
        let _ = timeout(LINGER, read_away).await;
    }

    /// Closes so that a TLS client knows it for the end (`close_notify`, RFC 8446 §6.1), and not for an attack.
    pub(super) async fn close(self) {
        match self {
            Self::Plain(_) => {}
            Self::Tls(mut stream) => {
                // One that does not take it any more has left.
                let _ = stream.shutdown().await;
            }
        }
    }
}

impl Readable for Transport {
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            // What TLS has deciphered already is there at once.
            Self::Tls(stream) if !stream.get_ref().1.wants_read() => Poll::Ready(Ok(())),
            _ => self.tcp().poll_read_ready(cx),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    /// Small messages leave in one record, and that in one send: rustls gathers the pieces.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => write_gathered(stream, cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
