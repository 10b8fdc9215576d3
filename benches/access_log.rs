//! What the access log costs a request: showing its path, and writing its record.
//!
//! Claims: an ordinary path under 100 ns, a record under 600 ns, its share of the hand-over to the writer
//! included.

use std::hint::black_box;
use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use keyward::redact::Redactor;
use keyward::telemetry::Format;
use keyward::telemetry::access_log::{AccessLog, Overflow, Sink};
use keyward::telemetry::record::Record;

const PATH: &[u8] = b"/api/v1/orders/12345";
const QUERY: &[u8] = b"/api/v1/orders?page=2&sort=-created_at&limit=50";
const ESCAPED: &[u8] = b"/files/annual%20report%202026.pdf?access_token=abcdefgh&inline=1";

fn redact(c: &mut Criterion) {
    let redactor = Redactor::new("kw", ["x-api-key"]);
    let mut group = c.benchmark_group("redact");
    for (name, target) in [("path", PATH), ("query", QUERY), ("escaped", ESCAPED)] {
        group.bench_function(name, |b| {
            let mut out = String::with_capacity(256);
            b.iter(|| {
                use std::fmt::Write as _;
                out.clear();
                let shown = redactor.target(black_box(target));
                match shown.as_plain() {
                    Some(text) => out.push_str(text),
                    None => write!(out, "{shown}").expect("a string takes everything"),
                }
                black_box(out.len())
            });
        });
    }
    group.finish();
}

fn record(c: &mut Criterion) {
    let redactor = Redactor::new("kw", ["x-api-key"]);
    let mut group = c.benchmark_group("access_log");
    let formats = [("json", Format::Json), ("text", Format::Text)];
    let targets = [("path", PATH), ("query", QUERY)];
    for (format_name, format) in formats {
        for (target_name, target) in targets {
            let log = AccessLog::start(&Sink::File("/dev/null".into()), format, Overflow::Block)
                .expect("/dev/null can be opened");
            let worker = log.worker();
            group.bench_function(format!("{format_name}/{target_name}"), |b| {
                b.iter(|| {
                    worker.write(black_box(&Record {
                        time: SystemTime::now(),
                        request_id: "01JDC2V8Q6W4N7T9X0Y1Z2A3B4",
                        client: "192.0.2.10",
                        method: Some(redactor.text(b"GET")),
                        path: Some(redactor.target(target)),
                        status: Some(200),
                        code: None,
                        user: Some("alice"),
                        role: Some("viewer"),
                        key_id: Some("key_2mVx81Qp"),
                        route: Some("/api/{*rest}"),
                        endpoint: Some("127.0.0.1:3000"),
                        bytes_in: 0,
                        bytes_out: 12_345,
                        duration: Duration::from_micros(1_234),
                        upstream: Some(Duration::from_micros(1_001)),
                    }));
                });
            });
            drop(worker);
            log.finish(Duration::from_secs(10)).expect("/dev/null takes everything");
        }
    }
    group.finish();
}

criterion_group!(benches, redact, record);
criterion_main!(benches);
