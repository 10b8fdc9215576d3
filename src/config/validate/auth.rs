//! `[auth]` and `[identity]`: the headers a key comes in, and those the upstream receives.

use http::HeaderName;
use serde_spanned::Spanned;

use crate::auth::credentials::{KeySource, Scheme};
use crate::config::Auth;
use crate::config::check::{Check, Span, Text};
use crate::config::limits::{self, Bounds, KEY_SOURCES_MAX};
use crate::config::raw::{self, Field, Given, Section, Table};
use crate::identity::IdentityHeaders;
use crate::limit::failures::Rule;

/// Names that HTTP itself, or keyward, gives a meaning on the way (RFC 9110 §7.6.1, RFC 9112, RFC 7239).
const TAKEN: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];
/// Taken as well, but a key may come in them.
const PROXY_AUTHENTICATION: [&str; 2] = ["proxy-authenticate", "proxy-authorization"];
const FORWARDED_PREFIX: &str = "x-forwarded-";

pub(super) fn auth(check: &mut Check<'_>, section: Section<raw::Auth>) -> Auth {
    let raw = check.section("auth", section);
    let key_sources = key_sources(check, raw.key_sources);
    let hide_credentials = match check.field(raw.hide_credentials) {
        Some(hide) => {
            if !hide.get_ref() {
                let help =
                    "leave hide_credentials out, unless an upstream has to check keys itself";
                check.warn(hide.span(), "the upstreams receive the keys of your clients", help);
            }
            hide.into_inner()
        }
        None => true,
    };
    let forward_preflight =
        check.one_of(raw.preflight, false, &[("forward", true), ("refuse", false)]);
    let failures = failures(check, raw.failures);
    Auth { key_sources, hide_credentials, forward_preflight, failures }
}

/// `None`: any number.
fn failures(check: &mut Check<'_>, field: Field<raw::Failures>) -> Option<Rule> {
    let given = check.field(field);
    let fields = match given.map(|given| (given.span(), given.into_inner())) {
        None => raw::FailureRule::default(),
        Some((_, raw::Failures::Table(table))) => check.fields("auth.failures", table),
        Some((span, raw::Failures::Word(word))) => {
            let text = check.replaced(&Spanned::new(span, word))?;
            if text.value != "off" {
                let message = format!("{} is no choice here", text.shown);
                check.fault(text.span, message, "write \"off\", or a table such as { limit = 20 }");
            }
            return None;
        }
    };
    let mut number = |field, bounds: &Bounds<u64>| {
        check.number(field, bounds.min, bounds.max).unwrap_or(bounds.default)
    };
    let (limit, addresses) = (
        number(fields.limit, &limits::FAILURES),
        number(fields.addresses, &limits::FAILURE_ADDRESSES),
    );
    Some(Rule {
        limit: u32::try_from(limit).expect("the maximum fits in 32 bits"),
        window: check.duration(fields.window, &limits::FAILURE_WINDOW),
        ban: check.duration(fields.ban, &limits::FAILURE_BAN),
        addresses: addresses as usize,
    })
}

fn key_sources(
    check: &mut Check<'_>,
    field: Field<Vec<Given<Table<raw::KeySource>>>>,
) -> Vec<KeySource> {
    let Some(array) = check.field(field) else { return default_sources() };
    let span = array.span();
    check.at_most(&span, array.get_ref().len(), KEY_SOURCES_MAX);
    if array.get_ref().is_empty() {
        check.fault(span, "there is no place for a key", "write [{ header = \"x-api-key\" }]");
    }
    let mut sources = Vec::new();
    for given in array.into_inner() {
        let Some(table) = check.table("auth.key_sources", given) else { continue };
        let span = table.span();
        let Some(source) = key_source(check, table) else { continue };
        if sources.iter().any(|earlier| is_same(earlier, &source)) {
            check.fault(span, "this key source is listed twice", "remove one of the two");
        } else {
            sources.push(source);
        }
    }
    sources
}

fn default_sources() -> Vec<KeySource> {
    let authorization = |scheme| KeySource::Header { name: http::header::AUTHORIZATION, scheme };
    vec![
        KeySource::Header { name: HeaderName::from_static("x-api-key"), scheme: Scheme::Bare },
        authorization(Scheme::Token("Bearer".to_owned())),
        authorization(Scheme::Basic),
    ]
}

/// Schemes are the same in any case (RFC 9110 §11.1).
fn is_same(one: &KeySource, other: &KeySource) -> bool {
    match (one, other) {
        (
            KeySource::Header { name, scheme: Scheme::Token(token) },
            KeySource::Header { name: other_name, scheme: Scheme::Token(other_token) },
        ) => name == other_name && token.eq_ignore_ascii_case(other_token),
        _ => one == other,
    }
}

