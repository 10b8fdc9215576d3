//! What it costs to find out whose a key is, and what a key costs in memory.
//!
//! Claims: among 1,000,000 keys under 250 ns, SHA-256 included, without allocating; under 200 bytes a key.
//! The figures go where `support/settings.rs` says; `SMOKE=1` leaves the largest table out.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion};
use keyward::identity::{AdminScope, KeyId, Label, RoleDeclaration, RoleName, Roles, UserName};
use keyward::keys::KeyRecord;
use keyward::keys::format::{Hasher, KeyFormat, Prefix, generate};
use keyward::keys::table::KeyTable;
use mimalloc::MiMalloc;
use serde_json::{Value, json};
use stats_alloc::StatsAlloc;

#[path = "support/machine.rs"]
mod machine;
#[expect(dead_code, reason = "other benches take numbers from the environment too")]
#[path = "support/settings.rs"]
mod settings;

/// What may fail here, by the name under which `settings` knows it.
type Failure = Box<dyn std::error::Error>;

/// The program's own: where it puts a table decides how long a look-up waits for memory. It asks Linux for
/// huge pages, and the system's does not.
#[global_allocator]
static ALLOCATOR: StatsAlloc<MiMalloc> = StatsAlloc::new(MiMalloc);

const SIZES: [usize; 3] = [10, 10_000, 1_000_000];
/// Keys looked for that no table holds.
const OTHER_KEYS: usize = 10_000;
/// Of a key made here with the prefix `kw`.
const KEY_BYTES: usize = 39;
/// Seconds since 1970; no key here expires.
const NOW: i64 = 1_800_000_000;

type Key = [u8; KEY_BYTES];

fn main() -> Result<(), Failure> {
    let mut criterion = Criterion::default().configure_from_args();
    let sizes = if settings::smoke() { &SIZES[..2] } else { &SIZES };
    if settings::smoke() {
        let moment = Duration::from_millis(10);
        criterion = criterion.sample_size(10).warm_up_time(moment).measurement_time(moment);
    }
    let mut figures = Vec::new();
    for &size in sizes {
        let hasher = Hasher::default();
        let new = |number| new_record(number, &hasher);
        let (keys, records): (Vec<Key>, Vec<KeyRecord>) = (0..size).map(new).unzip();
        let (table, bytes) = counted(|| build(&records));
        drop(records);
        let bytes_per_key = bytes as f64 / size as f64;
        let times = measure(&mut criterion, size, &keys, &table);
        figures.push(json!({ "keys": size, "bytes_per_key": bytes_per_key, "median_ns": times }));
    }
    criterion.final_summary();
    let figures = json!({ "machine": machine::describe(), "lookup": figures });
    print(&figures)?;
    settings::keep("lookup", &figures)
}

/// Measures look-ups in `table`, which holds `keys`; the median of each kind, in nanoseconds.
fn measure(
    criterion: &mut Criterion,
    size: usize,
    keys: &[Key],
    table: &KeyTable,
) -> BTreeMap<&'static str, f64> {
    let hasher = Hasher::default();
    let others: Vec<Key> = (0..OTHER_KEYS).map(|_| new_key()).collect();
    let mistyped: Vec<Key> = others.iter().map(|key| mistype(*key)).collect();
    let is_hit = |key: &Key| table.lookup(key, NOW).is_ok();
    let allocations = ALLOCATOR.stats().allocations;
    assert!(keys.iter().all(is_hit));
    assert!(!others.iter().chain(&mistyped).any(is_hit));
    assert_eq!(ALLOCATOR.stats().allocations, allocations, "a look-up allocates nothing");

    let group = criterion.benchmark_group(format!("lookup/{size}"));
    let mut runner = Runner { group, medians: BTreeMap::new() };
    // Keys are visited in the order in which they were made, which is no order in the table.
    runner.run("hit", keys, is_hit);
    runner.run("miss", &others, is_hit);
    runner.run("malformed", &mistyped, is_hit);
    runner.run("sha256_alone", keys, |key| hasher.digest(key).as_bytes()[0] == 0);
    runner.group.finish();
    runner.medians
}

