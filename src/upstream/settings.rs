//! How an upstream is to be used: what its section of the configuration says.
//!
//! Never here: what a field of the file may hold (the configuration's check knows), or anything that happens.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `http://HOST:PORT`
    Tcp {
        /// A name or an address (IPv6 without brackets).
        host: String,
        /// Never 0.
        port: u16,
    },
    /// `https://HOST:PORT`
    Tls {
        /// A name or an address (IPv6 without brackets).
        host: String,
        /// Never 0.
        port: u16,
    },
    /// `unix:PATH`
    Unix(PathBuf),
}

impl Address {
    /// Whether it has to be looked up where that is.
    pub fn is_name(&self) -> bool {
        self.host_and_port().is_some_and(|(host, _)| host.parse::<IpAddr>().is_err())
    }

    /// The host and the port of one in the network.
    pub fn host_and_port(&self) -> Option<(&str, u16)> {
        match self {
            Self::Tcp { host, port } | Self::Tls { host, port } => Some((host, *port)),
            Self::Unix(_) => None,
        }
    }

    /// What a request's `Host` calls it: `HOST:PORT`, an IPv6 address in brackets (RFC 3986 §3.2.2); `localhost`
    /// behind a Unix socket.
    pub fn authority(&self) -> String {
        match self.host_and_port() {
            None => "localhost".to_owned(),
            Some((host, port)) if host.contains(':') => format!("[{host}]:{port}"),
            Some((host, port)) => format!("{host}:{port}"),
        }
    }
}

/// As the configuration writes it.
impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { .. } => write!(f, "http://{}", self.authority()),
            Self::Tls { .. } => write!(f, "https://{}", self.authority()),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `[upstreams.NAME]`, but for the endpoints. The default is nothing of all this.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which endpoint is next.
    pub balance: Balance,
    /// What an endpoint is told as `Host`.
    pub host: Host,
    /// How endpoints are told whose connection it is; `None`: they are not.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Whether HTTP/2 is spoken to the endpoints.
    pub http2: bool,
    /// How often the names of endpoints are looked up.
    pub dns_refresh: Duration,
    /// What happens when every endpoint is left out.
    pub when_none_is_up: WhenNoneIsUp,
    /// How long the share of an endpoint that came back grows.
    pub slow_start: Duration,
    /// When an endpoint is left out.
    pub ejection: Ejection,
    /// How often a request is tried on another endpoint.
    pub retries: Retries,
    /// How endpoints are checked; `None`: they are not.
    pub health: Option<Health>,
    /// How much may be asked of the upstream at once.
    pub limits: Limits,
}

/// `balance`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn, as often as its weight says.
    #[default]
    RoundRobin,
    /// Of two taken at random the one that has less to do for its weight.
    LeastRequest,
    /// The requests of a user always to the same one, while it is there.
    HashUser,
}

/// `host`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Host {
    /// What the client said.
    #[default]
    Keep,
    /// The endpoint's own host and port.
    Endpoint,
    /// This.
    Literal(HeaderValue),
}

/// `proxy_protocol`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// In binary.
    V2,
}

/// `when_none_is_up`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenNoneIsUp {
    /// All are tried as if nothing were known of them.
    #[default]
    Try,
    /// Requests are refused.
    Refuse,
}

/// `[upstreams.NAME.ejection]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// So many failures in a row eject; 0: none do.
    pub after: u32,
    /// For how long the first time; twice as long each further time.
    pub back_off: Duration,
    /// The longest.
    pub max_back_off: Duration,
}

/// `[upstreams.NAME.retries]`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retries {
    /// Most endpoints that a request is sent to, the first one counted.
    pub attempts: u32,
    /// Of so many in a hundred requests of the last seconds,
    pub budget_percent: u32,
    /// and so many more, by each worker.
    pub budget_min: u32,
}

/// `[upstreams.NAME.health]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What is asked for: a path, and a query perhaps.
    pub path: String,
    /// Between two checks.
    pub interval: Duration,
    /// The longest wait for an answer.
    pub timeout: Duration,
    /// So many good checks in a row bring an endpoint back.
    pub healthy_after: u32,
    /// So many failed ones in a row leave it out.
    pub unhealthy_after: u32,
}

/// `max_connections`, `max_pending`, `max_in_flight`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Connections in use at once to each endpoint, those that are being made too; of HTTP/2, requests.
    pub connections: Option<usize>,
    /// Requests that wait for one.
    pub pending: usize,
    /// Requests to the upstream, those that wait too.
    pub in_flight: Option<usize>,
}
