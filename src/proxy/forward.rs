//! Sending a permitted request to its upstream.
//!
//! [`send`] takes the [`Permit`] by value: no permit, no forwarding. A request goes out a second time only
//! if nothing of the first was written, or if it is idempotent, has no body, and died with a connection
//! that had served others before (RFC 9110 §9.2.2).
//!
//! Never here: header rules, or what the client is told.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use http::{Method, Request, Response};
use http_body::Body as _;
use hyper::body::Incoming;

use super::Proxy;
use super::body::RequestBody;
use super::context::RequestContext;
use super::error::Refusal;
use crate::policy::Permit;
use crate::upstream::Endpoint;
use crate::upstream::client::{Lease, Unanswered};

/// An upstream's answer, and the connection it is still being read from.
pub(super) type Answer = (Response<Incoming>, Lease<RequestBody>);

/// Sends `request` to an endpoint of the upstream that `permit` names, and waits for the head of the answer.
pub(super) async fn send(
    proxy: &Proxy,
    permit: Permit,
    mut request: Request<RequestBody>,
    context: &mut RequestContext,
) -> Result<Answer, Refusal> {
    let snapshot = Arc::clone(context.snapshot());
    let upstream = &snapshot.upstreams[permit.upstream()];
    let mut last = Refusal::UpstreamConnect;
    for endpoint in proxy.round_robin.candidates(upstream) {
        context.saw_endpoint(endpoint);
        match send_to(proxy, endpoint, request, context).await {
            Ok(answer) => return Ok(answer),
            Err(Failure::Final(refusal)) => return Err(refusal),
            Err(Failure::Unsent(back, refusal)) => (request, last) = (*back, refusal),
        }
    }
    Err(last)
}

/// Why an endpoint gave no answer.
enum Failure {
    /// It, and perhaps the client, saw something of the request.
    Final(Refusal),
    /// It saw nothing: here is the request back.
    Unsent(Box<Request<RequestBody>>, Refusal),
}

async fn send_to(
    proxy: &Proxy,
    endpoint: &Endpoint,
    mut request: Request<RequestBody>,
    context: &RequestContext,
) -> Result<Answer, Failure> {
    let snapshot = context.snapshot();
    let now = context.connection().now();
    while let Some(mut lease) = proxy.client.reuse(endpoint, now, snapshot.pool_limits) {
        let copy = replayable(&request);
        match exchange(&mut lease, request, context).await {
            Ok(response) => return Ok((response, lease)),
            Err(Failed { refusal, unsent: Some(back), .. })
                if refusal != Refusal::UpstreamTimeout =>
            {
                request = *back
            }
            Err(Failed { refusal, may_repeat, .. }) => match copy {
                Some(copy) if may_repeat => {
                    request = copy;
                    break;
                }
                _ => return Err(Failure::Final(refusal)),
            },
        }
    }
    let mut lease = match connect(proxy, endpoint, context).await {
        Ok(lease) => lease,
        Err(refusal) => return Err(Failure::Unsent(Box::new(request), refusal)),
    };
    match exchange(&mut lease, request, context).await {
        Ok(response) => Ok((response, lease)),
        Err(failed) => Err(Failure::Final(failed.refusal)),
    }
}

async fn connect(
    proxy: &Proxy,
    endpoint: &Endpoint,
    context: &RequestContext,
) -> Result<Lease<RequestBody>, Refusal> {
    let longest = context.snapshot().config.server.timeouts.upstream_connect;
    context.connection().deadline().start(context.connection().now(), longest);
    match within_deadline(context, proxy.client.connect(endpoint)).await {
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
    /// The request, if nothing of it was written.
    unsent: Option<Box<Request<RequestBody>>>,
    /// Whether the connection died without a byte of an answer.
    may_repeat: bool,
}

async fn exchange(
    lease: &mut Lease<RequestBody>,
    request: Request<RequestBody>,
    context: &RequestContext,
) -> Result<Response<Incoming>, Failed> {
    let longest = context.snapshot().config.server.timeouts.upstream_response;
    context.connection().deadline().start(context.connection().now(), longest);
    let answer = within_deadline(context, lease.send(request)).await;
    let fault = context.upload().and_then(|upload| upload.fault());
    match answer {
        // Nobody asked for another protocol: such an answer has no meaning (RFC 9110 §15.2.2).
        Some(Ok(response)) if response.status() == 101 => {
            Err(Failed { refusal: Refusal::UpstreamProtocol, unsent: None, may_repeat: false })
        }
        Some(Ok(response)) => {
            context.connection().deadline().clear();
            Ok(response)
        }
        Some(Err(Unanswered { error, unsent })) => Err(Failed {
            refusal: fault.unwrap_or(Refusal::UpstreamProtocol),
            unsent,
            may_repeat: fault.is_none()
                && (error.is_incomplete_message() || error.is_canceled() || is_io(&error)),
        }),
        None => {
            let awaits_client = context.upload().is_some_and(|upload| upload.awaits_client());
            let refusal =
                if awaits_client { Refusal::RequestTimeout } else { Refusal::UpstreamTimeout };
            Err(Failed { refusal: fault.unwrap_or(refusal), unsent: None, may_repeat: false })
        }
    }
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// A copy to send again if `request` gets lost with a reused connection, where that is safe.
fn replayable(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    let is_idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
    );
    if !is_idempotent || !request.body().is_end_stream() {
        return None;
    }
    let mut copy = Request::new(RequestBody::empty());
    copy.method_mut().clone_from(request.method());
    copy.uri_mut().clone_from(request.uri());
    copy.headers_mut().clone_from(request.headers());
    Some(copy)
}

/// `None` if the connection's deadline passes first.
async fn within_deadline<T>(
    context: &RequestContext,
    future: impl Future<Output = T>,
) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if context.connection().deadline().has_passed() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
