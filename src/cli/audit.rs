//! `keyward audit …`: who changed which key, and whether the log of it was tampered with.
//!
//! Never here: a change to the log.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;

use super::failure::Failure;
use super::{json, table};
use crate::config;
use crate::identity::{KeyId, UserName};
use crate::keys::audit::read::{Query, Told, read};
use crate::keys::audit::verify::{Verdict, verify};
use crate::keys::audit::{Entry, Hash, matches_store};

/// Lines that are listed unless more are asked for: some screens.
const LISTED: usize = 100;
/// Faults that are told at most: whoever wrote over the log need not be told of each line.
const TOLD_MAX: usize = 100;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Say whether the log was tampered with, and where. Exit code 1 if it was.
    ///
    /// Lines that were cut off its end show only against a head that was noted elsewhere: note what this prints, and
    /// give it with --head the next time.
    Verify(Verify),
    /// List changes, the newest first.
    List(List),
}

#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The log; that of the configuration unless given.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// A head that was noted earlier, which must still be in the log.
    #[arg(long, value_name = "HASH", value_parser = Hash::parse)]
    head: Option<Hash>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Only those of the key with this id.
    #[arg(long, value_name = "ID", value_parser = KeyId::new)]
    key: Option<KeyId>,
    /// Only those of this user's keys.
    #[arg(long, value_name = "USER", value_parser = UserName::new)]
    user: Option<UserName>,
    /// Only those before the one with this number.
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// So many at most.
    #[arg(long, value_name = "COUNT", default_value_t = LISTED)]
    limit: usize,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Runs one command on the log that the configuration at `config` names.
pub(super) fn run(command: &Command, config: &Path) -> Result<(), Failure> {
    match command {
        Command::Verify(asked) => match &asked.file {
            Some(file) => asked.run(file, None),
            None => {
                let config = config::load(config)?;
                asked.run(&config.audit.file, Some(&config.keys.store))
            }
        },
        Command::List(asked) => asked.run(&config::load(config)?.audit.file),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        ErrorKind::NotFound => Failure::Failed(format!(
            "there is no audit log at {}: it begins with the first change of a key",
            path.display()
        )),
        _ => Failure::Failed(format!("cannot read the audit log {}: {error}", path.display())),
    }
}

#[derive(Serialize)]
struct Answer<'a> {
    ok: bool,
    lines: usize,
    last: Option<u64>,
    head: Option<&'a Hash>,
    broken: Vec<BrokenLine<'a>>,
    unfinished_bytes: usize,
    head_found: Option<bool>,
    store_matches: Option<bool>,
}

#[derive(Serialize)]
struct BrokenLine<'a> {
    line: usize,
    message: &'a str,
}

impl Verify {
    fn run(&self, path: &Path, store: Option<&Path>) -> Result<(), Failure> {
        let verdict = verify(path, self.head.as_ref()).map_err(|error| unreadable(path, &error))?;
        let head_found = self.head.as_ref().map(|_| verdict.noted_line.is_some());
        let is_ok = verdict.broken.is_empty() && head_found != Some(false);
        // What the key file is now is no fault of the log.
        let text = store.and_then(|store| fs::read_to_string(store).ok());
        let store_matches = text.and_then(|text| matches_store(path, &text).ok().flatten());
        if self.json {
            let broken = verdict.broken.iter();
            let answer = Answer {
                ok: is_ok,
                lines: verdict.lines,
                last: verdict.head.as_ref().map(|(last, _)| *last),
                head: verdict.head.as_ref().map(|(_, hash)| hash),
                broken: broken
                    .map(|broken| BrokenLine { line: broken.line, message: &broken.message })
                    .collect(),
                unfinished_bytes: verdict.unfinished_bytes,
                head_found,
                store_matches,
            };
            json::write(&mut io::stdout().lock(), &answer)?;
        } else {
            self.tell(&verdict, path, store_matches)?;
        }
        if is_ok { Ok(()) } else { Err(Failure::No) }
    }

