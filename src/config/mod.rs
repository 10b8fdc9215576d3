//! The validated configuration: what the rest of the program works with.
//!
//! [`load`] reads the TOML file, mirrors it with serde (`raw`), and turns the mirror into a [`Config`]
//! (`validate`), gathering every fault. What is in a `Config` needs no further check.
//!
//! Never here: serde types outside `raw`, sockets, or the key file's contents.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::auth::credentials::KeySource;
use crate::identity::{IdentityHeaders, Roles};
use crate::keys::format::{Pepper, Prefix};
use crate::policy::routes::RouteTable;

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
    /// Where the access log goes, and how.
    pub log: Log,
    /// Not wrong, but hardly meant: shown by `check` and at load.
    pub warnings: crate::diagnostics::Report,
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
    /// `[server.timeouts]`
    pub timeouts: Timeouts,
    /// `[server.limits]`
    pub limits: Limits,
}

/// `[server.timeouts]`: each is the longest wait for the next step, not for the whole request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a request to the end of its head. 10 s.
    pub request_header: Duration,
    /// Between two pieces of a request body. 30 s.
    pub request_body_idle: Duration,
    /// An idle connection of a client. 75 s.
    pub keep_alive: Duration,
    /// Connecting to an endpoint. 5 s.
    pub upstream_connect: Duration,
    /// From the end of the request to the head of the upstream's answer. 60 s.
    pub upstream_response: Duration,
    /// An idle connection to an endpoint. 60 s.
    pub upstream_keep_alive: Duration,
    /// From SIGTERM until what still runs is cut. 30 s.
    pub shutdown: Duration,
}

/// `[server.limits]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open client connections in all; at the limit accepting waits. 16,384.
    pub connections: usize,
    /// Open connections of one client address; one more is closed at once. 1,024.
    pub connections_per_client: usize,
    /// A request's head, in bytes; above it 431. 32 KiB; at least 8 KiB (the parser's smallest buffer).
    pub header_bytes: usize,
    /// Fields in a request's head; above it 431. 100.
    pub headers: usize,
    /// A request's body, in bytes; above it 413. No limit unless given.
    pub body_bytes: Option<u64>,
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
}

/// `[upstreams.NAME]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// Its name.
    pub name: String,
    /// Never empty.
    pub endpoints: Vec<Endpoint>,
}

/// One server of an upstream, `http://HOST[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address (IPv6 without brackets).
    pub host: String,
    /// 80 unless given.
    pub port: u16,
}

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where access records go.
    pub access: AccessLog,
    /// How access and error records are written.
    pub format: LogFormat,
    /// What happens when the log cannot be written as fast as requests come.
    pub on_overflow: OnOverflow,
}

/// `[log] access`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// `"off"`
    Off,
    /// `"stdout"`, the default
    Stdout,
    /// `"stderr"`
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// `[log] format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// One line of text.
    Text,
}

/// `[log] on_overflow`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOverflow {
    /// Requests wait for the log: no line is lost.
    #[default]
    Block,
    /// Lines are dropped, and counted in the log.
    Drop,
}
