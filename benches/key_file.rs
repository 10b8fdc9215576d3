//! What a key file of many keys costs: to load it, to change one key in it, and to load it again after that; each by who
//! remembers what was read before (a process in which keys are managed), and by who does not (the command line).
//!
//! Claims, with 100,000 keys: a key is disabled and that is in force within 1.5 s; who remembers does so in a third of it.
//!
//! `cargo bench --bench key_file`; `KEYS` (100,000), `ROUNDS` (9). Times include what the disk takes to keep a change.

#[expect(dead_code, reason = "nothing is asked over the network here")]
#[path = "support/mod.rs"]
mod support;

use std::hint::black_box;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use ::keyward::config::Config;
use ::keyward::diagnostics::Report;
use ::keyward::identity::{Label, RoleName, UserName};
use ::keyward::keys::KeyRecord;
use ::keyward::keys::actor::{Actor, Way};
use ::keyward::keys::change::{Change, Rotation};
use ::keyward::keys::format::{Hasher, KeyFormat};
use ::keyward::keys::memory::Memory;
use ::keyward::keys::store::{Adding, LoadedKeys, NewKey, Run, Store, Terms, Which};
use ::keyward::keys::table::{KeyTable, Rejection};
use ::keyward::reload::{Loaded, Reloader};
use mimalloc::MiMalloc;
use serde_json::json;

use support::stats::Spread;
use support::{Failure, keyring, keyward, machine, settings};

/// The program's own.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const MAX_KEYS: u64 = 1_000_000;
const MAX_ROUNDS: u64 = 1_000;
/// What is measured, in this order.
const STEPS: [&str; 6] = ["load", "disable", "reload", "create", "rotate", "delete"];

fn main() -> ExitCode {
    support::run("key_file", |_| None, measure)
}

fn measure() -> Result<(), Failure> {
    let (keys, rounds) = if settings::smoke() { (1_000, 1) } else { (100_000, 9) };
    let keys = settings::number("KEYS", keys, MAX_KEYS)?;
    let rounds = settings::number("ROUNDS", rounds, MAX_ROUNDS)?;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let config = folder.path().join(keyward::CONFIG);
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    keyward::render(keyward::TEMPLATE, nowhere, nowhere, None, &config)?;
    // Only where keys are managed is anything remembered.
    let managed = folder.path().join("managed.toml");
    let template = format!("{}\n[admin]\nlisten = \"127.0.0.1:0\"\n", keyward::TEMPLATE);
    keyward::render(&template, nowhere, nowhere, None, &managed)?;
    let ring = keyring::make(usize::try_from(keys)?)?;
    keyring::write_store(&folder.path().join("keys.toml"), &ring)?;
    drop(ring);

    let alone = (0..rounds).map(|round| Round::measure(&config, None, round));
    let alone = alone.collect::<Result<Vec<_>, _>>()?;
    let mut reloader = Reloader::new(&managed);
    let memory = reloader.key_memory();
    load(&mut reloader)?;
    let remembering = (0..rounds)
        .map(|round| Round::measure(&managed, Some((&mut reloader, &memory)), rounds + round));
    report(keys, &alone, &remembering.collect::<Result<Vec<_>, _>>()?)
}

/// How long each of [`STEPS`] took, in milliseconds; and to build the table of all keys, which is a part of each, and to
/// free it.
struct Round {
    steps_ms: [f64; STEPS.len()],
    table_ms: f64,
    free_ms: f64,
}

impl Round {
    /// Measures all steps on the keys of `config`, of which another is changed in each round.
    fn measure(
        config: &Path,
        remembering: Option<(&mut Reloader, &Memory)>,
        round: u64,
    ) -> Result<Self, Failure> {
        let mut new = Reloader::new(config);
        let (reloader, memory) = match remembering {
            Some((reloader, memory)) => (reloader, Some(memory)),
            None => (&mut new, None),
        };
        let (load_ms, Loaded { config, .. }) = timed(|| load(reloader))?;
        let keyring = Keyring::of(&config, memory);
        let keys = keyring.store().load().map_err(told)?;
        let (table_ms, table) = timed(|| keyring.table(&keys))?;
        let (free_ms, ()) = timed(|| {
            drop(table);
            Ok(())
        })?;
        let place = usize::try_from(round)? * 7919 % keys.records.len();
        let KeyRecord { id, hash, .. } = &keys.records[place];
        let which = Which::Exactly(id);

        let (disable_ms, ()) = timed(|| keyring.change(which, &Change::Disable { reason: None }))?;
        let (reload_ms, reloaded) = timed(|| load(reloader))?;
        let found = reloaded.keys.table.lookup_digest(hash.as_bytes(), 0);
        if found.err() != Some(Rejection::Disabled) {
            return Err("a key is not disabled that was".into());
        }
        let (create_ms, ()) = timed(|| keyring.create(&format!("made in round {round}")))?;
        let hash = keyring.hasher.digest(format!("rotated in round {round}").as_bytes());
        let rotation = Change::Rotate(Rotation { hash, start: None, old_until: None });
        let (rotate_ms, ()) = timed(|| keyring.change(which, &rotation))?;
        let (delete_ms, ()) = timed(|| keyring.change(which, &Change::Delete { force: false }))?;
        let steps_ms = [load_ms, disable_ms, reload_ms, create_ms, rotate_ms, delete_ms];
        Ok(Self { steps_ms, table_ms, free_ms })
    }
}

