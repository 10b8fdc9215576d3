//! One request and its answer, in the protocol that the endpoint speaks, driven by the task of the request itself.
//!
//! Never here: whether a failed exchange may be tried again (the caller knows the request), deadlines, or headers.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};

use super::client::{Claim, PoolLimits};
use super::head::Head;
use super::stream::Stream;
use super::{http1, http2};
use crate::http1::Malformed;
use crate::pipe::Pipe;

/// Largest head of an answer.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why there is no answer, or no end of one.
#[derive(Debug)]
pub enum Fault {
    /// The request's body broke off, or is not as long as its head says; its source knows more.
    Body,
    /// The endpoint closed or reset the connection.
    Closed {
        /// Whether a part of an answer had come.
        in_answer: bool,
        /// What the system said.
        error: Option<io::Error>,
    },
    /// The endpoint takes no more requests on this connection, and did nothing with this one (RFC 9113 §6.8).
    GoneAway,
    /// The endpoint did nothing with the request (RFC 9113 §8.7).
    Refused,
    /// The endpoint gave up this request, and this one alone.
    Reset(h2::Reason),
    /// What the endpoint sent is no answer, or one that could be read in two ways.
    Malformed(&'static str),
}

impl From<Malformed> for Fault {
    fn from(Malformed(reason): Malformed) -> Self {
        Self::Malformed(reason)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Body => f.write_str("the request broke off"),
            Self::Closed { error: Some(error), .. } => write!(f, "{error}"),
            Self::Closed { in_answer: true, .. } => f.write_str("closed within an answer"),
            Self::Closed { .. } => f.write_str("closed without an answer"),
            Self::GoneAway => f.write_str("the connection takes no more requests"),
            Self::Refused => f.write_str("the stream was refused"),
            Self::Reset(reason) => write!(f, "the stream was reset: {reason}"),
            Self::Malformed(reason) => f.write_str(reason),
        }
    }
}

/// A request on its way to an endpoint, and what comes back.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "it is boxed itself; one more box would cost HTTP/1 an allocation"
)]
pub enum Exchange<B> {
    /// On a connection of its own.
    Http1(http1::Exchange<B>),
    /// On a stream of a connection that others use, too. Boxed, so that HTTP/1 does not carry the room for it.
    Http2(Box<http2::Exchange<B>>),
}

impl<B: Body<Data = Bytes> + Unpin> Exchange<B> {
    /// Whether the connection served a request before: it may have died since without a sign.
    pub fn is_reused(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_reused(),
            Self::Http2(exchange) => exchange.is_reused(),
        }
    }

    /// Whether the endpoint did nothing with the request, and it can be sent again from its start: that is safe
    /// then, whatever it is.
    pub fn is_unsent(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_unsent(),
            Self::Http2(exchange) => exchange.is_unsent(),
        }
    }

    /// Whether all of the request was written.
    pub fn is_sent(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_sent(),
            Self::Http2(exchange) => exchange.is_sent(),
        }
    }

    /// The stream of an endpoint that changed the protocol, what came behind its answer, and the use of the endpoint.
    pub fn into_stream(self) -> (Stream, Bytes, Claim) {
        match self {
            Self::Http1(exchange) => exchange.into_stream(),
            Self::Http2(_) => unreachable!("101 is passed over in HTTP/2 (RFC 9113 §8.6)"),
        }
    }

    /// The request, to send it over another connection, and the use of the endpoint. The request's body is what
    /// is left of it.
    pub fn into_request(self) -> (Head, B, Claim) {
        match self {
            Self::Http1(exchange) => exchange.into_request(),
            Self::Http2(exchange) => exchange.into_request(),
        }
    }

    /// Sends the request, and waits for the head of the answer. Interim answers are passed over (RFC 9110
    /// §15.2), but for 101 in HTTP/1, which the caller has to judge.
    pub fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Fault>> {
        match self {
            Self::Http1(exchange) => exchange.poll_head(cx),
            Self::Http2(exchange) => exchange.poll_head(cx),
        }
    }

    /// The next piece of the answer's body; the rest of the request goes out meanwhile.
    pub fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self {
            Self::Http1(exchange) => exchange.poll_frame(cx),
            Self::Http2(exchange) => exchange.poll_frame(cx),
        }
    }

    /// Whether what comes next of the answer's body may go into a pipe, and is worth one.
    pub fn is_splicable(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.is_splicable(),
            Self::Http2(_) => false,
        }
    }

    /// What comes next of a [splicable](Self::is_splicable) body, into `pipe`.
    pub fn poll_splice(
        &mut self,
        pipe: &mut Pipe,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, Fault>> {
        match self {
            Self::Http1(exchange) => exchange.poll_splice(pipe, cx),
            Self::Http2(_) => unreachable!("it comes in frames"),
        }
    }

    /// Whether the answer was read whole.
    pub fn has_ended(&self) -> bool {
        match self {
            Self::Http1(exchange) => exchange.has_ended(),
            Self::Http2(exchange) => exchange.has_ended(),
        }
    }

    /// How long what is left of the answer's body may be.
    pub fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(exchange) => exchange.size_hint(),
            Self::Http2(exchange) => exchange.size_hint(),
        }
    }

    /// Ends the exchange: what both sides know to be over leaves its connection to other requests.
    pub fn finish(self, now: Instant, limits: PoolLimits) {
        match self {
            Self::Http1(exchange) => exchange.finish(now, limits),
            Self::Http2(exchange) => exchange.finish(),
        }
    }
}