fn key_source(check: &mut Check<'_>, table: Spanned<raw::KeySource>) -> Option<KeySource> {
    let span = table.span();
    let raw = table.into_inner();
    let (has_header, has_query) = (raw.header.0.is_some(), raw.query.0.is_some());
    let header = check.text(raw.header);
    let scheme = check.text(raw.scheme);
    let query = check.text(raw.query);
    if has_header == has_query {
        let message = match has_header {
            true => "a key source is a header or a query parameter, not both",
            false => "this key source names neither a header nor a query parameter",
        };
        check.fault(
            span,
            message,
            "write { header = \"x-api-key\" }, and one entry for each place",
        );
        return None;
    }
    if let Some(text) = query {
        if let Some(scheme) = scheme {
            check.fault(scheme.span, "a query parameter has no scheme", "remove the scheme");
        }
        return query_source(check, text);
    }
    let scheme = scheme.map_or(Some(Scheme::Bare), |text| parse_scheme(check, text));
    let text = header?;
    let name = header_name(check, &text)?;
    if TAKEN.contains(&folded(&name).as_str()) {
        let message = format!("a key cannot come in the header {}", text.shown);
        check.fault(text.span, message, "HTTP gives it another meaning: write \"x-api-key\", say");
        return None;
    }
    Some(KeySource::Header { name, scheme: scheme? })
}

fn parse_scheme(check: &mut Check<'_>, text: Text) -> Option<Scheme> {
    // A scheme is a token (RFC 9110 §11.1), and so is a field's name: one check for both.
    if HeaderName::from_bytes(text.value.as_bytes()).is_err() {
        let message = format!("{} is no authentication scheme", text.shown);
        check.fault(text.span, message, "write one word: \"Bearer\" or \"Basic\"");
        return None;
    }
    match text.value.eq_ignore_ascii_case("basic") {
        true => Some(Scheme::Basic),
        false => Some(Scheme::Token(text.value)),
    }
}

fn query_source(check: &mut Check<'_>, text: Text) -> Option<KeySource> {
    let unreserved = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '~');
    if text.value.is_empty() || !text.value.chars().all(unreserved) {
        let message = format!("{} cannot name a query parameter", text.shown);
        check.fault(
            text.span,
            message,
            "write letters, digits, '-', '.', '_' and '~' (RFC 3986 §2.3)",
        );
        return None;
    }
    check.warn(
        text.span,
        "keys in a query end up in logs, histories and Referer headers on their way",
        "let clients send a header; give no long-lived key to those that cannot",
    );
    Some(KeySource::Query(text.value))
}

fn header_name(check: &mut Check<'_>, text: &Text) -> Option<HeaderName> {
    let name = HeaderName::from_bytes(text.value.as_bytes()).ok();
    if name.is_none() {
        let message = format!("{} cannot name a header", text.shown);
        let help = "write letters, digits and '-', such as \"x-api-key\" (RFC 9110 §5.1)";
        check.fault(text.span.clone(), message, help);
    }
    name
}

/// What programs behind keyward may take for the same name: case, `-`, `_` and `.` are one.
fn folded(name: &HeaderName) -> String {
    name.as_str().replace(['_', '.'], "-")
}

pub(super) fn identity(
    check: &mut Check<'_>,
    section: Section<raw::Identity>,
    key_sources: &[KeySource],
) -> Option<IdentityHeaders> {
    let raw = check.section("identity", section);
    let fields = [
        ("user", raw.user, "x-auth-user"),
        ("role", raw.role, "x-auth-role"),
        ("key_id", raw.key_id, "x-auth-key-id"),
    ];
    let mut names: Vec<(&str, Option<HeaderName>, Option<Span>)> = Vec::new();
    for (field, raw, default) in fields {
        let (name, span) = match check.text(raw) {
            Some(text) => (identity_name(check, &text, key_sources), Some(text.span)),
            None => (Some(HeaderName::from_static(default)), None),
        };
        let twin = names.iter().find(|(_, earlier, _)| {
            name.is_some() && earlier.as_ref().map(folded) == name.as_ref().map(folded)
        });
        if let Some((earlier, _, earlier_span)) = twin {
            let message = format!("{earlier:?} and {field:?} would go into the same header");
            let help = "name different headers; case, '-', '_' and '.' make no difference";
            if let Some(span) = span.clone().or_else(|| earlier_span.clone()) {
                check.fault(span, message, help);
            }
        }
        names.push((field, name, span));
    }
    let mut names = names.into_iter().map(|(_, name, _)| name);
    Some(IdentityHeaders {
        user: names.next().flatten()?,
        role: names.next().flatten()?,
        key_id: names.next().flatten()?,
    })
}

fn identity_name(
    check: &mut Check<'_>,
    text: &Text,
    key_sources: &[KeySource],
) -> Option<HeaderName> {
    let name = header_name(check, text)?;
    let folded_name = folded(&name);
    let is_taken = TAKEN.contains(&folded_name.as_str())
        || PROXY_AUTHENTICATION.contains(&folded_name.as_str())
        || folded_name.starts_with(FORWARDED_PREFIX);
    let is_source = key_sources.iter().any(
        |source| matches!(source, KeySource::Header { name, .. } if folded(name) == folded_name),
    );
    let use_taken = match (is_taken, is_source) {
        (true, _) => "has another meaning in HTTP or in keyward",
        (false, true) => "is one that keys come in",
        (false, false) => return Some(name),
    };
    let message = format!("the header {} {use_taken}", text.shown);
    check.fault(text.span.clone(), message, "write a name of its own, such as \"x-auth-user\"");
    None
}
