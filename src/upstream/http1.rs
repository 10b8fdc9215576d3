//! One request and its answer on one connection of HTTP/1, driven by the task of the request itself.
//!
//! Sending and receiving go on side by side: an endpoint may answer before it has read the whole request.
//! A connection goes back to the pool only through [`Exchange::finish`], after both were whole and nothing was
//! left over; dropping the exchange closes it. So no request ever meets the rest of another one's answer. Where the
//! endpoint changes the protocol, the stream leaves the exchange, and never comes back.
//!
//! Never here: whether a failed exchange may be tried again (the caller knows the request), deadlines, or headers.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::Bytes;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};

use super::answer;
use super::client::{Claim, PoolLimits};
use super::connection::Connection;
use super::exchange::{Fault, MAX_HEAD_BYTES};
use super::head::Head;
use super::request::RequestHead;
use super::stream::Stream;
use crate::http1::Malformed;
use crate::http1::decode::{Decoded, Decoder};
use crate::http1::encode::{Encoder, Framing, Piece, WrongLength};
use crate::pipe::Pipe;

/// From how many bytes on it pays to move them within the kernel: fewer are copied with fewer calls.
const WORTH_A_PIPE: u64 = 64 * 1024;

/// How far the request has gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    /// The body has more.
    Body,
    /// Everything is in `head` and `piece`.
    Rest,
    Done,
    /// The endpoint takes no more; it may have answered all the same.
    Refused,
}

/// The sole use of a connection for one request and its answer.
#[derive(Debug)]
pub struct Exchange<B> {
    connection: Connection,
    claim: Claim,
    is_reused: bool,

    head: RequestHead,
    body: B,
    encoder: Encoder,
    sending: Sending,
    /// Whether the body was asked for a piece and gave one: it cannot be sent again from its start.
    body_was_touched: bool,
    /// How much of `head` is written.
    head_sent: usize,
    /// What comes behind the head; `piece_sent` bytes of it are written.
    piece: Piece,
    piece_sent: usize,

    decoder: Decoder,
    keeps_alive: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Exchange<B> {
    pub(super) fn new(
        connection: Connection,
        claim: Claim,
        is_reused: bool,
        head: RequestHead,
        body: B,
    ) -> Self {
        let has_no_body = head.framing() == Framing::Empty;
        Self {
            connection,
            claim,
            is_reused,
            encoder: Encoder::new(head.framing()),
            head,
            body,
            sending: if has_no_body { Sending::Rest } else { Sending::Body },
            body_was_touched: false,
            head_sent: 0,
            piece: Piece::default(),
            piece_sent: 0,
            decoder: Decoder::Ended,
            keeps_alive: false,
        }
    }

    /// Whether the connection served a request before: it may have died since without a sign.
    pub fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether the endpoint knows nothing of the request: sending it again is safe then, whatever it is.
    pub fn is_unsent(&self) -> bool {
        self.head_sent == 0 && !self.body_was_touched
    }

    /// Whether all of the request was written.
    pub fn is_sent(&self) -> bool {
        self.sending == Sending::Done
    }

    /// The stream of an endpoint that changed the protocol, what came behind its answer, and the use of the endpoint.
    pub fn into_stream(self) -> (Stream, Bytes, Claim) {
        let (stream, unread) = self.connection.into_parts();
        (stream, unread, self.claim)
    }

    /// The request, to send it over another connection, and the use of the endpoint. The request's body is what
    /// is left of it.
    pub fn into_request(self) -> (Head, B, Claim) {
        (Head::Http1(self.head), self.body, self.claim)
    }

    /// Sends the request, and waits for the head of the answer. Interim answers are passed over (RFC 9110
    /// §15.2), but for 101, which the caller has to judge.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Fault>> {
        self.send_on(cx)?;
        loop {
            while let Some(answer) = self.read_head()? {
                if answer.is_interim() {
                    continue;
                }
                (self.decoder, self.keeps_alive) = (answer.body, answer.keeps_alive);
                return Poll::Ready(Ok(answer.head));
            }
            if self.connection.inbox.unread.len() > MAX_HEAD_BYTES {
                return Poll::Ready(Err(Fault::Malformed("the head is larger than 64 KiB")));
            }
            let in_answer = !self.connection.inbox.unread.is_empty();
            if !ready!(self.poll_more(cx, in_answer))? {
                return Poll::Ready(Err(Fault::Closed { in_answer, error: None }));
            }
        }
    }

    fn read_head(&mut self) -> Result<Option<answer::Answer>, Malformed> {
        if self.connection.inbox.unread.is_empty() {
            return Ok(None);
        }
        answer::read_head(&mut self.connection.inbox.unread, self.head.is_head())
    }

