//! What is observed of one request, from its head to the end of its answer.
//!
//! The context decides nothing. It is dropped on every way out, a client that left too, and its `Drop` (in [`end`])
//! writes the access record: no request goes unlogged.

mod end;
mod share;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderValue, Method, Response, StatusCode, Uri};

use super::body::{BrokenBody, RequestBody, Upload};
use super::error::Refusal;
use super::in_flight::Place;
use super::quota::Share;
use super::request_id::{self, X_REQUEST_ID};
use super::upgrade::{Asked, Wish};
use super::{Proxy, forwarded, grpc};
use crate::keys::table::Found;
use crate::limit::failures::Failures;
use crate::policy::routes::{Route, RouteTable};
use crate::redact::Redactor;
use crate::server::connection::ConnectionInfo;
use crate::snapshot::Held;
use crate::upstream::Endpoint;
use crate::upstream::exchange::{Exchange, Fault};
use crate::upstream::load::Admitted;

/// The code of a request whose client left: before it was answered, and there is no status then, or in a tunnel.
pub(super) const CLIENT_LEFT: &str = "client_left";

/// The code of an answer that was broken off because its client did not take it, or too slowly.
const CLIENT_STALLED: &str = "client_stalled";

/// One request, as it is seen from outside.
pub struct RequestContext {
    proxy: Rc<Proxy>,
    connection: Rc<ConnectionInfo>,
    generation: Generation,
    started: Instant,
    /// The same, in microseconds since the Unix epoch.
    started_unix_micros: u64,
    request_id: HeaderValue,
    /// Whose request it is, as a peer says whose word is taken; `None` where it is the peer's own.
    client: Option<IpAddr>,
    /// The method and the target as they came; `None` if the head could not be read.
    line: Option<(Method, Uri)>,
    route: Option<usize>,
    /// Among the requests in flight, if somebody's key let it in.
    place: Option<Place>,
    endpoint: Option<Arc<Endpoint>>,
    /// When the exchange with this endpoint began.
    attempt_started: Instant,
    /// What it takes of what is limited.
    share: Option<Box<Share>>,
    /// Whether it was let on, and counts against what a key may send in a day.
    is_admitted: bool,
    /// Counts it among the upstream's requests.
    admitted: Option<Admitted>,
    upload: Option<Rc<Upload>>,
    asked: Option<Box<Asked>>,
    upstream_started: Option<Instant>,
    upstream: Option<Duration>,
    status: Option<StatusCode>,
    code: Option<&'static str>,
    tunnelled_in: u64,
    bytes_out: u64,
    /// Whether the endpoint is what everybody waits for.
    awaits_upstream: bool,
    is_last_on_connection: bool,
    is_grpc: bool,
}

/// The generation that a request began with, or what is left of it.
enum Generation {
    Whole(Held),
    Rest(Arc<Redactor>, Arc<RouteTable>),
}

impl Generation {
    fn for_record(&self) -> (&Arc<Redactor>, &Arc<RouteTable>) {
        match self {
            Self::Whole(snapshot) => (&snapshot.redactor, &snapshot.config.routes),
            Self::Rest(redactor, routes) => (redactor, routes),
        }
    }
}

impl RequestContext {
    /// Begins to observe a request; `head` is `None` if it could not be read.
    pub(super) fn start(
        proxy: &Rc<Proxy>,
        connection: &Rc<ConnectionInfo>,
        head: Option<&Parts>,
    ) -> Box<Self> {
        let snapshot = proxy.snapshot();
        let networks = &snapshot.config.server.trusted_proxies;
        let peer = connection.peer().ip();
        let is_trusted = forwarded::is_trusted(networks, peer);
        let foreign = head
            .filter(|_| is_trusted)
            .and_then(|head| request_id::foreign(&head.headers, &snapshot.redactor));
        let client = head
            .filter(|_| is_trusted)
            .map(|head| forwarded::client(&head.headers, networks, peer));
        let started = connection.now();
        proxy.measures.begin(&snapshot.config.routes);
        if let Some(longest) = snapshot.config.server.timeouts.request {
            connection.deadline().set_end(started.checked_add(longest));
        }
        Box::new(Self {
            started,
            started_unix_micros: proxy.clock.unix_micros(started),
            attempt_started: started,
            request_id: foreign.unwrap_or_else(|| proxy.request_ids.make()),
            client,
            line: head.map(|head| (head.method.clone(), head.uri.clone())),
            route: None,
            place: None,
            endpoint: None,
            share: None,
            is_admitted: false,
            admitted: None,
            upload: None,
            asked: None,
            upstream_started: None,
            upstream: None,
            status: None,
            code: None,
            tunnelled_in: 0,
            bytes_out: 0,
            awaits_upstream: false,
            is_last_on_connection: false,
            is_grpc: head.is_some_and(grpc::is_call),
            proxy: Rc::clone(proxy),
            connection: Rc::clone(connection),
            generation: Generation::Whole(snapshot),
        })
    }

