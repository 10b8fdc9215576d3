//! What is measured: each case with the load that it takes, who takes part, and what keyward is to reach in it.

use serde::{Deserialize, Serialize};

use crate::peers::{self, CADDY, ENVOY, HAPROXY, KEYWARD, NGINX};
use crate::support::Failure;

/// The two that check no keys.
pub(crate) const DIRECT: &str = "direct";
pub(crate) const RELAY: &str = "relay";

/// The case that all others are read beside, and the one whose rates say what 80 % are.
pub(crate) const MAIN: &str = "http1";

/// One case.
#[derive(Clone)]
pub(crate) struct Case {
    /// Its name in `CASES` and in the report.
    pub(crate) name: String,
    pub(crate) protocol: Protocol,
    pub(crate) body_bytes: usize,
    pub(crate) connections: usize,
    /// Requests come at this share of what the slowest peer can; none: one after the other, as fast as answers come.
    pub(crate) percent: Option<u64>,
    pub(crate) stage: Stage,
    pub(crate) contestants: &'static [&'static str],
    pub(crate) targets: &'static [Target],
    /// Whether it is in the plots: all of the matrix would be too much to look at.
    pub(crate) is_plotted: bool,
}

/// What contestants are started with. All cases on the same stage share them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) is_tls: bool,
    pub(crate) keys: usize,
    /// Whether access logs are written.
    pub(crate) logs: bool,
    /// One has a core of its own; two share both cores with the load.
    pub(crate) workers: usize,
}

/// How requests come.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Protocol {
    /// HTTP/1.1 in clear, on connections that are kept.
    Http1,
    /// The same over TLS.
    Tls,
    /// Each on a connection of its own, with a full handshake.
    Handshake,
    /// Each on a connection of its own, whose session is resumed.
    Resumed,
    /// So many at once on each connection of HTTP/2, over TLS.
    Http2 { streams: usize },
}

/// What keyward is to reach: a figure of its own in relation to another's in the same round.
pub(crate) struct Target {
    pub(crate) figure: Figure,
    pub(crate) against: Against,
    /// The most that it may be; for rates the least.
    pub(crate) limit: f64,
}

/// What of a sample is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Figure {
    Cpu,
    Rate,
    P99,
    P999,
}

/// Whom keyward is compared with.
#[derive(Clone, Copy)]
pub(crate) enum Against {
    /// The better of these.
    Peers(&'static [&'static str]),
    /// Itself in another case.
    Case(&'static str),
}

/// All who take part anywhere, in the order in which they are measured and shown.
pub(crate) const ALL: &[&str] = &[DIRECT, RELAY, KEYWARD, NGINX, HAPROXY, ENVOY, CADDY];
const MORE: &[&str] = &[KEYWARD, NGINX, HAPROXY, ENVOY, CADDY];
const PEERS: &[&str] = &[KEYWARD, NGINX, HAPROXY];

const fn cpu(against: &'static [&'static str], limit: f64) -> Target {
    Target { figure: Figure::Cpu, against: Against::Peers(against), limit }
}

const fn late(figure: Figure, peer: &'static [&'static str], limit: f64) -> Target {
    Target { figure, against: Against::Peers(peer), limit }
}

const NO_MORE: &[Target] = &[cpu(&[NGINX, HAPROXY], 1.0)];
const MAIN_TARGETS: &[Target] = &[
    cpu(&[NGINX], 0.9),
    cpu(&[HAPROXY], 0.9),
    cpu(&[ENVOY], 0.3),
    cpu(&[RELAY], 1.25),
    Target { figure: Figure::Rate, against: Against::Peers(&[NGINX]), limit: 1.1 },
];
const MANY_KEYS: &[Target] =
    &[Target { figure: Figure::Cpu, against: Against::Case("http1_10_keys"), limit: 1.05 }];
const LATENCY: &[Target] = &[
    late(Figure::P99, &[NGINX], 1.0),
    late(Figure::P99, &[HAPROXY], 1.0),
    late(Figure::P999, &[NGINX], 1.1),
    late(Figure::P999, &[HAPROXY], 1.1),
];

const SMALL: usize = 100;
const MEDIUM: usize = 16 * 1024;
const LARGE: usize = 1024 * 1024;

