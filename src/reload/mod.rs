//! Reloading: read everything, check everything, then swap once. What is refused changes nothing.
//!
//! A reload happens when a file changes (see [`watch`]) and on SIGHUP. Until the next good one, a refusal
//! is said in the log with every fault, as `keyward check` would print it. Certificates that cannot be used keep
//! those before them in force, and hold up nothing else.
//!
//! Never here: a snapshot that was built in part.

pub mod request;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::config::{self, Config, Faulty, Keys, Tls, UpstreamTls};
use crate::diagnostics::{Fault, Report, Source};
use crate::identity::Roles;
use crate::keys::format::{Hasher, KeyFormat};
use crate::keys::memory::Memory;
use crate::keys::store::{self, LoadedKeys};
use crate::snapshot::{Handshakes, Shared, Snapshot};
use crate::tls::upstreams::{self, LoadedUpstreams};
use crate::tls::{self, Section, Tickets};
use watch::{Fingerprint, Watch};

/// How often the files are looked at even if nothing was heard of them: not every file system tells.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How often files are read again that change while they are read.
const ATTEMPTS: usize = 3;

/// What was read, as it was at one moment.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, with all warnings.
    pub config: Config,
    /// The keys.
    pub keys: LoadedKeys,
    /// What TLS handshakes need.
    pub handshakes: Handshakes,
}

/// What is kept from one reload to the next.
#[derive(Clone, Default)]
struct Lasting {
    /// Whether the records of the keys are wanted, beside their table; unless it is said, if keys are managed here.
    keeps_records: Option<bool>,
    /// Of the key file. It has every record, so it is empty unless they are wanted.
    keys: Memory,
    tickets: Tickets,
    /// Others than those of clients: a session that began there is none here.
    admin_tickets: Tickets,
    known: upstreams::Known,
}

/// Reads the configuration file and the files that it names, and notices when they change.
pub struct Reloader {
    path: PathBuf,
    lasting: Lasting,
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
            lasting: Lasting::default(),
            files: Vec::new(),
            watch: Watch::new(),
            seen: Fingerprint::default(),
        }
    }

    /// What is known of the key file, for stores of the same one: nothing as long as no keys are managed here.
    pub fn key_memory(&self) -> Memory {
        self.lasting.keys.clone()
    }

    /// Reads all files, as they were at one moment.
    ///
    /// # Errors
    /// Every fault in them, and what is hardly meant.
    pub fn load(&mut self) -> Result<Loaded, Report> {
        let loaded = self.read()?.whole()?;
        // An admin listener is there from the start on, or never.
        self.lasting.keeps_records.get_or_insert(loaded.config.admin.is_some());
        Ok(loaded)
    }

    fn read(&mut self) -> Result<Parts, Report> {
        let path = self.path.clone();
        if self.files.is_empty() {
            self.follow(vec![path.clone()]);
        }
        for _ in 0..ATTEMPTS {
            let before = Fingerprint::of([&path]);
            self.seen = Fingerprint::of(&self.files);
            let lasting = self.lasting.clone();
            let loaded = read(&path, &lasting, |others| {
                self.follow([vec![path.clone()], others].concat());
                self.seen = Fingerprint::of(&self.files);
            });
            if Fingerprint::of([&path]) == before && Fingerprint::of(&self.files) == self.seen {
                return loaded;
            }
        }
        self.seen = Fingerprint::default();
        let fault =
            Fault::whole("it, or a file it names, changes while it is read; it is read again soon");
        Err(Report::error(Source { path, text: String::new() }, vec![fault]))
    }

    /// Waits until it is time to [`look`](Self::look).
    pub async fn changed(&self) {
        self.watch.changed(LOOK_AGAIN).await;
    }

    /// Reloads if a file is not as it was. Whether that swapped.
    pub fn look(&mut self, shared: &Shared) -> bool {
        Fingerprint::of(&self.files) != self.seen && self.reload(shared)
    }

    /// Reads the files and swaps, or says why not. Whether it did.
    pub fn reload(&mut self, shared: &Shared) -> bool {
        let current = shared.current().load_full();
        match self.read().and_then(|parts| parts.or_keep(&current).whole()) {
            Ok(Loaded { config, keys, handshakes }) => {
                warn(&config.warnings);
                for setting in needs_restart(&current.config, &config) {
                    tracing::warn!(setting, "changed, but takes effect at the next start only");
                }
                let (count, routes) = (keys.table.len(), config.routes.routes().len());
                let generation = shared.replace(config, keys, handshakes);
                tracing::info!(generation, keys = count, routes, "reloaded");
                true
            }
            Err(report) => {
                shared.reloads().refuse();
                for fault in report.lines() {
                    tracing::error!(fault, generation = current.generation, "reload refused");
                }
                false
            }
        }
    }

    fn follow(&mut self, files: Vec<PathBuf>) {
        self.watch.follow(&files);
        self.files = files;
    }
}

