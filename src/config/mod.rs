//! The validated configuration: what the rest of the program works with.
//!
//! [`load`] reads the TOML file, mirrors it with serde (`raw`), and turns the mirror into a [`Config`]
//! (`validate`), gathering every fault (`check`). What is in a `Config` needs no further check.
//!
//! Never here: serde types outside `raw`, sockets, or the key file's contents.

mod check;
mod conceal;
mod interpolate;
mod limits;
mod log;
mod raw;
mod suggest;
#[cfg(test)]
mod tests;
mod tls;
mod validate;

use std::fs::File;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

pub use log::{AccessLog, Log, LogFormat, OnOverflow};
pub use raw::schema;
pub use tls::{ClientCertificates, PairFiles, Tls, TlsVersion, UpstreamTls};

use crate::auth::credentials::KeySource;
use crate::diagnostics::{Fault, Report, Source};
use crate::identity::{IdentityHeaders, Roles};
use crate::keys::format::{Pepper, Prefix};
use crate::limit::failures;
use crate::policy::routes::RouteTable;
use crate::upstream::settings::{Address, Settings};

/// A configuration with faults.
#[derive(Debug)]
pub struct Faulty {
    /// Every fault; of the first only when the file cannot be read.
    pub report: Report,
    /// What the key file can be checked against in spite of them.
    pub key_facts: Option<Box<KeyFacts>>,
}

/// What a key file is checked against.
#[derive(Debug)]
pub struct KeyFacts {
    /// Where the keys are, and how they are digested.
    pub keys: Keys,
    /// The roles they may have.
    pub roles: Roles,
}

impl From<Report> for Faulty {
    fn from(report: Report) -> Self {
        Self { report, key_facts: None }
    }
}

/// Reads the configuration in the file at `path`, with variables from the environment of this process.
///
/// # Errors
/// The report of every fault in it; of the first only when the file cannot be read.
pub fn load(path: &Path) -> Result<Config, Report> {
    load_with_keys(path).map_err(|faulty| faulty.report)
}

/// As [`load`], for who reads the key file too, so that the faults of both are found at once.
///
/// # Errors
/// As for [`load`], with what is known of the keys.
pub fn load_with_keys(path: &Path) -> Result<Config, Faulty> {
    match read(path) {
        Ok(text) => {
            let source = Source { path: path.to_owned(), text };
            parse_with_keys(source, |name| std::env::var(name).ok())
        }
        Err(fault) => {
            let source = Source { path: path.to_owned(), text: String::new() };
            Err(Report::error(source, vec![fault]).into())
        }
    }
}

/// Reads the configuration in `source`, with variables from `env`.
///
/// # Errors
/// The report of every fault in it. Faults of the syntax come alone: what else there is in such a file is
/// a guess.
pub fn parse(source: Source, env: impl Fn(&str) -> Option<String>) -> Result<Config, Report> {
    parse_with_keys(source, env).map_err(|faulty| faulty.report)
}

fn parse_with_keys(source: Source, env: impl Fn(&str) -> Option<String>) -> Result<Config, Faulty> {
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let mut check = check::Check::new(&source.text, folder, &env);
    let config = match raw::parse(&source.text) {
        Ok(root) => validate::validate(&mut check, root, &source.path),
        Err(faults) => {
            faults.into_iter().for_each(|fault| check.push(fault));
            Err(None)
        }
    };
    let (faults, warnings) = check.finish();
    let source = Source { text: conceal::conceal(&source.text), path: source.path };
    let warnings = Report::warning(source.clone(), warnings);
    match config {
        Ok(config) => Ok(Config { warnings, ..config }),
        Err(key_facts) => {
            let mut report = Report::error(source, faults);
            report.merge(warnings);
            Err(Faulty { report, key_facts })
        }
    }
}