/// What the matrix is made of: `FULL=1` takes all of it.
const PROTOCOLS: [(&str, Protocol); 6] = [
    ("http1", Protocol::Http1),
    ("tls", Protocol::Tls),
    ("handshake", Protocol::Handshake),
    ("resumed", Protocol::Resumed),
    ("h2", Protocol::Http2 { streams: 1 }),
    ("h2_100", Protocol::Http2 { streams: 100 }),
];
const BODIES: [usize; 3] = [SMALL, MEDIUM, LARGE];
const CONNECTIONS: [usize; 4] = [1, 8, 64, 1000];
const KEYS: [usize; 3] = [10, peers::KEYS, 1_000_000];
/// Requests at once that there may be: each has a connection to the upstream, with most proxies.
const AT_ONCE_MAX: usize = 1000;
/// Bytes at once on a connection: where much more waits than was sent, nginx 1.22 takes it for a flood, and closes.
const BYTES_AT_ONCE_MAX: usize = 8 * 1024 * 1024;

/// The subset that is measured by default.
pub(crate) fn usual() -> Vec<Case> {
    let http2 = |streams| Protocol::Http2 { streams };
    let main = Case { contestants: ALL, targets: MAIN_TARGETS, ..case(MAIN, Protocol::Http1) };
    let with_keys = |keys| Stage { keys, ..main.stage };
    let open = |percent, targets| Case {
        name: format!("{MAIN}_at_{percent}"),
        percent: Some(percent),
        contestants: PEERS,
        targets,
        ..main.clone()
    };
    let two_workers = |name: &str, connections| Case {
        connections,
        stage: Stage { workers: 2, ..main.stage },
        ..case(name, Protocol::Http1)
    };
    vec![
        main.clone(),
        Case { stage: with_keys(10), ..case("http1_10_keys", Protocol::Http1) },
        Case {
            stage: with_keys(1_000_000),
            targets: MANY_KEYS,
            ..case("http1_1000000_keys", Protocol::Http1)
        },
        Case {
            stage: Stage { logs: false, ..main.stage },
            ..case("http1_no_logs", Protocol::Http1)
        },
        two_workers("http1_1_connection", 1),
        two_workers("http1_8_connections", 8),
        Case { connections: 1000, ..case("http1_1000_connections", Protocol::Http1) },
        Case { body_bytes: MEDIUM, ..case("http1_16k", Protocol::Http1) },
        Case { body_bytes: LARGE, ..case("http1_1m", Protocol::Http1) },
        Case { contestants: MORE, ..case("tls", Protocol::Tls) },
        Case { body_bytes: MEDIUM, ..case("tls_16k", Protocol::Tls) },
        Case { body_bytes: LARGE, ..case("tls_1m", Protocol::Tls) },
        case("handshake", Protocol::Handshake),
        case("resumed", Protocol::Resumed),
        Case { contestants: MORE, ..case("h2", http2(1)) },
        // With two connections, an upstream has fewer connections than each of the proxies keeps idle.
        Case { contestants: MORE, connections: 2, ..case("h2_100", http2(100)) },
        open(50, &[]),
        open(80, LATENCY),
    ]
}

/// The rest of the matrix. Left out is what would have too much at once.
fn rest() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, protocol) in PROTOCOLS {
        for keys in KEYS {
            for logs in [true, false] {
                for body_bytes in BODIES {
                    for connections in CONNECTIONS {
                        let log = if logs { "" } else { "_no_logs" };
                        let name = format!("{name}_{body_bytes}b_{connections}c_{keys}keys{log}");
                        let case = case(&name, protocol);
                        let stage = Stage { keys, logs, ..case.stage };
                        cases.push(Case {
                            body_bytes,
                            connections,
                            stage,
                            is_plotted: false,
                            ..case
                        });
                    }
                }
            }
        }
    }
    cases.retain(|Case { protocol, connections, body_bytes, .. }| {
        connections * protocol.streams() <= AT_ONCE_MAX
            && protocol.streams() * body_bytes <= BYTES_AT_ONCE_MAX
    });
    cases
}

fn case(name: &str, protocol: Protocol) -> Case {
    let is_tls = protocol != Protocol::Http1;
    Case {
        name: name.to_owned(),
        protocol,
        body_bytes: SMALL,
        connections: 64,
        percent: None,
        stage: Stage { is_tls, keys: peers::KEYS, logs: true, workers: 1 },
        contestants: PEERS,
        targets: NO_MORE,
        is_plotted: true,
    }
}

