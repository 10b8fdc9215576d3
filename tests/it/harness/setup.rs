//! What a proxy is started with: a folder with a configuration and a key file, written section by section.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use super::actor::key_file;
use super::{Actor, Keyward, Upstream};

/// Every role of the configuration in DESIGN section 2, and one that stands apart.
const ROLES: &str = r#"
[roles.viewer]
[roles.author]
inherits = ["viewer"]
[roles.manager]
inherits = ["author"]
admin = "own"
[roles.admin]
inherits = ["manager"]
admin = "all"
[roles.robot]
"#;

/// A proxy that is not started yet.
pub(crate) struct Setup {
    /// Where its files are.
    pub(crate) folder: TempDir,
    sections: BTreeMap<&'static str, String>,
    routes: String,
    /// Environment variables of the process.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What the process is started through, if not directly.
    pub(crate) launcher: Vec<String>,
    /// Whoever has a key.
    pub(crate) actors: Vec<Actor>,
}

impl Setup {
    /// In front of `upstream`, without routes: every path takes any valid key.
    pub(crate) fn new(upstream: &Upstream) -> Self {
        Self::with_endpoint(upstream.address())
    }

    /// In front of whatever listens on `endpoint`, if anything does.
    pub(crate) fn with_endpoint(endpoint: SocketAddr) -> Self {
        let mut setup =
            Self::in_folder(tempfile::tempdir().expect("a temporary folder can be made"));
        setup.set("server", "listen = [\"127.0.0.1:0\"]\nworkers = 2");
        setup.set("keys", "store = \"keys.toml\"");
        setup.set("upstreams.app", &format!("endpoints = [\"http://{endpoint}\"]"));
        setup.set("log", "access = \"logs/access.log\"\nformat = \"json\"");
        setup
    }

    /// With nothing but a folder, for a proxy whose files are there.
    pub(crate) fn in_folder(folder: TempDir) -> Self {
        Self {
            folder,
            sections: BTreeMap::new(),
            routes: String::new(),
            environment: Vec::new(),
            launcher: Vec::new(),
            actors: Vec::new(),
        }
    }

    /// Adds `lines` to a section.
    pub(crate) fn set(&mut self, section: &'static str, lines: &str) -> &mut Self {
        let text = self.sections.entry(section).or_default();
        text.push_str(lines);
        text.push('\n');
        self
    }

    /// Puts `lines` in the place of all that a section holds.
    pub(crate) fn replace(&mut self, section: &'static str, lines: &str) -> &mut Self {
        self.sections.remove(section);
        self.set(section, lines)
    }

    /// Puts `endpoints`, as the file lists them, in the place of the only one, with further `lines`.
    pub(crate) fn endpoints(&mut self, endpoints: &[String], lines: &str) -> &mut Self {
        let endpoints = endpoints.join(", ");
        self.replace("upstreams.app", &format!("endpoints = [{endpoints}]\n{lines}"))
    }

    /// Lets keys be shown any number of times before they are in force: for tests that ask until they are.
    pub(crate) fn allow_guesses(&mut self) -> &mut Self {
        self.set("auth", "failures = \"off\"")
    }

    /// Replaces the routes: `[[routes]]` entries as they stand in the file.
    pub(crate) fn routes(&mut self, entries: &str) -> &mut Self {
        entries.clone_into(&mut self.routes);
        self
    }

    /// Has `words` start the proxy: a command that runs the one behind it.
    pub(crate) fn start_through(&mut self, words: &[&str]) -> &mut Self {
        self.launcher = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Sets an environment variable of the process.
    pub(crate) fn env(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.environment.push((name, value.to_owned()));
        self
    }

    /// `user` with a new key of `role`.
    pub(crate) fn key(&mut self, user: &str, role: &str) -> Actor {
        self.add(Actor::new(user, role))
    }

    /// Puts an actor's key into the key file.
    pub(crate) fn add(&mut self, actor: Actor) -> Actor {
        self.actors.push(actor.clone());
        actor
    }

    /// The configuration file's text.
    pub(crate) fn config(&self) -> String {
        let mut text = "realm = \"test\"\n".to_owned();
        for (name, lines) in &self.sections {
            text.push_str(&format!("[{name}]\n{lines}"));
        }
        text + ROLES + &self.routes
    }

    /// Writes both files and starts the proxy.
    pub(crate) fn start(self) -> Keyward {
        let path = self.folder.path().to_owned();
        write(&path.join("keyward.toml"), &self.config());
        write(&path.join("keys.toml"), &key_file(&self.actors));
        self.start_on("keyward.toml")
    }

    /// Starts the proxy on a configuration file that is in the folder already.
    pub(crate) fn start_on(self, name: &str) -> Keyward {
        Keyward::start(self, name)
    }
}

/// Writes a file only its owner can read, in place.
pub(crate) fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("the temporary folder takes files");
    fs::set_permissions(path, Permissions::from_mode(0o600)).expect("our own file");
}

/// Puts a file in the place of another at once.
pub(crate) fn replace(path: &Path, text: &str) {
    let temporary = path.with_extension("tmp");
    write(&temporary, text);
    fs::rename(&temporary, path).expect("one folder");
}
