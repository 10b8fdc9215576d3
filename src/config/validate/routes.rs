//! `[[routes]]`: who may pass where.

use std::collections::HashSet;

use http::Method;
use serde_spanned::Spanned;

use super::requests;
use super::roles::Declared;
use crate::config::Upstream;
use crate::config::check::{Check, Span, Text};
use crate::config::limits::{CLIENT_SUBJECTS_MAX, ROUTES_MAX, UPGRADES_MAX};
use crate::config::raw::{self, Field, Given, Table};
use crate::config::suggest::did_you_mean;
use crate::diagnostics::Fault;
use crate::identity::MAX_ROLES;
use crate::limit::quota::Quota;
use crate::policy::routes::{Access, RouteError, RouteRule, RouteTable};
use crate::policy::upgrades::{Protocol, ProtocolError, Upgrades};
use crate::scopes::meant_method;

/// Most methods one entry may name: there are 40 in the IANA registry.
const METHODS_MAX: usize = 64;

/// An entry without faults of its own, and where its parts stand.
struct Entry {
    rule: RouteRule,
    path: Text,
    methods: Vec<(Method, Text)>,
}

/// What the other sections declare for routes to speak of.
pub(super) struct Around<'a> {
    pub(super) roles: &'a Declared,
    pub(super) upstreams: &'a [Upstream],
    /// Whether clients show certificates.
    pub(super) has_client_ca: bool,
}

/// The table; `None` only with a fault.
pub(super) fn routes(
    check: &mut Check<'_>,
    field: Field<Vec<Given<Table<raw::Route>>>>,
    around: &Around<'_>,
) -> Option<RouteTable> {
    let given = match field.0 {
        Some(given) => {
            let array = check.given(given)?;
            check.at_most(&array.span(), array.get_ref().len(), ROUTES_MAX);
            array.into_inner()
        }
        None => Vec::new(),
    };
    if given.is_empty() && around.upstreams.len() > 1 {
        let message = "without routes it is not said which upstream requests go to";
        let help = "write [[routes]] with path = \"/{*rest}\" and upstream = \"…\"";
        check.push(Fault::whole(message).with_help(help));
    }
    let mut entries = Vec::with_capacity(given.len());
    for given in given {
        if let Some(table) = check.table("routes", given) {
            entries.extend(entry(check, table, around));
        }
    }
    let rules = entries.iter().map(|entry| entry.rule.clone()).collect();
    match RouteTable::new(rules) {
        Ok(table) => Some(table),
        Err(errors) => {
            for (place, error) in errors {
                refuse(check, &entries, place, error);
            }
            None
        }
    }
}

/// One entry; `None` only with a fault.
fn entry(check: &mut Check<'_>, table: Spanned<raw::Route>, around: &Around<'_>) -> Option<Entry> {
    let span = table.span();
    let raw = table.into_inner();
    if raw.path.0.is_none() {
        check.fault(span.clone(), "this route has no path", "write path = \"/{*rest}\", say");
    }
    let path = check.text(raw.path);
    let is_for_some = raw.methods.0.is_some();
    let methods = methods(check, raw.methods);
    let is_for_get = !is_for_some || methods.iter().any(|(method, _)| method == Method::GET);
    let access = access(check, raw.public, raw.roles, around.roles);
    let client_subjects = client_subjects(check, raw.client_subject, around.has_client_ca);
    let upgrades_span = raw.upgrades.0.as_ref().map(|given| given.0.span());
    let upgrades = upgrades(check, raw.upgrades, is_for_get);
    let upstream = upstream(check, span, raw.upstream, around.upstreams);
    let leads_to = upstream.and_then(|place| around.upstreams.get(place));
    if let (Some(span), Some(upstream)) = (upgrades_span, leads_to.filter(|to| to.settings.http2)) {
        let message = format!("the upstream {:?} is spoken to in HTTP/2", upstream.name);
        let help =
            "remove upgrades, or http2 from the upstream: only HTTP/1 changes to another protocol";
        check.fault(span, message, help);
    }
    let allow_ambiguous_paths =
        check.one_of(raw.ambiguous_paths, false, &[("allow", true), ("refuse", false)]);
    let limits = requests::limits(check, "routes.limits", raw.limits);
    let path = path?;
    // What it is known by from one load to the next.
    let names = methods.iter().map(|(method, _)| method.as_str());
    let name = names.chain([path.value.as_str()]).collect::<Vec<_>>().join(" ");
    let rule = RouteRule {
        path: path.value.clone(),
        methods: is_for_some.then(|| methods.iter().map(|(method, _)| method.clone()).collect()),
        access,
        client_subjects,
        upgrades,
        quota: Quota::of_route(limits, &name),
        upstream: upstream.unwrap_or_default(),
        allow_ambiguous_paths,
    };
    Some(Entry { rule, path, methods })
}

fn methods(check: &mut Check<'_>, field: Field<Vec<Given<String>>>) -> Vec<(Method, Text)> {
    let texts = check.some_texts(
        field,
        METHODS_MAX,
        "this route is for no method",
        "name some, or leave methods out for all that no other entry of the path names",
    );
    let mut seen = HashSet::new();
    let mut methods = Vec::new();
    for text in texts.map(Spanned::into_inner).unwrap_or_default() {
        let Some(method) = method(check, &text) else { continue };
        if seen.insert(method.clone()) {
            methods.push((method, text));
        } else {
            let message = format!("{} is listed twice", text.shown);
            check.fault(text.span, message, "remove one of the two");
        }
    }
    methods
}

