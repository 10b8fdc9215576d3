//! Bodies in both directions: streamed piece by piece as the other side takes them, counted, bounded in
//! size and in time. Nothing is gathered.
//!
//! Never here: the bytes themselves beyond passing them on.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};

use super::context::RequestContext;
use super::error::Refusal;
use super::headers;
use super::tunnel::Tunnel;
use crate::http1::encode::Framing;
use crate::panics;
use crate::pipe::Pipe;
use crate::rate::{Allowance, Pace};
use crate::server::body::Incoming;
use crate::server::connection::ConnectionInfo;
use crate::snapshot::{Held, Snapshot};
use crate::upstream::exchange::{Exchange, Fault};

/// How the upstream is told where the body ends: as the client told us, for there is one way to each.
pub(super) fn framing(headers: &HeaderMap, body: SizeHint) -> Framing {
    match body.exact() {
        Some(0) if !headers.contains_key(CONTENT_LENGTH) => Framing::Empty,
        Some(length) => Framing::Length(length),
        None => Framing::Chunked,
    }
}

/// The request's body, bounded. One that says itself that it is too large is refused at once.
pub(super) fn upload(body: Incoming, context: &mut RequestContext) -> Result<RequestBody, Refusal> {
    if body.is_end_stream() {
        return Ok(RequestBody::empty());
    }
    let limit = context.snapshot().config.server.limits.body_bytes;
    if limit.is_some_and(|limit| body.size_hint().lower() > limit) {
        return Err(Refusal::BodyTooLarge);
    }
    let upload = Rc::new(Upload::new(
        Rc::clone(context.connection()),
        context.snapshot().clone(),
        context.is_grpc(),
    ));
    context.saw_upload(&upload);
    Ok(RequestBody::streaming(body, upload))
}

/// What is known of a request's body while it goes by.
pub struct Upload {
    connection: Rc<ConnectionInfo>,
    snapshot: Held,
    bytes: Cell<u64>,
    has_ended: Cell<bool>,
    /// Whether the client is what everybody waits for.
    awaits_client: Cell<bool>,
    /// How long it may still be.
    allowance: Allowance,
    fault: Cell<Option<Refusal>>,
}

impl Upload {
    /// `may_pause`: it may come as slowly as it likes, as long as it comes.
    pub(super) fn new(connection: Rc<ConnectionInfo>, snapshot: Held, may_pause: bool) -> Self {
        let server = &snapshot.config.server;
        let allowance = Allowance::full(Pace {
            longest: server.timeouts.request_body_idle,
            min_rate: if may_pause { 0 } else { server.limits.request_body_min_rate },
        });
        Self {
            allowance,
            connection,
            snapshot,
            bytes: Cell::new(0),
            has_ended: Cell::new(false),
            awaits_client: Cell::new(false),
            fault: Cell::new(None),
        }
    }

    /// Bytes that came so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether all of it was passed on.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.get()
    }

    /// Why it cannot be passed on, if that is the client's fault.
    pub(super) fn fault(&self) -> Option<Refusal> {
        self.fault.get()
    }

    /// Whose wait it is that was too long.
    pub(super) fn awaits_client(&self) -> bool {
        self.awaits_client.get()
    }

    fn fail(&self, fault: Refusal) -> BrokenBody {
        self.fault.set(Some(fault));
        BrokenBody
    }
}

/// A request's body on its way to the upstream.
pub struct RequestBody(Option<(Incoming, Rc<Upload>)>);

impl RequestBody {
    /// No body.
    pub(super) fn empty() -> Self {
        Self(None)
    }

    /// `incoming`, with its progress told to `upload`.
    pub(super) fn streaming(incoming: Incoming, upload: Rc<Upload>) -> Self {
        Self(Some((incoming, upload)))
    }
}

/// Removes from a request's trailers what may not go on.
pub(super) fn strip_trailers(trailers: &mut HeaderMap, snapshot: &Snapshot) {
    let secrets: Vec<HeaderName> = snapshot.sources.header_names().cloned().collect();
    headers::strip_trailers(trailers, &snapshot.config.identity, &secrets);
}

/// A body that broke off; its [`Upload`] or the log knows why.
#[derive(Debug)]
pub struct BrokenBody;

impl std::fmt::Display for BrokenBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body broke off")
    }
}

impl std::error::Error for BrokenBody {}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let Some((incoming, upload)) = self.0.as_mut() else { return Poll::Ready(None) };
        let timeouts = &upload.snapshot.config.server.timeouts;
        let (deadline, now) = (upload.connection.deadline(), upload.connection.now());
        let Poll::Ready(polled) = Pin::new(&mut *incoming).poll_frame(cx) else {
            if !upload.awaits_client.replace(true) {
                deadline.start(now, upload.allowance.begin_wait(now));
            }
            return Poll::Pending;
        };
        upload.awaits_client.set(false);
        upload.allowance.end_wait(now);
        deadline.start(now, timeouts.upstream_response);
        let mut frame = match polled {
            None => {
                upload.has_ended.set(true);
                return Poll::Ready(None);
            }
            Some(Err(_)) => return Poll::Ready(Some(Err(upload.fail(Refusal::BodyBroken)))),
            Some(Ok(frame)) => frame,
        };
        if let Some(data) = frame.data_ref() {
            let bytes = upload.bytes.get() + data.len() as u64;
            upload.bytes.set(bytes);
            upload.allowance.earn(data.len());
            if upload.snapshot.config.server.limits.body_bytes.is_some_and(|limit| bytes > limit) {
                return Poll::Ready(Some(Err(upload.fail(Refusal::BodyTooLarge))));
            }
        }
        if let Some(trailers) = frame.trailers_mut() {
            strip_trailers(trailers, &upload.snapshot);
        }
        if incoming.is_end_stream() {
            upload.has_ended.set(true);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), |(incoming, _)| incoming.size_hint())
    }
}

