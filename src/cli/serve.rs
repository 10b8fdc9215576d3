//! `keyward serve`.

use std::io::{self, IsTerminal};
use std::path::Path;

use crate::app::{self, App, StartError};
use crate::config::Config;
use crate::core_dumps::Inherited;
use crate::telemetry::events;

use super::failure::Failure;

/// Serves until SIGTERM or SIGINT. `inherited`: what was allowed of core dumps when the process began.
pub(super) fn run(config: &Path, inherited: Inherited) -> Result<(), Failure> {
    start(config, inherited)?.run()?;
    Ok(())
}

/// Starts to serve, with events on standard error.
pub(super) fn start(config: &Path, inherited: Inherited) -> Result<App, Failure> {
    let level = std::env::var(events::LEVEL_VARIABLE).ok();
    let level =
        events::level(level.as_deref()).map_err(|error| Failure::Usage(error.to_string()))?;
    let start_events = |config: &Config| {
        match config.server.core_dumps {
            true => inherited.restore()?,
            false => inherited.forbid_for_good()?,
        }
        let format = app::log_format(config.log.format, io::stderr().is_terminal());
        events::install(format, level).map_err(io::Error::other)
    };
    Ok(App::start(config, start_events)?)
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        match error {
            StartError::Faults(report) => Self::Report(report),
            StartError::Io(error) => Self::Io(error),
        }
    }
}
