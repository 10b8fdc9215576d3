//! What a configuration and its keys would serve, as rows to show and to compare.
//!
//! Never here: how a row looks, or what is odd about it (see `reach`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use http::Method;
use jiff::Timestamp;
use serde::Serialize;

use super::upstreams::upstream_settings;
use crate::config::{Config, Endpoint, Upstream};
use crate::identity::{AdminScope, Role, RoleSet, Roles};
use crate::keys::{KeyRecord, KeyState};
use crate::policy::routes::{Access, Route, RouteRule};

/// Everything that would be served.
#[derive(Debug, Serialize)]
pub(super) struct Plan {
    pub(super) config: PathBuf,
    pub(super) listen: Vec<SocketAddr>,
    /// Whether TLS is spoken there.
    pub(super) tls: bool,
    /// Where clients are sent to https.
    pub(super) redirect: Vec<SocketAddr>,
    /// Where keys are managed.
    pub(super) admin: Option<SocketAddr>,
    /// Whether TLS is spoken there.
    pub(super) admin_tls: bool,
    pub(super) routes: Vec<RouteRow>,
    pub(super) upstreams: Vec<UpstreamRow>,
    pub(super) roles: Vec<RoleRow>,
    pub(super) keys: KeysRow,
}

/// One `[[routes]]` entry.
#[derive(Debug, Serialize)]
pub(super) struct RouteRow {
    pub(super) path: String,
    /// None: every method that no other entry of the path names.
    pub(super) methods: Option<Vec<String>>,
    #[serde(skip)]
    pub(super) shown_methods: String,
    pub(super) access: AccessKind,
    /// As the entry names them.
    pub(super) roles: Vec<String>,
    /// Those that pass because they inherit one of `roles`.
    pub(super) inherited_by: Vec<String>,
    /// Names, one of which the client's certificate must bear; none: any client.
    pub(super) client_subject: Vec<String>,
    /// Protocols that a request may change to.
    pub(super) upgrades: Vec<String>,
    pub(super) upstream: String,
    pub(super) ambiguous_paths: &'static str,
    /// How many requests each key may send, or each address without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum AccessKind {
    Public,
    AnyKey,
    Roles,
}

#[derive(Debug, Serialize)]
pub(super) struct UpstreamRow {
    pub(super) name: String,
    pub(super) endpoints: Vec<String>,
    pub(super) weights: Vec<u32>,
    /// The endpoints, with the weights that are not 1.
    #[serde(skip)]
    pub(super) shown_endpoints: Vec<String>,
    /// How they are used, as the fields of the section.
    #[serde(skip)]
    pub(super) settings: Vec<(&'static str, String)>,
}

#[derive(Debug, Serialize)]
pub(super) struct RoleRow {
    pub(super) name: String,
    /// Every role it inherits, over any number of steps.
    pub(super) inherits: Vec<String>,
    pub(super) admin: &'static str,
    /// How many requests each of its keys may send.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limits: Option<String>,
    pub(super) keys: KeyCount,
}

#[derive(Debug, Serialize)]
pub(super) struct KeysRow {
    pub(super) store: PathBuf,
    #[serde(flatten)]
    pub(super) count: KeyCount,
}

/// How many keys there are, by state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct KeyCount {
    pub(super) enabled: usize,
    pub(super) disabled: usize,
    pub(super) expired: usize,
}

impl KeyCount {
    fn add(&mut self, state: KeyState) {
        match state {
            KeyState::Enabled => self.enabled += 1,
            KeyState::Disabled => self.disabled += 1,
            KeyState::Expired => self.expired += 1,
        }
    }
}

