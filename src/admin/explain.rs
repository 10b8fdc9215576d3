//! `GET /api/v1/explain` and `GET /api/v1/routes`: what would happen to a request, and who may pass where.
//!
//! The answer is what the proxy's own policy decides on the current generation; here it is only told.
//!
//! Never here: a decision.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use http::{Method, Uri};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

use super::State;
use super::body::{Faults, query};
use super::refusal::{Answer, Refusal, unless_seen};
use super::rights::Actor;
use super::view::{Explanation, Route, Rule, Step};
use crate::auth::Unauthenticated;
use crate::identity::{Identity, RoleSet, Roles};
use crate::keys::{KeyRecord, KeyState};
use crate::policy::routes::{Access, RouteRule};
use crate::policy::{Asked, Denied, Permit, authorize};
use crate::proxy::error::Refusal as ProxyRefusal;
use crate::scopes::OutOfScope;
use crate::snapshot::Snapshot;

/// Longest path that is explained.
const PATH_BYTES_MAX: usize = 8_192;

/// A request that nobody has sent.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// The key it would carry; none, if it is left out.
    pub(super) key_id: Option<String>,
    /// Its method.
    #[param(example = "GET")]
    pub(super) method: String,
    /// Its path, as it would be sent.
    #[param(example = "/orders/17")]
    pub(super) path: String,
    /// The address it would come from; that of whoever asks, unless given.
    pub(super) address: Option<String>,
}

/// Every route, and who may pass.
#[derive(Serialize, utoipa::ToSchema)]
pub(super) struct Routes {
    routes: Vec<Route>,
    generation: u64,
}

/// Says what would happen to a request, and why.
///
/// A rule that asks for a client's certificate is told as if the client showed none.
#[utoipa::path(get, path = "/api/v1/explain", tag = "policy", params(Parameters), security(("key" = [])),
    responses((status = 200, body = Explanation)))]
pub(super) async fn explain(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    uri: Uri,
) -> Answer<Json<Explanation>> {
    let asked = query(&uri)?;
    answer(&state.shared.current().load_full(), &actor, asked).map(Json)
}

/// What would happen in `snapshot`, if `actor` may ask that.
pub(super) fn answer(snapshot: &Snapshot, actor: &Actor, asked: Parameters) -> Answer<Explanation> {
    let Parameters { key_id, method, path, address } = asked;
    let mut faults = Faults::default();
    let method = faults.take("method", Method::from_bytes(method.as_bytes()));
    let target = faults.take("path", target(&path));
    let address = faults.take_some("address", address.as_deref(), str::parse::<IpAddr>);
    faults.finish()?;
    let client = address.unwrap_or(actor.address);
    let (method, target) = (method.ok_or(Refusal::Internal)?, target.ok_or(Refusal::Internal)?);
    let record = match key_id {
        None => None,
        Some(id) => {
            let record = snapshot.records.iter().find(|record| record.id.as_str() == id);
            let record = record.ok_or(Refusal::NotFound)?;
            unless_seen(actor, &record.user)?;
            Some(record)
        }
    };
    let asked = Asked { method: &method, path: target.path(), client, client_names: &[] };
    Ok(tell(snapshot, record, &asked))
}

/// A request's target in origin form.
fn target(path: &str) -> Result<Uri, &'static str> {
    if !path.starts_with('/') || path.len() > PATH_BYTES_MAX {
        return Err("must begin with / and have 8192 bytes at most");
    }
    path.parse().map_err(
        |_| "cannot stand in a request: percent-encode what is no ASCII character that prints",
    )
}

fn tell(snapshot: &Snapshot, record: Option<&KeyRecord>, asked: &Asked<'_>) -> Explanation {
    let mut steps = Vec::new();
    let mut say = |step, ok, detail: String| steps.push(Step { step, ok, detail });
    let mut explanation = Explanation {
        allowed: false,
        status: None,
        code: None,
        route: None,
        upstream: None,
        steps: Vec::new(),
        generation: snapshot.generation,
    };
    let decided = snapshot.config.routes.find(asked.path).map_err(|ambiguity| {
        say(
            "path",
            false,
            format!("it {}, so two programs could read it differently", ambiguity.reason()),
        );
        ProxyRefusal::from(ambiguity)
    });
    let decided = decided.and_then(|route| {
        say("path", true, "it can be read in one way only".to_owned());
        match route {
            Some(route) => say("route", true, format!("{} is the most specific", route.pattern())),
            None => say("route", false, "no route speaks for the path".to_owned()),
        }
        explanation.route = route.map(|route| route.pattern().to_owned());
        let (is_good, detail) = told_key(record);
        say("key", is_good, detail);
        let caller = caller(record, &snapshot.config.roles);
        let decided = authorize(route, asked, caller);
        if let Err(Denied::Scope(what)) = &decided {
            say("scope", false, told_scope(*what));
        } else if let Some(route) = route {
            let fails = !matches!(decided, Ok(_) | Err(Denied::Client));
            let detail = match route.rule(asked.method) {
                Some(rule) => told_rule(rule, &snapshot.config.roles),
                None => format!("the route has no rule for {}", asked.method),
            };
            say("rule", !fails, detail);
        }
        if matches!(decided, Err(Denied::Client)) {
            say(
                "certificate",
                false,
                "the client must show one with a name that the rule lists".to_owned(),
            );
        }
        decided.map_err(ProxyRefusal::from)
    });
    match decided {
        Ok(permit) => {
            let limits = told_limits(record, &permit, &snapshot.config.roles);
            limits.into_iter().for_each(|told| say("limits", true, told));
            explanation.allowed = true;
            explanation.upstream = Some(snapshot.upstreams[permit.upstream()].name.clone());
        }
        Err(refusal) => {
            let problem = refusal.problem();
            explanation.status = Some(problem.status.as_u16());
            explanation.code = Some(problem.code);
        }
    }
    explanation.steps = steps;
    explanation
}

