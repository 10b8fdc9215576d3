//! Who is compared with keyward, and how: each started with its template of this folder, in a folder of its own, alone on
//! the proxy's core; what proves that it does the job; and what its work costs. A peer that is not installed is left
//! out, and said.
//!
//! Never here: load, and what is made of the figures.

pub(crate) mod cpu;
pub(crate) mod meter;
pub(crate) mod options;
pub(crate) mod tls;
pub(crate) mod verify;

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use socket2::{Domain, Socket, Type};

use crate::support::Failure;
use crate::support::child::{self, Child};
use crate::support::keyring::Key;
use crate::support::keyward;
use crate::support::upstream;
use options::Options;

/// The proxy's core, and the core of load and upstream.
pub(crate) const PROXY_CORE: usize = 0;
pub(crate) const LOAD_CORE: usize = 1;
/// Keys that there are where their number is not what is measured.
pub(crate) const KEYS: usize = 10_000;
/// Connections that may wait for the upstream: a queue that overflows costs a second each, whoever the proxy is.
const BACKLOG: i32 = 4096;

const NGINX_TEMPLATE: &str = include_str!("nginx.conf");
const HAPROXY_TEMPLATE: &str = include_str!("haproxy.cfg");
const ENVOY_TEMPLATE: &str = include_str!("envoy.yaml");
const CADDY_TEMPLATE: &str = include_str!("Caddyfile");
/// Names by which `ONLY` and the reports know them.
pub(crate) const KEYWARD: &str = "keyward";
pub(crate) const NGINX: &str = "nginx";
pub(crate) const HAPROXY: &str = "haproxy";
pub(crate) const ENVOY: &str = "envoy";
pub(crate) const CADDY: &str = "caddy";

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
    /// With one, each has the proxy's core to itself; with more, all cores.
    pub(crate) workers: usize,
    /// Whether access logs are written.
    pub(crate) logs: bool,
}

