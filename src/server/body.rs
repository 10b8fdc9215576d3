//! The body of a client's request, whichever HTTP it came by.
//!
//! Never here: what is done with it, or how long it may take.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::wire::{BrokenOff, Wire};

/// A request's body as it comes in.
pub struct Incoming(Source);

enum Source {
    /// There is none.
    Empty,
    Http1(Rc<RefCell<Wire>>),
    Http2(hyper::body::Incoming),
}

impl Incoming {
    /// The body that `wire` is at the beginning of.
    pub(super) fn http1(wire: &Rc<RefCell<Wire>>) -> Self {
        let is_empty = wire.borrow().body().has_ended();
        Self(if is_empty { Source::Empty } else { Source::Http1(Rc::clone(wire)) })
    }

    /// The body of a stream.
    pub(super) fn http2(body: hyper::body::Incoming) -> Self {
        Self(Source::Http2(body))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut self.0 {
            Source::Empty => Poll::Ready(None),
            Source::Http1(wire) => wire.borrow_mut().poll_body(cx),
            Source::Http2(body) => Pin::new(body).poll_frame(cx).map_err(|_| BrokenOff),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Http1(wire) => wire.borrow().body().has_ended(),
            Source::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Http1(wire) => wire.borrow().body().size_hint(),
            Source::Http2(body) => body.size_hint(),
        }
    }
}
