//! Sending a permitted request to its upstream.
//!
//! [`send`] takes the [`Permit`] by value: no permit, no forwarding. A request goes out a second time only
//! if the endpoint knows nothing of the first, or if it is idempotent, has no body, and nothing of an answer was passed
//! on (RFC 9110 §9.2.2): once more to the same endpoint if a kept connection died, and to others as often as the
//! upstream's settings say. An answer that did not come in time is not waited for once more.
//!
//! Never here: header rules, or what the client is told.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::response::Parts;
use http_body::Body as _;

use super::Proxy;
use super::body::RequestBody;
use super::context::RequestContext;
use super::error::Refusal;
use crate::policy::Permit;
use crate::upstream::balance::{Pick, Tried, hash};
use crate::upstream::client::{Claim, Lease};
use crate::upstream::exchange::{Exchange, Fault};
use crate::upstream::head::{Head, Way};
use crate::upstream::introduction::Introduction;
use crate::upstream::settings::Host;
use crate::upstream::{Endpoint, Member, Upstream};

/// The head of an upstream's answer, and the exchange that the rest of it comes from.
pub(super) type Answer = (Parts, Box<Exchange<RequestBody>>);

/// A request as it is forwarded.
pub(super) struct Outgoing {
    pub(super) head: Head,
    pub(super) body: RequestBody,
    /// Whether doing it twice is as good as doing it once (RFC 9110 §9.2.2).
    pub(super) is_idempotent: bool,
}

/// Sends `request` to an endpoint of the upstream that `permit` names, and waits for the head of the answer.
pub(super) async fn send(
    proxy: &Proxy,
    permit: Permit,
    request: Outgoing,
    context: &mut RequestContext,
) -> Result<Answer, Refusal> {
    let snapshot = context.snapshot().clone();
    let upstream = &snapshot.upstreams[permit.upstream()];
    admit(upstream, context)?;
    let most = upstream.settings.limits.connections;
    let client = context.client();
    let caller = || caller(&permit, client);
    proxy.balancer.count(upstream, context.connection().now());
    let (mut place, mut claim) = match first(proxy, upstream, context, caller) {
        Some(found) => found?,
        // Waiting is rare: the future of every request need not hold what it takes.
        None => Box::pin(wait_for_first(proxy, upstream, context, caller)).await?,
    };
    let mut request = Some(request);
    let mut tried = Tried::default();
    loop {
        let member = &upstream.members[place];
        let endpoint = &member.endpoint;
        context.saw_endpoint(endpoint);
        if let (Host::Endpoint, Some(request)) = (&upstream.settings.host, &mut request) {
            request.head.set_host(endpoint.authority());
        }
        let refusal = match send_to(member, claim, &mut request, context).await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        if request.is_none() || context.connection().deadline().is_over() {
            return Err(refusal);
        }
        tried.add(place);
        let now = context.connection().now();
        let next = proxy.balancer.another(upstream, &tried, now, caller).and_then(|place| {
            Some((place, proxy.client.claim(&upstream.members[place].endpoint, most)?))
        });
        match next {
            Some(next) => (place, claim) = next,
            None => return Err(refusal),
        }
    }
}

/// Counts the request, where there is a limit, until its answer has ended.
fn admit(upstream: &Upstream, context: &mut RequestContext) -> Result<(), Refusal> {
    if let Some(most) = upstream.settings.limits.in_flight {
        context.hold(upstream.load.admit(most).ok_or(Refusal::Overloaded)?);
    }
    Ok(())
}

/// The endpoint for a new request, and a connection to it that may be used; `None` while all are in use.
fn first(
    proxy: &Proxy,
    upstream: &Upstream,
    context: &RequestContext,
    caller: impl Fn() -> u64,
) -> Option<Result<(usize, Claim), Refusal>> {
    let most = upstream.settings.limits.connections;
    loop {
        match proxy.balancer.first(upstream, context.connection().now(), &caller) {
            Pick::Member(place) => {
                // Another worker may have been faster.
                if let Some(claim) = proxy.client.claim(&upstream.members[place].endpoint, most) {
                    return Some(Ok((place, claim)));
                }
            }
            Pick::Nobody => return Some(Err(Refusal::NoEndpoint)),
            Pick::Busy => return None,
        }
    }
}