/// What authentication makes of the key, if its secret is sent.
fn caller(record: Option<&KeyRecord>, roles: &Roles) -> Result<Arc<Identity>, Unauthenticated> {
    let record = record.ok_or(Unauthenticated::MissingKey)?;
    match record.state(Timestamp::now()) {
        KeyState::Enabled => {}
        KeyState::Disabled => return Err(Unauthenticated::KeyDisabled),
        KeyState::Expired => return Err(Unauthenticated::KeyExpired),
    }
    let role = roles.find(record.role.as_str()).ok_or(Unauthenticated::InvalidKey)?;
    let identity = Identity::new(&record.id, &record.user, &record.label, Arc::clone(role));
    Ok(Arc::new(identity.narrowed(record.scopes.clone())))
}

fn told_key(record: Option<&KeyRecord>) -> (bool, String) {
    let Some(record) = record else { return (false, "the request carries none".to_owned()) };
    let state = record.state(Timestamp::now());
    let KeyRecord { id, user, role, .. } = record;
    let detail = format!("{id} of {user}, with the role {role}, is {}", state.as_str());
    (state == KeyState::Enabled, detail)
}

fn told_scope(what: OutOfScope) -> String {
    let what = match what {
        OutOfScope::Method => "methods",
        OutOfScope::Path => "paths",
        OutOfScope::Address => "addresses",
    };
    format!("the key is narrowed to other {what} than this")
}

fn told_rule(rule: &RouteRule, roles: &Roles) -> String {
    let who = match rule.access {
        Access::Public => "everybody, without a key".to_owned(),
        Access::AnyKey => "any valid key".to_owned(),
        Access::Roles(required) => {
            format!("keys with the role {}", passing(required, roles).join(" or "))
        }
    };
    format!("it takes {who}")
}

/// How many requests may be sent, wherever that is limited.
fn told_limits(record: Option<&KeyRecord>, permit: &Permit, roles: &Roles) -> Vec<String> {
    let record = record.filter(|_| permit.identity().is_some());
    let of_key = record.and_then(|record| {
        let role = roles.find(record.role.as_str())?;
        let limits = record.limits.or(role.limits());
        (!limits.is_empty()).then(|| format!("the key may send {limits}"))
    });
    let who = if record.is_some() { "key" } else { "address" };
    let of_route = permit.quota().map(|quota| {
        let limits = quota.limits();
        format!("each {who} may send {limits} on this route")
    });
    of_key.into_iter().chain(of_route).collect()
}

/// The roles that pass where one of `required` does.
fn passing(required: RoleSet, roles: &Roles) -> Vec<String> {
    let roles = roles.iter().filter(|role| role.passes(required));
    roles.map(|role| role.name().as_str().to_owned()).collect()
}

/// Lists the routes, and who may pass: all, or those that one's own role may use.
#[utoipa::path(get, path = "/api/v1/routes", tag = "policy", security(("key" = [])),
    responses((status = 200, body = Routes)))]
pub(super) async fn routes(actor: Actor, Extract(state): Extract<Arc<State>>) -> Json<Routes> {
    let snapshot = state.shared.current().load_full();
    Json(Routes { routes: passable(&snapshot, &actor), generation: snapshot.generation })
}

/// The routes that `actor` may use or, managing all keys, give to others.
pub(super) fn passable(snapshot: &Snapshot, actor: &Actor) -> Vec<Route> {
    let may_pass = |rule: &&RouteRule| match rule.access {
        Access::Public | Access::AnyKey => true,
        Access::Roles(required) => actor.manages_all() || actor.role.passes(required),
    };
    let routes = snapshot.config.routes.routes().iter();
    let routes = routes.map(|route| Route {
        path: route.pattern().to_owned(),
        rules: route.rules().iter().filter(may_pass).map(|rule| shown(rule, snapshot)).collect(),
    });
    routes.filter(|route| !route.rules.is_empty()).collect()
}

fn shown(rule: &RouteRule, snapshot: &Snapshot) -> Rule {
    Rule {
        methods: rule.methods.as_ref().map(|m| m.iter().map(Method::to_string).collect()),
        public: rule.access == Access::Public,
        roles: match rule.access {
            Access::Public | Access::AnyKey => None,
            Access::Roles(required) => Some(passing(required, &snapshot.config.roles)),
        },
        client_subject: rule.client_subjects.clone(),
        limits: rule.quota.as_ref().map(|quota| quota.limits().to_string()),
        upstream: snapshot.upstreams[rule.upstream].name.clone(),
    }
}
