//! A guard over what a request costs: the instructions of each case of the pipeline, which callgrind counts, beside those
//! that `benches/results/instructions.json` holds. Unlike times they are the same on a busy machine.
//!
//! `cargo bench --profile guard --bench instructions` fails where a case takes 5 % more than is held, and leaves what it
//! counted in target/. `RESULT=benches/results/instructions.json` holds it from then on: a change that is worth more says
//! so in the same commit. `SMOKE=1` shows that it runs, and compares nothing.
//!
//! Counted is the program as the profile `guard` makes it, with the allocator of the real one. How the compiler lays it out
//! is its own matter, so another version of Rust may need new counts.

#[path = "pipeline/cases.rs"]
mod cases;
#[expect(dead_code, reason = "it starts no proxy")]
#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::io::{self, Write as _};
use std::mem;
use std::path::Path;
use std::process::{Command, ExitCode};

use http::request::Parts;
use mimalloc::MiMalloc;
use serde::{Deserialize, Serialize};

use cases::{CASES, Case, Stage};
use support::{Failure, settings};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// What is held.
const HELD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results/instructions.json");
/// What was counted, unless `RESULT` says otherwise.
const COUNTED: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/instructions.json");
/// By how much a case may grow unsaid.
const GROWTH: f64 = 0.05;

#[derive(Serialize, Deserialize)]
struct Counts {
    rust: String,
    instructions_per_request: BTreeMap<String, u64>,
}

fn main() -> ExitCode {
    let part = |arguments: &[&str]| match arguments {
        ["rehearse", name, requests, does] => Some(rehearse(name, requests, *does == "it")),
        _ => None,
    };
    support::run("instructions", part, guard)
}

fn guard() -> Result<(), Failure> {
    // Unoptimized, the keys alone take half a minute to load.
    let (cases, requests) = if settings::smoke() { (&CASES[..1], 10) } else { (&CASES[..], 2000) };
    let counts = cases.iter().map(|case| Ok((case.name.to_owned(), count(case, requests)?)));
    let rust = env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let rust = String::from_utf8(Command::new(rust).arg("--version").output()?.stdout)?;
    let rust = rust.trim().to_owned();
    let instructions_per_request = counts.collect::<Result<_, Failure>>()?;
    let counts = Counts { rust, instructions_per_request };
    if settings::smoke() {
        return Ok(());
    }
    let held: Option<Counts> = match fs::read(HELD) {
        Ok(text) => Some(serde_json::from_slice(&text)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error.into()),
    };
    let result = env::var_os("RESULT").map_or_else(|| COUNTED.into(), std::path::PathBuf::from);
    fs::write(&result, serde_json::to_string_pretty(&counts)? + "\n")?;
    compare(held.as_ref(), &counts)?.then_some(()).ok_or_else(|| {
        format!(
            "a request takes more instructions than before. Make it cheaper, or say why it is worth them and commit \
             what was counted: cp {} {HELD}",
            Path::new(&result).display()
        )
        .into()
    })
}

/// Prints what is held beside what was counted; whether nothing has grown too much.
fn compare(held: Option<&Counts>, counts: &Counts) -> io::Result<bool> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "instructions a request, {}", counts.rust)?;
    if let Some(held) = held.filter(|held| held.rust != counts.rust) {
        writeln!(stdout, "what is held was counted with {}", held.rust)?;
    }
    let mut is_well = true;
    for (name, &now) in &counts.instructions_per_request {
        let before = held.and_then(|held| held.instructions_per_request.get(name)).copied();
        let growth = before.map(|before| now as f64 / before as f64 - 1.0);
        let grows = growth.is_none_or(|growth| growth > GROWTH);
        is_well &= !grows;
        let before = before.map_or_else(|| "none".into(), |before| before.to_string());
        let growth = growth.map_or_else(String::new, |growth| format!("{:+.1} %", growth * 100.0));
        let verdict = if grows { "  MORE" } else { "" };
        writeln!(stdout, "{name:>12} {now:>8}, held {before:>8} {growth:>8}{verdict}")?;
    }
    Ok(is_well)
}

/// The instructions of one request of `case`: those of a process that rehearses some, without those of one that only makes
/// them.
fn count(case: &Case, requests: u64) -> Result<u64, Failure> {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let of = |does| -> Result<u64, Failure> {
        let out = folder.path().join("callgrind.out");
        let run = Command::new("valgrind")
            .args(["--tool=callgrind", "--quiet", "--error-exitcode=1"])
            .arg(format!("--callgrind-out-file={}", out.display()))
            .arg(env::current_exe()?)
            .args(["rehearse", case.name, &requests.to_string(), does])
            .output()
            .map_err(|error| format!("valgrind, which `make instructions` installs: {error}"))?;
        if !run.status.success() {
            return Err(String::from_utf8_lossy(&run.stderr).into());
        }
        let text = fs::read_to_string(&out)?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        Ok(total.ok_or("callgrind has said no total")?.trim().parse()?)
    };
    Ok(of("it")?.saturating_sub(of("not")?) / requests)
}

/// Makes `requests` of a case, and rehearses them if it `does`.
fn rehearse(name: &str, requests: &str, does: bool) -> Result<(), Failure> {
    let case = CASES.iter().find(|case| case.name == name).ok_or("no case of this name")?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let stage = Stage::new(folder.path())?;
    let requests: usize = requests.parse()?;
    let heads: Vec<Parts> = (0..requests).map(|_| case.head()).collect();
    if !does {
        // To end them is a part of what is counted.
        mem::forget(heads);
        return Ok(());
    }
    for head in heads {
        if black_box(stage.rehearse(head)) != case.passes {
            return Err(format!("{name} has come to something else").into());
        }
    }
    Ok(())
}