impl Job<'_> {
    /// Starts all of `names` that are wanted and installed, in the order in which they are measured.
    pub(crate) fn start(
        &self,
        names: &[&str],
        options: &Options,
    ) -> Result<Vec<Contestant>, Failure> {
        let mut contestants = Vec::new();
        for name in names.iter().filter(|name| options.wants(name)) {
            contestants.extend(self.start_one(name)?);
        }
        Ok(contestants)
    }

    /// Starts the one of this name; `None` if it is not installed.
    pub(crate) fn start_one(&self, name: &str) -> Result<Option<Contestant>, Failure> {
        match name {
            KEYWARD => self.keyward().map(Some),
            NGINX => version_of(NGINX, "-v")?.map(|version| self.nginx(version)).transpose(),
            HAPROXY => version_of(HAPROXY, "-v")?.map(|version| self.haproxy(version)).transpose(),
            ENVOY => version_of(ENVOY, "--version")?.map(|version| self.envoy(version)).transpose(),
            CADDY => version_of(CADDY, "version")?.map(|version| self.caddy(version)).transpose(),
            other => Err(format!("nobody here is called {other}").into()),
        }
    }

    fn core(&self) -> Option<usize> {
        (self.workers == 1).then_some(PROXY_CORE)
    }

    fn keyward(&self) -> Result<Contestant, Failure> {
        let folder = self.folder.join(KEYWARD);
        let mut template =
            keyward::TEMPLATE.replace("workers = 1 ", &format!("workers = {} ", self.workers));
        if !self.logs {
            template = template.replace("access = \"access.log\"", "access = \"off\"");
        }
        let Job { upstream, keys, pair, .. } = *self;
        let (child, address) =
            keyward::start(&template, &folder, self.core(), upstream, keys, pair)?;
        let version = format!("keyward {}", env!("CARGO_PKG_VERSION"));
        Ok(self.contestant(KEYWARD, version, address, child, folder.join("access.log")))
    }

    fn nginx(&self, version: String) -> Result<Contestant, Failure> {
        let folder = self.folder_of(NGINX)?;
        let map = |file: &str, value: fn(&Key) -> &str| {
            let line = |key: &Key| format!("\"{}\" \"{}\";", key.secret, value(key));
            write_lines(&folder.join(file), self.keys, line)
        };
        map("users.map", |key| &key.user)?;
        map("roles.map", |key| key.role)?;
        map("key_ids.map", |key| &key.id)?;
        // Three buckets a key, and twice as long ones where there are many: what nginx accepts without a warning.
        let buckets = (3 * self.keys.len()).next_power_of_two().max(32_768);
        let bucket_bytes = if self.keys.len() > KEYS { 512 } else { 256 };
        let template = NGINX_TEMPLATE
            .replace("@BUCKETS@", &buckets.to_string())
            .replace("@BUCKET_BYTES@", &bucket_bytes.to_string());
        let (config, address) = self.render(&template, &folder.join("nginx.conf"))?;
        let errors = folder.join("error.log");
        let arguments = ["-c".as_ref(), config.as_os_str(), "-e".as_ref(), errors.as_os_str()];
        let output = folder.join("output.log");
        let mut child = Child::start(NGINX, self.core(), NGINX, &arguments, &output)?;
        child.wait_until_listening(address)?;
        Ok(self.contestant(NGINX, version, address, child, folder.join("access.log")))
    }

    fn haproxy(&self, version: String) -> Result<Contestant, Failure> {
        let folder = self.folder_of(HAPROXY)?;
        write_lines(&folder.join("keys.map"), self.keys, |key| {
            format!("{} {}", key.secret, joined(key))
        })?;
        let (config, address) = self.render(HAPROXY_TEMPLATE, &folder.join("haproxy.cfg"))?;
        // `-db`: in the foreground, one process. What it logs to its standard output is the access log.
        let arguments = ["-db".as_ref(), "-f".as_ref(), config.as_os_str()];
        let log = folder.join("access.log");
        let mut child = Child::start(HAPROXY, self.core(), HAPROXY, &arguments, &log)?;
        child.wait_until_listening(address)?;
        Ok(self.contestant(HAPROXY, version, address, child, log))
    }

    fn envoy(&self, version: String) -> Result<Contestant, Failure> {
        let folder = self.folder_of(ENVOY)?;
        let line =
            |key: &Key| format!("- {{ key: \"{}\", client: \"{}\" }}", key.secret, joined(key));
        let indent = " ".repeat(14);
        let lines: Vec<String> = self.keys.iter().map(|key| indent.clone() + &line(key)).collect();
        let template = ENVOY_TEMPLATE.replace("              @KEYS@", &lines.join("\n"));
        let (config, address) = self.render(&template, &folder.join("envoy.yaml"))?;
        let workers = self.workers.to_string();
        let config = config.display().to_string();
        // One worker, as its documents advise for one core; no hot restart, which needs shared memory that all have in
        // common; its log every second, as nginx's.
        let arguments =
            ["--concurrency", &workers, "--disable-hot-restart", "--log-level", "error"];
        let more = ["--file-flush-interval-msec", "1000", "--config-path", &config];
        let arguments = [&arguments[..], &more].concat();
        let output = folder.join("output.log");
        let mut child = Child::start(ENVOY, self.core(), ENVOY, &arguments, &output)?;
        child.wait_until_listening(address)?;
        Ok(self.contestant(ENVOY, version, address, child, folder.join("access.log")))
    }

    fn caddy(&self, version: String) -> Result<Contestant, Failure> {
        let folder = self.folder_of(CADDY)?;
        write_lines(&folder.join("keys.map"), self.keys, |key| {
            format!("{} {} {} {}", key.secret, key.user, key.role, key.id)
        })?;
        let (config, address) = self.render(CADDY_TEMPLATE, &folder.join("Caddyfile"))?;
        let config = config.display().to_string();
        // What it keeps (its configuration, too, with the keys) must not outlive the bench.
        let [kept, data] = ["XDG_CONFIG_HOME", "XDG_DATA_HOME"]
            .map(|variable| format!("{variable}={}", folder.display()));
        let arguments = [&kept, &data, CADDY, "run", "--config", &config, "--adapter", "caddyfile"];
        let output = folder.join("output.log");
        let mut child = Child::start(CADDY, self.core(), "env", &arguments, &output)?;
        child.wait_until_listening(address)?;
        Ok(self.contestant(CADDY, version, address, child, folder.join("access.log")))
    }

    fn contestant(
        &self,
        name: &'static str,
        version: String,
        address: SocketAddr,
        child: Child,
        log: PathBuf,
    ) -> Contestant {
        let access_log = self.logs.then_some(log);
        Contestant { name, version, address, child: Some(child), access_log }
    }

    fn folder_of(&self, name: &str) -> io::Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir(&folder)?;
        Ok(folder)
    }

    /// Fills in a template as [`keyward::render`] does, with what this job is about: a line behind `@LOG@` stands there
    /// only where logs are written, and one behind `@QUIET@` only where they are not.
    fn render(&self, template: &str, to: &Path) -> Result<(PathBuf, SocketAddr), Failure> {
        let (here, elsewhere) = if self.logs { ("@LOG@", "@QUIET@") } else { ("@QUIET@", "@LOG@") };
        let address = child::free_address()?;
        let text = keyward::choose(template, here, elsewhere)
            .replace("@WORKERS@", &self.workers.to_string())
            .replace("@CONNECTIONS@", &self.connections.to_string())
            .replace("@LISTEN_PORT@", &address.port().to_string())
            .replace("@UPSTREAM_PORT@", &self.upstream.port().to_string());
        keyward::render(&text, address, self.upstream, self.pair, to)?;
        Ok((to.to_owned(), address))
    }
}

/// Whom a key stands for, as one text.
pub(crate) fn joined(key: &Key) -> String {
    format!("{}:{}:{}", key.user, key.role, key.id)
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

/// Serves as the upstream until the process ends.
pub(crate) fn serve_upstream(listen: &str) -> Result<(), Failure> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&listen.parse::<SocketAddr>()?.into())?;
    socket.listen(BACKLOG)?;
    Ok(upstream::serve(socket.into())?)
}

/// As many file descriptors as are allowed, for this process and all that it starts.
pub(crate) fn raise_limit() -> Result<(), Failure> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let hard =
        line.and_then(|line| line.split_ascii_whitespace().nth(4)).ok_or("no limit of files")?;
    let process = process::id().to_string();
    let limit = format!("--nofile={hard}:{hard}");
    let raised = Command::new("prlimit").args(["--pid", &process, &limit]).status()?;
    match raised.success() {
        true => Ok(()),
        false => Err("prlimit of util-linux could not raise the limit of open files".into()),
    }
}

/// A line for each key: what both nginx's and HAProxy's maps are made of.
fn write_lines(path: &Path, keys: &[Key], line: impl Fn(&Key) -> String) -> io::Result<()> {
    let lines: Vec<String> = keys.iter().map(line).collect();
    fs::write(path, lines.join("\n") + "\n")
}

/// The first line of what a program says of its version; `None` where it is not installed.
fn version_of(program: &str, argument: &str) -> Result<Option<String>, Failure> {
    match Command::new(program).arg(argument).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text);
            let said = text.lines().map(str::trim).find(|line| !line.is_empty());
            Ok(Some(said.unwrap_or(program).to_owned()))
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