    /// The next piece of the answer's body; the rest of the request goes out meanwhile.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.send_on(cx)?;
        loop {
            match self.decoder.decode(&mut self.connection.inbox.unread).map_err(Fault::from)? {
                Decoded::Frame(frame) => return Poll::Ready(Some(Ok(frame))),
                Decoded::End => return Poll::Ready(None),
                Decoded::NeedsMore => {}
            }
            if ready!(self.poll_more(cx, true))? {
                continue;
            }
            if self.decoder != Decoder::UntilClose {
                return Poll::Ready(Some(Err(Fault::Closed { in_answer: true, error: None })));
            }
            self.decoder = Decoder::Ended;
            return Poll::Ready(None);
        }
    }

    /// Whether what comes next of the answer's body may go into a pipe, and is worth one.
    pub fn is_splicable(&self) -> bool {
        self.decoder.data_bytes() >= WORTH_A_PIPE && self.connection.untouched().is_some()
    }

    /// What comes next of a [splicable](Self::is_splicable) body, into `pipe`; the rest of the request goes out meanwhile.
    pub fn poll_splice(
        &mut self,
        pipe: &mut Pipe,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Fault>> {
        self.send_on(cx)?;
        let closed = |error| Fault::Closed { in_answer: true, error };
        let Some(stream) = self.connection.untouched() else { return Poll::Ready(Ok(0)) };
        let polled = pipe.poll_fill(stream, self.decoder.data_bytes(), cx);
        let bytes = ready!(polled).map_err(|error| closed(Some(error)))?;
        if bytes == 0 {
            return Poll::Ready(Err(closed(None)));
        }
        self.decoder.pass(bytes);
        Poll::Ready(Ok(bytes))
    }

    /// Reads more of the answer; `false` at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>, in_answer: bool) -> Poll<Result<bool, Fault>> {
        let closed = |error| Fault::Closed { in_answer, error: Some(error) };
        self.connection.poll_fill(cx).map_err(closed)
    }

    /// Whether the answer was read whole.
    pub fn has_ended(&self) -> bool {
        self.decoder.has_ended()
    }

    /// How long what is left of the answer's body may be.
    pub fn size_hint(&self) -> SizeHint {
        self.decoder.size_hint()
    }

    /// Ends the exchange: keeps the connection for the next request if both sides know that this one is over,
    /// and closes it otherwise.
    pub fn finish(self, now: Instant, limits: PoolLimits) {
        let is_clean = self.sending == Sending::Done && self.has_ended() && self.keeps_alive;
        if is_clean && self.connection.inbox.unread.is_empty() {
            self.claim.keep(self.connection, now, limits);
        }
    }

    /// Sends what can be sent without waiting. Only a fault of the request's own body is one here: an endpoint
    /// that takes no more may have answered.
    fn send_on(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while matches!(self.sending, Sending::Body | Sending::Rest) {
            let waits_for_body = self.sending == Sending::Body && !self.next_piece(cx)?;
            match self.poll_write(cx) {
                Poll::Ready(Ok(())) if self.sending == Sending::Rest => {
                    self.sending = Sending::Done
                }
                Poll::Ready(Ok(())) if waits_for_body => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => self.sending = Sending::Refused,
                Poll::Pending => return Ok(()),
            }
        }
        Ok(())
    }

    /// Asks the body for its next piece once the last one is out. `false`: it has none yet.
    fn next_piece(&mut self, cx: &mut Context<'_>) -> Result<bool, Fault> {
        if self.piece_sent < self.piece.len() {
            return Ok(true);
        }
        let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) else { return Ok(false) };
        self.body_was_touched = true;
        self.piece.clear();
        self.piece_sent = 0;
        let added = match polled {
            Some(Ok(frame)) => self.encoder.frame(frame, &mut self.piece),
            Some(Err(_)) => return Err(Fault::Body),
            None => {
                self.sending = Sending::Rest;
                self.encoder.end(&mut self.piece)
            }
        };
        added.map_err(|WrongLength| Fault::Body)?;
        Ok(true)
    }

    /// Writes all of the head and of the piece behind it, until it has left.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let [before, data, behind] = self.piece.parts();
            let mut pieces = [self.head.as_bytes(), before, data, behind].map(IoSlice::new);
            let mut left = &mut pieces[..];
            IoSlice::advance_slices(&mut left, self.head_sent + self.piece_sent);
            if left.is_empty() {
                return self.connection.poll_flush(cx);
            }
            let written = ready!(self.connection.poll_write(cx, left))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            let of_head = written.min(self.head.as_bytes().len() - self.head_sent);
            self.head_sent += of_head;
            self.piece_sent += written - of_head;
        }
    }
}
