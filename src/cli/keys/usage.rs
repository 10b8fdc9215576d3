//! What keys are used for, out of the file in which the proxy keeps it: `keyward keys unused`, and what `show` tells of it.
//!
//! Never here: a running proxy is not asked, so what is told is some `[keys] usage_interval` old.

use std::collections::HashMap;
use std::io::{self, Write as _};

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::super::failure::Failure;
use super::super::json;
use super::{Format, Keys, One, view};
use crate::keys::{KeyRecord, KeyState, store};
use crate::usage::{self, Tally};

#[derive(Debug, Args)]
pub(in super::super) struct Unused {
    /// For how many days.
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(..=36_500))]
    days: u32,
    #[command(flatten)]
    format: Format,
}

impl Keys {
    /// The keys that let somebody in whom nobody has seen for long, the longest unused first.
    pub(super) fn unused(&self, unused: &Unused) -> Result<(), Failure> {
        let tallies = self.tallies()?.ok_or_else(|| {
            Failure::Failed(
                "it is not known which keys are used: [keys] usage is \"off\"".to_owned(),
            )
        })?;
        let now = Timestamp::now();
        let days = SignedDuration::from_hours(24 * i64::from(unused.days));
        let since = now.checked_sub(days).unwrap_or(Timestamp::MIN);
        let keys = self.store().load()?.records;
        let with_tally = |record| (record, tally_of(&tallies, record));
        let mut found: Vec<(&KeyRecord, Option<&Tally>)> = keys
            .iter()
            .filter(|record| record.state(now) == KeyState::Enabled)
            .map(with_tally)
            .filter(|(record, tally)| usage::is_unused(last(*tally), record.created_at, since))
            .collect();
        found.sort_by_key(|(record, tally)| last(*tally).max(record.created_at));
        if unused.format.json {
            let shown = |(record, tally): (_, _)| {
                view::UsedKey::new(record, KeyState::Enabled, Some(tally))
            };
            let views: Vec<_> = found.into_iter().map(shown).collect();
            return Ok(json::write(&mut io::stdout().lock(), &views)?);
        }
        if found.is_empty() {
            let days = unused.days;
            writeln!(anstream::stderr(), "no enabled key has gone unused for {days} days")?;
            return Ok(());
        }
        Ok(view::write_unused(&mut anstream::stdout().lock(), &found)?)
    }

    pub(super) fn show(&self, one: &One) -> Result<(), Failure> {
        let records = self.store().load()?.records;
        let record = &records[store::find(&records, &one.id)?];
        let state = record.state(Timestamp::now());
        let tallies = self.tallies()?;
        let tally = tallies.as_ref().map(|tallies| tally_of(tallies, record));
        if one.format.json {
            let shown = view::UsedKey::new(record, state, tally);
            return Ok(json::write(&mut io::stdout().lock(), &shown)?);
        }
        let mut stdout = anstream::stdout().lock();
        view::write_fields(&mut stdout, record, state)?;
        match tally {
            Some(tally) => Ok(view::write_usage(&mut stdout, record, tally)?),
            None => Ok(()),
        }
    }

    /// What became of every key that was used, by id; nothing if that is not kept.
    fn tallies(&self) -> Result<Option<HashMap<Box<str>, Tally>>, Failure> {
        let Some(path) = &self.config.keys.usage.path else { return Ok(None) };
        usage::load(path).map(Some).map_err(|error| {
            let path = path.display();
            Failure::Failed(format!("the usage of keys in {path} cannot be read: {error}"))
        })
    }
}

fn tally_of<'a>(tallies: &'a HashMap<Box<str>, Tally>, record: &KeyRecord) -> Option<&'a Tally> {
    tallies.get(record.id.as_str())
}

fn last(tally: Option<&Tally>) -> Option<Timestamp> {
    Some(tally?.last.as_ref()?.at)
}
