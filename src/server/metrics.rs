//! What is measured, as a page for Prometheus: what all workers counted, added up, with what is known beside them.
//!
//! Nothing is kept here: workers count from their start on, so that a page is the sum of what they say. A page without
//! one of them would make counters fall; there is none then.
//!
//! Labels are names of the configuration, codes of ours, and numbers of workers; key ids only where
//! `[metrics] per_key` says so.
//!
//! Never here: who may read it, or any part of a request.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::control::Control;
use super::worker::Measured;
use crate::limit::TunnelLimit;
use crate::limit::quota::{Holder, Limit};
use crate::panics;
use crate::snapshot::{Shared, Snapshot};
use crate::telemetry::access_log::DroppedLines;
use crate::telemetry::metrics::cell::{Asked, Requests};
use crate::telemetry::metrics::text::Page;
use crate::usage::recorder::Usage;

/// The content type of what [`Metrics::render`] makes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The status of requests by its hundreds, as `Requests::by_class` counts them.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// The route of those that have none.
const NO_ROUTE: &str = "none";

/// One of the counts of an endpoint.
type Count = fn(&Asked) -> u64;

/// Makes pages.
#[derive(Clone, Debug)]
pub struct Metrics {
    control: Control,
    shared: Arc<Shared>,
    connections_limit: usize,
    tunnels: Arc<TunnelLimit>,
    usage: Usage,
    dropped: DroppedLines,
    started: Timestamp,
}

/// A worker did not say what it counted: it has ended, or is held up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Incomplete;

impl Metrics {
    pub(super) fn new(
        control: Control,
        shared: Arc<Shared>,
        (connections_limit, tunnels): (usize, Arc<TunnelLimit>),
        usage: Usage,
        dropped: DroppedLines,
    ) -> Self {
        let started = Timestamp::now();
        Self { control, shared, connections_limit, tunnels, usage, dropped, started }
    }

    /// The page, as of now. To be called from any thread, within a runtime that has timers.
    ///
    /// # Errors
    /// A worker is missing. Say 503: no page is better than a false one.
    pub async fn render(&self) -> Result<String, Incomplete> {
        let mut workers = self.control.measure().await.ok_or(Incomplete)?;
        workers.sort_by_key(|measured| measured.worker);
        let snapshot = self.shared.current().load_full();
        let mut page = Page::default();
        requests(&mut page, &workers, &snapshot);
        codes(&mut page, &workers);
        endpoints(&mut page, &workers, &snapshot);
        self.failures(&mut page, &snapshot);
        self.connections(&mut page, &workers, &snapshot);
        self.configuration(&mut page, &snapshot);
        if snapshot.config.metrics.per_key {
            self.control.report_usage().await;
            self.usage.settle().await;
            self.keys(&mut page);
        }
        self.process(&mut page);
        Ok(page.into_text())
    }

    fn failures(&self, page: &mut Page, snapshot: &Snapshot) {
        let failures = self.shared.failures();
        let totals = failures.totals();
        let help = "Keys that nobody has, by whether their address was banned for such keys.";
        let mut family = page.counter("keyward_failed_attempts_total", help);
        family.sample(&[("outcome", "counted")], totals.counted);
        family.sample(&[("outcome", "banned")], totals.banned);
        let rule = &snapshot.config.auth.failures;
        let banned = rule.map_or(0, |rule| failures.banned(&rule, Instant::now()));
        let help = "Addresses that are banned: they showed too many keys that nobody has.";
        page.gauge("keyward_addresses_banned", help).sample(&[], banned);
    }