    /// The generation that the request is handled by; there is none once it is [let go of](Self::let_go).
    pub(super) fn snapshot(&self) -> &Held {
        match &self.generation {
            Generation::Whole(snapshot) => snapshot,
            Generation::Rest(..) => unreachable!("in a tunnel nothing is decided any more"),
        }
    }

    /// Lets go of the generation, but for what the record is written with: a tunnel outlives many of them, and must
    /// not keep the keys of each in memory. Its time is not the request's.
    pub(super) fn let_go(&mut self) {
        self.connection.deadline().lift_end();
        self.connection.deadline().clear();
        let (redactor, routes) = self.generation.for_record();
        self.generation = Generation::Rest(Arc::clone(redactor), Arc::clone(routes));
    }

    pub(super) fn connection(&self) -> &Rc<ConnectionInfo> {
        &self.connection
    }

    /// Whose request it is: the peer, or whom a trusted proxy names.
    pub(super) fn client(&self) -> IpAddr {
        self.client.unwrap_or_else(|| self.connection.peer().ip())
    }

    pub(super) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    fn request_id_str(&self) -> &str {
        self.request_id.to_str().expect("ids are ASCII")
    }

    /// How often clients failed.
    pub(super) fn failures(&self) -> &Failures {
        &self.proxy.failures
    }

    /// Whole seconds since the Unix epoch, at the start of the request.
    pub(super) fn started_unix_s(&self) -> i64 {
        (self.started_unix_micros / 1_000_000) as i64
    }

    /// Whether the peer's word for others is taken.
    pub(super) fn peer_is_trusted(&self) -> bool {
        self.client.is_some()
    }

    pub(super) fn saw_route(&mut self, route: Option<&Route>) {
        self.route = route.map(Route::place);
    }

    /// Notes the key that lets it in. From now on the request is found when that is no longer good.
    pub(super) fn saw_key(&mut self, found: Found<'_>) {
        let (_, routes) = self.generation.for_record();
        let place = self.proxy.in_flight.enter(found, routes, &self.connection);
        place.key().usage().begin(self.started_unix_micros, self.client(), self.route);
        self.place = Some(place);
    }

    pub(super) fn saw_upload(&mut self, upload: &Rc<Upload>) {
        self.upload = Some(Rc::clone(upload));
    }

    pub(super) fn saw_endpoint(&mut self, endpoint: &Arc<Endpoint>) {
        self.proxy.measures.attempt(endpoint.place(), self.endpoint.is_none());
        self.endpoint = Some(Arc::clone(endpoint));
        self.attempt_started = self.connection.now();
        self.upstream_started.get_or_insert(self.attempt_started);
    }

    /// Keeps the request counted to the end of its answer.
    pub(super) fn hold(&mut self, admitted: Admitted) {
        self.admitted = Some(admitted);
    }

    pub(super) fn saw_status(&mut self, status: StatusCode) {
        self.status = Some(status);
        let (Some(endpoint), Some(began)) = (&self.endpoint, self.upstream_started) else { return };
        let now = self.connection.now();
        let upstream = now.saturating_duration_since(began);
        let is_first = began == self.attempt_started;
        let latency =
            if is_first { upstream } else { now.saturating_duration_since(self.attempt_started) };
        self.proxy.measures.answered(endpoint.place(), latency);
        self.upstream = Some(upstream);
    }

    /// Whether it is a call of gRPC: a stream of messages, which may be silent between two.
    pub(super) fn is_grpc(&self) -> bool {
        self.is_grpc
    }

    /// Why all of it is over, if it is: its key is no longer good, or its time is up.
    pub(super) fn end(&self) -> Option<Refusal> {
        let is_over = self.connection.deadline().is_over();
        is_over.then(|| self.revoked().unwrap_or(Refusal::RequestDeadline))
    }

    /// Why its key is no longer good, if it is not.
    pub(super) fn revoked(&self) -> Option<Refusal> {
        let reason = self.proxy.in_flight.revoked(self.place.as_ref()?)?;
        Some(Refusal::Unauthenticated(reason))
    }

