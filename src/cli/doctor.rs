//! `keyward doctor`: does a key end up where none should be? A canary in every place of a request, through every
//! route and outcome of a configuration, and then a look at everything that was written.
//!
//! It serves a copy of the configuration by itself, on loopback, with keys, files and a service of its own: what runs
//! is not touched, and nothing of the operator's is written to.
//!
//! Never here: a key of the operator's that is shown.

mod canary;
mod cases;
mod client;
mod findings;
mod kept;
mod places;
mod probe;
mod process;
mod rehearsal;
mod run;
mod through;
mod upstream;
mod view;

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use super::json;
use crate::reload::{self, Loaded};
use findings::Findings;
use kept::Known;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Look into this file, too, for keys: the log of a server in front, or of the service behind. May be given
    /// several times.
    #[arg(long, value_name = "FILE")]
    also_read: Vec<PathBuf>,
    /// Send canaries to this front door as well, before FILEs are read: unknown keys, refused with 401.
    ///
    /// "https://HOST" or "http://HOST:PORT", as clients reach the running keyward. The canaries open
    /// nothing, so that it does no harm where they end up.
    #[arg(long, value_name = "URL")]
    through: Option<String>,
    /// Ask the upstreams whether they take `X_Name` and `X.Name` for `X-Name`: a few GET requests for PATH.
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "/")]
    probe_upstream: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Examines the configuration at `path`.
pub(super) fn run(doctor: &Doctor, path: &Path) -> Result<(), Failure> {
    let Loaded { config, keys, .. } = reload::load(path)?;
    let mut findings = Findings::default();
    let (cases, canaries) = cases::cases(&config)?;
    // Each of them shows what the other escapes in another way.
    for format in ["json", "text"] {
        run::run(&config, (&cases, &canaries), format, &mut findings)?;
    }
    let known = Known::new(&config, &keys.records);
    for file in kept::files(&config).iter().chain(&doctor.also_read) {
        let (lines, leaks) = known.search(file)?;
        findings.sinks.insert(file.display().to_string(), lines);
        findings.leaks.extend(leaks);
    }
    if let Some(url) = &doctor.through {
        through::run(&config, url, &doctor.also_read, &mut findings)?;
    }
    if let Some(path) = &doctor.probe_upstream {
        findings.folding = probe::run(&config, path)?;
    }
    if doctor.json {
        json::write(&mut io::stdout().lock(), &view::Told::new(&config.path, &findings))?;
    } else {
        let to = &mut anstream::stdout().lock();
        view::write(to, &config.path, &findings)?;
        to.flush()?;
    }
    if findings.leaks.is_empty() { Ok(()) } else { Err(Failure::No) }
}
