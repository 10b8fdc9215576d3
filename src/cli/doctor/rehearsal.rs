//! The configuration as the doctor serves it: what decides about requests and logs is the operator's, what
//! would touch anything else is the doctor's own.
//!
//! Never here: a write outside of the doctor's folder.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::super::failure::Failure;
use crate::config::{AccessLog, Config};

/// A role that no route of the operator's can name.
pub(super) const NOBODY: &str = "keyward-doctor-nobody";
/// The longest waits: each is waited out by a request.
const WAIT: &str = "700ms";
/// Of a request's body; above it 413.
pub(super) const BODY_BYTES: usize = 20_000;

/// Files in the doctor's folder.
pub(super) const CONFIG: &str = "configuration";
const KEYS: &str = "key file";
/// A key file without keys.
pub(super) const NO_KEYS: &str = "keys = []\n";
const ACCESS_LOG: &str = "access log";

/// A configuration that is to be changed.
pub(super) struct Rehearsal {
    root: Table,
    /// That of the operator's configuration; paths in it are relative to this.
    home: PathBuf,
}

impl Rehearsal {
    /// As the file of `config` says, on loopback, with files of the doctor's own.
    pub(super) fn new(config: &Config) -> Result<Self, Failure> {
        let text = fs::read_to_string(&config.path)?;
        let root = text.parse().map_err(|error| {
            Failure::Failed(format!("{} has just changed: {error}", config.path.display()))
        })?;
        let home = config.path.parent().unwrap_or(Path::new("")).canonicalize();
        let mut rehearsal = Self { root, home: home.unwrap_or_default() };
        let own = |name: &str| Value::from(name);
        let server = rehearsal.section("server");
        // TLS ends before a request begins; what it says is the same in clear.
        for name in ["tls", "redirect", "proxy_protocol"] {
            server.remove(name);
        }
        server.insert("listen".to_owned(), vec!["127.0.0.1:0"].into());
        let keys = rehearsal.section("keys");
        keys.insert("store".to_owned(), own(KEYS));
        if keys.get("usage").is_none_or(|usage| usage.as_str() != Some("off")) {
            keys.insert("usage".to_owned(), own("usage"));
        }
        rehearsal.section("audit").insert("file".to_owned(), own("audit log"));
        if let AccessLog::File(_) = config.log.access {
            rehearsal.section("log").insert("access".to_owned(), own(ACCESS_LOG));
        }
        if config.admin.is_some() {
            let admin = rehearsal.section("admin");
            admin.remove("tls");
            admin.insert("listen".to_owned(), own("127.0.0.1:0"));
        }
        // A request that is one too many is let through here: what it meets behind that is to be seen.
        for (_, role) in rehearsal.section("roles").iter_mut() {
            role.as_table_mut().map(|role| role.remove("limits"));
        }
        for route in rehearsal.routes() {
            route.remove("limits");
            // There are no certificates without TLS.
            route.remove("client_subject");
        }
        Ok(rehearsal)
    }

    /// With short waits, small bodies, everybody in 127.0.0.0/8 trusted if anybody is, a role that opens
    /// nothing, and all endpoints at `upstream`.
    pub(super) fn act(mut self, upstream: SocketAddr) -> Self {
        let server = self.section("server");
        if server.contains_key("trusted_proxies") {
            server.insert("trusted_proxies".to_owned(), vec!["127.0.0.0/8"].into());
        }
        let timeouts = table(server, "timeouts");
        for name in ["request_header", "request_body_idle", "upstream_response", "shutdown"] {
            timeouts.insert(name.to_owned(), WAIT.into());
        }
        let body_bytes = i64::try_from(BODY_BYTES).expect("it is small");
        table(server, "limits").insert("body_bytes".to_owned(), body_bytes.into());
        table(self.section("roles"), NOBODY);
        for upstream_section in self.upstreams() {
            for name in ["tls", "proxy_protocol", "health"] {
                upstream_section.remove(name);
            }
            let url = format!("http://{upstream}");
            upstream_section.insert("endpoints".to_owned(), vec![url].into());
            // An endpoint that fails when it is asked to is to be asked again.
            table(upstream_section, "ejection").insert("after".to_owned(), 0.into());
        }
        self
    }

    /// Open to everybody, with the operator's endpoints of the upstream `name`.
    pub(super) fn open(mut self, name: &str) -> Self {
        let mut route = Table::new();
        route.insert("path".to_owned(), "/{*rest}".into());
        route.insert("public".to_owned(), true.into());
        route.insert("upstream".to_owned(), name.into());
        self.root.insert("routes".to_owned(), Value::Array(vec![route.into()]));
        self.root.remove("admin");
        let home = self.home.clone();
        for upstream in self.upstreams() {
            let Some(tls) = upstream.get_mut("tls").and_then(Value::as_table_mut) else { continue };
            for name in ["ca", "certificate", "private_key"] {
                let Some(value) = tls.get_mut(name) else { continue };
                // What begins with a variable is left as it is.
                let path = value.as_str().map(|text| home.join(text)).filter(|path| path.exists());
                if let Some(path) = path.as_deref().and_then(Path::to_str) {
                    *value = path.into();
                }
            }
        }
        self
    }

    /// In `format`, the logs.
    pub(super) fn logging(mut self, format: &str) -> Self {
        self.section("log").insert("format".to_owned(), format.into());
        self
    }

    /// Writes it, with `keys`, into `folder`; gives back where it is.
    pub(super) fn write(&self, folder: &Path, keys: &str) -> Result<PathBuf, Failure> {
        let path = folder.join(CONFIG);
        fs::write(&path, self.root.to_string())?;
        write_key_file(folder, keys)?;
        Ok(path)
    }

    fn section(&mut self, name: &str) -> &mut Table {
        table(&mut self.root, name)
    }

    fn upstreams(&mut self) -> impl Iterator<Item = &mut Table> {
        let upstreams = self.section("upstreams").iter_mut();
        upstreams.filter_map(|(_, upstream)| upstream.as_table_mut())
    }

    fn routes(&mut self) -> impl Iterator<Item = &mut Table> {
        let routes = self.root.get_mut("routes").and_then(Value::as_array_mut);
        routes.into_iter().flatten().filter_map(Value::as_table_mut)
    }
}

/// The table `name` of `parent`, made if there is none.
fn table<'a>(parent: &'a mut Table, name: &str) -> &'a mut Table {
    let value = parent.entry(name).or_insert_with(|| Table::new().into());
    if !value.is_table() {
        *value = Table::new().into();
    }
    value.as_table_mut().expect("it was made one")
}

/// Writes the key file into `folder`; only its owner reads it, as it has to be.
pub(super) fn write_key_file(folder: &Path, text: &str) -> Result<(), Failure> {
    let mut options = fs::OpenOptions::new();
    let path = folder.join(KEYS);
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