    fn connections(&self, page: &mut Page, workers: &[Measured], snapshot: &Snapshot) {
        let numbers: Vec<_> = workers.iter().map(|measured| measured.worker.to_string()).collect();
        let by_worker = || workers.iter().zip(&numbers);
        let help = "Requests that have begun and not ended, tunnels among them.";
        let mut family = page.gauge("keyward_requests_in_flight", help);
        for (measured, number) in by_worker() {
            family.sample(&[("worker", number)], measured.counts.in_flight);
        }
        let help = "Connections of clients that are open.";
        let mut family = page.gauge("keyward_connections_open", help);
        for (measured, number) in by_worker() {
            family.sample(&[("worker", number)], measured.connections_open);
        }
        let help = "Connections of clients that were accepted.";
        let mut family = page.counter("keyward_connections_accepted_total", help);
        for (measured, number) in by_worker() {
            family.sample(&[("worker", number)], measured.connections_taken);
        }
        let help = "Tunnels that are open: WebSockets and other upgrades.";
        page.gauge("keyward_tunnels_open", help).sample(&[], self.tunnels.open());
        let help = "How many connections of clients may be open; at the limit, accepting waits.";
        page.gauge("keyward_connections_limit", help).sample(&[], self.connections_limit);
        let help = "How many tunnels may be open; above it they are refused.";
        let tunnels_limit = snapshot.config.server.limits.tunnels;
        page.gauge("keyward_tunnels_limit", help).sample(&[], tunnels_limit);
    }

    fn configuration(&self, page: &mut Page, snapshot: &Snapshot) {
        let reloads = self.shared.reloads();
        let help = "The number of loads that were taken, the first among them.";
        page.gauge("keyward_config_generation", help).sample(&[], snapshot.generation);
        let help = "When what is in force was loaded.";
        let seconds = reloads.last_taken_unix_ms() as f64 / 1e3;
        page.gauge("keyward_config_last_success_timestamp_seconds", help).sample(&[], seconds);
        let help =
            "Whether the files as they are now are in force: 0 if the last reload was refused.";
        let is_current = u8::from(!reloads.is_refused());
        page.gauge("keyward_config_last_reload_successful", help).sample(&[], is_current);
        let help = "Reloads of the configuration, the keys and the certificates.";
        let mut family = page.counter("keyward_config_reloads_total", help);
        family.sample(&[("result", "taken")], reloads.taken());
        family.sample(&[("result", "refused")], reloads.refused());
        let (keys, addresses) = self.shared.meters().counts();
        let help =
            "Keys and addresses of which it is known what they have used of what is limited.";
        let mut family = page.gauge("keyward_rate_limit_meters", help);
        family.sample(&[("of", "keys")], keys);
        family.sample(&[("of", "addresses")], addresses);
        let help = "Keys in the file, disabled and expired ones among them.";
        page.gauge("keyward_keys", help).sample(&[], snapshot.keys.len());
    }

    fn keys(&self, page: &mut Page) {
        let help = "Requests by key, as its usage was kept: over restarts, too.";
        let mut family = page.counter("keyward_key_requests_total", help);
        for (id, usage) in self.usage.all() {
            for (class, &count) in CLASSES.iter().zip(&usage.tally.requests) {
                if count > 0 {
                    family.sample(&[("key_id", &id), ("status", class)], count);
                }
            }
        }
    }

    fn process(&self, page: &mut Page) {
        let help =
            "Lines of the access log that were dropped, for it could not be written fast enough.";
        page.counter("keyward_access_log_dropped_lines_total", help)
            .sample(&[], self.dropped.count());
        let help = "Panics: faults of Keyward, each of which ended one request, or the process.";
        page.counter("keyward_panics_total", help).sample(&[], panics::count());
        let help = "When the process started to serve.";
        let seconds = self.started.as_millisecond() as f64 / 1e3;
        page.gauge("keyward_process_start_time_seconds", help).sample(&[], seconds);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.gauge("keyward_build_info", "What is running; always 1.").sample(&version, 1);
    }
}

fn requests(page: &mut Page, workers: &[Measured], snapshot: &Snapshot) {
    let mut by_route: HashMap<Option<&str>, Requests> = HashMap::new();
    for (route, requests) in workers.iter().flat_map(|measured| measured.counts.requests()) {
        by_route.entry(route).or_default().merge(requests);
    }
    // What a worker that has not heard of a reload yet says of other routes is left out.
    let patterns = snapshot.config.routes.routes().iter().map(|route| Some(route.pattern()));
    let rows: Vec<_> = patterns
        .chain([None])
        .map(|route| (route.unwrap_or(NO_ROUTE), by_route.remove(&route).unwrap_or_default()))
        .collect();
    let help = "Requests that have ended, by route and the hundreds of their status (none: the client left).";
    let mut family = page.counter("keyward_requests_total", help);
    for (route, requests) in &rows {
        for (class, &count) in CLASSES.iter().zip(&requests.by_class) {
            family.sample(&[("route", route), ("status", class)], count);
        }
    }
    let help = "From the head of a request to the last byte of its answer; without tunnels.";
    let mut family = page.histogram("keyward_request_duration_seconds", help);
    for (route, requests) in &rows {
        family.durations(&[("route", route)], &requests.durations);
    }
}

