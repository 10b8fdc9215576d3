//! Reloading: read everything, check everything, then swap once. What is refused changes nothing.
//!
//! A reload happens when a file changes (see [`watch`]) and on SIGHUP. Until the next good one, a refusal
//! is said in the log with every fault, as `keyward check` would print it.
//!
//! Never here: a snapshot that was built in part.

mod watch;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{self, Config, Faulty, Keys};
use crate::diagnostics::{Fault, Report, Source};
use crate::identity::Roles;
use crate::keys::format::{Hasher, KeyFormat};
use crate::keys::store::{self, LoadedKeys};
use crate::snapshot::Shared;
use watch::{Fingerprint, Watch};

/// How often the files are looked at even if nothing was heard of them: not every file system tells.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often files are read again that change while they are read.
const ATTEMPTS: usize = 3;

/// Reads the configuration file and the key file that it names, and notices when they change.
pub struct Reloader {
    path: PathBuf,
    /// The files that the last attempt read, or would have read.
    files: Vec<PathBuf>,
    watch: Watch,
    /// The files as they were when they were last read, whatever came of it.
    seen: Fingerprint,
}

impl Reloader {
    /// For the configuration file at `path`. A change is noticed from the first [`load`](Self::load) on.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            files: Vec::new(),
            watch: Watch::new(),
            seen: Fingerprint::default(),
        }
    }

    /// Reads both files, as they were at one moment.
    ///
    /// # Errors
    /// Every fault in both, and what is hardly meant.
    pub fn load(&mut self) -> Result<(Config, LoadedKeys), Report> {
        let path = self.path.clone();
        if self.files.is_empty() {
            self.follow(vec![path.clone()]);
        }
        for _ in 0..ATTEMPTS {
            let before = Fingerprint::of([&path]);
            self.seen = Fingerprint::of(&self.files);
            let loaded = read(&path, |store| {
                self.follow(vec![path.clone(), store.to_owned()]);
                self.seen = Fingerprint::of(&self.files);
            });
            if Fingerprint::of([&path]) == before && Fingerprint::of(&self.files) == self.seen {
                return loaded;
            }
        }
        self.seen = Fingerprint::default();
        let fault =
            Fault::whole("it, or the key file, changes while it is read; it is read again soon");
        Err(Report::error(Source { path, text: String::new() }, vec![fault]))
    }

    /// Waits until it is time to [`look`](Self::look).
    pub async fn changed(&self) {
        self.watch.changed(LOOK_AGAIN).await;
    }

    /// Reloads if a file is not as it was.
    pub fn look(&mut self, shared: &Shared) {
        if Fingerprint::of(&self.files) != self.seen {
            self.reload(shared);
        }
    }

    /// Reads the files and swaps, or says why not.
    pub fn reload(&mut self, shared: &Shared) {
        let current = shared.current().load_full();
        match self.load() {
            Ok((config, keys)) => {
                warn(&config.warnings);
                for setting in needs_restart(&current.config, &config) {
                    tracing::warn!(setting, "changed, but takes effect at the next start only");
                }
                let (keys, table) = (keys.records.len(), keys.table);
                let routes = config.routes.routes().len();
                let generation = shared.replace(config, table);
                tracing::info!(generation, keys, routes, "reloaded");
            }
            Err(report) => {
                for fault in report.lines() {
                    tracing::error!(fault, generation = current.generation, "reload refused");
                }
            }
        }
    }

    fn follow(&mut self, files: Vec<PathBuf>) {
        self.watch.follow(&files);
        self.files = files;
    }
}

/// Reads the configuration at `path` and the keys it names.
///
/// # Errors
/// Every fault in both, and what is hardly meant.
pub fn load(path: &Path) -> Result<(Config, LoadedKeys), Report> {
    read(path, |_| {})
}

/// [`load`], with the key file's path told before it is read.
fn read(path: &Path, mut key_file_is: impl FnMut(&Path)) -> Result<(Config, LoadedKeys), Report> {
    match config::load_with_keys(path) {
        Ok(config) => {
            key_file_is(&config.keys.store);
            match load_keys(&config.keys, &config.roles) {
                Ok(keys) => Ok((config, keys)),
                Err(mut report) => {
                    report.merge(config.warnings);
                    Err(report)
                }
            }
        }
        Err(Faulty { mut report, key_facts }) => {
            if let Some(known) = key_facts {
                key_file_is(&known.keys.store);
                if let Err(faults) = load_keys(&known.keys, &known.roles) {
                    report.merge(faults);
                }
            }
            Err(report)
        }
    }
}

fn load_keys(keys: &Keys, roles: &Roles) -> Result<LoadedKeys, Report> {
    let hasher = Hasher::new(keys.pepper.clone());
    let format = KeyFormat::new(keys.prefix.clone());
    store::load(&keys.store, roles, &hasher, &format)
}

/// Says every warning.
pub fn warn(warnings: &Report) {
    for warning in warnings.lines() {
        tracing::warn!(warning, "configuration");
    }
}

/// The settings that differ and are read at the start only: a field as `[section] field`, or a whole `[section]`.
pub fn needs_restart(old: &Config, new: &Config) -> Vec<&'static str> {
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
