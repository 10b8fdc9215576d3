//! One request and its answer on a stream of HTTP/2 (RFC 9113), driven by the task of the request itself.
//!
//! Sending and receiving go on side by side, each as flow control allows: the next piece of an upload is read from the
//! client when the last one has left, and the endpoint gets room for more of an answer when the client has taken what
//! came. Dropping the exchange resets the stream, and no other one.
//!
//! Never here: whether a failed exchange may be tried again, deadlines, headers, or the connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, TRAILER};
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};

use super::client::Claim;
use super::exchange::Fault;
use super::head::{Head, StreamHead};
use super::kept::Part;
use super::shared::Place;
use crate::http1::encode::Framing;

/// How long the end of an answer may follow its last byte before the stream is reset.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// The sole use of a stream for one request and its answer.
#[derive(Debug)]
pub struct Exchange<B> {
    stage: Stage,
    upload: Option<SendStream<Bytes>>,
    /// Behind the stream, so that it is closed before another request takes its place.
    place: Place,
    claim: Claim,
    is_reused: bool,
    /// Whether the endpoint is known to have done nothing with the request.
    was_refused: bool,

    head: Box<StreamHead>,
    body: B,
    sending: Sending,
    /// How many parts of the body were taken.
    taken: usize,
    /// What was taken and is not sent yet.
    piece: Bytes,
    /// How much of the body is still to come, where its head says so.
    left: Option<u64>,
}

/// How far the answer has come.
#[derive(Debug)]
enum Stage {
    /// Nothing was sent.
    New,
    Waiting(ResponseFuture),
    Body(Download),
    Ended(Option<RecvStream>),
}

#[derive(Debug)]
struct Download {
    stream: RecvStream,
    /// How much is still to come, where the head says so.
    left: Option<u64>,
    may_have_trailers: bool,
}

/// How far the request has gone out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sending {
    Body,
    Done,
    /// The endpoint takes no more; it may have answered all the same.
    Refused,
}

impl<B: Body<Data = Bytes> + Unpin> Exchange<B> {
    pub(super) fn new(
        place: Place,
        claim: Claim,
        is_reused: bool,
        head: Box<StreamHead>,
        body: B,
    ) -> Self {
        let has_no_body = matches!(head.framing, Framing::Empty | Framing::Length(0));
        Self {
            stage: Stage::New,
            upload: None,
            place,
            claim,
            is_reused,
            was_refused: false,
            sending: if has_no_body { Sending::Done } else { Sending::Body },
            taken: 0,
            piece: Bytes::new(),
            left: match head.framing {
                Framing::Empty => Some(0),
                Framing::Length(length) => Some(length),
                Framing::Chunked => None,
            },
            head,
            body,
        }
    }

    pub(super) fn is_reused(&self) -> bool {
        self.is_reused
    }

    pub(super) fn is_unsent(&self) -> bool {
        (self.was_refused || matches!(self.stage, Stage::New)) && self.head.kept.is_whole()
    }

    pub(super) fn is_sent(&self) -> bool {
        self.sending == Sending::Done
    }

    pub(super) fn into_request(mut self) -> (Head, B, Claim) {
        self.head.failed_on = self.place.number();
        (Head::Http2(self.head), self.body, self.claim)
    }

    pub(super) fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Parts, Fault>> {
        if matches!(self.stage, Stage::New) {
            self.begin()?;
        }
        self.send_on(cx)?;
        let Stage::Waiting(answer) = &mut self.stage else {
            unreachable!("the head is not waited for once more")
        };
        let (mut head, stream) = match ready!(Pin::new(answer).poll(cx)) {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Poll::Ready(Err(self.failed(error))),
        };
        self.head.kept.forget();
        head.version = http::Version::HTTP_11;
        // Whatever comes behind such a head is no content (RFC 9110 §6.4.1).
        let has_no_body = self.head.is_head() || matches!(head.status.as_u16(), 204 | 304);
        let length = head.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        let left = length.and_then(|length| length.parse().ok());
        let may_have_trailers = left.is_none() || head.headers.contains_key(TRAILER);
        let download = Download { stream, left, may_have_trailers };
        self.stage = if has_no_body || download.is_through() {
            Stage::Ended(Some(download.stream))
        } else {
            Stage::Body(download)
        };
        Poll::Ready(Ok(head))
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        self.send_on(cx)?;
        let Stage::Body(download) = &mut self.stage else { return Poll::Ready(None) };
        let frame = match ready!(download.poll(cx)) {
            Ok(frame) => frame,
            Err(error) => return Poll::Ready(Some(Err(fault(error, true)))),
        };
        if frame.is_none() || download.is_through() {
            let ended = Stage::Ended(None);
            let Stage::Body(download) = std::mem::replace(&mut self.stage, ended) else {
                unreachable!("it was there a moment ago")
            };
            self.stage = Stage::Ended(Some(download.stream));
        }
        Poll::Ready(frame.map(Ok))
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.stage {
            Stage::Ended(_) => SizeHint::with_exact(0),
            Stage::Body(Download { left: Some(left), .. }) => SizeHint::with_exact(*left),
            _ => SizeHint::default(),
        }
    }

    /// Ends the exchange. The stream is closed, or will be at once: what an endpoint sends behind its last byte to
    /// say that this was the last is waited for, so that it is not told that nobody wants its answer.
    pub(super) fn finish(self) {
        let Self { stage, upload, place, sending, .. } = self;
        let Stage::Ended(Some(stream)) = stage else { return };
        if sending == Sending::Done && !stream.is_end_stream() {
            tokio::task::spawn_local(async move {
                // Whether it came is the same to us.
                let _ = tokio::time::timeout(END_TIMEOUT, see_end(stream)).await;
                drop((upload, place));
            });
        }
    }