fn read(path: &Path) -> Result<String, Fault> {
    let unreadable = |error: io::Error| {
        let help = match error.kind() {
            io::ErrorKind::NotFound => "name the file with --config PATH",
            io::ErrorKind::PermissionDenied => "let the user that runs keyward read it",
            _ => "see that it is a plain file that can be read",
        };
        Fault::whole(format!("the configuration cannot be read: {error}")).with_help(help)
    };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(limits::FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > limits::FILE_BYTES_MAX {
        let message = format!("the file is larger than {} bytes", limits::FILE_BYTES_MAX);
        return Err(Fault::whole(message).with_help("see that it is the right file"));
    }
    String::from_utf8(bytes)
        .map_err(|_| Fault::whole("the file is not UTF-8").with_help("save it as UTF-8"))
}

/// A configuration without faults.
#[derive(Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// Named in `WWW-Authenticate` and in problem bodies; holds no quote, backslash or control character.
    pub realm: String,
    /// Where and how clients are served.
    pub server: Server,
    /// Where keys are kept and what new ones look like.
    pub keys: Keys,
    /// Where changes of keys are told.
    pub audit: Audit,
    /// Where a request carries its key.
    pub auth: Auth,
    /// What the upstream receives.
    pub identity: IdentityHeaders,
    /// Every declared role.
    pub roles: Roles,
    /// Never empty; a route names one by its place here.
    pub upstreams: Vec<Upstream>,
    /// Which requests may pass, compiled.
    pub routes: Arc<RouteTable>,
    /// Where keys are managed; nowhere unless given.
    pub admin: Option<Admin>,
    /// Where the access log goes, and how.
    pub log: Log,
    /// What is measured.
    pub metrics: Metrics,
    /// Not wrong, but hardly meant: shown by `check` and at load.
    pub warnings: Report,
}

impl Config {
    /// The files with certificates and keys.
    pub fn tls_files(&self) -> impl Iterator<Item = &Path> {
        let upstreams = self.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref());
        let admin = self.admin.iter().filter_map(|admin| admin.tls.as_ref());
        let servers = self.server.tls.iter().chain(admin).flat_map(Tls::files);
        servers.chain(upstreams.flat_map(UpstreamTls::files))
    }
}

/// `[server]`
#[derive(Clone, Debug)]
pub struct Server {
    /// Never empty.
    pub listen: Vec<SocketAddr>,
    /// Data-plane threads; the default is the cores this process may use.
    pub workers: NonZeroUsize,
    /// Peers whose `Forwarded`, `X-Forwarded-*` and `x-request-id` are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Connections from `trusted_proxies` begin with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Whether a core dump may be written.
    pub core_dumps: bool,
    /// With it, TLS is spoken on every address of `listen`.
    pub tls: Option<Tls>,
    /// Where plain HTTP is answered with a redirect; only with `tls`.
    pub redirect: Option<Redirect>,
    /// `[server.timeouts]`
    pub timeouts: Timeouts,
    /// `[server.limits]`
    pub limits: Limits,
}

/// `[server.redirect]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Never empty.
    pub listen: Vec<SocketAddr>,
    /// Where clients reach us by https. 443.
    pub port: u16,
}

/// `[server.timeouts]`: each but `request` is the longest wait for the next step, not for the whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the connection to the end of the TLS handshake. 10 s.
    pub tls_handshake: Duration,
    /// From the first byte of a request to the end of its head. 10 s.
    pub request_header: Duration,
    /// Between two pieces of a request body. 30 s.
    pub request_body_idle: Duration,
    /// Between two pieces of an answer that the client takes. 60 s.
    pub response_body_idle: Duration,
    /// An idle connection of a client. 75 s.
    pub keep_alive: Duration,
    /// A whole request, from its head to the last byte of its answer. No limit unless given.
    pub request: Option<Duration>,
    /// Connecting to an endpoint. 5 s.
    pub upstream_connect: Duration,
    /// From the end of the request to the head of the upstream's answer. 60 s.
    pub upstream_response: Duration,
    /// Between two pieces of the upstream's answer. 5 min.
    pub upstream_body_idle: Duration,
    /// An idle connection to an endpoint. 60 s.
    pub upstream_keep_alive: Duration,
    /// A tunnel over which nothing goes. 10 min.
    pub tunnel_idle: Duration,
    /// From SIGTERM until what still runs is cut. 30 s.
    pub shutdown: Duration,
    /// From the takeover by a new process until what still runs in the old one is cut. 10 min.
    pub takeover: Duration,
}

