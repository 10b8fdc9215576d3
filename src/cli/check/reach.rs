//! What is not wrong but hardly meant: routes that nothing can reach, roles that nobody holds, keys that
//! pass nowhere, and paths that a wider route than the one beside them lets through.
//!
//! Never here: faults, which keep a configuration from being served, or how warnings are shown.

mod shape;

use std::collections::HashSet;

use http::Method;
use jiff::Timestamp;
use serde::Serialize;

use super::plan::{is, names, shown_methods};
use crate::config::Config;
use crate::identity::{AdminScope, Role, RoleName, Roles};
use crate::keys::{KeyRecord, KeyState};
use crate::policy::routes::{Access, Route, RouteRule};
use shape::Patterns;

/// A key that ends within this many seconds is warned of: 30 days.
const ENDS_SOON_S: i64 = 30 * 24 * 60 * 60;
/// Names that one message lists at most.
const NAMED: usize = 5;
/// Stands for all methods that no route names.
const OTHER_METHOD: &str = "X-OTHER";

/// One thing that is hardly meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Warning {
    /// Stable, for scripts: `unreachable_route`.
    pub(super) code: &'static str,
    /// The routes (by path), roles, upstreams or keys (by id) it is about.
    pub(super) about: Vec<String>,
    pub(super) message: String,
    pub(super) help: Option<String>,
    /// Whether the key file is where to look, not the configuration.
    #[serde(skip)]
    pub(super) is_of_keys: bool,
}

impl Warning {
    fn new(
        code: &'static str,
        about: Vec<String>,
        message: String,
        help: impl Into<String>,
    ) -> Self {
        Self { code, about, message, help: Some(help.into()), is_of_keys: false }
    }

    /// A line that the configuration's own report says, with its place.
    pub(super) fn of_configuration(line: String) -> Self {
        Self { help: None, ..Self::new("configuration", Vec::new(), line, "") }
    }

    fn of_keys(self) -> Self {
        Self { is_of_keys: true, ..self }
    }
}

/// Everything that is odd about `config` with `keys` at `now`.
pub(super) fn warnings(config: &Config, keys: &[KeyRecord], now: Timestamp) -> Vec<Warning> {
    let usable: Vec<_> = keys.iter().filter(|key| key.state(now) == KeyState::Enabled).collect();
    let mut warnings = shape_of_routes(config);
    warnings.extend(unused_upstreams(config));
    if usable.is_empty() {
        warnings.extend(no_key(config));
    } else {
        let held = usable.iter().map(|key| &key.role).collect();
        warnings.extend(routes_without_key(config, &held));
        warnings.extend(roles_without_key(config, &held));
    }
    warnings.extend(roles_without_route(config, &usable));
    warnings.extend(ending_soon(&usable, now));
    warnings
}

/// What the paths of the routes alone tell.
fn shape_of_routes(config: &Config) -> Vec<Warning> {
    let routes = config.routes.routes();
    let patterns = Patterns::new(routes.iter().map(Route::pattern));
    let mut warnings = Vec::new();
    for route in routes {
        let path = route.pattern();
        if patterns.cover(path) {
            let message = format!("no request reaches {path}: more specific routes take every one");
            let help = "remove it, or one of the routes below its path";
            warnings.push(Warning::new("unreachable_route", vec![path.to_owned()], message, help));
        }
        if let Some(other) = behind_slash(config, route)
            && lets_more_pass(config, other, route, |_| true)
        {
            let other = other.pattern();
            let message = format!(
                "{path}/ falls to {other}, which lets more callers pass than {path}; many services \
                 take the two for one"
            );
            let help = format!("write \"{path}/{{*rest}}\", which speaks for {path} too");
            warnings.push(Warning::new("wider_with_slash", vec![path.to_owned()], message, help));
        }
        for around in patterns.around(path).into_iter().map(|place| &routes[place]) {
            if lets_more_pass(config, route, around, |access| access == Access::Public) {
                let around = around.pattern();
                let message = format!(
                    "{path} is public and takes requests away from {around}, which asks for a key"
                );
                let help =
                    "name the public paths one by one, or give them a beginning of their own";
                let about = vec![path.to_owned(), around.to_owned()];
                warnings.push(Warning::new("public_inside", about, message, help));
            }
        }
    }
    warnings
}

/// The other route that takes the paths of `route` with a slash at their end.
fn behind_slash<'a>(config: &'a Config, route: &Route) -> Option<&'a Route> {
    let other = config.routes.find(&shape::sample_with_slash(route.pattern())?).ok()??;
    (other.place() != route.place()).then_some(other)
}

/// Whether somebody passes `wide`, by a rule whose access is `counted`, with a method that `narrow` speaks
/// for but does not let them use.
fn lets_more_pass(
    config: &Config,
    wide: &Route,
    narrow: &Route,
    counted: impl Fn(Access) -> bool,
) -> bool {
    let other = Method::from_bytes(OTHER_METHOD.as_bytes()).expect("a token");
    let named = |route: &'_ Route| -> Vec<Method> {
        route.rules().iter().flat_map(|rule| rule.methods.clone().unwrap_or_default()).collect()
    };
    let mut methods = [named(wide), named(narrow), vec![other]].concat().into_iter();
    methods.any(|method| match (wide.rule(&method), narrow.rule(&method)) {
        (Some(wide), Some(narrow)) => {
            counted(wide.access) && is_wider(wide.access, narrow.access, &config.roles)
        }
        _ => false,
    })
}