/// Waits for [`first`] to find something.
async fn wait_for_first(
    proxy: &Proxy,
    upstream: &Upstream,
    context: &RequestContext,
    caller: impl Fn() -> u64,
) -> Result<(usize, Claim), Refusal> {
    let queue = upstream.load.queue(upstream.settings.limits.pending);
    let mut waiting = queue.ok_or(Refusal::Overloaded)?;
    let longest = context.snapshot().config.server.timeouts.upstream_connect;
    let look = || first(proxy, upstream, context, &caller);
    let found = within(longest, context, |cx| waiting.poll(cx, look)).await;
    found.unwrap_or(Err(Refusal::Overloaded))
}

/// Whose request it is, where that decides which endpoint gets it: the user, or the address of one who has none.
fn caller(permit: &Permit, client: IpAddr) -> u64 {
    match permit.identity() {
        Some(identity) => hash(identity.user().as_bytes()),
        None => hash(client.to_string().as_bytes()),
    }
}

/// Sends what is in `request` to the endpoint of `member`. On an error it is still there if the endpoint, and the
/// client's body, know nothing of it.
async fn send_to(
    member: &Member,
    mut claim: Claim,
    request: &mut Option<Outgoing>,
    context: &RequestContext,
) -> Result<Answer, Refusal> {
    let Member { endpoint, opening, .. } = member;
    let limits = context.snapshot().pool_limits;
    let began = context.connection().now();
    let mut may_reuse = true;
    loop {
        let now = context.connection().now();
        let way = request.as_ref().map_or(Way::Http1, |request| request.head.way());
        let opening = opening.as_ref();
        let reused = match may_reuse {
            true => claim.reuse(way, now, limits, opening, client_of(member, context).as_ref()),
            false => Err(claim),
        };
        let lease = match reused {
            Ok(lease) => lease,
            Err(claim) => {
                let connecting = Box::pin(claim.connect(way, opening, client_of(member, context)));
                match connect(connecting, endpoint, context).await {
                    Ok(lease) => lease,
                    Err(refusal) => {
                        if context.revoked().is_none() {
                            context.saw_failure(endpoint, began);
                        }
                        return Err(refusal);
                    }
                }
            }
        };
        let Outgoing { head, body, is_idempotent } =
            request.take().expect("a request is sent once, or put back");
        let may_repeat = is_idempotent && body.is_end_stream();
        let mut exchange = lease.exchange(head, body);
        let failure = match answer(&mut exchange, endpoint, context).await {
            Ok(head) => return Ok((head, exchange)),
            Err(failure) => failure,
        };
        let (is_reused, is_unsent) = (exchange.is_reused(), exchange.is_unsent());
        // A connection that was kept may die of its age: that tells nothing of the endpoint.
        let is_stale = is_reused
            && failure.kind != Kind::Refused
            && (is_unsent || failure.kind == Kind::Unanswered);
        if !is_stale && failure.kind != Kind::OfClient {
            context.saw_failure(endpoint, began);
        }
        let has_failed = matches!(failure.kind, Kind::Unanswered | Kind::Refused | Kind::Broken);
        let is_repeatable = has_failed && may_repeat;
        if !(is_unsent || is_repeatable) {
            return Err(failure.refusal);
        }
        let (head, body, same_claim) = exchange.into_request();
        *request = Some(Outgoing { head, body, is_idempotent });
        if !is_stale {
            return Err(failure.refusal);
        }
        // Not one dead connection after the other: the next one is new.
        may_reuse = is_unsent;
        claim = same_claim;
    }
}