/// What goes to the client behind the head of an answer. The request's context lives in it, to the last byte.
pub struct ResponseBody(Behind);

enum Behind {
    /// A body of ours.
    Own(Bytes, Box<RequestContext>),
    /// The upstream's.
    Upstream(Box<Exchange<RequestBody>>, Box<RequestContext>),
    /// No body: the connection is another protocol's. `None` when it has been taken out.
    Tunnel(Option<Box<Tunnel>>),
}

impl ResponseBody {
    /// An answer of ours.
    pub(super) fn own(body: Bytes, context: Box<RequestContext>) -> Self {
        Self(Behind::Own(body, context))
    }

    /// The upstream's answer, the rest of which comes from `exchange`.
    pub(super) fn upstream(
        exchange: Box<Exchange<RequestBody>>,
        context: Box<RequestContext>,
    ) -> Self {
        let mut body = Self(Behind::Upstream(exchange, context));
        body.finish_at_end();
        body
    }

    /// The upstream's answer, behind which `tunnel` begins.
    pub(super) fn tunnel(tunnel: Box<Tunnel>) -> Self {
        Self(Behind::Tunnel(Some(tunnel)))
    }

    /// Takes the tunnel out, for whoever has the client's stream.
    pub fn take_tunnel(&mut self) -> Option<Box<Tunnel>> {
        match &mut self.0 {
            Behind::Tunnel(tunnel) => tunnel.take(),
            Behind::Own(..) | Behind::Upstream(..) => None,
        }
    }

    /// Whether it is a body of ours, which is a refusal's.
    pub fn is_own(&self) -> bool {
        matches!(&self.0, Behind::Own(body, _) if !body.is_empty())
    }

    /// The client took nothing of it for too long: it is cut.
    pub fn was_not_taken(&mut self) {
        if let Behind::Own(_, context) | Behind::Upstream(_, context) = &mut self.0 {
            context.was_not_taken();
        }
    }

    /// Whether what comes next may go into a pipe, and is worth one.
    pub fn is_splicable(&self) -> bool {
        matches!(&self.0, Behind::Upstream(exchange, _) if exchange.is_splicable())
    }

    /// What comes next of a [splicable](Self::is_splicable) body, into `pipe`; how many bytes that is.
    pub fn poll_splice(
        &mut self,
        pipe: &mut Pipe,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, BrokenBody>> {
        let Behind::Upstream(exchange, context) = &mut self.0 else { return Poll::Ready(Ok(0)) };
        let passed = panics::catch(|| judge(context, exchange.poll_splice(pipe, cx)));
        let bytes = ready!(passed.unwrap_or_else(|_| broken_by_us(context)))?;
        context.count_out(bytes);
        self.finish_at_end();
        Poll::Ready(Ok(bytes))
    }

    /// Lets go of the connection to the endpoint as soon as the answer was read whole.
    fn finish_at_end(&mut self) {
        if matches!(&self.0, Behind::Upstream(exchange, _) if exchange.has_ended())
            && let Behind::Upstream(exchange, context) =
                std::mem::replace(&mut self.0, Behind::Tunnel(None))
        {
            context.finish(exchange);
            self.0 = Behind::Own(Bytes::new(), context);
        }
    }
}

/// What comes of a panic.
fn broken_by_us<T>(context: &mut RequestContext) -> Poll<Result<T, BrokenBody>> {
    Poll::Ready(Err(context.break_off(Refusal::Internal)))
}

/// What came of asking the endpoint for more: that, or a wait, unless the time for it is over.
fn judge<T>(
    context: &mut RequestContext,
    polled: Poll<Result<T, Fault>>,
) -> Poll<Result<T, BrokenBody>> {
    context.awaits_upstream(polled.is_pending());
    if let Some(end) = context.end() {
        return Poll::Ready(Err(context.break_off(end)));
    }
    match polled {
        Poll::Pending if context.connection().deadline().has_passed() => {
            let is_clients = context.upload().is_some_and(Upload::awaits_client);
            let refusal =
                if is_clients { Refusal::RequestTimeout } else { Refusal::UpstreamTimeout };
            Poll::Ready(Err(context.break_off(refusal)))
        }
        Poll::Pending => Poll::Pending,
        Poll::Ready(Ok(came)) => Poll::Ready(Ok(came)),
        Poll::Ready(Err(fault)) => Poll::Ready(Err(context.break_off_upstream(&fault))),
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        let (exchange, context) = match &mut self.0 {
            Behind::Own(body, _) if body.is_empty() => return Poll::Ready(None),
            Behind::Own(body, context) => {
                let body = std::mem::take(body);
                context.count_out(body.len());
                return Poll::Ready(Some(Ok(Frame::data(body))));
            }
            Behind::Upstream(exchange, context) => (exchange, context),
            Behind::Tunnel(_) => return Poll::Ready(None),
        };
        let passed =
            panics::catch(|| judge(context, exchange.poll_frame(cx).map(Option::transpose)));
        let passed = ready!(passed.unwrap_or_else(|_| broken_by_us(context)));
        if let Ok(Some(frame)) = &passed {
            context.count_out(frame.data_ref().map_or(0, Bytes::len));
        }
        if passed.is_ok() {
            self.finish_at_end();
        }
        Poll::Ready(passed.transpose())
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Behind::Own(body, _) => body.is_empty(),
            Behind::Upstream(exchange, _) => exchange.has_ended(),
            Behind::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Behind::Own(body, _) => SizeHint::with_exact(body.len() as u64),
            Behind::Upstream(exchange, _) => exchange.size_hint(),
            Behind::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}
