//! What is measured: each case with the load that it takes, and what keyward is to reach in it.

use crate::support::Failure;

/// One case.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// Its name in `CASES` and in the report.
    pub(crate) name: &'static str,
    /// What a request is in it.
    pub(crate) what: &'static str,
    /// Whether TLS is spoken.
    pub(crate) is_tls: bool,
    pub(crate) kind: Kind,
    pub(crate) answer: Answer,
    /// What keyward may cost at most, in relation to the better of the others.
    pub(crate) target: f64,
}

/// How requests come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One after the other on connections that are kept.
    KeepAlive,
    /// Each on a connection of its own, with a full handshake.
    Handshake,
    /// Each on a connection of its own, whose session is resumed.
    Resumed,
    /// Many at once on connections that speak HTTP/2.
    Http2,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) path: &'static str,
    pub(crate) body_bytes: usize,
}

const SMALL: Answer = Answer { path: "/orders/42", body_bytes: 100 };
const LARGE: Answer = Answer { path: "/large", body_bytes: 1024 * 1024 };

/// Requests at once on a connection of HTTP/2: as many as keyward and HAProxy allow by default.
pub(crate) const STREAMS: usize = 100;
/// Connections of HTTP/2. With two, an upstream has fewer connections than each of the proxies keeps idle.
const HTTP2_CONNECTIONS: u64 = 2;

pub(crate) const ALL: [Case; 7] = [
    Case {
        name: "clear",
        what: "100 bytes in clear, HTTP/1.1, connections are kept",
        is_tls: false,
        kind: Kind::KeepAlive,
        answer: SMALL,
        target: 1.0,
    },
    Case {
        name: "tls",
        what: "100 bytes over TLS 1.3, HTTP/1.1, connections are kept",
        is_tls: true,
        kind: Kind::KeepAlive,
        answer: SMALL,
        target: 1.0,
    },
    Case {
        name: "handshake",
        what: "a connection and a full TLS 1.3 handshake (ECDSA P-256, X25519) for each request",
        is_tls: true,
        kind: Kind::Handshake,
        answer: SMALL,
        target: 1.1,
    },
    Case {
        name: "resumed",
        what: "a connection and a TLS 1.3 session resumed by a ticket for each request",
        is_tls: true,
        kind: Kind::Resumed,
        answer: SMALL,
        target: 1.1,
    },
    Case {
        name: "h2",
        what: "100 bytes over TLS 1.3, HTTP/2, 100 streams at once on each of 2 connections",
        is_tls: true,
        kind: Kind::Http2,
        answer: SMALL,
        target: 1.0,
    },
    Case {
        name: "large",
        what: "1 MiB in clear, HTTP/1.1, connections are kept",
        is_tls: false,
        kind: Kind::KeepAlive,
        answer: LARGE,
        target: 1.1,
    },
    Case {
        name: "large_tls",
        what: "1 MiB over TLS 1.3, HTTP/1.1, connections are kept",
        is_tls: true,
        kind: Kind::KeepAlive,
        answer: LARGE,
        target: 1.1,
    },
];

impl Case {
    /// The case of this name.
    pub(crate) fn named(name: &str) -> Result<Case, Failure> {
        let names = || ALL.map(|case| case.name).join(", ");
        let case = ALL.into_iter().find(|case| case.name == name);
        case.ok_or_else(|| format!("no case is called {name}: there are {}", names()).into())
    }

    /// How many connections carry it, where all but HTTP/2 have `usual`.
    pub(crate) fn connections(&self, usual: u64) -> u64 {
        if self.kind == Kind::Http2 { HTTP2_CONNECTIONS } else { usual }
    }
}