/// Reads the configuration at `path` and the files it names.
///
/// # Errors
/// Every fault in them, and what is hardly meant.
pub fn load(path: &Path) -> Result<Loaded, Report> {
    let lasting = Lasting { keeps_records: Some(true), ..Lasting::default() };
    read(path, &lasting, |_| {})?.whole()
}

/// Reads them, with the paths of the other files told before.
fn read(
    path: &Path,
    lasting: &Lasting,
    mut others_are: impl FnMut(Vec<PathBuf>),
) -> Result<Parts, Report> {
    match config::load_with_keys(path) {
        Ok(config) => {
            let others = [config.keys.store.as_path()].into_iter().chain(config.tls_files());
            others_are(others.map(Path::to_owned).collect());
            read_others(config, lasting)
        }
        Err(Faulty { mut report, key_facts }) => {
            if let Some(known) = key_facts {
                others_are(vec![known.keys.store.clone()]);
                if let Err(faults) = load_keys(&known.keys, &known.roles, None) {
                    report.merge(faults);
                }
            }
            Err(report)
        }
    }
}

/// Reads the files that a configuration without faults names.
fn read_others(config: Config, lasting: &Lasting) -> Result<Parts, Report> {
    let keeps_records = lasting.keeps_records.unwrap_or(config.admin.is_some());
    let memory = keeps_records.then_some(&lasting.keys);
    let keys = load_keys(&config.keys, &config.roles, memory);
    let now = Timestamp::now();
    let handshakes_of = |tls: Option<&Tls>, section, tickets| {
        tls.map(|tls| tls::load(tls, section, tickets, now)).transpose()
    };
    let tls = handshakes_of(config.server.tls.as_ref(), Section::Server, &lasting.tickets);
    let admin_tls = handshakes_of(admin_tls(&config), Section::Admin, &lasting.admin_tickets);
    let targets = upstreams::load(&config.upstreams, &lasting.known, &config.path, now);
    match keys {
        Ok(keys) => Ok(Parts { config, keys, tls, admin_tls, targets }),
        Err(mut report) => {
            report.merge(tls.err().unwrap_or_default());
            report.merge(admin_tls.err().unwrap_or_default());
            report.merge(targets.err().unwrap_or_default());
            report.merge(config.warnings);
            Err(report)
        }
    }
}

/// What was read; the rest is sound though the TLS files may have faults.
struct Parts {
    config: Config,
    keys: LoadedKeys,
    tls: Result<Option<tls::Loaded>, Report>,
    admin_tls: Result<Option<tls::Loaded>, Report>,
    targets: Result<LoadedUpstreams, Report>,
}

impl Parts {
    /// With what is in force in the place of TLS files with faults, if they are meant for the same: a renewal
    /// that went wrong must not keep a key from being disabled.
    fn or_keep(mut self, current: &Snapshot) -> Self {
        let kept = |server| tls::Loaded { server, warnings: Report::default() };
        if let Err(faults) = &self.tls
            && current.config.server.tls == self.config.server.tls
        {
            keep(faults);
            self.tls = Ok(current.tls.clone().map(kept));
        }
        if let Err(faults) = &self.admin_tls
            && admin_tls(&current.config) == admin_tls(&self.config)
        {
            keep(faults);
            self.admin_tls = Ok(current.admin_tls.clone().map(kept));
        }
        if let Err(faults) = &self.targets
            && handshakes(&current.config).eq(handshakes(&self.config))
        {
            keep(faults);
            let targets = Arc::clone(&current.targets);
            self.targets = Ok(LoadedUpstreams { targets, warnings: Report::default() });
        }
        self
    }

