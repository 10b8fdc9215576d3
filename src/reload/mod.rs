//! Reloading: read everything, check everything, then swap once. What is refused changes nothing.
//!
//! A reload happens when a file changes (see [`watch`]) and on SIGHUP. Until the next good one, a refusal
//! is said in the log with every fault, as `keyward check` would print it.
//!
//! Never here: a snapshot that was built in part.

mod watch;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{self, Config};
use crate::diagnostics::Report;
use crate::keys::format::{Hasher, KeyFormat};
use crate::keys::store::{self, LoadedKeys};
use crate::snapshot::Shared;
use watch::{Fingerprint, Watch};

/// How often the files are looked at even if nothing was heard of them: not every file system tells.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Reads the configuration at `path` and the keys it names.
///
/// # Errors
/// Every fault in both.
pub fn load(path: &Path) -> Result<(Config, LoadedKeys), Report> {
    let config = config::load(path)?;
    let hasher = Hasher::new(config.keys.pepper.clone());
    let format = KeyFormat::new(config.keys.prefix.clone());
    let keys = store::load(&config.keys.store, &config.roles, &hasher, &format)?;
    Ok((config, keys))
}

/// Keeps a [`Shared`] snapshot equal to the files it was read from.
pub struct Reloader {
    shared: Arc<Shared>,
    watch: Watch,
    /// The files as they were when they were last read, whatever came of it.
    seen: Fingerprint,
}

impl Reloader {
    /// Watches the files of the current snapshot.
    pub fn new(shared: Arc<Shared>) -> Self {
        let snapshot = shared.current().load_full();
        let paths = paths(&snapshot.config);
        // A file that changed since it was read looks changed at the first look.
        Self { watch: Watch::new(&paths), seen: Fingerprint::default(), shared }
    }

    /// Waits until it is time to [`look`](Self::look).
    pub async fn changed(&self) {
        self.watch.changed(LOOK_AGAIN).await;
    }

    /// Reloads if a file is not as it was.
    pub fn look(&mut self) {
        let snapshot = self.shared.current().load_full();
        if Fingerprint::of(&paths(&snapshot.config)) != self.seen {
            self.reload();
        }
    }

    /// Reads the files and swaps, or says why not.
    pub fn reload(&mut self) {
        let current = self.shared.current().load_full();
        let path = current.config.path.clone();
        self.seen = Fingerprint::of(&paths(&current.config));
        let (config, keys) = match load(&path) {
            Ok(loaded) => loaded,
            Err(report) => {
                refuse(&report, current.generation);
                return;
            }
        };
        warn(&config.warnings);
        for setting in needs_restart(&current.config, &config) {
            tracing::warn!(setting, "changed, but takes effect at the next start only");
        }
        let (count, routes) = (keys.records.len(), config.routes.routes().len());
        let generation = self.shared.replace(config, keys.table);
        let snapshot = self.shared.current().load_full();
        if snapshot.config.keys.store != current.config.keys.store {
            // Read a moment ago, not yet looked at: the next look may read it once more.
            self.seen = Fingerprint::default();
        }
        self.watch.follow(&paths(&snapshot.config));
        tracing::info!(generation, keys = count, routes, "reloaded");
    }
}

/// Says every warning.
pub fn warn(warnings: &Report) {
    for warning in warnings.lines() {
        tracing::warn!(warning, "configuration");
    }
}

fn refuse(report: &Report, generation: u64) {
    for fault in report.lines() {
        tracing::error!(fault, generation, "reload refused");
    }
}

fn paths(config: &Config) -> [&Path; 2] {
    [&config.path, &config.keys.store]
}

/// The settings that differ and are read at the start only.
fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let (from, to) = (&old.server, &new.server);
    let settings = [
        ("[server] listen", from.listen != to.listen),
        ("[server] workers", from.workers != to.workers),
        ("[server.limits] connections", from.limits.connections != to.limits.connections),
        ("[server.timeouts] shutdown", from.timeouts.shutdown != to.timeouts.shutdown),
        ("[log]", old.log != new.log),
    ];
    settings.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}
