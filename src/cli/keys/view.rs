//! How keys are shown: as a table, field by field, or as JSON.
//!
//! Never here: a hash, which nobody needs to see, or a key but in [`MadeKey`].

use std::io::{self, Write};
use std::net::IpAddr;

use anstyle::Style;
use jiff::Timestamp;
use serde::Serialize;

use super::super::{json, table};
use crate::keys::shown::ShownKey;
use crate::keys::store::Run;
use crate::keys::{KeyRecord, KeyState};
use crate::redact::Secret;
use crate::usage::{Tally, Use};

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

/// A key and its last uses, as JSON; null where there were none, or nobody knows.
#[derive(Debug, Serialize)]
pub(super) struct UsedKey<'a> {
    #[serde(flatten)]
    key: Key<'a>,
    last_used: Option<LastUse<'a>>,
    previous_last_used: Option<LastUse<'a>>,
}

#[derive(Debug, Serialize)]
struct LastUse<'a> {
    at: Timestamp,
    address: IpAddr,
    route: Option<&'a str>,
}

impl<'a> LastUse<'a> {
    fn new(last: &'a Use) -> Self {
        Self { at: last.at, address: last.client, route: last.route.as_deref() }
    }
}

impl<'a> UsedKey<'a> {
    /// `tally` is nothing where it is not kept, and nothing in it where the key was never used.
    pub(super) fn new(
        record: &'a KeyRecord,
        state: KeyState,
        tally: Option<Option<&'a Tally>>,
    ) -> Self {
        let tally = tally.flatten();
        Self {
            key: Key::new(record, state),
            last_used: tally.and_then(|tally| tally.last.as_ref()).map(LastUse::new),
            previous_last_used: tally
                .and_then(|tally| tally.last_of_previous.as_ref())
                .map(LastUse::new),
        }
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
        ("limits", (!record.limits.is_empty()).then(|| record.limits.to_string())),
        ("old secret until", given(record.previous.map(|(_, until)| until))),
        ("disabled", given(record.disabled_at)),
        ("disabled by", record.disabled_by.clone()),
        ("reason", record.disabled_reason.clone()),
    ];
    write_lines(to, fields)
}

/// Writes when the key was last used, a line each; that of the secret before its rotation as long as there is one.
pub(super) fn write_usage(
    to: &mut impl Write,
    record: &KeyRecord,
    tally: Option<&Tally>,
) -> io::Result<()> {
    let told = |last: Option<&Use>| match last {
        None => "never".to_owned(),
        Some(Use { at, client, route: None }) => format!("{at} from {client}"),
        Some(Use { at, client, route: Some(route) }) => format!("{at} from {client} on {route}"),
    };
    let last = tally.and_then(|tally| tally.last.as_ref());
    let of_previous = tally.and_then(|tally| tally.last_of_previous.as_ref());
    let has_previous = record.previous.is_some() || of_previous.is_some();
    write_lines(
        to,
        [
            ("last used", Some(told(last))),
            ("old secret used", has_previous.then(|| told(of_previous))),
        ],
    )
}

/// Writes a line a key that is not used, with its last use, below a heading.
pub(super) fn write_unused(
    to: &mut impl Write,
    keys: &[(&KeyRecord, Option<&Tally>)],
) -> io::Result<()> {
    let heading = ["ID", "USER", "ROLE", "LABEL", "CREATED", "LAST USED"];
    let row = |(record, tally): &(&KeyRecord, Option<&Tally>)| {
        let last = tally.and_then(|tally| tally.last.as_ref());
        table::Row::plain(vec![
            record.id.to_string(),
            record.user.to_string(),
            record.role.to_string(),
            record.label.to_string(),
            time(record.created_at),
            last.map_or_else(|| "never".to_owned(), |last| last.at.to_string()),
        ])
    };
    table::write(to, &heading, keys.iter().map(row))
}

fn write_lines(
    to: &mut impl Write,
    fields: impl IntoIterator<Item = (&'static str, Option<String>)>,
) -> io::Result<()> {
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