struct Runner<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    medians: BTreeMap<&'static str, f64>,
}

impl Runner<'_> {
    fn run(&mut self, name: &'static str, keys: &[Key], act: impl Fn(&Key) -> bool) {
        let mut samples = Vec::new();
        let mut rest = keys.iter().cycle();
        self.group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for key in rest.by_ref().take(iterations as usize) {
                    black_box(act(black_box(key)));
                }
                let elapsed = start.elapsed();
                samples.push(elapsed.as_nanos() as f64 / iterations as f64);
                elapsed
            });
        });
        samples.sort_by(f64::total_cmp);
        // A filter on the command line may have left this one out.
        if let Some(median) = samples.get(samples.len() / 2) {
            self.medians.insert(name, *median);
        }
    }
}

/// What `act` returns, and the bytes it allocated and did not free.
fn counted<T>(act: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATOR.stats();
    let result = act();
    let change = ALLOCATOR.stats() - before;
    (result, change.bytes_allocated - change.bytes_deallocated)
}

fn new_key() -> Key {
    let prefix = Prefix::new("kw").expect("a good prefix");
    let key = generate(&prefix).expect("the system gives randomness");
    key.expose().as_bytes().try_into().expect("made with this prefix it has this length")
}

/// The key with one character wrong.
fn mistype(mut key: Key) -> Key {
    key[10] = if key[10] == b'x' { b'y' } else { b'x' };
    key
}

fn new_record(number: usize, hasher: &Hasher) -> (Key, KeyRecord) {
    let key = new_key();
    let record = KeyRecord {
        id: KeyId::new(&format!("key_{number:08}")).expect("a good id"),
        hash: hasher.digest(&key),
        start: None,
        label: Label::new("billing export").expect("a good label"),
        user: UserName::new(&format!("user{}", number / 3)).expect("a good user name"),
        role: RoleName::new("viewer").expect("a good role name"),
        created_at: None,
        enabled: true,
        expires_at: None,
        scopes: None,
        limits: Default::default(),
        disabled_at: None,
        disabled_by: None,
        disabled_reason: None,
        previous: None,
    };
    (key, record)
}

fn build(records: &[KeyRecord]) -> KeyTable {
    let viewer = RoleDeclaration {
        name: RoleName::new("viewer").expect("a good role name"),
        inherits: Vec::new(),
        admin: AdminScope::None,
        limits: Default::default(),
    };
    let roles = Roles::new(&[viewer]).expect("one role fits with itself");
    let format = KeyFormat::new(Prefix::new("kw").expect("a good prefix"));
    KeyTable::build(records, &roles, Hasher::default(), format).expect("the records are good")
}

/// Prints the figures as a table.
fn print(figures: &Value) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let machine = &figures["machine"];
    writeln!(
        stdout,
        "{}, {} cores, Linux {}",
        machine["cpu"], machine["cores"], machine["kernel"]
    )?;
    writeln!(stdout, "     keys  bytes a key   hit ns  miss ns  malformed ns  SHA-256 alone ns")?;
    for row in figures["lookup"].as_array().into_iter().flatten() {
        let ns = |name: &str| row["median_ns"][name].as_f64().unwrap_or(f64::NAN);
        let (keys, bytes) = (&row["keys"], row["bytes_per_key"].as_f64().unwrap_or(f64::NAN));
        let (hit, miss) = (ns("hit"), ns("miss"));
        let (malformed, digest) = (ns("malformed"), ns("sha256_alone"));
        writeln!(
            stdout,
            "{keys:>9}  {bytes:>11.0}  {hit:>7.0}  {miss:>7.0}  {malformed:>12.0}  {digest:>16.0}"
        )?;
    }
    Ok(())
}
