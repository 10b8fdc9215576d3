//! `keyward check`: what a configuration and its keys would serve, what is wrong or odd about them, and what
//! would change if they took the place of others.
//!
//! Never here: a file that is changed, or a connection that is made.

mod diff;
mod plan;
mod reach;
mod settings;
mod upstreams;
mod view;

#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::failure::Failure;
use super::json;
use crate::config::Config;
use crate::diagnostics::{Fault, Report, Source};
use crate::reload::{self, Loaded};
use diff::{Change, Side};
use plan::Plan;
use reach::Warning;

#[derive(Debug, Args)]
pub(super) struct Check {
    /// Show what would change if this configuration took the place of the one in PATH.
    ///
    /// PATH is the configuration that is in force. A running keyward takes a file over as soon as it is
    /// saved, so prepare the new one beside it, and look before you move it into place:
    /// `keyward check --config new.toml --diff keyward.toml`
    #[arg(long, value_name = "PATH")]
    diff: Option<PathBuf>,
    /// Let a warning fail the check: exit code 1.
    #[arg(long)]
    strict: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What would be served, as JSON.
#[derive(Serialize)]
struct Served<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    warnings: &'a [Warning],
}

/// What would change, as JSON.
#[derive(Serialize)]
struct Changed<'a> {
    from: &'a Path,
    to: &'a Path,
    changes: &'a [Change],
    warnings: &'a [Warning],
}

/// Checks the configuration at `path` and its keys.
pub(super) fn run(check: &Check, path: &Path) -> Result<(), Failure> {
    let now = Timestamp::now();
    let (Loaded { config, keys, .. }, changes) = match &check.diff {
        None => {
            let loaded = reload::load(path)?;
            (loaded, None)
        }
        Some(in_force) => {
            let [old, new] = load_both(in_force, path)?;
            let changes = diff::changes(side(&old), side(&new), now);
            (new, Some((in_force, changes)))
        }
    };
    let warnings = reach::warnings(&config, &keys.records, now);
    let is_clean = warnings.is_empty() && config.warnings.is_empty();
    if check.json {
        let warnings = [of_configuration(&config), warnings].concat();
        let to = &mut io::stdout().lock();
        match &changes {
            None => {
                let plan = &Plan::new(&config, &keys.records, now);
                json::write(to, &Served { plan, warnings: &warnings })?;
            }
            Some((from, changes)) => {
                json::write(to, &Changed { from, to: path, changes, warnings: &warnings })?;
            }
        }
    } else {
        let to = &mut anstream::stdout().lock();
        match &changes {
            None => view::write_plan(to, &Plan::new(&config, &keys.records, now))?,
            Some((_, changes)) => view::write_changes(to, changes)?,
        }
        to.flush()?;
        let report = rendered(&config, warnings);
        if !report.is_empty() {
            write!(anstream::stderr(), "\n{}", report.render(true))?;
        }
    }
    if check.strict && !is_clean { Err(Failure::No) } else { Ok(()) }
}

/// Both configurations, or the faults of both.
fn load_both(old: &Path, new: &Path) -> Result<[Loaded; 2], Report> {
    match (reload::load(old), reload::load(new)) {
        (Ok(old), Ok(new)) => Ok([old, new]),
        (Err(mut faults), Err(more)) => {
            faults.merge(more);
            Err(faults)
        }
        (Err(faults), Ok(_)) | (Ok(_), Err(faults)) => Err(faults),
    }
}

fn side(Loaded { config, keys, .. }: &Loaded) -> Side<'_> {
    Side { config, keys: &keys.records }
}

/// What the configuration itself warned of, among the other warnings.
fn of_configuration(config: &Config) -> Vec<Warning> {
    config.warnings.lines().map(Warning::of_configuration).collect()
}

/// Every warning, as a fault would be shown.
fn rendered(config: &Config, warnings: Vec<Warning>) -> Report {
    let mut report = config.warnings.clone();
    for warning in warnings {
        let path = if warning.is_of_keys { &config.keys.store } else { &config.path };
        let source = Source { path: path.clone(), text: String::new() };
        let fault = Fault { help: warning.help, ..Fault::whole(warning.message) };
        report.merge(Report::warning(source, vec![fault]));
    }
    report
}
