//! A whole data plane, as the control plane sees it: what it can be asked, and what it says.

use std::fmt::Debug;
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::panic;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tracing::field::Field;

use super::Server;
use super::listeners::Listeners;
use super::metrics::{Incomplete, Metrics};
use crate::keys::format::Hasher;
use crate::panics;
use crate::reload::{self, Loaded};
use crate::snapshot::Shared;
use crate::telemetry::Format;
use crate::telemetry::access_log::{AccessLog, Overflow, Sink};
use crate::usage::recorder::{self, Usage};

const KEY: &str = "a-key-that-was-made-elsewhere";

/// A service that answers every request but those for `/wait`, each on a connection of its own.
fn service() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut waiting = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let head = read_head(&mut stream);
            if head.starts_with(b"GET /wait ") {
                waiting.push(stream);
                continue;
            }
            if head.starts_with(b"GET /vanish ") {
                continue;
            }
            if head.starts_with(b"GET /break ") {
                let begin = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi";
                stream.write_all(begin.as_bytes()).expect("the proxy reads");
                continue;
            }
            let answer = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi";
            stream.write_all(answer.as_bytes()).expect("the proxy reads");
        }
    });
    address
}

fn read_head(stream: &mut TcpStream) -> Vec<u8> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.push(byte[0]);
    }
    head
}

/// A data plane with all that it needs.
struct Plane {
    folder: tempfile::TempDir,
    shared: Arc<Shared>,
    server: Server,
    usage: Usage,
    metrics: Metrics,
}

impl Plane {
    /// With `more` lines of configuration.
    fn start(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 2\n[roles.viewer]\n[roles.admin]\n\
             [upstreams.app]\nendpoints = [\"http://{}\", \"http://127.0.0.1:1\"]\n\
             [upstreams.app.retries]\nbudget_min = 100\n\
             [[routes]]\npath = \"/{{*rest}}\"\n[[routes]]\npath = \"/admin\"\nroles = [\"admin\"]\n{more}",
            service()
        );
        fs::write(folder.path().join("keyward.toml"), text).expect("our own folder");
        let Loaded { config, keys, handshakes } = load(folder.path(), true);
        let shared = Arc::new(Shared::new(config, keys, handshakes));
        let log = AccessLog::start(&Sink::Off, Format::Json, Overflow::Block).expect("no log");
        let (usage, reports, _) = recorder::start(None, Duration::from_secs(30)).expect("a thread");
        let sockets = Listeners::new(Vec::new()).expect("none are passed in");
        let server = super::start(&shared, &log, &reports, sockets).expect("a free port");
        let metrics = server.metrics(&shared, &usage, log.dropped());
        Self { folder, shared, server, usage, metrics }
    }

    /// Loads the same with the key as it is said.
    fn reload(&self, is_enabled: bool) {
        let Loaded { config, keys, handshakes } = load(self.folder.path(), is_enabled);
        self.shared.replace(config, keys, handshakes);
    }

    /// Sends a request, and gives back what its answer is read from.
    fn send(&self, target: &str, key: Option<&str>) -> TcpStream {
        let mut stream = TcpStream::connect(self.server.addresses()[0]).expect("it listens");
        let key = key.map_or_else(String::new, |key| format!("x-api-key: {key}\r\n"));
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{key}\r\n");
        stream.write_all(head.as_bytes()).expect("it reads");
        stream
    }

    fn ask(&self, target: &str, key: Option<&str>) -> String {
        read(self.send(target, key))
    }

    fn render(&self) -> Result<String, Incomplete> {
        block_on(self.metrics.render())
    }
}

/// The configuration, with one key.
fn load(folder: &Path, is_enabled: bool) -> Loaded {
    let keys = folder.join("keys.toml");
    let hash = Hasher::default().digest(KEY.as_bytes());
    let entry = format!(
        "[[keys]]\nid = \"key_a\"\nhash = \"{hash}\"\nlabel = \"l\"\nuser = \"alice\"\nrole = \"viewer\"\n\
         enabled = {is_enabled}\n"
    );
    fs::write(&keys, entry).expect("our own folder");
    fs::set_permissions(&keys, Permissions::from_mode(0o600)).expect("our own file");
    reload::load(&folder.join("keyward.toml")).unwrap_or_else(|report| panic!("{report}"))
}

fn read(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().expect("a runtime").block_on(future)
}

