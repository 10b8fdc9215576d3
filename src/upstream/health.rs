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
use super::opening::Opening;
use super::request::RequestHead;
use super::settings::{Health, Host, Settings};
use super::tasks::Tasks;
use super::{Endpoint, Member, Upstream};
use crate::http1::Malformed;
use crate::http1::encode::Framing;
use http::{HeaderValue, Method};

/// Endpoints are checked up to this part of the interval later, so that not all are checked at once.
const JITTER: u32 = 10;

/// The checks that run; dropped, they stop.
#[derive(Debug, Default)]
pub struct HealthChecks(Tasks<(Host, Health, Option<Arc<Opening>>)>);

impl HealthChecks {
    /// Checks the endpoints of `upstreams` from now on, and no others. To be called within a runtime.
    pub fn follow(&mut self, upstreams: &[Upstream]) {
        let checked = upstreams.iter().flat_map(|upstream| {
            let Settings { host, health, .. } = &upstream.settings;
            let check = |Member { endpoint, opening, .. }: &Member| {
                Some((Arc::clone(endpoint), (host.clone(), health.clone()?, opening.clone())))
            };
            upstream.members.iter().filter_map(check)
        });
        self.0.follow(checked, keep_checking);
    }
}

async fn keep_checking(
    endpoint: Arc<Endpoint>,
    (host, health, opening): (Host, Health, Option<Arc<Opening>>),
) {
    let host = match &host {
        Host::Literal(host) => host,
        Host::Keep | Host::Endpoint => endpoint.authority(),
    };
    loop {
        tokio::time::sleep(jitter(health.interval)).await;
        let check = check(&endpoint, opening.as_ref(), host, &health.path);
        let checked = tokio::time::timeout(health.timeout, check).await;
        let result = checked.unwrap_or(Err(Unhealthy::Silent));
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

/// GETs `path` on a connection of its own. Good is what is neither the client's nor the server's fault: below 400.
async fn check(
    endpoint: &Endpoint,
    opening: Option<&Arc<Opening>>,
    host: &HeaderValue,
    path: &str,
) -> Result<(), Unhealthy> {
    let mut head = RequestHead::new(&Method::GET, path);
    head.push_host(host.as_bytes());
    head.push("user-agent", b"keyward (health check)");
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
            let status = answer.head.status.as_u16();
            match status {
                _ if answer.is_interim() => {}
                200..400 => return Ok(()),
                _ => return Err(Unhealthy::Status(status)),
            }
        }
    }
    Err(Unhealthy::Malformed("the head is larger than 64 KiB"))
}