    fn whole(self) -> Result<Loaded, Report> {
        let Self { mut config, keys, tls, admin_tls, targets } = self;
        let mut faults = Report::default();
        let mut warnings = Report::default();
        let mut take = |loaded: Result<Option<tls::Loaded>, Report>| match loaded {
            Ok(loaded) => loaded.map(|loaded| {
                warnings.merge(loaded.warnings);
                loaded.server
            }),
            Err(report) => {
                faults.merge(report);
                None
            }
        };
        let (server, admin) = (take(tls), take(admin_tls));
        match targets {
            Ok(LoadedUpstreams { targets, warnings: more }) if faults.is_empty() => {
                config.warnings.merge(warnings);
                config.warnings.merge(more);
                Ok(Loaded { config, keys, handshakes: Handshakes { server, admin, targets } })
            }
            targets => {
                faults.merge(targets.err().unwrap_or_default());
                faults.merge(config.warnings);
                Err(faults)
            }
        }
    }
}

/// How TLS is to be spoken to those who manage keys.
fn admin_tls(config: &Config) -> Option<&Tls> {
    config.admin.as_ref().and_then(|admin| admin.tls.as_ref())
}

/// Says why files are not used.
fn keep(faults: &Report) {
    for fault in faults.lines() {
        tracing::error!(fault, "certificate refused, the one before stays");
    }
}

/// What of the upstreams handshakes depend on.
fn handshakes(
    config: &Config,
) -> impl Iterator<Item = (&str, Option<&UpstreamTls>, Vec<Option<&str>>)> {
    config.upstreams.iter().map(|upstream| {
        let hosts = upstream.endpoints.iter().map(config::Endpoint::tls_host).collect();
        (upstream.name.as_str(), upstream.tls.as_ref(), hosts)
    })
}