/// `[server.limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections in all; at the limit accepting waits. 16,384.
    pub connections: usize,
    /// Open connections of one client address; one more is closed at once. 1,024.
    pub connections_per_client: usize,
    /// Open tunnels in all; one more is refused with 503. 4,096.
    pub tunnels: usize,
    /// A request's head, in bytes; above it 431. 32 KiB; at least 8 KiB (the parser's smallest buffer).
    pub header_bytes: usize,
    /// Fields in a request's head; above it 431. 100.
    pub headers: usize,
    /// A request's body, in bytes; above it 413. No limit unless given.
    pub body_bytes: Option<u64>,
    /// Bytes a second of a request's body, at least; 0 for any rate. 500.
    pub request_body_min_rate: u64,
    /// Bytes a second of an answer that a client takes, at least; 0 for any rate. 500.
    pub response_body_min_rate: u64,
    /// Requests at once on one connection of HTTP/2. 100.
    pub h2_streams: u32,
    /// Idle connections kept to one endpoint, by each worker. 256.
    pub upstream_idle: usize,
}

/// `[keys]`
#[derive(Debug)]
pub struct Keys {
    /// The key file.
    pub store: PathBuf,
    /// Of keys made here.
    pub prefix: Prefix,
    /// With it, keys are kept as HMAC-SHA-256; `pepper = "${NAME}"`.
    pub pepper: Option<Arc<Pepper>>,
    /// Where their usage is kept.
    pub usage: UsageFile,
}

/// Where and how often the usage of keys is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageFile {
    /// The file; without one it is known to the running process alone.
    pub path: Option<PathBuf>,
    /// The longest time in which nothing is written though there is something new.
    pub interval: Duration,
}

/// `[audit]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Audit {
    /// The file that changes of keys are told in.
    pub file: PathBuf,
}

/// `[auth]`
#[derive(Clone, Debug)]
pub struct Auth {
    /// Tried in this order; never empty, no source twice.
    pub key_sources: Vec<KeySource>,
    /// Whether every source is removed before forwarding.
    pub hide_credentials: bool,
    /// Whether a CORS preflight passes as anonymous.
    pub forward_preflight: bool,
    /// How often an address may show a key that nobody has; `None`: any number of times.
    pub failures: Option<failures::Rule>,
}

/// `[upstreams.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// Never empty.
    pub endpoints: Vec<Endpoint>,
    /// How they are used.
    pub settings: Settings,
    /// How TLS is spoken to them; `None` if it is to none.
    pub tls: Option<UpstreamTls>,
}

/// One server of an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where it is; the port is 80, or 443 with https, unless given.
    pub address: Address,
    /// How much it takes, measured by the others. 1.
    pub weight: u32,
}

impl Endpoint {
    /// Its host, if TLS is spoken to it.
    pub fn tls_host(&self) -> Option<&str> {
        match &self.address {
            Address::Tls { host, .. } => Some(host),
            Address::Tcp { .. } | Address::Unix(_) => None,
        }
    }
}

/// `[metrics]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Whether requests are counted by key id, too.
    pub per_key: bool,
}

/// `[admin]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// A loopback address, or there is `tls`.
    pub listen: SocketAddr,
    /// Names under which it may be reached, in lower case, beside `localhost` and the address itself.
    pub hosts: Vec<String>,
    /// How long somebody may do nothing on the page before they have to sign in again.
    pub session_idle: Duration,
    /// With it, TLS is spoken there.
    pub tls: Option<Tls>,
}
