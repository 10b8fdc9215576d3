//! The requests the doctor sends: a canary in every place a key is looked for, and in those where people put
//! one by mistake, on every route and into every outcome.
//!
//! Never here: sending them.

mod admin;

use bytes::Bytes;
use http::{Method, Request};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::super::failure::Failure;
use super::canary::{Canaries, Place, Standing, Trace};
use super::client::Wire;
use super::places::{Carried, mistakes, sources};
use super::rehearsal::{BODY_BYTES, NOBODY};
use super::upstream::{Act, ORDER};
use crate::config::Config;
use crate::policy::routes::{Access, Route, RouteRule};

/// A host that requests are for.
const HOST: &str = "doctor.example";

/// What of a path's segment is encoded: all but what RFC 3986 (§2.3) leaves alone.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Who is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum To {
    /// The data plane.
    Proxy,
    /// The data plane, when its endpoints are gone.
    Orphan,
    /// The admin listener.
    Admin,
}

/// One request.
pub(super) struct Case {
    /// What it is, for people; the place of the canary and what becomes of the request.
    pub(super) what: String,
    pub(super) to: To,
    pub(super) wire: Wire,
}

/// A route's rule, and a request that it speaks for.
struct Target<'a> {
    rule: &'a RouteRule,
    method: Method,
    path: String,
    /// A role that passes.
    role: &'a str,
}

/// Every request for `config`.
pub(super) fn cases(config: &Config) -> Result<(Vec<Case>, Canaries), Failure> {
    let mut script = Script { config, canaries: Canaries::new(config), cases: Vec::new() };
    let targets: Vec<_> = config.routes.routes().iter().flat_map(|r| targets(r, config)).collect();
    for target in &targets {
        script.let_in(target)?;
        script.mistakes(target)?;
        script.upgrades(target)?;
    }
    // What becomes of a key does not depend on the route, but for who may pass.
    let is_closed = |target: &&Target<'_>| matches!(target.rule.access, Access::Roles(_));
    let main = targets.iter().find(is_closed).or(targets.first());
    if let Some(main) = main {
        script.refusals(main)?;
        script.failures(main)?;
        script.grpc(main)?;
    }
    if config.admin.is_some() {
        script.admin()?;
    }
    Ok((script.cases, script.canaries))
}

/// The places of a key in front of a door that is not the doctor's: with none of the keys that are known there.
pub(super) fn from_outside(config: &Config, path: &str) -> Result<(Vec<Case>, Canaries), Failure> {
    let mut script = Script { config, canaries: Canaries::new(config), cases: Vec::new() };
    for carried in sources(&config.auth.key_sources).into_iter().chain(mistakes(config)) {
        let place = carried.place;
        script.one(
            &format!("{}, unknown key", carried.what),
            To::Proxy,
            place,
            Standing::Unknown,
            |key| http1("GET", path, &carried, key, "", ""),
        )?;
    }
    Ok((script.cases, script.canaries))
}

fn targets<'a>(route: &'a Route, config: &'a Config) -> impl Iterator<Item = Target<'a>> {
    // A pattern speaks of decoded paths.
    let path = route.pattern().split('/').map(|segment| match segment.starts_with('{') {
        true => "doctor".to_owned(),
        false => utf8_percent_encode(segment, ENCODED).to_string(),
    });
    let path = path.collect::<Vec<_>>().join("/");
    route.rules().iter().filter_map(move |rule| {
        let usual = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        let named = rule.methods.iter().flatten().cloned();
        let speaks = |method: &Method| route.rule(method).is_some_and(|r| std::ptr::eq(r, rule));
        let method = named.chain(usual).find(speaks)?;
        let passes = |role: &&std::sync::Arc<crate::identity::Role>| match rule.access {
            Access::Roles(required) => role.passes(required),
            Access::Public | Access::AnyKey => true,
        };
        let role = config.roles.iter().find(passes).map_or(NOBODY, |role| role.name().as_str());
        Some(Target { rule, method, path: path.clone(), role })
    })
}

/// The requests so far.
struct Script<'a> {
    config: &'a Config,
    canaries: Canaries,
    cases: Vec<Case>,
}