    fn tell(&self, verdict: &Verdict, path: &Path, matches: Option<bool>) -> io::Result<()> {
        let mut to = anstream::stdout().lock();
        let path = path.display();
        for broken in verdict.broken.iter().take(TOLD_MAX) {
            writeln!(to, "{path}:{}: {}", broken.line, broken.message)?;
        }
        if let Some(more) = verdict.broken.len().checked_sub(TOLD_MAX).filter(|&more| more > 0) {
            writeln!(to, "and {more} more")?;
        }
        match (&self.head, verdict.noted_line) {
            (Some(_), None) => writeln!(
                to,
                "the noted head is not in the log: its end was cut off, or lines were written anew"
            )?,
            (Some(_), Some(line)) => writeln!(to, "the noted head is line {line}")?,
            (None, _) => {}
        }
        if verdict.unfinished_bytes > 0 {
            writeln!(
                to,
                "the last line is not finished: a crash leaves that, and the next change mends it"
            )?;
        }
        if matches == Some(false) {
            writeln!(
                to,
                "the key file is not as the last line says: it was edited by hand since, or the last \
                 change was not made. The next change will tell"
            )?;
        }
        let lines = verdict.lines;
        let plural = if lines == 1 { "" } else { "s" };
        let holds =
            if verdict.broken.is_empty() { "the chain holds" } else { "the chain is broken" };
        match &verdict.head {
            Some((last, hash)) => {
                writeln!(to, "{holds}: {lines} line{plural}, the last is number {last}")?;
                writeln!(to, "head {hash}")
            }
            None => writeln!(to, "{holds}: {lines} line{plural}"),
        }
    }
}

impl List {
    fn run(&self, path: &Path) -> Result<(), Failure> {
        let query = Query {
            key_id: self.key.as_ref(),
            user: self.user.as_ref(),
            before: self.before,
            limit: self.limit,
        };
        let page = read(path, &query).map_err(|error| unreadable(path, &error))?;
        if self.json {
            json::write(&mut io::stdout().lock(), &page.entries)?;
        } else if page.entries.is_empty() {
            writeln!(anstream::stderr(), "no change is told")?;
        } else {
            let heading = ["NUMBER", "TIME", "WHO", "ACTION", "KEY", "WHAT"];
            let rows = page.entries.iter().map(row);
            table::write(&mut anstream::stdout().lock(), &heading, rows)?;
        }
        let mut stderr = anstream::stderr().lock();
        if page.unreadable > 0 {
            let lines = page.unreadable;
            writeln!(stderr, "{lines} lines cannot be read; see `keyward audit verify`")?;
        }
        if let Some(next) = page.next.filter(|_| !self.json) {
            writeln!(stderr, "there are more: --before {next}")?;
        }
        Ok(())
    }
}

fn row(told: &Told) -> table::Row {
    let entry = &told.entry;
    let actor = &entry.actor;
    let who = match &actor.user {
        Some(user) => format!("{}:{user}", actor.kind),
        None => actor.kind.clone(),
    };
    let action =
        if told.undone { format!("{} (not made)", entry.action) } else { entry.action.clone() };
    table::Row::plain(vec![
        entry.sequence.to_string(),
        entry.time.to_string(),
        who,
        action,
        entry.key_id.clone().unwrap_or_else(|| "-".to_owned()),
        what(entry),
    ])
}

/// What was changed, or else whose key it is; and why.
fn what(entry: &Entry) -> String {
    let differences = entry.differences();
    let told = match &*entry.action {
        // The reason says it.
        "disable" | "enable" => Vec::new(),
        _ => differences
            .iter()
            .map(|(field, from, to)| format!("{field}: {} → {}", shown(from), shown(to)))
            .collect(),
    };
    let of = entry.after.as_ref().or(entry.before.as_ref()).filter(|_| told.is_empty());
    let whose = of.map(|key| format!("{}, {}", shown(&key["user"]), shown(&key["label"])));
    let parts = told.into_iter().chain(whose).chain(entry.reason.clone());
    parts.collect::<Vec<_>>().join("; ")
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "all".to_owned(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}