fn is_wider(wide: Access, narrow: Access, roles: &Roles) -> bool {
    match (wide, narrow) {
        (_, Access::Public) => false,
        (Access::Public, _) => true,
        (_, Access::AnyKey) => false,
        (wide, narrow) => roles.iter().any(|role| passes(role, wide) && !passes(role, narrow)),
    }
}

fn passes(role: &Role, access: Access) -> bool {
    match access {
        Access::Public | Access::AnyKey => true,
        Access::Roles(required) => role.passes(required),
    }
}

fn rules(config: &Config) -> impl Iterator<Item = (&Route, &RouteRule)> {
    let routes = config.routes.routes().iter();
    routes.flat_map(|route| route.rules().iter().map(move |rule| (route, rule)))
}

fn unused_upstreams(config: &Config) -> impl Iterator<Item = Warning> {
    let is_unused = |place: usize| rules(config).all(|(_, rule)| rule.upstream != place);
    let unused = config.upstreams.iter().enumerate().filter(move |(place, _)| is_unused(*place));
    unused.map(|(_, upstream)| {
        let name = upstream.name.clone();
        let message = format!("no route goes to the upstream {name}");
        let help = "name it in a route, or remove it";
        Warning::new("upstream_without_route", vec![name], message, help)
    })
}

/// Said once, in place of a warning for each route and role.
fn no_key(config: &Config) -> Option<Warning> {
    let mut closed = rules(config).filter(|(_, rule)| rule.access != Access::Public);
    closed.next()?;
    let message = "no key can be used: only public routes let anybody pass".to_owned();
    let help = "make one: `keyward keys create`";
    Some(Warning::new("no_key", Vec::new(), message, help).of_keys())
}

/// `held` are the roles of enabled keys.
fn routes_without_key(config: &Config, held: &HashSet<&RoleName>) -> impl Iterator<Item = Warning> {
    rules(config).filter_map(move |(route, rule)| {
        let Access::Roles(required) = rule.access else { return None };
        if config.roles.iter().any(|role| role.passes(required) && held.contains(role.name())) {
            return None;
        }
        let (path, methods) = (route.pattern(), shown_methods(route, rule));
        let roles = names(&config.roles, |role| role.passes(required));
        let message =
            format!("nobody can pass {path} ({methods}): no enabled key is of {}", any(&roles));
        let help = "make a key of such a role, or name another role";
        Some(Warning::new("route_without_key", vec![path.to_owned()], message, help))
    })
}

/// A role that is there to be inherited is held by whoever holds its heir.
fn roles_without_key(config: &Config, held: &HashSet<&RoleName>) -> Option<Warning> {
    let is_held =
        |role: &Role| config.roles.iter().any(|heir| is(heir, role) && held.contains(heir.name()));
    let about = names(&config.roles, |role| !is_held(role));
    if about.is_empty() {
        return None;
    }
    let message = format!("nobody holds {}: no enabled key has it or inherits it", any(&about));
    let help = "make a key with it, or remove it";
    Some(Warning::new("role_without_key", about, message, help))
}

/// Roles, or if they have keys the keys, that no route which asks for a key lets pass.
fn roles_without_route(config: &Config, usable: &[&KeyRecord]) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let closed: Vec<Access> = rules(config)
        .map(|(_, rule)| rule.access)
        .filter(|access| *access != Access::Public)
        .collect();
    // Without a route that asks for a key, keys only tell upstreams who called.
    if closed.is_empty() {
        return warnings;
    }
    // A role that manages keys is there for that.
    let is_idle = |role: &Role| {
        role.admin() == AdminScope::None && !closed.iter().any(|access| passes(role, *access))
    };
    for role in config.roles.iter().filter(|role| is_idle(role)) {
        let name = role.name();
        let keys: Vec<_> = usable.iter().filter(|key| key.role == *name).collect();
        let help = "name the role in a route, or let it inherit a role that is named in one";
        warnings.push(if keys.is_empty() {
            let message = format!("the role {name} passes no route that asks for a key");
            Warning::new("role_without_route", vec![name.to_string()], message, help)
        } else {
            let ids: Vec<String> = keys.iter().map(|key| key.id.to_string()).collect();
            let message = format!(
                "{} can pass no route that asks for a key: none lets the role {name} pass",
                some(&ids)
            );
            Warning::new("key_without_route", ids, message, help)
        });
    }
    warnings
}

fn ending_soon(usable: &[&KeyRecord], now: Timestamp) -> impl Iterator<Item = Warning> {
    usable.iter().filter_map(move |key| {
        let end = key.expires_at.filter(|end| end.as_second() - now.as_second() <= ENDS_SOON_S)?;
        let message = format!("{} ({}, \"{}\") expires at {end}", key.id, key.user, key.label);
        let help = "make a new key for its holder in time: `keyward keys create`";
        Some(Warning::new("key_expires_soon", vec![key.id.to_string()], message, help).of_keys())
    })
}

/// `the role a`, or `any of the roles a, b`.
fn any(roles: &[String]) -> String {
    match roles {
        [role] => format!("the role {role}"),
        roles => format!("any of the roles {}", roles.join(", ")),
    }
}

/// All of `ids`, or some and how many more there are.
fn some(ids: &[String]) -> String {
    let named = ids.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    match ids.len().saturating_sub(NAMED) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
