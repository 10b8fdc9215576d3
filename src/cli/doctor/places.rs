//! The places of a request that a key may be in: the configured sources, and those of mistakes.
//!
//! Never here: what becomes of it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::canary::Place;
use crate::auth::credentials::{KeySource, Scheme};
use crate::config::Config;

/// How a request carries a key.
#[derive(Clone, Debug)]
pub(super) struct Carried {
    /// For people.
    pub(super) what: String,
    pub(super) place: Place,
    way: Way,
}

/// `KEY` stands for the key.
#[derive(Clone, Debug)]
enum Way {
    /// A line of the head.
    Line(String),
    /// `Authorization: Basic`, of a user name and the key.
    Basic(String),
    /// Behind the path.
    Target(String),
    /// The whole first line; `METHOD` and `PATH` are the request's.
    Start(&'static str),
}

impl Carried {
    fn new(what: impl Into<String>, place: Place, way: Way) -> Self {
        Self { what: what.into(), place, way }
    }

    /// The target and the lines of the head with `key`.
    pub(super) fn on(&self, path: &str, key: &str) -> (String, String) {
        match &self.way {
            Way::Line(line) => (path.to_owned(), format!("{}\r\n", line.replace("KEY", key))),
            Way::Basic(name) => {
                let pair = BASE64_STANDARD.encode(format!("doctor:{key}"));
                (path.to_owned(), format!("{name}: Basic {pair}\r\n"))
            }
            Way::Target(more) => {
                let more = more.replace("KEY", key);
                // Where there is a query already, this is more of it.
                let more = if path.contains('?') { more.replacen('?', "&", 1) } else { more };
                (format!("{path}{more}"), String::new())
            }
            Way::Start(_) => (path.to_owned(), String::new()),
        }
    }

    /// The first line.
    pub(super) fn start(&self, method: &str, path: &str, key: &str) -> String {
        let start = if let Way::Start(start) = self.way { start } else { "METHOD PATH HTTP/1.1" };
        start.replace("METHOD", method).replace("PATH", path).replace("KEY", key)
    }

    /// Whether it says the host itself.
    pub(super) fn has_host(&self) -> bool {
        matches!(&self.way, Way::Line(line) if line.starts_with("Host:"))
    }
}

/// Where the configuration looks for keys; never empty.
pub(super) fn sources(sources: &[KeySource]) -> Vec<Carried> {
    let carried = sources.iter().map(|source| {
        let (what, way) = match source {
            KeySource::Header { name, scheme: Scheme::Bare } => {
                (name.to_string(), Way::Line(format!("{name}: KEY")))
            }
            KeySource::Header { name, scheme: Scheme::Token(scheme) } => {
                (format!("{name}: {scheme}"), Way::Line(format!("{name}: {scheme} KEY")))
            }
            KeySource::Header { name, scheme: Scheme::Basic } => {
                (format!("{name}: Basic"), Way::Basic(name.to_string()))
            }
            KeySource::Query(name) => {
                let encoded = utf8_percent_encode(name, NON_ALPHANUMERIC);
                (format!("?{name}="), Way::Target(format!("?{encoded}=KEY")))
            }
        };
        Carried::new(what, Place::Source, way)
    });
    carried.collect()
}

/// Where nobody looks for keys, and people put them.
pub(super) fn mistakes(config: &Config) -> Vec<Carried> {
    let targets = [
        ("the query, ?api_key=", "?api_key=KEY"),
        ("the query, ?anything=", "?anything=KEY"),
        ("the query, without a name", "?KEY"),
        ("the query, in an encoded URL", "?next=https%3A%2F%2Fa%2F%3Fapi_key%3DKEY"),
        ("the path", "/KEY"),
        ("the path, ;key=", ";key=KEY"),
        ("an ambiguous path", "/../KEY"),
    ];
    let targets = targets.map(|(what, more)| (what.to_owned(), Way::Target(more.to_owned())));
    let lines = [
        "Referer: https://page.example/?api_key=KEY",
        "User-Agent: curl/8 KEY",
        "Cookie: session=KEY",
        "X-Request-Id: KEY",
        "Forwarded: for=KEY",
        "X-Forwarded-For: KEY",
        "X-Forwarded-Host: KEY",
        "Authorization: KEY",
        "Authorization: Digest KEY",
        "Proxy-Authorization: Bearer KEY",
        "X_Api_Key: KEY",
        "X-KEY: 1",
        "Connection: KEY",
        "Upgrade: KEY",
        "Expect: KEY",
        "Transfer-Encoding: KEY",
        "Content-Length: KEY",
        "Host: KEY",
        "X-Api-Key : KEY",
        "KEY",
    ];
    let lines = lines.map(|line| {
        let what = line.replace("KEY", "…");
        (what.trim_end_matches(['…', ' ']).to_owned(), Way::Line(line.to_owned()))
    });
    let identity = format!("{}: KEY", config.identity.user);
    let starts = [
        ("the host of an absolute target", "METHOD http://KEY/ HTTP/1.1"),
        ("the user of an absolute target", "METHOD http://user:KEY@doctor.example/ HTTP/1.1"),
        ("the method", "KEY PATH HTTP/1.1"),
        ("the version", "METHOD PATH KEY"),
        ("CONNECT", "CONNECT KEY:443 HTTP/1.1"),
        ("a line that is none", "KEY"),
    ];
    let starts = starts.map(|(what, start)| (what.to_owned(), Way::Start(start)));
    let identity = ("the identity header".to_owned(), Way::Line(identity));
    let all = targets.into_iter().chain(lines).chain([identity]).chain(starts);
    all.map(|(what, way)| Carried::new(format!("key in {what}"), Place::Elsewhere, way)).collect()
}
