//! The body of a client's request, whichever HTTP it came by.
//!
//! Never here: what is done with it, or how long it may take.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

use super::wire::{BrokenOff, Wire};

/// A request's body as it comes in.
pub struct Incoming(Source);

enum Source {
    /// There is none.
    Empty,
    Http1(Rc<RefCell<Wire>>),
    Http2(Upload),
}

/// What comes over one stream of HTTP/2.
struct Upload {
    stream: RecvStream,
    /// How much is still to come, where the head says so; h2 holds the client to it (RFC 9113 §8.1.1).
    left: Option<u64>,
    has_data: bool,
}

impl Incoming {
    /// No body.
    pub(super) fn empty() -> Self {
        Self(Source::Empty)
    }

    /// The body that `wire` is at the beginning of.
    pub(super) fn http1(wire: &Rc<RefCell<Wire>>) -> Self {
        let is_empty = wire.borrow().body().has_ended();
        Self(if is_empty { Source::Empty } else { Source::Http1(Rc::clone(wire)) })
    }

    /// What comes over `stream` behind a head with `headers`.
    pub(super) fn http2(stream: RecvStream, headers: &HeaderMap) -> Self {
        if stream.is_end_stream() {
            return Self::empty();
        }
        let length = || headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        Self(Source::Http2(Upload { stream, left: length(), has_data: true }))
    }
}

impl Upload {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        if self.has_data {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) => {
                    // Only a stream that is gone does not take it.
                    let _ = self.stream.flow_control().release_capacity(data.len());
                    self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // A reset is no end, whatever its code says: what came is not the whole.
                Some(Err(_)) => return Poll::Ready(Some(Err(BrokenOff))),
                None => self.has_data = false,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).map_err(|_| BrokenOff);
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
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
            Source::Http2(upload) => upload.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Empty => true,
            Source::Http1(wire) => wire.borrow().body().has_ended(),
            Source::Http2(upload) => upload.stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Empty => SizeHint::with_exact(0),
            Source::Http1(wire) => wire.borrow().body().size_hint(),
            Source::Http2(upload) => upload.left.map_or_else(SizeHint::new, SizeHint::with_exact),
        }
    }
}