impl Plan {
    /// What `config` with `keys` would serve `now`.
    pub(super) fn new(config: &Config, keys: &[KeyRecord], now: Timestamp) -> Self {
        let mut count = KeyCount::default();
        let mut by_role: BTreeMap<&str, KeyCount> = BTreeMap::new();
        for key in keys {
            count.add(key.state(now));
            by_role.entry(key.role.as_str()).or_default().add(key.state(now));
        }
        let role = |role: &Role| RoleRow {
            name: role.name().to_string(),
            inherits: names(&config.roles, |other| role.name() != other.name() && is(role, other)),
            admin: match role.admin() {
                AdminScope::None => "none",
                AdminScope::Own => "own",
                AdminScope::All => "all",
            },
            limits: role.quota().map(|quota| quota.limits().to_string()),
            keys: by_role.get(role.name().as_str()).copied().unwrap_or_default(),
        };
        let rows = |route: &'_ Route| -> Vec<RouteRow> {
            route.rules().iter().map(|rule| route_row(config, route, rule)).collect()
        };
        Self {
            config: config.path.clone(),
            listen: config.server.listen.clone(),
            tls: config.server.tls.is_some(),
            redirect: config.server.redirect.iter().flat_map(|r| r.listen.clone()).collect(),
            admin: config.admin.as_ref().map(|admin| admin.listen),
            admin_tls: config.admin.as_ref().is_some_and(|admin| admin.tls.is_some()),
            routes: config.routes.routes().iter().flat_map(rows).collect(),
            upstreams: config.upstreams.iter().map(upstream_row).collect(),
            roles: config.roles.iter().map(|declared| role(declared)).collect(),
            keys: KeysRow { store: config.keys.store.clone(), count },
        }
    }
}

fn route_row(config: &Config, route: &Route, rule: &RouteRule) -> RouteRow {
    let (access, roles, inherited_by) = match rule.access {
        Access::Public => (AccessKind::Public, Vec::new(), Vec::new()),
        Access::AnyKey => (AccessKind::AnyKey, Vec::new(), Vec::new()),
        Access::Roles(set) => (
            AccessKind::Roles,
            names(&config.roles, |role| set.contains(role)),
            names(&config.roles, |role| !set.contains(role) && role.passes(set)),
        ),
    };
    RouteRow {
        path: route.pattern().to_owned(),
        methods: methods(route, rule),
        shown_methods: shown_methods(route, rule),
        access,
        roles,
        inherited_by,
        client_subject: rule.client_subjects.clone(),
        upgrades: rule.upgrades.iter().map(|protocol| protocol.as_str().to_owned()).collect(),
        upstream: config.upstreams[rule.upstream].name.clone(),
        ambiguous_paths: if rule.allow_ambiguous_paths { "allow" } else { "refuse" },
        limits: rule.quota.as_ref().map(|quota| quota.limits().to_string()),
    }
}

fn upstream_row(upstream: &Upstream) -> UpstreamRow {
    let Upstream { name, endpoints, settings, tls } = upstream;
    let shown = endpoints.iter().map(|endpoint| match endpoint {
        Endpoint { address, weight: 1 } => address.to_string(),
        Endpoint { address, weight } => format!("{address} (weight {weight})"),
    });
    UpstreamRow {
        name: name.clone(),
        endpoints: endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect(),
        weights: endpoints.iter().map(|endpoint| endpoint.weight).collect(),
        shown_endpoints: shown.collect(),
        settings: upstream_settings(settings, tls.as_ref()),
    }
}

/// The methods `rule` speaks for: HEAD goes with GET unless another entry names it.
fn methods(route: &Route, rule: &RouteRule) -> Option<Vec<String>> {
    let named = rule.methods.as_ref()?;
    let mut methods: Vec<String> = named.iter().map(ToString::to_string).collect();
    let takes_head = route.rule(&Method::HEAD).is_some_and(|taker| std::ptr::eq(taker, rule));
    if takes_head && !named.contains(&Method::HEAD) {
        let behind_get = named.iter().position(|method| method == Method::GET);
        methods.insert(behind_get.map_or(0, |get| get + 1), Method::HEAD.to_string());
    }
    Some(methods)
}

/// The methods `rule` speaks for, in words.
pub(super) fn shown_methods(route: &Route, rule: &RouteRule) -> String {
    match methods(route, rule) {
        Some(methods) => methods.join(", "),
        None if route.rules().len() == 1 => "all".to_owned(),
        None => "all others".to_owned(),
    }
}

/// Whether `role` is `other` or inherits it.
pub(super) fn is(role: &Role, other: &Role) -> bool {
    let mut set = RoleSet::default();
    set.insert(other);
    role.passes(set)
}

/// The names of the roles that are wanted.
pub(super) fn names(roles: &Roles, is_wanted: impl Fn(&Role) -> bool) -> Vec<String> {
    roles.iter().filter(|role| is_wanted(role)).map(|role| role.name().to_string()).collect()
}
