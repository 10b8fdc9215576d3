//! How to run, from the environment: `ROUNDS`, `SECONDS` for each contestant in a round,
//! `ONLY=keyward,nginx` (all); `SMOKE=1` means one round of a second.

use std::env;
use std::time::Duration;

use crate::support::Failure;
use crate::support::settings::{number, smoke};

const MAX_ROUNDS: u64 = 100;
const MAX_SECONDS: u64 = 60;

/// How to run.
pub(crate) struct Options {
    /// How often each contestant is measured.
    pub(crate) rounds: u64,
    /// For how long each time.
    pub(crate) duration: Duration,
    /// Names of the only contestants to start; empty means all.
    only: Vec<String>,
}

impl Options {
    /// Reads the environment, with what is usual for rounds and seconds; a value that is no number or too large is an
    /// error.
    pub(crate) fn from_env(rounds: u64, seconds: u64) -> Result<Options, Failure> {
        let (rounds, seconds) = if smoke() { (1, 1) } else { (rounds, seconds) };
        Ok(Options {
            rounds: number("ROUNDS", rounds, MAX_ROUNDS)?,
            duration: Duration::from_secs(number("SECONDS", seconds, MAX_SECONDS)?),
            only: list("ONLY"),
        })
    }

    /// Whether the contestant of this name is to be started.
    pub(crate) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

/// The names in the variable `name`, between commas.
pub(crate) fn list(name: &str) -> Vec<String> {
    let text = env::var(name).unwrap_or_default();
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}