/// The value of one sample, or the sum of those whose labels begin so.
fn value(page: &str, begin: &str) -> f64 {
    let samples = page.lines().filter(|line| line.starts_with(begin));
    samples.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn a_page_is_the_sum_of_what_all_workers_counted() {
    let plane = Plane::start("[server.limits]\nconnections = 77\ntunnels = 7\n");
    for _ in 0..20 {
        assert!(plane.ask("/", Some(KEY)).starts_with("HTTP/1.1 200 "));
    }
    assert!(plane.ask("/admin", Some(KEY)).starts_with("HTTP/1.1 403 "));
    assert!(plane.ask("/", None).starts_with("HTTP/1.1 401 "));
    plane.shared.reloads().refuse();
    let page = plane.render().expect("all workers run");
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
        ("keyward_connections_limit", 77.0),
        ("keyward_tunnels_limit", 7.0),
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
    let plane = Plane::start("[metrics]\nper_key = true\n");
    plane.ask("/", Some(KEY));
    let page = plane.render().expect("all workers run");
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
    let Plane { server, metrics, .. } = plane;
    server.stop(Instant::now()).expect("a thread");
    while block_on(metrics.render()).is_ok() {}
    assert_eq!(block_on(metrics.render()), Err(Incomplete));
}

#[test]
fn whoever_disables_a_key_is_told_what_that_closed_and_what_became_of_it() {
    let plane = Plane::start("");
    let workers = plane.server.control();
    plane.ask("/", Some(KEY));
    let waiting: Vec<_> = (0..4).map(|_| plane.send("/wait", Some(KEY))).collect();
    let usage = || {
        block_on(async {
            workers.report_usage().await;
            plane.usage.settle().await;
        });
        plane.usage.of("key_a").unwrap_or_default()
    };
    while usage().in_flight < 4 {}
    assert_eq!(block_on(workers.close_revoked()).requests.len(), 0, "it is still good");
    plane.reload(false);
    let closed = block_on(workers.close_revoked());
    assert_eq!((closed.requests["key_a"], closed.is_whole), (4, true));
    // They had ended by then.
    let usage = usage();
    assert_eq!((usage.in_flight, usage.tally.requests), (0, [0, 0, 1, 0, 4, 0]));
    assert_eq!(usage.tally.recent().requests, 5);
    assert_eq!(plane.usage.all().len(), 1);
    for answer in waiting.into_iter().map(read) {
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("key_disabled"), "{answer}");
    }
    assert_eq!(block_on(workers.close_revoked()).requests.len(), 0);
}

/// Panics where events tell of an endpoint that breaks off: in the midst of requests for `/vanish` and `/break`.
struct Trap;

impl tracing::Subscriber for Trap {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event()
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut message = String::new();
        event.record(&mut |field: &Field, value: &dyn Debug| {
            if field.name() == "message" {
                message = format!("{value:?}");
            }
        });
        let is_trapped =
            ["no answer from endpoint", "an answer of the endpoint broke off"].contains(&&*message);
        assert!(!is_trapped, "canary");
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Asks on a connection that stays open, and gives back the status.
fn ask_again(stream: &mut TcpStream) -> String {
    let head = format!("GET / HTTP/1.1\r\nHost: a\r\nx-api-key: {KEY}\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("it reads");
    let head = String::from_utf8(read_head(stream)).expect("text");
    let mut chunk = [0; 2];
    stream.read_exact(&mut chunk).expect("a body");
    head.split(' ').nth(1).expect("a status").to_owned()
}

#[test]
fn a_panic_ends_the_request_that_had_it_and_no_other() {
    tracing::subscriber::set_global_default(Trap).expect("no other test sets it");
    // The test itself is to say why it fails.
    let plain = panic::take_hook();
    panics::watch();
    let watching = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        watching(info);
        plain(info);
    }));
    let plane = Plane::start("");
    // Some on each worker.
    let connect = |_| TcpStream::connect(plane.server.addresses()[0]).expect("it listens");
    let mut others: Vec<_> = (0..6).map(connect).collect();
    assert!(others.iter_mut().all(|other| ask_again(other) == "200"));
    let refused = plane.ask("/vanish", Some(KEY));
    assert!(refused.starts_with("HTTP/1.1 500 ") && refused.contains("\"internal\""), "{refused}");
    assert!(refused.contains("connection: close") && !refused.contains("canary"), "{refused}");
    let mut cut = Vec::new();
    // It is reset, or ends short of its length.
    let _ = plane.send("/break", Some(KEY)).read_to_end(&mut cut);
    assert!(!cut.ends_with(b"hi       "), "{}", String::from_utf8_lossy(&cut));
    block_on(over_http2(plane.server.addresses()[0]));
    assert!(others.iter_mut().all(|other| ask_again(other) == "200"));
    assert!(panics::count() >= 4);
    let page = plane.render().expect("all workers run");
    assert!(value(&page, "keyward_panics_total") >= 4.0, "{page}");
    assert_eq!(value(&page, r#"keyward_refusals_total{code="internal"}"#), 4.0, "{page}");
    assert_eq!(value(&page, "keyward_requests_in_flight"), 0.0, "{page}");
}

/// The same on streams of one connection, which goes on.
async fn over_http2(address: SocketAddr) {
    let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let (mut client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let mut ask = async |target: &str| {
        let request = http::Request::get(format!("http://a{target}")).header("x-api-key", KEY);
        client = client.clone().ready().await.expect("it is open");
        let sent = client.send_request(request.body(()).expect("a request"), true);
        let answer = match sent.expect("it is open").0.await {
            Ok(answer) => answer,
            Err(reset) => return (reset.reason().expect("of this stream").into(), false),
        };
        let (status, mut body) = (u32::from(answer.status().as_u16()), answer.into_body());
        // A stream that was reset says so each time it is asked.
        let is_whole = loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => break false,
                None => break true,
            }
        };
        (status, is_whole)
    };
    assert_eq!(ask("/vanish").await, (500, true));
    // The head of the answer may have left, or not.
    assert!(!ask("/break").await.1);
    assert_eq!(ask("/").await, (200, true));
}
