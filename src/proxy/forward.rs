//! Sending a permitted request to its upstream.
//!
//! [`send`] takes the [`Permit`] by value: no permit, no forwarding. A request goes out a second time only
//! if nothing of the first was written, or if it is idempotent, has no body, and died with a connection
//! that had served others before (RFC 9110 §9.2.2).
//!
//! Never here: header rules, or what the client is told.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use super::Proxy;
use super::body::RequestBody;
use super::context::RequestContext;
use super::error::Refusal;
use super::replay::Replay;
use crate::policy::Permit;
use crate::upstream::Endpoint;
use crate::upstream::client::Lease;

/// An upstream's answer, and the connection it is still being read from.
pub(super) type Answer = (Response<Incoming>, Lease<RequestBody>);

/// Sends what is in `request` to an endpoint of the upstream that `permit` names, and waits for the head of the answer.
///
/// The request stays in one place until hyper takes it: a future that moves it from hand to hand is several
/// kilobytes larger, and is moved itself for every request.
pub(super) async fn send(
    proxy: &Proxy,
    permit: Permit,
    request: &mut Option<Request<RequestBody>>,
    context: &mut RequestContext,
) -> Result<Answer, Refusal> {
    let snapshot = Arc::clone(context.snapshot());
    let upstream = &snapshot.upstreams[permit.upstream()];
    let mut last = Refusal::UpstreamConnect;
    for endpoint in proxy.round_robin.candidates(upstream) {
        context.saw_endpoint(endpoint);
        match send_to(proxy, endpoint, request, context).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) if request.is_none() => return Err(refusal),
            Err(refusal) => last = refusal,
        }
    }
    Err(last)
}

/// Sends what is in `request` to `endpoint`. On an error it is still there if the endpoint, and the client's
/// body, know nothing of it.
async fn send_to(
    proxy: &Proxy,
    endpoint: &Endpoint,
    request: &mut Option<Request<RequestBody>>,
    context: &RequestContext,
) -> Result<Answer, Refusal> {
    let limits = context.snapshot().pool_limits;
    let mut may_reuse = true;
    loop {
        let now = context.connection().now();
        let reused = if may_reuse { proxy.client.reuse(endpoint, now, limits) } else { None };
        let (mut lease, copy) = match reused {
            Some(lease) => (lease, request.as_ref().and_then(replayable)),
            None => (Box::pin(connect(proxy, endpoint, context)).await?, None),
        };
        let failed = match exchange(&mut lease, request, context).await {
            Ok(response) => return Ok((response, lease)),
            Err(failed) => failed,
        };
        let is_back = request.is_some();
        if !lease.is_reused() {
            return Err(failed.refusal);
        }
        match copy {
            _ if is_back => {}
            // Not one dead connection after the other: the next one is new.
            Some(copy) if failed.may_repeat => {
                (*request, may_reuse) = (Some(copy.with_body(RequestBody::empty())), false)
            }
            _ => return Err(failed.refusal),
        }
    }
}

async fn connect(
    proxy: &Proxy,
    endpoint: &Endpoint,
    context: &RequestContext,
) -> Result<Lease<RequestBody>, Refusal> {
    let longest = context.snapshot().config.server.timeouts.upstream_connect;
    context.connection().deadline().start(context.connection().now(), longest);
    match within_deadline(context, pin!(proxy.client.connect(endpoint))).await {
        Some(Ok(lease)) => Ok(lease),
        Some(Err(error)) => {
            tracing::warn!(endpoint = endpoint.name(), %error, "endpoint not reachable");
            Err(Refusal::UpstreamConnect)
        }
        None => {
            tracing::warn!(
                endpoint = endpoint.name(),
                "endpoint did not take the connection in time"
            );
            Err(Refusal::UpstreamTimeout)
        }
    }
}

/// An exchange without an answer.
struct Failed {
    refusal: Refusal,
    /// Whether the connection died without a byte of an answer.
    may_repeat: bool,
}

/// Sends what is in `request`, and waits for the head of the answer. If nothing of it was written, it is put
/// back.
async fn exchange(
    lease: &mut Lease<RequestBody>,
    request: &mut Option<Request<RequestBody>>,
    context: &RequestContext,
) -> Result<Response<Incoming>, Failed> {
    let longest = context.snapshot().config.server.timeouts.upstream_response;
    context.connection().deadline().start(context.connection().now(), longest);
    let answer = pin!(lease.send(request.take().expect("a request is sent once, or put back")));
    let answer = within_deadline(context, answer).await;
    let fault = context.upload().and_then(|upload| upload.fault());
    match answer {
        // Nobody asked for another protocol: such an answer has no meaning (RFC 9110 §15.2.2).
        Some(Ok(response)) if response.status() == 101 => {
            Err(Failed { refusal: Refusal::UpstreamProtocol, may_repeat: false })
        }
        Some(Ok(response)) => {
            context.connection().deadline().clear();
            Ok(response)
        }
        Some(Err(mut unanswered)) => {
            *request = unanswered.take_message();
            let error = unanswered.error();
            let died = error.is_incomplete_message() || error.is_canceled() || is_io(error);
            let refusal = fault.unwrap_or(Refusal::UpstreamProtocol);
            Err(Failed { refusal, may_repeat: died && fault.is_none() })
        }
        None => {
            let awaits_client = context.upload().is_some_and(|upload| upload.awaits_client());
            let refusal =
                if awaits_client { Refusal::RequestTimeout } else { Refusal::UpstreamTimeout };
            Err(Failed { refusal: fault.unwrap_or(refusal), may_repeat: false })
        }
    }
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// A copy to send again if `request` gets lost with a reused connection, where that is safe.
fn replayable(request: &Request<RequestBody>) -> Option<Replay> {
    let is_idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    if is_idempotent && request.body().is_end_stream() { Replay::of(request) } else { None }
}

/// `None` if the connection's deadline passes first. Takes the future where it is: one taken by value would be
/// held twice.
async fn within_deadline<F: Future>(
    context: &RequestContext,
    mut future: Pin<&mut F>,
) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if context.connection().deadline().has_passed() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