fn codes(page: &mut Page, workers: &[Measured]) {
    let mut by_code: BTreeMap<&str, u64> = BTreeMap::new();
    for &(code, count) in workers.iter().flat_map(|measured| &measured.counts.codes) {
        *by_code.entry(code).or_default() += count;
    }
    let help = "Requests that were refused or broken off, by the code of the access log.";
    let mut family = page.counter("keyward_refusals_total", help);
    for (code, count) in by_code {
        family.sample(&[("code", code)], count);
    }
    let each = [Limit::Rate, Limit::Concurrent, Limit::Daily];
    let each = each.iter().flat_map(|limit| [Holder::Key, Holder::Route].map(|of| (*limit, of)));
    let each = each.map(|(limit, of)| ((limit.as_str(), of.as_str()), 0));
    let mut by_limit: BTreeMap<_, u64> = each.collect();
    for &(by, count) in workers.iter().flat_map(|measured| &measured.counts.limited) {
        *by_limit.entry(by).or_default() += count;
    }
    let help = "Requests that were refused as rate_limited, by the limit and whose it is, a key's or a route's.";
    let mut family = page.counter("keyward_rate_limited_total", help);
    for ((limit, by), count) in by_limit {
        family.sample(&[("limit", limit), ("of", by)], count);
    }
}

fn endpoints(page: &mut Page, workers: &[Measured], snapshot: &Snapshot) {
    let of_all = |place: usize| {
        let mut sum = Asked::default();
        let asked = workers.iter().filter_map(|measured| measured.counts.endpoints.get(place));
        asked.for_each(|asked| sum.merge(asked));
        sum
    };
    let members = snapshot.upstreams.iter().flat_map(|upstream| {
        upstream.members.iter().map(move |member| (&*upstream.name, &member.endpoint))
    });
    let rows: Vec<_> = members
        .map(|(upstream, endpoint)| {
            let labels = [("upstream", upstream), ("endpoint", endpoint.name())];
            (labels, endpoint, of_all(endpoint.place()))
        })
        .collect();
    let counters: [(_, _, Count); 3] = [
        (
            "keyward_upstream_requests_total",
            "Requests that were sent to an endpoint, or were to be; each retry is one more.",
            |asked| asked.attempts,
        ),
        (
            "keyward_upstream_retries_total",
            "Those of them that were not the first of their request.",
            |asked| asked.retries,
        ),
        ("keyward_upstream_failures_total", "Those of them that the endpoint failed.", |asked| {
            asked.failures
        }),
    ];
    for (name, help, count) in counters {
        let mut family = page.counter(name, help);
        for (labels, _, asked) in &rows {
            family.sample(labels, count(asked));
        }
    }
    let help = "From the choice of an endpoint to the head of its answer.";
    let mut family = page.histogram("keyward_upstream_latency_seconds", help);
    for (labels, _, asked) in &rows {
        family.durations(labels, &asked.latencies);
    }
    let now = Instant::now();
    let help =
        "Whether an endpoint gets requests: it is not left out, and passes its health checks.";
    let mut family = page.gauge("keyward_endpoint_up", help);
    for (labels, endpoint, _) in &rows {
        family.sample(labels, u8::from(endpoint.is_up(now)));
    }
    let help = "Connections to an endpoint that serve a request or are being made for one.";
    let mut family = page.gauge("keyward_endpoint_connections_in_use", help);
    for (labels, endpoint, _) in &rows {
        family.sample(labels, endpoint.in_use());
    }
}
