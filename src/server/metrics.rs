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
        tunnels: Arc<TunnelLimit>,
        usage: Usage,
        dropped: DroppedLines,
    ) -> Self {
        Self { control, shared, tunnels, usage, dropped, started: Timestamp::now() }
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
        self.connections(&mut page, &workers);
        self.configuration(&mut page, &snapshot);
        if snapshot.config.metrics.per_key {
            self.control.report_usage().await;
            self.usage.settle().await;
            self.keys(&mut page);
        }
        self.process(&mut page);
        Ok(page.into_text())
    }

    fn connections(&self, page: &mut Page, workers: &[Measured]) {
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
}

fn endpoints(page: &mut Page, workers: &[Measured], snapshot: &Snapshot) {
    let mut by_endpoint: HashMap<usize, Asked> = HashMap::new();
    for (&place, (_, asked)) in workers.iter().flat_map(|measured| &measured.counts.endpoints) {
        by_endpoint.entry(place).or_default().merge(asked);
    }
    let members = snapshot.upstreams.iter().flat_map(|upstream| {
        upstream.members.iter().map(move |member| (&*upstream.name, &member.endpoint))
    });
    let rows: Vec<_> = members
        .map(|(upstream, endpoint)| {
            let labels = [("upstream", upstream), ("endpoint", endpoint.name())];
            (labels, endpoint, by_endpoint.get(&endpoint.place()).cloned().unwrap_or_default())
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

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt as _;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::keys::format::Hasher;
    use crate::reload::{self, Loaded};
    use crate::server::{self, Server};
    use crate::telemetry::Format;
    use crate::telemetry::access_log::{AccessLog, Overflow, Sink};
    use crate::usage::recorder;

    const KEY: &str = "a-key-that-was-made-elsewhere";

    /// A service that answers every request, each on a connection of its own.
    fn service() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection");
                read_head(&mut stream);
                let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
                stream.write_all(answer.as_bytes()).expect("the proxy reads");
            }
        });
        address
    }

    fn read_head(stream: &mut TcpStream) {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("a head");
            head.push(byte[0]);
        }
    }

    /// A data plane with all that it needs, and what is measured of it.
    fn start(folder: &std::path::Path, more: &str) -> (Server, Arc<Shared>, Metrics) {
        let keys = folder.join("keys.toml");
        let hash = Hasher::default().digest(KEY.as_bytes());
        let entry = format!(
            "[[keys]]\nid = \"key_a\"\nhash = \"{hash}\"\nlabel = \"l\"\nuser = \"alice\"\nrole = \"viewer\"\n"
        );
        fs::write(&keys, entry).expect("our own folder");
        fs::set_permissions(&keys, Permissions::from_mode(0o600)).expect("our own file");
        let config = folder.join("keyward.toml");
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n[roles.viewer]\n[roles.admin]\n\
             [upstreams.app]\nendpoints = [\"http://{}\", \"http://127.0.0.1:1\"]\n\
             [upstreams.app.retries]\nbudget_min = 100\n\
             [[routes]]\npath = \"/{{*rest}}\"\n[[routes]]\npath = \"/admin\"\nroles = [\"admin\"]\n{more}",
            service()
        );
        fs::write(&config, text).expect("our own folder");
        let Loaded { config, keys, tls, targets } =
            reload::load(&config).unwrap_or_else(|report| panic!("{report}"));
        let shared = Arc::new(Shared::new(config, keys.table, tls, targets));
        let log = AccessLog::start(&Sink::Off, Format::Json, Overflow::Block).expect("no log");
        let (usage, reports, _) = recorder::start(None, Duration::from_secs(30)).expect("a thread");
        let server = server::start(&shared, &log, &reports, Vec::new()).expect("a free port");
        let metrics = server.metrics(&shared, &usage, log.dropped());
        (server, shared, metrics)
    }

    fn ask(server: &Server, target: &str, key: Option<&str>) -> String {
        let mut stream = TcpStream::connect(server.addresses()[0]).expect("it listens");
        let key = key.map_or_else(String::new, |key| format!("x-api-key: {key}\r\n"));
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{key}\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    fn render(metrics: &Metrics) -> Result<String, Incomplete> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().expect("a runtime").block_on(metrics.render())
    }

    /// The value of one sample, or the sum of those whose labels begin so.
    fn value(page: &str, begin: &str) -> f64 {
        let samples = page.lines().filter(|line| line.starts_with(begin));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    #[test]
    fn a_page_is_the_sum_of_what_all_workers_counted() {
        let folder = tempfile::tempdir().expect("a folder");
        let (server, shared, metrics) = start(folder.path(), "");
        for _ in 0..20 {
            assert!(ask(&server, "/", Some(KEY)).starts_with("HTTP/1.1 200 "));
        }
        assert!(ask(&server, "/admin", Some(KEY)).starts_with("HTTP/1.1 403 "));
        assert!(ask(&server, "/", None).starts_with("HTTP/1.1 401 "));
        shared.reloads().refuse();
        let page = render(&metrics).expect("all workers run");
        let expect = [
            (r#"keyward_requests_total{route="/{*rest}",status="2xx"}"#, 20.0),
            (r#"keyward_requests_total{route="/{*rest}",status="4xx"}"#, 1.0),
            (r#"keyward_requests_total{route="/admin",status="4xx"}"#, 1.0),
            (r#"keyward_requests_total{route="none","#, 0.0),
            (r#"keyward_request_duration_seconds_count{route="/{*rest}"}"#, 21.0),
            (r#"keyward_request_duration_seconds_bucket{route="/{*rest}",le="+Inf"}"#, 21.0),
            (r#"keyward_refusals_total{code="forbidden"}"#, 1.0),
            (r#"keyward_refusals_total{code="missing_key"}"#, 1.0),
            (r#"keyward_endpoint_up{upstream="app","#, 1.0),
            ("keyward_requests_in_flight", 0.0),
            ("keyward_connections_accepted_total", 22.0),
            (r#"keyward_config_reloads_total{result="refused"}"#, 1.0),
            ("keyward_config_last_reload_successful", 0.0),
            ("keyward_config_generation", 1.0),
            ("keyward_build_info", 1.0),
            ("keyward_keys", 1.0),
        ];
        for (begin, expected) in expect {
            assert_eq!(value(&page, begin), expected, "{begin} in\n{page}");
        }
        // Nobody listens at the other endpoint: what was meant for it came to the first.
        let retries = value(&page, "keyward_upstream_retries_total");
        assert!(retries >= 1.0, "{page}");
        assert_eq!(value(&page, "keyward_upstream_failures_total"), retries);
        assert_eq!(value(&page, "keyward_upstream_requests_total"), 20.0 + retries);
        assert_eq!(value(&page, "keyward_upstream_latency_seconds_count"), 20.0);
        assert!(!page.contains("key_a") && !page.contains(KEY));
    }

    #[test]
    fn every_family_is_described_once_and_its_samples_stand_behind_that() {
        let folder = tempfile::tempdir().expect("a folder");
        let (server, _, metrics) = start(folder.path(), "[metrics]\nper_key = true\n");
        ask(&server, "/", Some(KEY));
        let page = render(&metrics).expect("all workers run");
        assert_eq!(value(&page, r#"keyward_key_requests_total{key_id="key_a",status="2xx"}"#), 1.0);
        let mut families = Vec::new();
        for line in page.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let name = help.split(' ').next().unwrap();
                assert!(!families.contains(&name), "{name} twice");
                families.push(name);
            } else if !line.starts_with("# TYPE ") {
                let name = line.split(['{', ' ']).next().unwrap();
                let family = families.last().expect("a family");
                assert!(name.starts_with("keyward_") && name.starts_with(family), "{line}");
            }
        }
        server.stop(Instant::now()).expect("a thread");
        while render(&metrics).is_ok() {}
        assert_eq!(render(&metrics), Err(Incomplete));
    }
}