    fn begin(&mut self) -> Result<(), Fault> {
        let Some(request) = self.head.request(self.place.scheme()) else {
            return Err(Fault::Malformed("the request has no host that HTTP/2 could say"));
        };
        match self.place.begin(request, self.sending == Sending::Done) {
            Ok((answer, upload)) => {
                (self.stage, self.upload) = (Stage::Waiting(answer), Some(upload));
                Ok(())
            }
            Err(error) if error.is_go_away() || error.is_io() => {
                self.was_refused = true;
                Err(Fault::GoneAway)
            }
            Err(_) => Err(Fault::Malformed("the request cannot be said in HTTP/2")),
        }
    }

    fn failed(&mut self, error: h2::Error) -> Fault {
        let fault = fault(error, false);
        self.was_refused = matches!(fault, Fault::GoneAway | Fault::Refused);
        fault
    }

    /// Sends what can be sent without waiting. Only a fault of the request's own body is one here: an endpoint
    /// that takes no more may have answered.
    fn send_on(&mut self, cx: &mut Context<'_>) -> Result<(), Fault> {
        while self.sending == Sending::Body {
            let polled = match self.piece.is_empty() {
                true => self.poll_next(cx)?,
                false => self.poll_send(cx),
            };
            match polled {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Gone)) => {
                    (self.sending, self.piece) = (Sending::Refused, Bytes::new())
                }
            }
        }
        Ok(())
    }

    /// Takes the next part of the body; what is no data is sent.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Result<Poll<Result<(), Gone>>, Fault> {
        let part = match self.head.kept.part(self.taken) {
            Some(part) => part.clone(),
            None => match self.poll_body(cx) {
                Poll::Ready(part) => part?,
                Poll::Pending => return Ok(Poll::Pending),
            },
        };
        self.taken += 1;
        if let Part::Data(data) = part {
            if let Some(left) = &mut self.left {
                *left = left.checked_sub(data.len() as u64).ok_or(Fault::Body)?;
            }
            self.piece = data;
            return Ok(Poll::Ready(Ok(())));
        }
        if self.left.is_some_and(|left| left > 0) {
            return Err(Fault::Body);
        }
        let upload = self.upload.as_mut().expect("the stream has begun");
        let sent = match part {
            Part::Trailers(trailers) => upload.send_trailers(trailers),
            _ => upload.send_data(Bytes::new(), true),
        };
        self.sending = Sending::Done;
        Ok(Poll::Ready(sent.map_err(|_| Gone)))
    }

    /// Reads on in the body, and keeps what came.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Part, Fault>> {
        let part = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            None => Part::End,
            Some(Err(_)) => return Poll::Ready(Err(Fault::Body)),
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => Part::Data(data),
                Err(frame) => Part::Trailers(frame.into_trailers().unwrap_or_default()),
            },
        };
        self.head.kept.keep(&part);
        Poll::Ready(Ok(part))
    }

    /// Sends `piece` once the endpoint has room for its first byte. Room for more is not asked for: of a connection's
    /// room nothing may be held for a request whose client keeps us waiting.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let upload = self.upload.as_mut().expect("the stream has begun");
        upload.reserve_capacity(1);
        while upload.capacity() == 0 {
            match ready!(upload.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(Err(Gone)),
            }
        }
        let is_last = self.left.is_none_or(|left| left == 0)
            && self.head.kept.part(self.taken).is_none()
            && self.body.is_end_stream();
        let sent = upload.send_data(std::mem::take(&mut self.piece), is_last).map_err(|_| Gone);
        if is_last {
            self.sending = Sending::Done;
        }
        Poll::Ready(sent)
    }
}

/// The endpoint takes no more of the request.
struct Gone;

impl Download {
    /// The next piece, or the trailers, or the end.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        while let Some(data) = ready!(self.stream.poll_data(cx)) {
            let data = data?;
            self.stream.flow_control().release_capacity(data.len())?;
            if let Some(left) = &mut self.left {
                *left = left.saturating_sub(data.len() as u64); // h2 refuses what is too much
            }
            if !data.is_empty() {
                return Poll::Ready(Ok(Some(Frame::data(data))));
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx))?;
        Poll::Ready(Ok(trailers.map(Frame::trailers)))
    }

    /// Whether nothing can follow.
    fn is_through(&self) -> bool {
        self.stream.is_end_stream() || self.left == Some(0) && !self.may_have_trailers
    }
}

async fn see_end(mut stream: RecvStream) {
    while let Some(Ok(data)) = stream.data().await {
        if stream.flow_control().release_capacity(data.len()).is_err() {
            return;
        }
    }
}

/// What `error` says of the endpoint.
fn fault(error: h2::Error, in_answer: bool) -> Fault {
    match error.reason() {
        _ if error.is_io() => Fault::Closed { in_answer, error: error.into_io() },
        // The connection's end gives each stream it refuses this error, and only these (h2 keeps the number of the
        // last that was processed).
        Some(_) if error.is_go_away() && error.is_remote() && !in_answer => Fault::GoneAway,
        Some(Reason::REFUSED_STREAM) if error.is_remote() && !in_answer => Fault::Refused,
        Some(reason) if error.is_remote() => Fault::Reset(reason),
        _ => Fault::Malformed("the answer breaks the rules of HTTP/2"),
    }
}
