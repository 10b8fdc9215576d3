//! The life of a request, from its head to the end of its answer:
//!
//! ```text
//! snapshot   = proxy.snapshot()                 one generation per request
//! context    = RequestContext::start()          its Drop records: every exit, a client that left too
//! survey     = headers::survey(head)            framing, Host, method
//! taken      = sources.take(head)               the raw key leaves the request, inside Secret
//! route      = routes.find(path)                one reading of the path
//! caller     = authenticate(taken, keys, now)
//! permit     = authorize(route, asked, caller) no way around
//! quota::take(permit)                           of what the key and the route allow, until the end
//! headers::prepare(head)                        strip, then set
//! answer     = forward::send(permit, request)   takes the permit by value
//! pass_on(answer) or refuse(refusal)            the context goes along, to the last byte, a tunnel's too
//! ```
//!
//! Every phase is a plain function of a module below; the branching is here. A phase that panics is a refusal, too.

pub mod body;
pub mod context;
pub mod error;
mod forward;
pub mod forwarded;
mod grpc;
mod guesses;
mod headers;
pub mod in_flight;
mod quota;
mod redirect;
mod rehearsal;
pub mod request_id;
pub mod tunnel;
pub mod upgrade;

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{
    ACCESS_CONTROL_REQUEST_METHOD, CONNECTION, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::request::Parts;
use http::{HeaderValue, Method, Response, Version};
use http_body::Body as _;

use crate::auth::credentials::{Ambiguous, Credential};
use crate::auth::{Unauthenticated, authenticate};
use crate::clock::{Clock, HttpDate};
use crate::http1::encode::Framing;
use crate::limit::TunnelLimit;
use crate::limit::failures::Failures;
use crate::limit::meter::Moment;
use crate::limit::meters::Meters;
use crate::panics;
use crate::pipe::Pipes;
use crate::policy::routes::Route;
use crate::policy::{self, Permit, authorize, authorize_preflight};
use crate::server::body::Incoming;
use crate::server::connection::ConnectionInfo;
use crate::snapshot::{Held, Shared, Snapshot, Source};
use crate::telemetry::access_log::WorkerLog;
use crate::telemetry::metrics::cell::{Counts, Measures};
use crate::upstream::balance::Balancer;
use crate::upstream::client::Client;
use crate::upstream::head::{Head, StreamHead};
use crate::upstream::request::RequestHead;
use crate::upstream::settings::Host;
use crate::usage::recorder::Reports;
use body::ResponseBody;
use context::RequestContext;
use error::Refusal;
use forward::Outgoing;
use headers::{Survey, Vouched};
use in_flight::{Closing, InFlight};
use request_id::RequestIds;
use tunnel::Tunnel;
use upgrade::Asked;

/// What one worker needs to handle requests. What it shares with other workers is the snapshot, which is only read, and what
/// few requests come to: tunnels and failures.
pub struct Proxy {
    snapshots: RefCell<Source>,
    clock: Clock,
    request_ids: RequestIds,
    balancer: Balancer,
    client: Client,
    in_flight: InFlight,
    measures: Measures,
    tunnels: Arc<TunnelLimit>,
    failures: Arc<Failures>,
    meters: Arc<Meters>,
    log: WorkerLog,
    reports: Reports,
    /// When the next is due.
    next_report: Cell<Instant>,
    /// Large bodies in clear pass through them.
    pub pipes: Rc<Pipes>,
}

/// How often a worker reports what became of keys, or as often as that is kept: a report costs as much as a few requests
/// of the key. Whoever asks has all workers report at once.
const REPORT_INTERVAL: Duration = Duration::from_secs(20);

impl Proxy {
    /// For a worker that writes to `log` and reports to `reports`; `tunnels` and `meters` count for all workers.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn new(
        shared: &Shared,
        tunnels: Arc<TunnelLimit>,
        log: WorkerLog,
        reports: Reports,
    ) -> Result<Self, getrandom::Error> {
        let current = shared.current();
        Ok(Self {
            measures: Measures::new(&current.load().config.routes),
            snapshots: RefCell::new(Source::new(current)),
            clock: Clock::new(),
            request_ids: RequestIds::new()?,
            balancer: Balancer::new()?,
            client: Client::default(),
            in_flight: InFlight::default(),
            tunnels,
            failures: Arc::clone(shared.failures()),
            meters: Arc::clone(shared.meters()),
            log,
            reports,
            next_report: Cell::new(Instant::now()),
            pipes: Rc::default(),
        })
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Held {
        self.snapshots.borrow_mut().load()
    }

    /// What a worker does now and then: close idle connections to endpoints and what expired keys hold open, report,
    /// hand over the log.
    pub fn tick(&self, now: Instant) {
        let snapshot = self.snapshot();
        self.client.prune(now, snapshot.pool_limits);
        self.in_flight.close_expired(self.unix_s(now));
        if now >= self.next_report.get() {
            self.next_report.set(now + REPORT_INTERVAL.min(snapshot.config.keys.usage.interval));
            self.report_usage();
        }
        self.log.flush();
    }

    /// What was measured so far.
    pub fn counts(&self) -> Counts {
        self.measures.counts()
    }

    /// Reports what is new of the usage of keys.
    pub fn report_usage(&self) {
        self.reports.send(|| self.in_flight.report());
    }

    /// The last tick and the last report, of a worker that has ended. Waits for room.
    pub fn finish(&self) {
        self.tick(Instant::now());
        self.reports.send_last(self.in_flight.report());
    }

    /// Closes what keys hold open that are no longer good in the current snapshot, and says so to `closing`.
    pub fn close_revoked(&self, closing: &Closing) {
        let now_unix_s = self.unix_s(Instant::now());
        self.in_flight.close_revoked(&self.snapshot().keys, now_unix_s, closing);
    }

    /// `at`, as meters are told it.
    fn moment(&self, at: Instant) -> Moment {
        self.meters.moment(at, self.clock.unix_micros(at) / 1_000_000)
    }

    /// `at` in whole seconds since the Unix epoch.
    fn unix_s(&self, at: Instant) -> i64 {
        (self.clock.unix_micros(at) / 1_000_000) as i64
    }

    /// Answers one request.
    ///
    /// What is decided is decided before there is a future: what that holds, is moved for every request.
    pub fn handle(
        self: &Rc<Self>,
        connection: &Rc<ConnectionInfo>,
        head: Parts,
        body: Incoming,
    ) -> impl Future<Output = Response<ResponseBody>> {
        let mut context = RequestContext::start(self, connection, Some(&head));
        let is_idempotent = head.method.is_idempotent();
        let framing = body::framing(&head.headers, body.size_hint());
        let decided = panics::catch(|| {
            let (permit, head) = permitted(head, framing, &mut context)?;
            let body = body::upload(body, &mut context)?;
            Ok((permit, Outgoing { head, body, is_idempotent }))
        });
        async move {
            let answer = match decided {
                Ok(Ok((permit, request))) => {
                    let sending = pin!(forward::send(self, permit, request, &mut context));
                    panics::caught(sending).await.unwrap_or(Err(Refusal::Internal))
                }
                Ok(Err(refusal)) => Err(refusal),
                Err(panics::Panicked) => Err(Refusal::Internal),
            };
            match (answer, context.end()) {
                (Ok(answer), None) => pass_on(answer, context),
                // As long as nothing of an answer has left, it can still be said why there is none.
                (Ok(_), Some(end)) => refuse(end, context),
                (Err(refusal), _) => refuse(context.cause(refusal), context),
            }
        }
    }

    /// Answers what came over `connection` and cannot be served at all; `head` is `None` if it could not be read. The
    /// answer is the last.
    pub fn turn_away(
        self: &Rc<Self>,
        connection: &Rc<ConnectionInfo>,
        head: Option<&Parts>,
        refusal: Refusal,
    ) -> Response<ResponseBody> {
        let mut context = RequestContext::start(self, connection, head);
        context.set_last_on_connection();
        refuse(refusal, context)
    }

    /// Records a request that its client took back before anything was done with it.
    pub fn was_left(self: &Rc<Self>, connection: &Rc<ConnectionInfo>, head: &Parts) {
        drop(RequestContext::start(self, connection, Some(head)));
    }

    /// `at` as an answer dates it.
    pub fn http_date(&self, at: Instant) -> HttpDate {
        self.clock.http_date(at)
    }
}

/// The head as it goes on, and the permit for it.
fn permitted(
    mut head: Parts,
    framing: Framing,
    context: &mut RequestContext,
) -> Result<(Permit, Head), Refusal> {
    let (permit, survey) = admit(&mut head, context)?;
    if survey.asks_for_upgrade() {
        context.asks_for(upgrade::ask(&head, framing, &permit)?)?;
    }
    let snapshot = context.snapshot();
    let upstream = &snapshot.upstreams[permit.upstream()];
    let vouched = Vouched {
        names: &snapshot.config.identity,
        identity: permit.identity().map(|identity| &**identity),
        request_id: context.request_id(),
        via: context.connection().peer().via(),
        peer_is_trusted: context.peer_is_trusted(),
        default_host: upstream.members[0].endpoint.authority(),
        other_host: match &upstream.settings.host {
            Host::Literal(host) => Some(host),
            // The endpoint is not chosen yet.
            Host::Keep | Host::Endpoint => None,
        },
        framing,
        upgrade: context.asked().map(Asked::protocol),
    };
    let head = match upstream.settings.http2 {
        false => headers::prepare::<RequestHead>(head, &survey, &vouched),
        true => headers::prepare::<StreamHead>(head, &survey, &vouched),
    };
    Ok((permit, head))
}

/// Everything that is decided about a request before anything of it goes on.
fn admit(head: &mut Parts, context: &mut RequestContext) -> Result<(Permit, Survey), Refusal> {
    let snapshot = context.snapshot().clone();
    let survey = headers::survey(head, &snapshot.config.identity)?;
    // The parser of HTTP/1 counted them.
    if head.version == Version::HTTP_2 && head.headers.len() > snapshot.config.server.limits.headers
    {
        return Err(Refusal::HeadersTooLarge);
    }
    let taken = snapshot.sources.take(&mut head.uri, &mut head.headers);
    let route = snapshot.config.routes.find(head.uri.path())?;
    context.saw_route(route);
    // Nobody can say which of two is meant: not even on a public route, where one that is not valid is as good as none.
    if taken.is_err() {
        return Err(Refusal::Unauthenticated(Unauthenticated::Ambiguous));
    }
    let preflight = preflight(head, &snapshot).and_then(|method| {
        authorize_preflight(route, &method, context.connection().peer().names())
    });
    let permit = match preflight {
        Some(permit) => permit,
        None => authorized(head, taken, route, context)?,
    };
    quota::take(&permit, context)?;
    context.was_admitted();
    Ok((permit, survey))
}

/// Who sent it, and whether they may.
fn authorized(
    head: &Parts,
    taken: Result<Option<Credential>, Ambiguous>,
    route: Option<&Route>,
    context: &mut RequestContext,
) -> Result<Permit, Refusal> {
    let snapshot = context.snapshot().clone();
    let caller = match authenticate(taken, &snapshot.keys, context.started_unix_s()) {
        Ok(found) => {
            context.saw_key(found);
            Ok(Arc::clone(found.identity()))
        }
        Err(reason) => Err(guesses::refusal(reason, &snapshot, context)),
    };
    let asked = policy::Asked {
        method: &head.method,
        path: head.uri.path(),
        client: context.client(),
        client_names: context.connection().peer().names(),
    };
    Ok(authorize(route, &asked, caller)?)
}

/// The method a browser's CORS preflight asks about, where the configuration lets preflights pass.
fn preflight(head: &Parts, snapshot: &Snapshot) -> Option<Method> {
    if !snapshot.config.auth.forward_preflight || head.method != Method::OPTIONS {
        return None;
    }
    head.headers.get(ORIGIN)?;
    Method::from_bytes(head.headers.get(ACCESS_CONTROL_REQUEST_METHOD)?.as_bytes()).ok()
}

/// Hands the upstream's answer on.
fn pass_on(
    (mut head, exchange): forward::Answer,
    mut context: Box<RequestContext>,
) -> Response<ResponseBody> {
    if context.asked().is_some_and(|asked| asked.is_mistaken_for_granted(&head)) {
        return refuse(Refusal::UpstreamProtocol, context);
    }
    context.saw_status(head.status);
    headers::finish(&mut head.headers, context.request_id());
    context.tell_share(&mut head.headers);
    head.version = Version::HTTP_11;
    if let Some(asked) = context.asked().filter(|_| head.status == 101) {
        asked.grant(&mut head.headers);
        let tunnel = Tunnel::new(*exchange, context);
        return Response::from_parts(head, ResponseBody::tunnel(tunnel));
    }
    context.was_not_granted();
    if context.is_last_on_connection() {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Response::from_parts(head, ResponseBody::upstream(exchange, context))
}

/// Says no.
fn refuse(refusal: Refusal, mut context: Box<RequestContext>) -> Response<ResponseBody> {
    let (mut head, body) = context.refuse(refusal).into_parts();
    let snapshot = context.snapshot();
    let challenges: &[HeaderValue] = match refusal {
        Refusal::Unauthenticated(Unauthenticated::MissingKey) => &snapshot.challenges.missing,
        Refusal::Unauthenticated(Unauthenticated::Ambiguous) => &[],
        Refusal::Unauthenticated(_) => &snapshot.challenges.invalid,
        Refusal::RoleNotAllowed | Refusal::MethodNotAllowed | Refusal::OutOfScope(_) => {
            &snapshot.challenges.insufficient
        }
        _ => &[],
    };
    for challenge in challenges {
        head.headers.append(WWW_AUTHENTICATE, challenge.clone());
    }
    if refusal == Refusal::WebSocketVersion {
        upgrade::require_version(&mut head.headers);
    }
    context.tell_share(&mut head.headers);
    if let Some(seconds) = refusal.retry_after_s() {
        head.headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if refusal.closes() || context.is_last_on_connection() {
        head.headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Response::from_parts(head, ResponseBody::own(body, context))
}
