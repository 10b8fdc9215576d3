//! What a request costs without sockets: everything that is decided about its head, the headers that are
//! stripped and set, and its access record.
//!
//! Claims: the allocations of each case, which are counted, not estimated. The figures go where
//! `support/settings.rs` says.

use std::alloc::System;
use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use http::Request;
use http::request::Parts;
use http_body::SizeHint;
use keyward::keys::format::Hasher;
use keyward::proxy::Proxy;
use keyward::proxy::forwarded::Proto;
use keyward::reload::{self, Loaded};
use keyward::server::connection::ConnectionInfo;
use keyward::snapshot::Shared;
use keyward::telemetry::Format;
use keyward::telemetry::access_log::{AccessLog, Overflow, Sink};
use keyward::usage::recorder::Reports;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[path = "support/machine.rs"]
mod machine;
#[expect(dead_code, reason = "other benches take numbers from the environment too")]
#[path = "support/settings.rs"]
mod settings;

/// What may fail here, by the name under which `settings` knows it.
type Failure = Box<dyn std::error::Error>;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const KEYS: usize = 10_000;
/// Requests over which allocations are counted.
const COUNTED: usize = 10_000;

const CONFIG: &str = r#"
[keys]
store = "keys.toml"
[roles.viewer]
[roles.admin]
[upstreams.app]
endpoints = ["http://127.0.0.1:3000"]
[[routes]]
path = "/health"
public = true
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/{*rest}"
roles = ["viewer"]
"#;

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    if settings::smoke() {
        let moment = Duration::from_millis(10);
        criterion = criterion.sample_size(10).warm_up_time(moment).measurement_time(moment);
    }
    let folder = tempfile::tempdir()?;
    let log = AccessLog::start(&Sink::File("/dev/null".into()), Format::Json, Overflow::Block)?;
    let (proxy, connection) = worker(folder.path(), &log)?;
    let key = key(KEYS / 2);
    let wrong = key.replace("bench", "wrong");
    let cases: [(&str, &str, Option<&str>); 5] = [
        ("allowed", "/orders/1007", Some(&key)),
        ("public", "/health", None),
        ("missing_key", "/orders/1007", None),
        ("unknown_key", "/orders/1007", Some(&wrong)),
        ("forbidden", "/admin/report", Some(&key)),
    ];
    let mut allocations = BTreeMap::new();
    let mut group = criterion.benchmark_group("pipeline");
    for (name, path, key) in cases {
        let rehearse = |head| proxy.rehearse(&connection, head, SizeHint::with_exact(0)).is_ok();
        assert_eq!(rehearse(head(path, key)), matches!(name, "allowed" | "public"), "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || head(path, key),
                |head| black_box(rehearse(head)),
                BatchSize::SmallInput,
            );
        });
        let heads: Vec<Parts> = (0..COUNTED).map(|_| head(path, key)).collect();
        let before = ALLOCATOR.stats().allocations;
        for head in heads {
            black_box(rehearse(head));
        }
        let counted = ALLOCATOR.stats().allocations - before;
        allocations.insert(name, counted as f64 / COUNTED as f64);
    }
    group.finish();
    criterion.final_summary();
    let figures = json!({ "machine": machine::describe(), "allocations_per_request": allocations });
    print(&figures)?;
    settings::keep("pipeline", &figures)
}

/// A worker's proxy over a configuration with many keys, and a connection to it.
fn worker(folder: &Path, log: &AccessLog) -> Result<(Rc<Proxy>, Rc<ConnectionInfo>), Failure> {
    let hasher = Hasher::default();
    let entry = |number: usize| {
        let hash = hasher.digest(key(number).as_bytes());
        format!(
            "[[keys]]\nid = \"key_{number}\"\nhash = \"{hash}\"\nlabel = \"bench {number}\"\n\
             user = \"user{number}\"\nrole = \"viewer\"\n"
        )
    };
    let config = folder.join("keyward.toml");
    fs::write(&config, CONFIG)?;
    fs::write(folder.join("keys.toml"), (0..KEYS).map(entry).collect::<String>())?;
    let Loaded { config, keys, handshakes } = reload::load(&config)?;
    let peer = "127.0.0.1:4711".parse()?;
    let connection = ConnectionInfo::new(peer, Proto::Http);
    let shared = Shared::new(config, keys, handshakes);
    let tunnels = Arc::default();
    let proxy =
        Proxy::new(&shared, tunnels, log.worker(), Reports::off()).map_err(io::Error::other)?;
    Ok((Rc::new(proxy), Rc::new(connection)))
}

fn key(number: usize) -> String {
    format!("bench-key-{number:08}-abcdefghijklmnop")
}

/// The head of a request as a browser's program sends it.
fn head(path: &str, key: Option<&str>) -> Parts {
    let mut request = Request::get(path)
        .header("host", "orders.example.com")
        .header("user-agent", "billing/1.4 (linux)")
        .header("accept", "application/json")
        .header("accept-encoding", "gzip");
    if let Some(key) = key {
        request = request.header("x-api-key", key);
    }
    request.body(()).expect("the parts are valid").into_parts().0
}

/// Prints the allocations; criterion has printed the times.
fn print(figures: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let machine = &figures["machine"];
    writeln!(
        stdout,
        "{}, {} cores, Linux {}",
        machine["cpu"], machine["cores"], machine["kernel"]
    )?;
    writeln!(stdout, "allocations a request")?;
    for (name, count) in figures["allocations_per_request"].as_object().into_iter().flatten() {
        writeln!(stdout, "{name:>12}  {:.2}", count.as_f64().unwrap_or(f64::NAN))?;
    }
    Ok(())
}
