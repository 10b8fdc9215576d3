//! How keys are shown: as a table, field by field, or as JSON.
//!
//! Never here: a hash, which nobody needs to see, or a key but in [`MadeKey`].

use std::io::{self, Write};

use anstyle::Style;
use jiff::Timestamp;
use serde::Serialize;

use super::super::{json, table};
use crate::keys::shown::ShownKey;
use crate::keys::store::Run;
use crate::keys::{KeyRecord, KeyState};
use crate::redact::Secret;

/// A key as JSON.
#[derive(Debug, Serialize)]
pub(super) struct Key<'a> {
    state: &'static str,
    #[serde(flatten)]
    shown: ShownKey<'a>,
}

impl<'a> Key<'a> {
    pub(super) fn new(record: &'a KeyRecord, state: KeyState) -> Self {
        Self { state: state.as_str(), shown: ShownKey::new(record) }
    }
}

/// A key just made: the one view that holds the secret.
#[derive(Serialize)]
struct MadeKey<'a> {
    key: &'a str,
    #[serde(flatten)]
    record: Key<'a>,
}

impl<'a> MadeKey<'a> {
    fn new(key: &'a str, record: &'a KeyRecord) -> Self {
        Self { key, record: Key::new(record, record.state(Timestamp::now())) }
    }
}

/// Prints a key just made: alone, or as JSON with all that is known of it.
pub(in crate::cli) fn write_made(
    key: &Secret<String>,
    record: &KeyRecord,
    as_json: bool,
) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    if as_json {
        json::write(&mut stdout, &MadeKey::new(key.expose(), record))
    } else {
        writeln!(stdout, "{}", key.expose()).and_then(|()| stdout.flush())
    }
}

/// A key that came in, or would, as JSON.
#[derive(Debug, Serialize)]
pub(super) struct ImportedKey<'a> {
    line: usize,
    /// None in a dry run, which gives no id.
    id: Option<&'a str>,
    user: &'a str,
    role: &'a str,
    label: &'a str,
    start: Option<&'a str>,
}

impl<'a> ImportedKey<'a> {
    pub(super) fn new(line: usize, record: &'a KeyRecord, run: Run) -> Self {
        Self {
            line,
            id: (run == Run::Real).then_some(record.id.as_str()),
            user: record.user.as_str(),
            role: record.role.as_str(),
            label: record.label.as_str(),
            start: record.start.as_deref(),
        }
    }
}

/// Writes a line a key, below a heading.
pub(super) fn write_table(
    to: &mut impl Write,
    records: &[KeyRecord],
    now: Timestamp,
) -> io::Result<()> {
    let heading = ["ID", "STATE", "USER", "ROLE", "LABEL", "START", "CREATED", "EXPIRES"];
    let row = |record: &KeyRecord| {
        table::Row::plain(vec![
            record.id.to_string(),
            record.state(now).as_str().to_owned(),
            record.user.to_string(),
            record.role.to_string(),
            record.label.to_string(),
            record.start.clone().unwrap_or_else(|| "-".to_owned()),
            time(record.created_at),
            time(record.expires_at),
        ])
    };
    table::write(to, &heading, records.iter().map(row))
}

/// Writes all that is known of a key, a line each.
pub(super) fn write_fields(
    to: &mut impl Write,
    record: &KeyRecord,
    state: KeyState,
) -> io::Result<()> {
    let given = |time: Option<Timestamp>| time.map(|time| time.to_string());
    let scopes = record.scopes.as_deref();
    let fields = [
        ("id", Some(record.id.to_string())),
        ("state", Some(state.as_str().to_owned())),
        ("user", Some(record.user.to_string())),
        ("role", Some(record.role.to_string())),
        ("label", Some(record.label.to_string())),
        ("start", record.start.clone()),
        ("created", given(record.created_at)),
        ("expires", given(record.expires_at)),
        ("methods", scopes.and_then(|scopes| listed(scopes.methods()))),
        ("paths", scopes.and_then(|scopes| listed(scopes.paths()))),
        ("addresses", scopes.and_then(|scopes| listed(scopes.addresses()))),
        ("old secret until", given(record.previous.map(|(_, until)| until))),
        ("disabled", given(record.disabled_at)),
        ("disabled by", record.disabled_by.clone()),
        ("reason", record.disabled_reason.clone()),
    ];
    let name_style = Style::new().bold();
    for (name, value) in fields {
        if let Some(value) = value {
            writeln!(to, "{name_style}{name:<18}{name_style:#}{value}")?;
        }
    }
    Ok(())
}

/// `entries` in one line, unless there are none.
fn listed(entries: &[impl ToString]) -> Option<String> {
    let texts: Vec<_> = entries.iter().map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn time(time: Option<Timestamp>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| time.to_string())
}
