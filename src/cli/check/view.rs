//! How what would be served, and what would change, is shown to people.
//!
//! Never here: what is shown as JSON, which is the data itself.

use std::io::{self, Write};
use std::net::SocketAddr;

use anstyle::{AnsiColor, Style};

use super::super::table::{self, Row};
use super::diff::{Change, Field, Kind, VALUE, What};
use super::plan::{AccessKind, KeyCount, Plan, RouteRow};

/// Writes everything that would be served.
pub(super) fn write_plan(to: &mut impl Write, plan: &Plan) -> io::Result<()> {
    let name = Style::new().bold();
    let list = |addresses: &[SocketAddr]| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    let listen = list(&plan.listen) + if plan.tls { " (TLS)" } else { "" };
    let keys = format!("{}: {}", plan.keys.store.display(), count(plan.keys.count));
    let mut headings = vec![("listen", listen), ("keys", keys)];
    if !plan.redirect.is_empty() {
        headings.insert(1, ("redirect", list(&plan.redirect)));
    }
    if let Some(admin) = plan.admin {
        let admin = list(&[admin]) + if plan.admin_tls { " (TLS)" } else { "" };
        headings.insert(headings.len() - 1, ("admin", admin));
    }
    for (heading, value) in headings {
        writeln!(to, "{name}{heading:<9}{name:#}{}", table::printable(&value))?;
    }
    writeln!(to)?;
    let routes = plan.routes.iter().map(|route| {
        let (path, methods) = (route.path.clone(), methods_and_upgrades(route));
        let who = match &route.limits {
            None => who_may_pass(route),
            Some(limits) => format!("{}; {limits}", who_may_pass(route)),
        };
        Row::plain(vec![path, methods, who, destination(plan, route)])
    });
    table::write(to, &["PATH", "METHODS", "WHO MAY PASS", "UPSTREAM"], routes)?;
    if plan.roles.is_empty() {
        return Ok(());
    }
    writeln!(to)?;
    let has_limits = plan.roles.iter().any(|role| role.limits.is_some());
    let roles = plan.roles.iter().map(|role| {
        let KeyCount { enabled, disabled, expired } = role.keys;
        let counts = [enabled, disabled, expired].map(|count| count.to_string());
        let [enabled, disabled, expired] = counts;
        let inherits =
            if role.inherits.is_empty() { "-".to_owned() } else { role.inherits.join(", ") };
        let mut cells = vec![role.name.clone(), inherits, enabled, disabled, expired];
        cells.extend(has_limits.then(|| or_none(role.limits.as_ref())));
        Row::plain(cells)
    });
    let heading = ["ROLE", "INHERITS", "ENABLED KEYS", "DISABLED", "EXPIRED", "LIMITS OF A KEY"];
    table::write(to, &heading[..heading.len() - usize::from(!has_limits)], roles)
}

/// Writes a line for each change.
pub(super) fn write_changes(to: &mut impl Write, changes: &[Change]) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(to, "A reload would change nothing.");
    }
    let rows = changes.iter().map(|change| {
        let (sign, colour) = match change.change {
            Kind::Added => ("+", AnsiColor::Green),
            Kind::Removed => ("-", AnsiColor::Red),
            Kind::Changed => ("~", AnsiColor::Yellow),
        };
        let what = match change.what {
            What::Setting => "setting",
            What::Role => "role",
            What::Upstream => "upstream",
            What::Route => "route",
            What::Key => "key",
        };
        let cells = [sign, what, &change.name, &told(change)];
        Row { style: colour.on_default(), cells: cells.map(str::to_owned).to_vec() }
    });
    table::write(to, &["", "WHAT", "NAME", "CHANGE"], rows)?;
    let at_start = changes.iter().filter(|change| change.needs_restart).count();
    let changes = changes.len();
    let plural = if changes == 1 { "" } else { "s" };
    match at_start {
        0 => writeln!(to, "\n{changes} change{plural}; a reload takes all of it over."),
        _ => writeln!(
            to,
            "\n{changes} change{plural}; {at_start} of them at the next start only, the others by a reload."
        ),
    }
}

/// The fields of a change, in words.
fn told(change: &Change) -> String {
    let fields = change.fields.iter().map(|Field { field, from, to }| {
        let value = match (from, to) {
            (Some(from), Some(to)) => format!("{from} → {to}"),
            (Some(only), None) | (None, Some(only)) => only.clone(),
            (None, None) => String::new(),
        };
        if *field == VALUE { value } else { format!("{field}: {value}") }
    });
    let told = fields.collect::<Vec<_>>().join("; ");
    if change.needs_restart { format!("{told} (needs a restart)") } else { told }
}

/// `GET, HEAD; upgrade to websocket`
fn methods_and_upgrades(route: &RouteRow) -> String {
    match route.upgrades.as_slice() {
        [] => route.shown_methods.clone(),
        names => format!("{}; upgrade to {}", route.shown_methods, names.join(" or ")),
    }
}

/// `viewer (inherited by admin, author)`
pub(super) fn who_may_pass(route: &RouteRow) -> String {
    let by_key = match route.access {
        AccessKind::Public => "everybody (public)".to_owned(),
        AccessKind::AnyKey => "any key".to_owned(),
        AccessKind::Roles if route.inherited_by.is_empty() => route.roles.join(", "),
        AccessKind::Roles => {
            format!("{} (inherited by {})", route.roles.join(", "), route.inherited_by.join(", "))
        }
    };
    match route.client_subject.as_slice() {
        [] => by_key,
        names => format!("{by_key}, from {}", names.join(" or ")),
    }
}

/// The names, or `none`.
pub(super) fn list_or_none(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The limits, or `none`.
pub(super) fn or_none(limits: Option<&String>) -> String {
    limits.cloned().unwrap_or_else(|| "none".to_owned())
}

fn destination(plan: &Plan, route: &RouteRow) -> String {
    let endpoints = plan.upstreams.iter().find(|upstream| upstream.name == route.upstream);
    let endpoints =
        endpoints.map(|upstream| upstream.shown_endpoints.join(", ")).unwrap_or_default();
    format!("{} → {endpoints}", route.upstream)
}

fn count(count: KeyCount) -> String {
    let KeyCount { enabled, disabled, expired } = count;
    format!("{enabled} enabled, {disabled} disabled, {expired} expired")
}
