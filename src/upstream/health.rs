//! Active health checks: every endpoint is asked for a path now and then, whether requests come or not.
//!
//! Runs on the control plane. One check at a time for each endpoint, spread in time, and one line in the event log
//! for each change.
//!
//! Never here: what an endpoint that fails its checks still gets (its [`standing`](super::standing) says).

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::answer;
use super::connection::Connection;
use super::exchange::MAX_HEAD_BYTES;
use super::opening::{self, Opening};
use super::request::RequestHead;
use super::settings::{Health, Host, Settings};
use super::tasks::Tasks;
use super::{Endpoint, Member, Upstream};
use crate::http1::Malformed;
use crate::http1::encode::Framing;
use http::header::USER_AGENT;
use http::{HeaderValue, Method, Request, Uri};

/// Endpoints are checked up to this part of the interval later, so that not all are checked at once.
const JITTER: u32 = 10;

/// Who asks.
const NAME: &str = "keyward (health check)";

/// The checks that run; dropped, they stop.
#[derive(Debug, Default)]
pub struct HealthChecks(Tasks<How>);

/// How an endpoint is checked.
#[derive(Clone, Debug, PartialEq)]
struct How {
    opening: Option<Arc<Opening>>,
    http2: bool,
    host: Host,
    health: Health,
}

impl HealthChecks {
    /// Checks the endpoints of `upstreams` from now on, and no others. To be called within a runtime.
    pub fn follow(&mut self, upstreams: &[Upstream]) {
        let checked = upstreams.iter().flat_map(|upstream| {
            let Settings { host, http2, health, .. } = &upstream.settings;
            let check = |Member { endpoint, opening, .. }: &Member| {
                let (host, health, opening) = (host.clone(), health.clone()?, opening.clone());
                Some((Arc::clone(endpoint), How { opening, http2: *http2, host, health }))
            };
            upstream.members.iter().filter_map(check)
        });
        self.0.follow(checked, keep_checking);
    }
}

async fn keep_checking(endpoint: Arc<Endpoint>, How { opening, http2, host, health }: How) {
    let host = match &host {
        Host::Literal(host) => host,
        Host::Keep | Host::Endpoint => endpoint.authority(),
    };
    loop {
        tokio::time::sleep(jitter(health.interval)).await;
        let opening = opening.as_ref();
        let checked = tokio::time::timeout(health.timeout, async {
            match http2 {
                false => check(&endpoint, opening, host, &health.path).await,
                true => check_http2(&endpoint, opening, host, &health.path).await,
            }
        });
        let result = checked.await.unwrap_or(Err(Unhealthy::Silent));
        endpoint.checked(result, &health, Instant::now());
        tokio::time::sleep(health.interval).await;
    }
}

/// A moment of up to a tenth of `interval`.
fn jitter(interval: Duration) -> Duration {
    // Without randomness all would be checked at once, which is no fault.
    let random = getrandom::u32().unwrap_or_default();
    (interval / JITTER).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

/// Why an endpoint failed a check.
#[derive(Debug)]
pub(super) enum Unhealthy {
    Io(io::Error),
    Closed,
    Malformed(&'static str),
    Status(u16),
    Silent,
}

impl From<io::Error> for Unhealthy {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<h2::Error> for Unhealthy {
    fn from(error: h2::Error) -> Self {
        match error.into_io() {
            Some(error) => Self::Io(error),
            None => Self::Malformed("it does not answer in HTTP/2"),
        }
    }
}

impl From<Malformed> for Unhealthy {
    fn from(Malformed(reason): Malformed) -> Self {
        Self::Malformed(reason)
    }
}

impl std::fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Closed => f.write_str("closed without an answer"),
            Self::Malformed(reason) => f.write_str(reason),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::Silent => f.write_str("no answer in time"),
        }
    }
}

/// Good is what is neither the client's nor the server's fault: below 400.
fn judge(status: u16) -> Result<(), Unhealthy> {
    if matches!(status, 200..400) { Ok(()) } else { Err(Unhealthy::Status(status)) }
}

/// GETs `path` on a connection of its own.
async fn check(
    endpoint: &Endpoint,
    opening: Option<&Arc<Opening>>,
    host: &HeaderValue,
    path: &str,
) -> Result<(), Unhealthy> {
    let mut head = RequestHead::new(&Method::GET, path);
    head.push_host(host.as_bytes());
    head.push(USER_AGENT.as_str(), NAME.as_bytes());
    head.push("connection", b"close");
    let head = head.end(Framing::Empty);
    let mut connection = Connection::open(endpoint, opening, None).await?;
    let mut sent = 0;
    while sent < head.as_bytes().len() {
        let left = [IoSlice::new(&head.as_bytes()[sent..])];
        sent += poll_fn(|cx| connection.poll_write(cx, &left)).await?;
    }
    poll_fn(|cx| connection.poll_flush(cx)).await?;
    while connection.inbox.unread.len() <= MAX_HEAD_BYTES {
        if !poll_fn(|cx| connection.poll_fill(cx)).await? {
            return Err(Unhealthy::Closed);
        }
        while let Some(answer) = answer::read_head(&mut connection.inbox.unread, false)? {
            if !answer.is_interim() {
                return judge(answer.head.status.as_u16());
            }
        }
    }
    Err(Unhealthy::Malformed("the head is larger than 64 KiB"))
}

/// The same in HTTP/2.
async fn check_http2(
    endpoint: &Endpoint,
    opening: Option<&Arc<Opening>>,
    host: &HeaderValue,
    path: &str,
) -> Result<(), Unhealthy> {
    let target = Uri::builder()
        .scheme(opening::scheme(opening))
        .authority(host.as_bytes())
        .path_and_query(path);
    let request =
        target.build().map(|target| Request::get(target).header(USER_AGENT, NAME).body(()));
    let Ok(Ok(request)) = request else {
        return Err(Unhealthy::Malformed("the path cannot be asked for in HTTP/2"));
    };
    let (stream, _nothing_came_yet) = Connection::open(endpoint, opening, None).await?.into_parts();
    let (mut requests, connection) = h2::client::handshake(stream).await?;
    let (answer, _no_body) = requests.send_request(request, true)?;
    tokio::select! {
        answer = answer => judge(answer?.status().as_u16()),
        _ended = connection => Err(Unhealthy::Closed),
    }
}