impl Script<'_> {
    /// Adds a request with a key of its own.
    fn one(
        &mut self,
        what: &str,
        to: To,
        place: Place,
        standing: Standing<'_>,
        wire: impl FnOnce(&str) -> Wire,
    ) -> Result<(), Failure> {
        let trace = Trace { case: self.cases.len(), place };
        let key = self.canaries.draw(standing, trace)?;
        self.cases.push(Case { what: what.to_owned(), to, wire: wire(&key) });
        Ok(())
    }

    /// The key in each source, over both protocols.
    fn let_in(&mut self, target: &Target<'_>) -> Result<(), Failure> {
        let (method, path) = (target.method.as_str(), &target.path);
        for source in sources(&self.config.auth.key_sources) {
            let standing = Standing::Enabled(target.role);
            let what = format!("{}, good key, {method} {path}", source.what);
            self.one(&what, To::Proxy, Place::Source, standing, |key| {
                http1(method, path, &source, key, "", "")
            })?;
            let what = format!("{what} over HTTP/2");
            self.one(&what, To::Proxy, Place::Source, standing, |key| {
                http2(method, path, &source, key, &[], Bytes::new())
            })?;
        }
        Ok(())
    }

    /// The key where it does not belong, with and without one where it does.
    fn mistakes(&mut self, target: &Target<'_>) -> Result<(), Failure> {
        let (method, path) = (target.method.as_str(), &target.path);
        let door = sources(&self.config.auth.key_sources).swap_remove(0);
        for carried in mistakes(self.config) {
            let what = format!("{}, {method} {path}", carried.what);
            let standing = Standing::Enabled(target.role);
            self.one(&what, To::Proxy, carried.place, standing, |key| {
                http1(method, path, &carried, key, "", "")
            })?;
            // The second key is the same request's, and belongs where it is.
            let trace = Trace { case: self.cases.len(), place: Place::Source };
            let opening = self.canaries.draw(standing, trace)?;
            let (_, lines) = door.on(path, &opening);
            self.one(&format!("{what}, let in"), To::Proxy, carried.place, standing, |key| {
                http1(method, path, &carried, key, &lines, "")
            })?;
        }
        Ok(())
    }

    /// The key with a request for another protocol, granted and refused.
    fn upgrades(&mut self, target: &Target<'_>) -> Result<(), Failure> {
        let Some(protocol) = target.rule.upgrades.iter().next() else { return Ok(()) };
        for source in sources(&self.config.auth.key_sources) {
            for (act, outcome) in [(Act::Upgrade, "granted"), (Act::Answer, "not granted")] {
                let what = format!("{}, upgrade to {} {outcome}", source.what, protocol.as_str());
                let standing = Standing::Enabled(target.role);
                self.one(&what, To::Proxy, Place::Source, standing, |key| {
                    let more = format!(
                        "Upgrade: {}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                         dGhlIHNhbXBsZSBub25jZQ==\r\n{ORDER}: {}\r\n",
                        protocol.as_str(),
                        act.word()
                    );
                    let (path, lines) = source.on(&target.path, key);
                    let head = format!(
                        "GET {path} HTTP/1.1\r\nHost: {HOST}\r\nConnection: upgrade\r\n{lines}{more}\r\n"
                    );
                    // A tunnel is not ended by the one side: this client leaves.
                    Wire::Leaving(head.into_bytes())
                })?;
            }
        }
        Ok(())
    }

    /// What is refused before anything is forwarded.
    fn refusals(&mut self, target: &Target<'_>) -> Result<(), Failure> {
        let (method, path, role) = (target.method.as_str(), &*target.path, target.role);
        let standings = [
            ("unknown key", Standing::Unknown),
            ("disabled key", Standing::Disabled(role)),
            ("expired key", Standing::Expired(role)),
            ("key of another role", Standing::Enabled(NOBODY)),
        ];
        let many = "X-Field: 1\r\n".repeat(self.config.server.limits.headers + 1);
        let long = format!("X-Long: {}\r\n", "x".repeat(self.config.server.limits.header_bytes));
        let broken = [
            ("no such route", "/keyward-doctor/none", ""),
            ("ambiguous path", "/keyward-doctor/../x", ""),
            ("length and chunks", path, "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
            ("length that is none", path, "Content-Length: x\r\n"),
            ("two hosts", path, "Host: another.example\r\n"),
            ("a bare line feed", path, "X-Field: a\nb\r\n"),
            ("a space before the colon", path, "X-Field : a\r\n"),
            ("an unfinished body", path, "Content-Length: 9\r\n"),
            ("too many fields", path, &many),
            ("too long a field", path, &long),
        ];
        for source in sources(&self.config.auth.key_sources) {
            for (outcome, standing) in standings {
                let what = format!("{}, {outcome}", source.what);
                self.one(&what, To::Proxy, Place::Source, standing, |key| {
                    http1(method, path, &source, key, "", "")
                })?;
                self.one(
                    &format!("{what} over HTTP/2"),
                    To::Proxy,
                    Place::Source,
                    standing,
                    |key| http2(method, path, &source, key, &[], Bytes::new()),
                )?;
            }
            let good = Standing::Enabled(role);
            for (outcome, path, more) in broken {
                let what = format!("{}, {outcome}", source.what);
                self.one(&what, To::Proxy, Place::Source, good, |key| {
                    http1(method, path, &source, key, more, "")
                })?;
            }
            let what = |outcome: &str| format!("{}, {outcome}", source.what);
            self.one(
                &what("a method that is not allowed"),
                To::Proxy,
                Place::Source,
                good,
                |key| http1("TRACE", path, &source, key, "", ""),
            )?;
            self.one(&what("an unfinished head"), To::Proxy, Place::Source, good, |key| {
                let (path, lines) = source.on(path, key);
                Wire::Http1(format!("{method} {path} HTTP/1.1\r\nHost: {HOST}\r\n{lines}").into())
            })?;
            self.one(&what("twice"), To::Proxy, Place::Source, good, |key| {
                let (path, lines) = source.on(path, key);
                http1(method, &path, &source, key, &lines, "")
            })?;
            self.one(&what("beside another"), To::Proxy, Place::Source, good, |key| {
                let (path, lines) = source.on(path, &format!("{key}x"));
                http1(method, &path, &source, key, &lines, "")
            })?;
        }
        Ok(())
    }

    /// What goes wrong behind the door.
    fn failures(&mut self, target: &Target<'_>) -> Result<(), Failure> {
        let (method, path) = (target.method.as_str(), &*target.path);
        let good = Standing::Enabled(target.role);
        let acts = [
            (To::Proxy, Act::Break, "an answer that is none"),
            (To::Proxy, Act::Cut, "an answer that is cut"),
            (To::Proxy, Act::Wait, "an endpoint that says nothing"),
            (To::Orphan, Act::Answer, "no endpoint"),
        ];
        for source in sources(&self.config.auth.key_sources) {
            for (to, act, outcome) in acts {
                let what = format!("{}, {outcome}", source.what);
                let order = format!("{ORDER}: {}\r\n", act.word());
                self.one(&what, to, Place::Source, good, |key| {
                    http1(method, path, &source, key, &order, "")
                })?;
                self.one(&format!("{what}, over HTTP/2"), to, Place::Source, good, |key| {
                    http2(method, path, &source, key, &[(ORDER, act.word())], Bytes::new())
                })?;
            }
            let what = |outcome: &str| format!("{}, {outcome}", source.what);
            self.one(&what("a client that leaves"), To::Proxy, Place::Source, good, |key| {
                let order = format!("{ORDER}: {}\r\n", Act::Wait.word());
                match http1(method, path, &source, key, &order, "") {
                    Wire::Http1(bytes) => Wire::Leaving(bytes),
                    other => other,
                }
            })?;
            let large = "x".repeat(BODY_BYTES + 1);
            self.one(&what("too large a body"), To::Proxy, Place::Source, good, |key| {
                let length = format!("Content-Length: {}\r\n", large.len());
                http1(method, path, &source, key, &length, &large)
            })?;
            self.one(&what("in a trailer, too"), To::Proxy, Place::Source, good, |key| {
                let (_, trailers) = source.on(path, key);
                let more = "Transfer-Encoding: chunked\r\nTrailer: x-api-key, authorization\r\n";
                http1(method, path, &source, key, more, &format!("0\r\n{trailers}\r\n"))
            })?;
            self.one(&what("a chunk that is none"), To::Proxy, Place::Source, good, |key| {
                let more = "Transfer-Encoding: chunked\r\n";
                http1(method, path, &source, key, more, &format!("{key}\r\n"))
            })?;
        }
        Ok(())
    }

    /// Calls of gRPC, whose refusals look otherwise.
    fn grpc(&mut self, target: &Target<'_>) -> Result<(), Failure> {
        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
        let broken = [fields[0], fields[1], (ORDER, Act::Break.word())];
        let body = Bytes::from_static(b"\0\0\0\0\0");
        for source in sources(&self.config.auth.key_sources) {
            let calls = [
                ("unknown key", Standing::Unknown, &fields[..]),
                ("good key", Standing::Enabled(target.role), &fields[..]),
                ("key of another role", Standing::Enabled(NOBODY), &fields[..]),
                ("broken answer", Standing::Enabled(target.role), &broken[..]),
            ];
            for (outcome, standing, fields) in calls {
                let what = format!("{}, gRPC, {outcome}", source.what);
                self.one(&what, To::Proxy, Place::Source, standing, |key| {
                    http2("POST", &target.path, &source, key, fields, body.clone())
                })?;
            }
        }
        Ok(())
    }
}

fn http1(method: &str, path: &str, carried: &Carried, key: &str, more: &str, body: &str) -> Wire {
    let (path, lines) = carried.on(path, key);
    let start = carried.start(method, &path, key);
    let host = if carried.has_host() { String::new() } else { format!("Host: {HOST}\r\n") };
    let head = format!("{start}\r\n{host}Connection: close\r\n{lines}{more}\r\n");
    Wire::Http1((head + body).into_bytes())
}

fn http2(
    method: &str,
    path: &str,
    carried: &Carried,
    key: &str,
    more: &[(&str, &str)],
    body: Bytes,
) -> Wire {
    let (path, lines) = carried.on(path, key);
    let mut request = Request::builder().method(method).uri(format!("http://{HOST}{path}"));
    for line in lines.lines() {
        if let Some((name, value)) = line.split_once(": ") {
            request = request.header(name, value);
        }
    }
    for (name, value) in more {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("its parts are those of a request");
    Wire::Http2(Box::new(request), body)
}
