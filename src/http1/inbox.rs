//! Bytes that came over a connection and were not taken yet. While there are none, it holds no memory. What may hold a key
//! is overwritten as soon as nobody needs it any more.
//!
//! Never here: what the bytes mean.

use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};
use zeroize::{Zeroize as _, Zeroizing};

/// How much is read at first: a head and a small body.
const FIRST_READ_BYTES: usize = 4 * 1024;
/// How much is read at once when more comes: the fewer calls for a large body, the better, up to what stays in a core's
/// cache. What a client does not take is held by the kernel first, which has ten times as much room for it.
const MAX_READ_BYTES: usize = 256 * 1024;

/// A stream that says when there is something to read, before there is a buffer to read into.
pub trait Readable: AsyncRead + Unpin {
    /// Ready when reading would tell something: bytes, the end, or an error.
    fn poll_read_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// What came and was not taken yet.
#[derive(Debug)]
pub struct Inbox {
    /// The bytes.
    pub unread: Bytes,
    /// Whether what comes may hold a key.
    pub may_hold_keys: bool,
    read_bytes: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { unread: Bytes::new(), may_hold_keys: false, read_bytes: FIRST_READ_BYTES }
    }
}

impl Inbox {
    /// Forgets what the last message needed.
    pub fn rest(&mut self) {
        *self = Self { may_hold_keys: self.may_hold_keys, ..Self::default() };
    }

    /// Reads more bytes behind those that are unread; `false` at the end of the stream.
    ///
    /// # Errors
    /// What the system says.
    pub fn poll_fill<S: Readable>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let read = match self.read_bytes {
            FIRST_READ_BYTES => ready!(self.poll_read_little(stream, cx))?,
            _ => ready!(self.poll_read_much(stream, cx))?,
        };
        if read >= self.read_bytes {
            self.read_bytes = (self.read_bytes * 4).min(MAX_READ_BYTES);
        }
        Poll::Ready(Ok(read > 0))
    }

    /// A small message gets just the memory that it needs.
    fn poll_read_little<S: Readable>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut room = [MaybeUninit::uninit(); FIRST_READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut room);
        ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
        let came = buffer.filled_mut();
        if self.may_hold_keys {
            let mut unread = self.copy_for(came.len());
            unread.extend_from_slice(came);
            self.unread = overwritten(unread);
            came.zeroize();
        } else if self.unread.is_empty() {
            self.unread = Bytes::copy_from_slice(came);
        } else {
            let mut unread = self.take_for(came.len());
            unread.extend_from_slice(came);
            self.unread = unread.freeze();
        }
        Poll::Ready(Ok(came.len()))
    }

    /// A large one is read into the memory in which it stays.
    fn poll_read_much<S: Readable>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        ready!(stream.poll_read_ready(cx))?;
        if self.may_hold_keys {
            let mut unread = self.copy_for(self.read_bytes);
            let polled = pin!(stream.read_buf(&mut unread)).poll(cx);
            self.unread = overwritten(unread);
            return polled;
        }
        let mut unread = self.take_for(self.read_bytes);
        let polled = pin!(stream.read_buf(&mut unread)).poll(cx);
        self.unread = unread.freeze();
        polled
    }

    /// A copy of what is unread, with room for `more` behind it.
    fn copy_for(&self, more: usize) -> Vec<u8> {
        let mut unread = Vec::with_capacity(self.unread.len() + more);
        unread.extend_from_slice(&self.unread);
        unread
    }

    /// What is unread, with room for `more` behind it; copied only where somebody else still holds a part of it.
    fn take_for(&mut self, more: usize) -> BytesMut {
        match std::mem::take(&mut self.unread).try_into_mut() {
            Ok(mut unread) => {
                unread.reserve(more);
                unread
            }
            Err(shared) => {
                let mut unread = BytesMut::with_capacity(shared.len() + more);
                unread.extend_from_slice(&shared);
                unread
            }
        }
    }
}

/// The same bytes; their memory is overwritten when the last part of them is dropped.
fn overwritten(bytes: Vec<u8>) -> Bytes {
    Bytes::from_owner(Overwritten(Zeroizing::new(bytes)))
}

struct Overwritten(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Overwritten {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