/// Methods are tokens, and their case counts (RFC 9110 §9.1).
fn method(check: &mut Check<'_>, text: &Text) -> Option<Method> {
    let span = text.span.clone();
    let Ok(method) = Method::from_bytes(text.value.as_bytes()) else {
        let message = format!("{} is no method", text.shown);
        check.fault(span, message, "write a name such as \"GET\"");
        return None;
    };
    if matches!(method, Method::CONNECT | Method::TRACE) {
        let message = format!("{} is never forwarded", text.shown);
        check.fault(span, message, "remove it: a tunnel or an echo would go past every check");
        return None;
    }
    if let Some(standard) = meant_method(&method) {
        let reason = text.reason(format!("is not {standard}: the case of a method counts"));
        let help = match text.is_literal() {
            true => format!("write \"{standard}\""),
            false => "the case of a method counts".to_owned(),
        };
        check.fault(span, format!("{} {reason}", text.shown), help);
        return None;
    }
    Some(method)
}

fn access(
    check: &mut Check<'_>,
    public: Field<bool>,
    field: Field<Vec<Given<String>>>,
    roles: &Declared,
) -> Access {
    let is_public = check.field(public).is_some_and(Spanned::into_inner);
    let texts = check.some_texts(
        field,
        MAX_ROLES,
        "no role may pass this route",
        "name some, or leave roles out to let any valid key pass",
    );
    let Some(texts) = texts else {
        return if is_public { Access::Public } else { Access::AnyKey };
    };
    if is_public {
        let help = "remove roles, or remove public";
        check.fault(texts.span(), "a public route lets everybody pass, so it takes no roles", help);
    }
    Access::Roles(roles.set(check, texts.get_ref()))
}

/// The names of clients that may pass; none: whatever their certificate says.
fn client_subjects(
    check: &mut Check<'_>,
    field: Field<Vec<Given<String>>>,
    has_client_ca: bool,
) -> Vec<String> {
    let texts = check.some_texts(
        field,
        CLIENT_SUBJECTS_MAX,
        "no client may pass this route",
        "name some, or leave client_subject out to ask for no certificate",
    );
    let Some(texts) = texts else { return Vec::new() };
    if !has_client_ca {
        let help = "write client_ca = \"….pem\" in [server.tls], or remove client_subject";
        check.fault(texts.span(), "no client shows a certificate, so none could pass", help);
    }
    texts.into_inner().into_iter().map(|text| text.value).collect()
}

/// The protocols that requests may change to.
fn upgrades(check: &mut Check<'_>, field: Field<Vec<Given<String>>>, is_for_get: bool) -> Upgrades {
    let texts = check.some_texts(
        field,
        UPGRADES_MAX,
        "no protocol is allowed here",
        "name some, or leave upgrades out to allow none",
    );
    let mut protocols: Vec<Protocol> = Vec::new();
    for text in texts.map(Spanned::into_inner).unwrap_or_default() {
        match Protocol::new(&text.value) {
            Ok(protocol) if protocols.iter().any(|p| protocol.is(p.as_str().as_bytes())) => {
                let message = format!("{} is listed twice", text.shown);
                check.fault(text.span, message, "remove one of the two");
            }
            Ok(protocol) if protocol.is_websocket() && !is_for_get => {
                let message = "this entry is not for GET, with which every WebSocket begins";
                check.fault(text.span, message, "add \"GET\" to methods, or remove this");
            }
            Ok(protocol) => protocols.push(protocol),
            Err(ProtocolError::Malformed) => {
                let message = format!("{} is no protocol", text.shown);
                check.fault(text.span, message, "write \"websocket\", or a name such as \"foo/2\"");
            }
            Err(ProtocolError::CarriesRequests) => {
                let message = format!("{} is never allowed", text.shown);
                let help = "remove it: requests that came over it would go past every check";
                check.fault(text.span, message, help);
            }
        }
    }
    Upgrades::new(protocols)
}

/// The place of the upstream that `field` names, or of the only one.
fn upstream(
    check: &mut Check<'_>,
    route: Span,
    field: Field<String>,
    upstreams: &[Upstream],
) -> Option<usize> {
    let names: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
    if field.0.is_none() {
        if names.len() > 1 {
            let help = format!("write upstream = \"…\" with one of: {}", names.join(", "));
            check.fault(route, "this route does not say which upstream it goes to", help);
        }
        return Some(0);
    }
    let text = check.text(field)?;
    let place = names.iter().position(|name| *name == text.value);
    if place.is_none() && !names.is_empty() {
        let help = did_you_mean(text.meant(names.iter().copied()), &names);
        check.fault(text.span, format!("no upstream is called {}", text.shown), help);
    }
    place
}

/// Tells why the entry at `place` does not fit with those before it.
fn refuse(check: &mut Check<'_>, entries: &[Entry], place: usize, error: RouteError) {
    let entry = &entries[place];
    let path = &entry.path;
    match error {
        RouteError::Pattern(reason) => {
            let message = format!("{} cannot be the path of a route", path.shown);
            check.fault(path.span.clone(), message, reason);
        }
        RouteError::MethodTwice { method: Some(method), earlier } => {
            let line = check.line(&entries[earlier].path.span);
            let named = entry.methods.iter().find(|(known, _)| *known == method);
            let text = named.map_or(path, |(_, text)| text);
            let message =
                format!("line {line} already says who may use {} on {}", text.shown, path.shown);
            check.fault(text.span.clone(), message, "take it out of one of the two entries");
        }
        RouteError::MethodTwice { method: None, earlier } => {
            let line = check.line(&entries[earlier].path.span);
            let message = format!(
                "line {line} already says who may use every other method on {}",
                path.shown
            );
            check.fault(path.span.clone(), message, "give one of the two entries its methods");
        }
    }
}