/// The key file of a configuration, as a store of this bench has it.
struct Keyring<'a> {
    config: &'a Config,
    memory: Option<&'a Memory>,
    hasher: Hasher,
    format: KeyFormat,
    by: Actor,
}

impl<'a> Keyring<'a> {
    fn of(config: &'a Config, memory: Option<&'a Memory>) -> Self {
        let user = Label::new("bench").expect("it prints");
        Self {
            config,
            memory,
            hasher: Hasher::new(config.keys.pepper.clone()),
            format: KeyFormat::new(config.keys.prefix.clone()),
            by: Actor { way: Way::Cli, user, key_id: None, address: None },
        }
    }

    fn store(&self) -> Store<'_> {
        let (keys, audit) = (&self.config.keys.store, &self.config.audit.file);
        let store = Store::new(keys, audit, &self.config.roles, &self.hasher, &self.format);
        match self.memory {
            Some(memory) => store.remembering(memory),
            None => store,
        }
    }

    fn change(&self, which: Which<'_>, change: &Change) -> Result<(), Failure> {
        let terms = Terms { by: &self.by, expected: None, may_leave_no_admin: true };
        self.store().change(which, change, terms).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn create(&self, label: &str) -> Result<(), Failure> {
        let new = NewKey {
            hash: self.hasher.digest(label.as_bytes()),
            start: None,
            label: Label::new(label)?,
            user: UserName::new("bench")?,
            role: RoleName::new("viewer")?,
            expires_at: None,
            scopes: None,
            limits: Default::default(),
        };
        let adding = Adding { by: &self.by, action: "create", run: Run::Real };
        self.store().add(&[new], adding).map_err(|error| error.to_string())?;
        Ok(())
    }

    fn table(&self, keys: &LoadedKeys) -> Result<KeyTable, Failure> {
        let (hasher, format) = (self.hasher.clone(), self.format.clone());
        KeyTable::build(&keys.records, &self.config.roles, hasher, format)
            .map_err(|errors| format!("{errors:?}").into())
    }
}

fn load(reloader: &mut Reloader) -> Result<Loaded, Failure> {
    reloader.load().map_err(told)
}

fn told(report: Report) -> Failure {
    report.lines().collect::<Vec<_>>().join("\n").into()
}

/// What `work` gives, and how many milliseconds it took.
fn timed<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<(f64, T), Failure> {
    let start = Instant::now();
    let done = black_box(work()?);
    Ok((start.elapsed().as_secs_f64() * 1e3, done))
}

fn report(keys: u64, alone: &[Round], remembering: &[Round]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let spread = |rounds: &[Round], value: &dyn Fn(&Round) -> f64| {
        Spread::of(rounds.iter().map(value)).ok_or("no round was measured")
    };
    let table = spread(alone, &|round| round.table_ms)?;
    let free = spread(alone, &|round| round.free_ms)?;
    writeln!(out, "A key file of {keys} keys, in ms (medians):")?;
    writeln!(out, "  {:<10} {:>12} {:>12}", "", "alone", "remembering")?;
    let mut steps = json!({});
    for (step, name) in STEPS.into_iter().enumerate() {
        let by = |rounds| spread(rounds, &|round| round.steps_ms[step]);
        let (alone, remembering) = (by(alone)?, by(remembering)?);
        writeln!(out, "  {name:<10} {:>12.1} {:>12.1}", alone.median, remembering.median)?;
        steps[name] = json!({
            "alone_ms": alone.to_json(),
            "remembering_ms": remembering.to_json(),
        });
    }
    let (build, free_again) = (table.median, free.median);
    writeln!(
        out,
        "To build the table of all keys, a part of each: {build:.1}; to free it: {free_again:.1}"
    )?;
    let figures = json!({
        "bench": "key_file",
        "machine": machine::describe(),
        "keys": keys,
        "rounds": alone.len(),
        "steps": steps,
        "table_ms": table.to_json(),
        "free_table_ms": free.to_json(),
    });
    settings::keep("key_file", &figures)
}
