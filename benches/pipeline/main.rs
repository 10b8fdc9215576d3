//! What a request costs without sockets: everything that is decided about its head, the headers that are
//! stripped and set, and its access record.
//!
//! Claims: the allocations of each case, which are counted, not estimated. The figures go where
//! `support/settings.rs` says.

use std::alloc::System;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::Duration;

use criterion::{BatchSize, Criterion};
use http::request::Parts;
use serde_json::{Value, json};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

mod cases;
#[path = "../support/machine.rs"]
mod machine;
#[expect(dead_code, reason = "other benches take numbers from the environment too")]
#[path = "../support/settings.rs"]
mod settings;

use cases::{CASES, Stage};

/// What may fail here, by the name under which `settings` knows it.
type Failure = Box<dyn std::error::Error>;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Requests over which allocations are counted.
const COUNTED: usize = 10_000;

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    if settings::smoke() {
        let moment = Duration::from_millis(10);
        criterion = criterion.sample_size(10).warm_up_time(moment).measurement_time(moment);
    }
    let folder = tempfile::tempdir()?;
    let stage = Stage::new(folder.path())?;
    let mut allocations = BTreeMap::new();
    let mut group = criterion.benchmark_group("pipeline");
    for case in &CASES {
        assert_eq!(stage.rehearse(case.head()), case.passes, "{}", case.name);
        group.bench_function(case.name, |bencher| {
            let rehearse = |head| black_box(stage.rehearse(head));
            bencher.iter_batched(|| case.head(), rehearse, BatchSize::SmallInput);
        });
        let heads: Vec<Parts> = (0..COUNTED).map(|_| case.head()).collect();
        let before = ALLOCATOR.stats().allocations;
        for head in heads {
            black_box(stage.rehearse(head));
        }
        let counted = ALLOCATOR.stats().allocations - before;
        allocations.insert(case.name, counted as f64 / COUNTED as f64);
    }
    group.finish();
    criterion.final_summary();
    let figures = json!({ "machine": machine::describe(), "allocations_per_request": allocations });
    print(&figures)?;
    settings::keep("pipeline", &figures)
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
