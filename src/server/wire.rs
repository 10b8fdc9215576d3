//! The bytes of one client connection that speaks HTTP/1, and where in a request's body they are.
//!
//! Never here: what a head says, what is answered, or how long anybody waits.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use tokio::io::AsyncWrite;

use super::transport::Transport;
use crate::http1::decode::{Decoded, Decoder};
use crate::http1::inbox::Inbox;
use crate::pipe::Pipe;

/// The word to a client that waits for one before it sends the body (RFC 9110 §15.2.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// How much of a body that nobody wants is read away, so that another request may follow.
const UNWANTED_BYTES: usize = 64 * 1024;

/// A client's stream and the bytes that came over it.
pub(super) struct Wire {
    stream: Transport,
    pub(super) inbox: Inbox,
    body: Decoder,
    /// What is left to be written of [`CONTINUE`].
    word: &'static [u8],
    /// Whether the client waits for it.
    expects_word: bool,
    is_unflushed: bool,
}

impl Wire {
    pub(super) fn new(stream: Transport) -> Self {
        Self {
            stream,
            inbox: Inbox::default(),
            body: Decoder::Ended,
            word: &[],
            expects_word: false,
            is_unflushed: false,
        }
    }

    /// The stream, and what came behind the last request.
    pub(super) fn into_parts(self) -> (Transport, Bytes) {
        (self.stream, self.inbox.unread)
    }

    /// Whether a client that has sent its whole request has reset the connection; otherwise the task is woken when it
    /// does. Whoever still sends is heard of by reading.
    pub(super) fn has_left(&self, cx: &mut Context<'_>) -> bool {
        self.body.has_ended() && self.stream.has_reset(cx)
    }

    /// Reads more; `false` at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.inbox.poll_fill(&mut self.stream, cx)
    }

    /// The head of the next request begins.
    pub(super) fn begin_head(&mut self) {
        self.inbox.may_hold_keys = true;
        if self.inbox.unread.is_empty() {
            self.inbox.rest();
        }
    }

    /// The body of the next request begins.
    pub(super) fn begin_body(&mut self, body: Decoder, expects_word: bool) {
        self.inbox.may_hold_keys = body.has_ended();
        (self.body, self.expects_word) = (body, expects_word);
    }

    /// The answer begins: the client that waits for a word needs none any more, and it would be read as a part of that.
    pub(super) fn begin_answer(&mut self) {
        self.expects_word = false;
    }

    /// What is left of the request's body.
    pub(super) fn body(&self) -> Decoder {
        self.body
    }

    /// The next piece of the request's body. Whoever asks first has the client told to send it.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if std::mem::take(&mut self.expects_word) && self.inbox.unread.is_empty() {
            self.word = CONTINUE;
        }
        ready!(self.poll_word(cx)).map_err(|_| BrokenOff)?;
        loop {
            match self.body.decode(&mut self.inbox.unread).map_err(|_| BrokenOff)? {
                Decoded::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                Decoded::End => return Poll::Ready(None),
                Decoded::NeedsMore => {}
            }
            if !ready!(self.poll_fill(cx)).map_err(|_| BrokenOff)? {
                return Poll::Ready(Some(Err(BrokenOff)));
            }
        }
    }

    /// Reads away what came of a body that nobody wants. Whether that was all of it: only then may another request
    /// follow.
    pub(super) fn read_away(&mut self, cx: &mut Context<'_>) -> bool {
        let mut read = 0;
        while !self.body.has_ended() && read < UNWANTED_BYTES {
            match self.poll_body(cx) {
                Poll::Ready(Some(Ok(frame))) => read += frame.data_ref().map_or(0, Bytes::len),
                _ => break,
            }
        }
        self.body.has_ended()
    }

    fn poll_word(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.word.is_empty() {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, self.word))?;
            self.word = &self.word[written..];
            self.is_unflushed = true;
        }
        if self.is_unflushed { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    /// Writes `pieces` behind what is left of the word, or the beginning of them. How many of their bytes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if !self.word.is_empty() {
            ready!(self.poll_word(cx))?;
        }
        self.is_unflushed = true;
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    /// Whether bytes may go out that are only in a pipe.
    pub(super) fn takes_pipes(&self) -> bool {
        self.stream.in_clear().is_some()
    }

    /// Sends what is in `pipe`, or the beginning of it. How many bytes.
    pub(super) fn poll_drain(
        &mut self,
        pipe: &mut Pipe,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match self.stream.in_clear() {
            Some(stream) => pipe.poll_drain(stream, cx),
            None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// Has everything written leave.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.is_unflushed = false;
        Poll::Ready(Ok(()))
    }
}

/// The request's body is malformed, or its client has left.
#[derive(Debug)]
pub struct BrokenOff;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::ErrorKind;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    async fn pair() -> (Wire, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).await;
        let (server, _) = listener.accept().await.expect("a connection");
        (Wire::new(Transport::Plain(server)), client.expect("a connection"))
    }

    #[tokio::test]
    async fn a_client_that_waits_for_a_word_gets_it_before_the_answer_only() {
        for has_begun in [false, true] {
            let (mut wire, mut client) = pair().await;
            wire.begin_body(Decoder::length(1), true);
            if has_begun {
                wire.begin_answer();
            }
            let asked = poll_fn(|cx| Poll::Ready(wire.poll_body(cx))).await;
            assert!(asked.is_pending());
            let mut word = [0; CONTINUE.len()];
            if has_begun {
                let read = client.try_read(&mut word).expect_err("silence");
                assert_eq!(read.kind(), ErrorKind::WouldBlock);
            } else {
                client.read_exact(&mut word).await.expect("the word");
                assert_eq!(word, CONTINUE);
            }
            client.write_all(b"x").await.expect("sent");
            let frame = poll_fn(|cx| wire.poll_body(cx)).await.expect("a frame").expect("sound");
            assert_eq!(frame.into_data().expect("data"), "x");
        }
    }
}