/// Whom the endpoint takes a connection to be from, if it is told.
fn client_of(member: &Member, context: &RequestContext) -> Option<Introduction> {
    let peer = context.connection().peer();
    let is_told = member.opening.as_ref().is_some_and(|opening| opening.introduces());
    is_told.then(|| Introduction::new(peer.address(), peer.reached()))
}

async fn connect(
    mut connecting: Pin<Box<impl Future<Output = io::Result<Lease>>>>,
    endpoint: &Endpoint,
    context: &RequestContext,
) -> Result<Lease, Refusal> {
    let longest = context.snapshot().config.server.timeouts.upstream_connect;
    match within(longest, context, |cx| connecting.as_mut().poll(cx)).await {
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

/// Why there is no answer.
struct Failure {
    kind: Kind,
    refusal: Refusal,
}

/// Whose fault it is, and what the endpoint did.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    OfClient,
    /// It closed the connection without a byte of an answer.
    Unanswered,
    /// It refused the request without looking at it.
    Refused,
    /// It broke off, or sent what is no answer.
    Broken,
    /// It said nothing for too long.
    Silent,
}

/// Waits for the head of the answer.
async fn answer(
    exchange: &mut Exchange<RequestBody>,
    endpoint: &Endpoint,
    context: &RequestContext,
) -> Result<Parts, Failure> {
    let longest = context.snapshot().config.server.timeouts.upstream_response;
    let answer = within(longest, context, |cx| exchange.poll_head(cx)).await;
    let upload = context.upload();
    let fault = match answer {
        Some(Ok(head)) => match check_protocol(&head, exchange, context) {
            Ok(()) => {
                context.connection().deadline().clear();
                return Ok(head);
            }
            Err(fault) => fault,
        },
        Some(Err(fault)) => fault,
        None if let Some(refusal) = context.revoked() => {
            return Err(Failure { kind: Kind::OfClient, refusal });
        }
        None if upload.is_some_and(|upload| upload.awaits_client()) => {
            return Err(Failure { kind: Kind::OfClient, refusal: Refusal::RequestTimeout });
        }
        None => return Err(Failure { kind: Kind::Silent, refusal: Refusal::UpstreamTimeout }),
    };
    if let Some(refusal) = upload.and_then(|upload| upload.fault()) {
        return Err(Failure { kind: Kind::OfClient, refusal });
    }
    tracing::warn!(endpoint = endpoint.name(), %fault, "no answer from endpoint");
    let kind = match fault {
        Fault::Closed { in_answer: false, .. } | Fault::GoneAway => Kind::Unanswered,
        Fault::Refused => Kind::Refused,
        Fault::Closed { .. } | Fault::Reset(_) | Fault::Malformed(_) | Fault::Body => Kind::Broken,
    };
    Err(Failure { kind, refusal: Refusal::UpstreamProtocol })
}

/// An endpoint changes the protocol when it was asked to, when it knows the whole request, and to what was asked
/// for; any other change has no meaning (RFC 9110 §15.2.2).
fn check_protocol(
    head: &Parts,
    exchange: &Exchange<RequestBody>,
    context: &RequestContext,
) -> Result<(), Fault> {
    if head.status != 101 {
        return Ok(());
    }
    match context.asked() {
        Some(asked) if exchange.is_sent() => {
            asked.check_grant(&head.headers).map_err(Fault::Malformed)
        }
        Some(_) => Err(Fault::Malformed("it switches protocols within a request")),
        None => Err(Fault::Malformed("it switches protocols unasked")),
    }
}

/// What `poll` comes to; `None` if it takes longer than `longest`, or than what another wait that begins
/// meanwhile allows.
async fn within<T>(
    longest: Duration,
    context: &RequestContext,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    let connection = context.connection();
    connection.deadline().start(connection.now(), longest);
    poll_fn(|cx| match poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if connection.deadline().has_passed() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
