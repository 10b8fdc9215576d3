//! Who is compared with keyward, and how: each started with its template of this folder, in a folder of its own, alone on
//! the proxy's core; what proves that it does the job; and what its work costs. A peer that is not installed is left
//! out, and said.
//!
//! Never here: load, and what is made of the figures.

pub(crate) mod cpu;
pub(crate) mod meter;
pub(crate) mod options;
pub(crate) mod verify;

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::Failure;
use crate::support::child::{self, Child};
use crate::support::keyring::Key;
use crate::support::keyward;
use options::Options;

/// The proxy's core, and the core of load and upstream.
pub(crate) const PROXY_CORE: usize = 0;
pub(crate) const LOAD_CORE: usize = 1;
/// Connections that a peer has room for: 64 clients or 200 streams and as many connections to the upstream.
pub(crate) const CONNECTIONS: usize = 1024;
/// As many as DESIGN section 7 measures with.
pub(crate) const KEYS: usize = 10_000;

const NGINX_TEMPLATE: &str = include_str!("nginx.conf");
const HAPROXY_TEMPLATE: &str = include_str!("haproxy.cfg");
/// Names by which `ONLY` and the reports know them.
pub(crate) const KEYWARD: &str = "keyward";
pub(crate) const NGINX: &str = "nginx";
pub(crate) const HAPROXY: &str = "haproxy";

/// A running proxy, or none ("direct").
pub(crate) struct Contestant {
    /// What it is called in the report.
    pub(crate) name: &'static str,
    /// What it says of itself.
    pub(crate) version: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its process; none for "direct".
    pub(crate) child: Option<Child>,
    /// Its access log, if it is one that logs.
    pub(crate) access_log: Option<PathBuf>,
}

/// What all who check keys are given.
pub(crate) struct Job<'a> {
    /// Each gets a folder of its own below it.
    pub(crate) folder: &'a Path,
    pub(crate) upstream: SocketAddr,
    pub(crate) keys: &'a [Key],
    /// The folder of the certificate that TLS is spoken with; none for HTTP in clear.
    pub(crate) pair: Option<&'a Path>,
    /// Connections that peers have room for, those to the upstream among them; keyward has its default.
    pub(crate) connections: usize,
}

impl Job<'_> {
    /// Starts all that are wanted and installed, in the order in which they are measured.
    pub(crate) fn start(&self, options: &Options) -> Result<Vec<Contestant>, Failure> {
        let mut contestants = Vec::new();
        if options.wants(KEYWARD) {
            contestants.push(self.keyward()?);
        }
        if options.wants(NGINX)
            && let Some(version) = version_of(NGINX, &["-v"])?
        {
            contestants.push(self.nginx(version)?);
        }
        if options.wants(HAPROXY)
            && let Some(version) = version_of(HAPROXY, &["-v"])?
        {
            contestants.push(self.haproxy(version)?);
        }
        Ok(contestants)
    }

    fn with_room(&self, template: &str) -> String {
        template.replace("@CONNECTIONS@", &self.connections.to_string())
    }

    fn keyward(&self) -> Result<Contestant, Failure> {
        let Job { folder, upstream, keys, pair, .. } = *self;
        let folder = folder.join(KEYWARD);
        let (child, address) =
            keyward::start(keyward::TEMPLATE, &folder, Some(PROXY_CORE), upstream, keys, pair)?;
        Ok(Contestant {
            name: KEYWARD,
            version: format!("keyward {}", env!("CARGO_PKG_VERSION")),
            address,
            child: Some(child),
            access_log: Some(folder.join("access.log")),
        })
    }

    fn nginx(&self, version: String) -> Result<Contestant, Failure> {
        let folder = self.folder.join(NGINX);
        fs::create_dir(&folder)?;
        let map = |file: &str, value: fn(&Key) -> &str| {
            let line = |key: &Key| format!("\"{}\" \"{}\";", key.secret, value(key));
            write_lines(&folder.join(file), self.keys, line)
        };
        map("users.map", |key| &key.user)?;
        map("roles.map", |key| key.role)?;
        map("key_ids.map", |key| &key.id)?;
        let address = child::free_address()?;
        let config = folder.join("nginx.conf");
        keyward::render(
            &self.with_room(NGINX_TEMPLATE),
            address,
            self.upstream,
            self.pair,
            &config,
        )?;
        let errors = folder.join("error.log");
        let arguments = ["-c".as_ref(), config.as_os_str(), "-e".as_ref(), errors.as_os_str()];
        let output = folder.join("output.log");
        let mut child = Child::start(NGINX, Some(PROXY_CORE), NGINX, &arguments, &output)?;
        child.wait_until_listening(address)?;
        Ok(Contestant {
            name: NGINX,
            version,
            address,
            child: Some(child),
            access_log: Some(folder.join("access.log")),
        })
    }

    fn haproxy(&self, version: String) -> Result<Contestant, Failure> {
        let folder = self.folder.join(HAPROXY);
        fs::create_dir(&folder)?;
        write_lines(&folder.join("keys.map"), self.keys, |key| {
            format!("{} {}:{}:{}", key.secret, key.user, key.role, key.id)
        })?;
        let address = child::free_address()?;
        let config = folder.join("haproxy.cfg");
        keyward::render(
            &self.with_room(HAPROXY_TEMPLATE),
            address,
            self.upstream,
            self.pair,
            &config,
        )?;
        // `-db`: in the foreground, one process. What it logs to its standard output is the access log.
        let arguments = ["-db".as_ref(), "-f".as_ref(), config.as_os_str()];
        let access_log = folder.join("access.log");
        let mut child = Child::start(HAPROXY, Some(PROXY_CORE), HAPROXY, &arguments, &access_log)?;
        child.wait_until_listening(address)?;
        Ok(Contestant {
            name: HAPROXY,
            version,
            address,
            child: Some(child),
            access_log: Some(access_log),
        })
    }
}

/// The upstream is this program again, in a process of its own.
pub(crate) fn start_upstream(folder: &Path) -> Result<(Child, SocketAddr), Failure> {
    let address = child::free_address()?;
    let arguments = ["upstream".to_owned(), address.to_string()];
    let output = folder.join("upstream.log");
    let program = env::current_exe()?;
    let mut upstream = Child::start("upstream", Some(LOAD_CORE), program, &arguments, &output)?;
    upstream.wait_until_listening(address)?;
    Ok((upstream, address))
}

/// A line for each key: what both nginx's and HAProxy's maps are made of.
fn write_lines(path: &Path, keys: &[Key], line: impl Fn(&Key) -> String) -> io::Result<()> {
    let lines: Vec<String> = keys.iter().map(line).collect();
    fs::write(path, lines.join("\n") + "\n")
}

/// The first line of what a program says of its version; `None` where it is not installed.
fn version_of(program: &str, arguments: &[&str]) -> Result<Option<String>, Failure> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            Ok(Some(text.lines().next().unwrap_or(program).trim().to_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            writeln!(
                io::stderr(),
                "{program} is not installed: left out (`make bench` installs it)"
            )?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