    /// What `refusal` comes from, if all of it is over: unless its time is up, and the client was waited for.
    pub(super) fn cause(&self, refusal: Refusal) -> Refusal {
        match self.end() {
            Some(Refusal::RequestDeadline) if refusal == Refusal::RequestTimeout => refusal,
            Some(end) => end,
            None => refusal,
        }
    }

    pub(super) fn set_last_on_connection(&mut self) {
        self.is_last_on_connection = true;
    }

    pub(super) fn is_last_on_connection(&self) -> bool {
        self.is_last_on_connection || self.connection.is_leaving()
    }

    pub(super) fn upload(&self) -> Option<&Upload> {
        self.upload.as_deref()
    }

    /// Notes what the endpoint is asked to change to, if there is room for one more tunnel.
    pub(super) fn asks_for(&mut self, wish: Wish) -> Result<(), Refusal> {
        let most = self.snapshot().config.server.limits.tunnels;
        let slot = self.proxy.tunnels.admit(most).ok_or(Refusal::TooManyTunnels)?;
        self.asked = Some(Box::new(Asked::new(wish, slot)));
        Ok(())
    }

    /// What the endpoint is asked to change to.
    pub(super) fn asked(&self) -> Option<&Asked> {
        self.asked.as_deref()
    }

    /// Notes that it did not.
    pub(super) fn was_not_granted(&mut self) {
        self.asked = None;
    }

    pub(super) fn count_out(&mut self, bytes: usize) {
        self.bytes_out += bytes as u64;
    }

    /// Notes whether the endpoint owes us more of its answer. An upload that still goes on has waits of its own.
    pub(super) fn awaits_upstream(&mut self, does: bool) {
        let did = std::mem::replace(&mut self.awaits_upstream, does);
        if does == did || self.upload.as_ref().is_some_and(|upload| !upload.has_ended()) {
            return;
        }
        let deadline = self.connection.deadline();
        if does {
            let longest = self.snapshot().config.server.timeouts.upstream_body_idle;
            deadline.start(self.connection.now(), longest);
        } else {
            deadline.clear();
        }
    }

    pub(super) fn count_tunnelled(&mut self, bytes_in: u64, bytes_out: u64) {
        self.tunnelled_in += bytes_in;
        self.bytes_out += bytes_out;
    }

    /// Notes why a tunnel ended, or that all is well.
    pub(super) fn note(&mut self, code: Option<&'static str>) {
        self.code = code;
    }

    /// Notes that an answer that had begun could not be brought to its end.
    pub(super) fn break_off(&mut self, refusal: Refusal) -> BrokenBody {
        self.code = Some(refusal.problem().code);
        BrokenBody
    }

    /// Notes that the client took nothing of the answer for too long.
    pub(super) fn was_not_taken(&mut self) {
        if !self.connection.deadline().is_over() {
            self.code.get_or_insert(CLIENT_STALLED);
        }
    }

    /// Notes that the endpoint did not bring its answer to an end.
    pub(super) fn break_off_upstream(&mut self, fault: &Fault) -> BrokenBody {
        if let Some(refusal) = self.upload().and_then(Upload::fault) {
            return self.break_off(refusal);
        }
        if let Some(endpoint) = &self.endpoint {
            self.saw_failure(endpoint, self.attempt_started);
            tracing::warn!(endpoint = endpoint.name(), %fault, "an answer of the endpoint broke off");
        }
        self.break_off(Refusal::UpstreamProtocol)
    }

    /// Notes that `endpoint` failed an exchange that began at `began`.
    pub(super) fn saw_failure(&self, endpoint: &Arc<Endpoint>, began: Instant) {
        self.proxy.measures.failed(endpoint.place());
        endpoint.failed(began, self.connection.now());
    }

    /// Notes that the answer was read whole.
    pub(super) fn finish(&self, exchange: Box<Exchange<RequestBody>>) {
        let now = self.connection.now();
        if let Some(endpoint) = &self.endpoint {
            endpoint.succeeded(self.attempt_started, now);
        }
        exchange.finish(now, self.snapshot().pool_limits);
    }

    /// Notes the refusal and says it in problem+json.
    pub(super) fn refuse(&mut self, refusal: Refusal) -> Response<bytes::Bytes> {
        let problem = refusal.problem();
        self.status = Some(problem.status);
        self.code = Some(problem.code);
        // What we say ourselves is short; even behind the end of the request it may be waited that it is taken.
        self.connection.deadline().lift_end();
        let mut response = if self.is_grpc {
            grpc::response(&problem)
        } else {
            problem.response(self.request_id_str(), &self.snapshot().config.realm)
        };
        response.headers_mut().insert(&X_REQUEST_ID, self.request_id.clone());
        response
    }
}
