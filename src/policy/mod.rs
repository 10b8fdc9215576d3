//! Authorization: whether a request may go on, as a value.
//!
//! [`authorize`] is the only maker of a [`Permit`], and forwarding takes one by value: a request that was
//! not authorized cannot be forwarded, because that does not compile.
//!
//! Never here: how a caller proves who they are, or what a refusal looks like to them.

pub mod routes;
pub mod upgrades;

use std::net::IpAddr;
use std::sync::Arc;

use http::Method;

use crate::identity::Identity;
use crate::limit::quota::Quota;
use crate::scopes::OutOfScope;
use routes::{Access, Route};
use upgrades::Upgrades;

/// Leave to forward one request.
#[derive(Debug)]
pub struct Permit {
    identity: Option<Arc<Identity>>,
    upstream: usize,
    upgrades: Upgrades,
    quota: Option<Arc<Quota>>,
}

impl Permit {
    /// Who the request is forwarded for; `None` is anonymous, on a public route.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// The place, in the configuration, of the upstream it may go to.
    pub fn upstream(&self) -> usize {
        self.upstream
    }

    /// The protocols that its connection may be handed over to.
    pub fn upgrades(&self) -> &Upgrades {
        &self.upgrades
    }

    /// How many requests the route allows to each key, or to each address that came without one.
    pub fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }
}

/// What is asked for, as far as it is decided on.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it came, without the query.
    pub path: &'a str,
    /// From where: the peer, or whom a trusted proxy names.
    pub client: IpAddr,
    /// The names that the client's certificate bears; none without a certificate.
    pub client_names: &'a [String],
}

/// Why there is no permit. `E` is the reason why the caller is not known.
#[derive(Debug, PartialEq, Eq)]
pub enum Denied<E> {
    /// The route needs a valid key. Also said where there is no route: routes are not disclosed.
    Unauthenticated(E),
    /// No route speaks for the path.
    NoRoute,
    /// The route has no rule for the method.
    Method,
    /// The caller's key is narrowed to other things than this.
    Scope(OutOfScope),
    /// The caller's role is none of those the rule names.
    Role,
    /// The client's certificate bears none of the names that the rule asks for.
    Client,
}

/// Decides on a request for `route` by whoever `caller` turned out to be.
///
/// A key out of its scope is as good as none: where everybody may pass, it does so as anonymous, and anywhere else
/// it is refused before routes and roles are looked at, so that it does not find out what there is.
pub fn authorize<E>(
    route: Option<&Route>,
    asked: &Asked<'_>,
    caller: Result<Arc<Identity>, E>,
) -> Result<Permit, Denied<E>> {
    let caller = in_scope(asked, caller);
    let Some(route) = route else {
        return Err(caller.err().unwrap_or(Denied::NoRoute));
    };
    let Some(rule) = route.rule(asked.method) else {
        let unknown = if route.is_public() { None } else { caller.err() };
        return Err(unknown.unwrap_or(Denied::Method));
    };
    let identity = match rule.access {
        Access::Public => caller.ok(),
        Access::AnyKey => Some(caller?),
        Access::Roles(required) => {
            let identity = caller?;
            if !identity.role().passes(required) {
                return Err(Denied::Role);
            }
            Some(identity)
        }
    };
    if !rule.takes_client(asked.client_names) {
        return Err(Denied::Client);
    }
    let (upgrades, quota) = (rule.upgrades.clone(), rule.quota.clone());
    Ok(Permit { identity, upstream: rule.upstream, upgrades, quota })
}

/// The caller, unless their key is narrowed to other things than what is asked for.
fn in_scope<E>(
    asked: &Asked<'_>,
    caller: Result<Arc<Identity>, E>,
) -> Result<Arc<Identity>, Denied<E>> {
    let identity = caller.map_err(Denied::Unauthenticated)?;
    if let Some(scopes) = identity.scopes() {
        scopes.check(asked.method, asked.path, asked.client).map_err(Denied::Scope)?;
    }
    Ok(identity)
}

/// Decides on a browser's CORS preflight, which carries no key: it may pass as anonymous to the upstream of
/// the rule for the method that the browser asks about, if there is one. The client's certificate is asked for
/// all the same.
pub fn authorize_preflight(
    route: Option<&Route>,
    requested: &Method,
    client_names: &[String],
) -> Option<Permit> {
    let rule = route?.rule(requested).filter(|rule| rule.takes_client(client_names))?;
    let (upgrades, quota) = (Upgrades::default(), rule.quota.clone());
    Some(Permit { identity: None, upstream: rule.upstream, upgrades, quota })
}
