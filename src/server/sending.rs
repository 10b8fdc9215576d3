//! Sending an answer over HTTP/1: its head with as much of its body as is there, then the rest as it comes.
//!
//! Never here: what the answer says, or what becomes of the connection behind it.

use std::cell::RefCell;
use std::io::IoSlice;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http_body::Body as _;

use super::answer::Begun;
use super::connection::ConnectionInfo;
use super::patience::Patience;
use super::wire::Wire;
use crate::http1::encode::{Encoder, Piece, WrongLength};
use crate::pipe::{Pipe, Pipes};
use crate::proxy::body::ResponseBody;
use crate::rate::Pace;

/// What came of sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The client has been sent all of it.
    Whole,
    /// It broke off, or the client did not take it in time: the client must not take its end for the answer's.
    Broken,
    /// The client is gone.
    Left,
}

/// An answer on its way out.
pub(super) struct Sending<'a> {
    wire: &'a RefCell<Wire>,
    info: &'a ConnectionInfo,
    body: ResponseBody,
    encoder: Option<Encoder>,
    takes_trailers: bool,
    piece: Piece,
    /// How much of `piece` is written.
    written: usize,
    pipes: &'a Rc<Pipes>,
    /// What goes out while there is nothing in `piece`.
    pipe: Option<Pipe>,
    /// Whether the body broke off behind what is in `piece`.
    is_broken: bool,
    patience: Patience,
}

impl<'a> Sending<'a> {
    pub(super) fn new(
        wire: &'a RefCell<Wire>,
        info: &'a ConnectionInfo,
        pipes: &'a Rc<Pipes>,
        begun: Begun,
        body: ResponseBody,
        pace: Pace,
    ) -> Self {
        let Begun { head, body: encoder, takes_trailers, .. } = begun;
        Self {
            wire,
            info,
            body,
            encoder,
            takes_trailers,
            piece: Piece::beginning(head),
            written: 0,
            pipes,
            pipe: None,
            is_broken: false,
            patience: Patience::new(pace),
        }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        loop {
            if self.written == 0 && self.pipe.is_none() && self.gather(cx).is_err() {
                self.is_broken = true;
                self.encoder = None;
            }
            if self.piece.is_empty() && self.pipe.is_none() {
                return self.poll_wait(cx);
            }
            if let Some(failed) = ready!(self.poll_write(cx)) {
                return Poll::Ready(failed);
            }
        }
    }

    /// Adds what is there of the body until enough is together.
    fn gather(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        while let Some(encoder) = &mut self.encoder
            && !self.piece.is_full()
        {
            if encoder.is_plain()
                && self.body.is_splicable()
                && self.wire.borrow().takes_pipes()
                && let Some(pipe) = self.pipes.take()
            {
                // What is together already goes first.
                return if self.piece.is_empty() { self.splice(pipe, cx) } else { Ok(()) };
            }
            match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Some(Err(_))) => return Err(Broken),
                Poll::Ready(Some(Ok(frame))) if frame.is_trailers() && !self.takes_trailers => {}
                Poll::Ready(Some(Ok(frame))) => encoder.frame(frame, &mut self.piece)?,
                Poll::Ready(None) => {}
            }
            self.end_at_end()?;
        }
        Ok(())
    }

    /// Has what is there of the body in `pipe`, if something is.
    fn splice(&mut self, mut pipe: Pipe, cx: &mut Context<'_>) -> Result<(), Broken> {
        let Poll::Ready(bytes) = self.body.poll_splice(&mut pipe, cx) else { return Ok(()) };
        if let Some(encoder) = &mut self.encoder {
            encoder.pass(bytes.map_err(|_| Broken)?)?;
        }
        self.pipe = Some(pipe);
        self.end_at_end()
    }

    fn end_at_end(&mut self) -> Result<(), Broken> {
        if self.body.is_end_stream()
            && let Some(mut encoder) = self.encoder.take()
        {
            encoder.end(&mut self.piece)?;
        }
        Ok(())
    }

    /// Everything is written: that was all, or the body has to go on.
    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<Sent> {
        if self.is_broken {
            return Poll::Ready(Sent::Broken);
        }
        let polled = self.wire.borrow_mut().poll_flush(cx);
        // TLS may hold the end of an answer that the client does not take.
        if self.encoder.is_none() && self.patience.is_over(self.info, polled.is_pending()) {
            self.body.was_not_taken();
            return Poll::Ready(Sent::Broken);
        }
        if ready!(polled).is_err() {
            return Poll::Ready(Sent::Left);
        }
        match self.encoder {
            None => Poll::Ready(Sent::Whole),
            Some(_) if self.wire.borrow().has_left(cx) => Poll::Ready(Sent::Left),
            Some(_) => Poll::Pending,
        }
    }

    /// Writes on; ready with what ended it, if something did.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Option<Sent>> {
        let polled = if let Some(pipe) = &mut self.pipe {
            self.wire.borrow_mut().poll_drain(pipe, cx)
        } else {
            let mut pieces = self.piece.parts().map(IoSlice::new);
            let mut left = &mut pieces[..];
            IoSlice::advance_slices(&mut left, self.written);
            self.wire.borrow_mut().poll_write(cx, left)
        };
        if self.patience.is_over(self.info, polled.is_pending()) {
            self.body.was_not_taken();
            return Poll::Ready(Some(Sent::Broken));
        }
        match ready!(polled) {
            Err(_) | Ok(0) => return Poll::Ready(Some(Sent::Left)),
            Ok(written) => {
                self.patience.took(written);
                match &self.pipe {
                    None => self.written += written,
                    Some(pipe) if pipe.is_empty() => self.pipe = None,
                    Some(_) => {}
                }
            }
        }
        if self.written == self.piece.len() {
            self.piece.clear();
            self.written = 0;
        }
        Poll::Ready(None)
    }
}

/// The body broke off, or is not as long as its head says.
struct Broken;

impl From<WrongLength> for Broken {
    fn from(_: WrongLength) -> Self {
        Self
    }
}
