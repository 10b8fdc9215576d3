//! What is done with TCP the same way on both sides of the proxy.
//!
//! Small messages are written with the cheaper system call: for the usual one, a head alone or with a small body,
//! copying its pieces together and sending them with send(2) costs less than writev(2).
//!
//! Never here: what is written, or when.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;

/// Up to so many bytes are copied together: more, and the copy costs what it saves.
const SMALL_BYTES: usize = 2048;

/// Writes `pieces`, or the beginning of them.
pub fn write_gathered(
    stream: &mut TcpStream,
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