/// The cases that `names` choose, without any the usual ones, and with `full` all; in groups, each measured with all its
/// contestants running. The usual ones are one, since stages are compared in it; of the rest, each stage is one.
pub(crate) fn chosen(names: &[String], full: bool) -> Result<Vec<Vec<Case>>, Failure> {
    let (mut usual, mut rest) = (usual(), rest());
    if names.is_empty() {
        rest.retain(|case| full && !usual.iter().any(|other| other.is_same(case)));
        return Ok(grouped(usual, rest));
    }
    let is_known = |name: &String| usual.iter().chain(&rest).any(|case| case.name == *name);
    if let Some(name) = names.iter().find(|name| !is_known(name)) {
        let known: Vec<&str> = usual.iter().map(|case| case.name.as_str()).collect();
        let known = known.join(", ");
        let message = format!(
            "no case is called {name}: there are {known}, and those of the matrix, such as {}",
            rest[0].name
        );
        return Err(message.into());
    }
    let is_chosen = |case: &Case| names.contains(&case.name);
    let any_open = usual.iter().any(|case| is_chosen(case) && case.percent.is_some());
    // The rate of the main case says at which others come.
    usual.retain(|case| is_chosen(case) || any_open && case.name == MAIN);
    rest.retain(is_chosen);
    Ok(grouped(usual, rest))
}

fn grouped(usual: Vec<Case>, rest: Vec<Case>) -> Vec<Vec<Case>> {
    let mut groups = vec![usual];
    for case in rest {
        let is_its = |group: &&mut Vec<Case>| group.iter().all(|other| other.stage == case.stage);
        match groups.iter_mut().skip(1).find(is_its) {
            Some(group) => group.push(case),
            None => groups.push(vec![case]),
        }
    }
    groups.retain(|group| !group.is_empty());
    groups
}

impl Case {
    /// What is asked for.
    pub(crate) fn path(&self) -> &'static str {
        path(self.body_bytes)
    }

    /// Whether the same is measured in both.
    fn is_same(&self, other: &Case) -> bool {
        let load = |case: &Case| (case.protocol, case.body_bytes, case.connections, case.percent);
        load(self) == load(other) && self.stage == other.stage
    }

    /// What a request is in it, in words.
    pub(crate) fn what(&self) -> String {
        let protocol = match self.protocol {
            Protocol::Http1 => "HTTP/1.1".to_owned(),
            Protocol::Tls => "HTTP/1.1 over TLS".to_owned(),
            Protocol::Handshake => "a full handshake each".to_owned(),
            Protocol::Resumed => "a resumed session each".to_owned(),
            Protocol::Http2 { streams: 1 } => "HTTP/2, 1 stream".to_owned(),
            Protocol::Http2 { streams } => format!("HTTP/2, {streams} streams"),
        };
        let body = match self.body_bytes {
            MEDIUM => "16 KiB".to_owned(),
            LARGE => "1 MiB".to_owned(),
            bytes => format!("{bytes} B"),
        };
        let mut text = format!("{protocol}, {body}, {} conn.", with_commas(self.connections));
        let Stage { keys, logs, workers, .. } = self.stage;
        if keys != peers::KEYS {
            text += &format!(", {} keys", with_commas(keys));
        }
        if !logs {
            text += ", no log";
        }
        if workers > 1 {
            text += &format!(", {workers} workers");
        }
        if let Some(percent) = self.percent {
            text += &format!(", at {percent} % of the slowest peer's rate");
        }
        text
    }
}

impl Protocol {
    /// Requests at once on a connection.
    pub(crate) fn streams(self) -> usize {
        match self {
            Protocol::Http2 { streams } => streams,
            _ => 1,
        }
    }

    /// What a client asks for in its handshake.
    pub(crate) fn alpn(self) -> &'static [u8] {
        match self {
            Protocol::Http2 { .. } => b"h2",
            _ => b"http/1.1",
        }
    }
}

/// Where the upstream has a body of so many bytes.
fn path(body_bytes: usize) -> &'static str {
    match body_bytes {
        LARGE => "/large",
        MEDIUM => "/medium",
        _ => "/orders/42",
    }
}

/// Digits in groups of three.
pub(crate) fn with_commas(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