/// With the records, if there is a `memory` for them.
fn load_keys(keys: &Keys, roles: &Roles, memory: Option<&Memory>) -> Result<LoadedKeys, Report> {
    let hasher = Hasher::new(keys.pepper.clone());
    let format = KeyFormat::new(keys.prefix.clone());
    match memory {
        Some(memory) => store::load(&keys.store, roles, &hasher, &format, memory),
        None => store::load_table(&keys.store, roles, &hasher, &format).map(LoadedKeys::from),
    }
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
    let admin = |config: &Config| config.admin.as_ref().map(|admin| admin.listen);
    let settings = [
        ("[admin] listen", admin(old) != admin(new)),
        ("[server] listen", from.listen != to.listen),
        ("[server.redirect]", from.redirect != to.redirect),
        ("[server] workers", from.workers != to.workers),
        ("[server] core_dumps", from.core_dumps != to.core_dumps),
        ("[server.limits] connections", from.limits.connections != to.limits.connections),
        ("[keys] usage", old.keys.usage.path != new.keys.usage.path),
        ("[keys] usage_interval", old.keys.usage.interval != new.keys.usage.interval),
        ("[log]", old.log != new.log),
    ];
    settings.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::keys::actor::{Actor, Way};
    use crate::keys::change::Change;
    use crate::keys::store::{Store, Terms, Which};

    const ADMIN: &str = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    const CONFIG: &str = "
[keys]
store = \"keys.toml\"
[roles.viewer]
[upstreams.app]
endpoints = [\"http://127.0.0.1:9\"]
";

    /// A configuration with two keys.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("keyward.toml"), CONFIG.to_owned() + ADMIN).unwrap();
        let entry = |id: &str| {
            let hash = Hasher::default().digest(id.as_bytes());
            format!(
                "[[keys]]\nid = \"{id}\"\nhash = \"{hash}\"\nlabel = \"{id}\"\nuser = \"alice\"\n\
                 role = \"viewer\"\n"
            )
        };
        let keys = folder.path().join("keys.toml");
        fs::write(&keys, entry("key_a") + &entry("key_b")).unwrap();
        fs::set_permissions(&keys, Permissions::from_mode(0o600)).unwrap();
        folder
    }

    fn load(reloader: &mut Reloader) -> Loaded {
        reloader.load().unwrap_or_else(|report| panic!("{report}"))
    }

    #[test]
    fn a_generation_is_freed_by_who_is_asked_to() {
        let folder = folder();
        let mut reloader = Reloader::new(&folder.path().join("keyward.toml"));
        let Loaded { config, keys, handshakes } = load(&mut reloader);
        let shared = Shared::new(config, keys, handshakes);
        let held = shared.current().load_full();
        let first = Arc::downgrade(&held);
        assert!(reloader.reload(&shared));
        shared.free_unused();
        drop(held);
        assert!(first.upgrade().is_some(), "the last who held it did not free it");
        shared.free_unused();
        assert!(first.upgrade().is_none());
    }

    #[test]
    fn what_a_store_has_read_is_not_read_again() {
        let folder = folder();
        let path = folder.path().join("keyward.toml");
        fs::write(&path, CONFIG.to_owned() + ADMIN).unwrap();
        let mut reloader = Reloader::new(&path);
        let memory = reloader.key_memory();
        let Loaded { config, keys: before, .. } = load(&mut reloader);
        let (hasher, format) = (Hasher::default(), KeyFormat::new(config.keys.prefix.clone()));
        let (store, audit) = (&config.keys.store, &config.audit.file);
        let store = Store::new(store, audit, &config.roles, &hasher, &format).remembering(&memory);
        let read = store.load().unwrap_or_else(|report| panic!("{report}")).records;
        assert!(Arc::ptr_eq(&read, &before.records));

        let user = crate::identity::Label::new("carol").unwrap();
        let by = Actor { way: Way::Api, user, key_id: None, address: None };
        let terms = Terms { by: &by, expected: None, may_leave_no_admin: false };
        let (which, change) = (Which::Exactly(&read[0].id), Change::Delete { force: true });
        store.change(which, &change, terms).unwrap();
        let after = load(&mut reloader).keys;
        assert_eq!(*after.records, read[1..]);
        assert_eq!(after.table.len(), 1);
        let read = store.load().unwrap_or_else(|report| panic!("{report}")).records;
        assert!(Arc::ptr_eq(&read, &after.records));
    }

    #[test]
    fn records_are_kept_where_keys_are_managed_since_the_start() {
        let folder = folder();
        let path = folder.path().join("keyward.toml");
        let with_admin = CONFIG.to_owned() + ADMIN;
        for (first, then, expected) in [(CONFIG, &*with_admin, 0), (&with_admin, CONFIG, 2)] {
            let mut reloader = Reloader::new(&path);
            for config in [first, then] {
                fs::write(&path, config).unwrap();
                let keys = load(&mut reloader).keys;
                assert_eq!((keys.records.len(), keys.table.len()), (expected, 2));
            }
        }
        let for_people = super::load(&path).unwrap_or_else(|report| panic!("{report}"));
        assert_eq!(for_people.keys.records.len(), 2);
    }

    #[test]
    fn keys_that_are_as_they_were_have_the_roles_of_now() {
        let folder = folder();
        let path = folder.path().join("keyward.toml");
        let mut reloader = Reloader::new(&path);
        let config = CONFIG.to_owned() + ADMIN;
        let digest = *Hasher::default().digest(b"key_a").as_bytes();
        for roles in ["[roles.viewer]", "[roles.viewer]", "[roles.admin]\n[roles.viewer]"] {
            fs::write(&path, config.replace("[roles.viewer]", roles)).unwrap();
            let Loaded { config, keys, .. } = load(&mut reloader);
            let role = keys.table.lookup_digest(&digest, 0).unwrap().identity().role();
            assert_eq!(role, &**config.roles.find("viewer").unwrap(), "{roles}");
        }
    }
}
