//! How an upstream is to be used: what its section of the configuration says.
//!
//! Never here: what a field of the file may hold (the configuration's check knows), or anything that happens.

use std::fmt::{self, Display, Formatter};

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
}

impl Address {
    /// What a request's `Host` calls it: `HOST:PORT`, an IPv6 address in brackets (RFC 3986 §3.2.2).
    pub fn authority(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
        }
    }
}

/// As the configuration writes it.
impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

/// `[upstreams.NAME]`, but for the endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Which endpoint is next.
    pub balance: Balance,
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
