//! What a key is narrowed to: methods, paths and addresses, checked and compiled once.
//!
//! Scopes only take away: what they let through, the key's role must still be allowed. They are shared by all
//! that know the key, and a key without any has none to look at.
//!
//! Never here: roles, routes, or what a refusal looks like.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;
use std::sync::Arc;

use http::Method;
use ipnet::IpNet;

use crate::paths::patterns::{PathPattern, PatternTree};
use crate::paths::read;

/// Most methods, paths or addresses of one key. Who needs more needs a role.
pub const SCOPES_MAX: usize = 64;

/// RFC 9110 §9.3 and RFC 5789, less the two that a proxy must not take.
const STANDARD_METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::OPTIONS,
    Method::PATCH,
];

/// What a key is narrowed to. An empty list narrows nothing; all three empty is no `Scopes`.
#[derive(Debug)]
pub struct Scopes {
    methods: Vec<Method>,
    paths: Vec<PathPattern>,
    tree: PatternTree,
    addresses: Vec<IpNet>,
}

impl PartialEq for Scopes {
    fn eq(&self, other: &Self) -> bool {
        // The tree is made of the paths.
        (&self.methods, &self.paths, &self.addresses)
            == (&other.methods, &other.paths, &other.addresses)
    }
}

/// What about a request a key does not reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutOfScope {
    /// The method.
    Method,
    /// The path.
    Path,
    /// The client's address.
    Address,
}

/// Why a text is no method, path or network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopeError {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl ScopeError {
    /// Says what is wrong, and what to write instead.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }
}

impl Display for ScopeError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.help)
    }
}

impl std::error::Error for ScopeError {}

/// Reads a method. Methods are tokens, and their case counts (RFC 9110 §9.1).
///
/// # Errors
/// What is never forwarded, and what nobody means.
pub fn method(text: &str) -> Result<Method, ScopeError> {
    let method = Method::from_bytes(text.as_bytes())
        .map_err(|_| ScopeError::new("this is no method", "write a name such as GET"))?;
    if matches!(method, Method::CONNECT | Method::TRACE) {
        return Err(ScopeError::new(format!("{method} is never forwarded"), "remove it"));
    }
    match meant_method(&method) {
        Some(meant) => {
            let message = format!("{method} is not {meant}: the case of a method counts");
            Err(ScopeError::new(message, format!("write {meant}")))
        }
        None => Ok(method),
    }
}

/// The standard method that differs from this one in case alone.
pub fn meant_method(method: &Method) -> Option<&'static Method> {
    STANDARD_METHODS.iter().find(|standard| {
        *standard != method && standard.as_str().eq_ignore_ascii_case(method.as_str())
    })
}

/// Reads a path pattern, in the syntax of routes.
///
/// # Errors
/// What makes it none.
pub fn path(text: &str) -> Result<PathPattern, ScopeError> {
    PathPattern::new(text).map_err(|help| ScopeError::new("this is no path pattern", help))
}

/// Reads a network, or one address.
///
/// # Errors
/// What is neither, and a network with bits beyond its prefix: one of the two is a slip.
pub fn network(text: &str) -> Result<IpNet, ScopeError> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    let network = address.or_else(|_| text.parse::<IpNet>()).map_err(|_| {
        let help = "write a network such as 10.0.0.0/8, or one address";
        ScopeError::new("this is no network", help)
    })?;
    if network != network.trunc() {
        let (whole, one) = (network.trunc(), network.addr());
        let help = format!("write {whole} for the network, or {one} for the one address");
        return Err(ScopeError::new(format!("{network} has bits beyond its prefix"), help));
    }
    Ok(network)
}

impl Scopes {
    /// Narrows a key to `methods`, `paths` and `addresses`; nothing, if none of them narrows.
    pub fn new(
        methods: Vec<Method>,
        paths: Vec<PathPattern>,
        addresses: Vec<IpNet>,
    ) -> Option<Arc<Self>> {
        if methods.is_empty() && paths.is_empty() && addresses.is_empty() {
            return None;
        }
        let mut tree = PatternTree::default();
        for (place, path) in paths.iter().enumerate() {
            tree.insert(path.as_str(), place).expect("what is a PathPattern was checked");
        }
        Some(Arc::new(Self { methods, paths, tree, addresses }))
    }

    /// The methods it may use; all, if there are none.
    pub fn methods(&self) -> &[Method] {
        &self.methods
    }

    /// The paths it may ask for; all, if there are none.
    pub fn paths(&self) -> &[PathPattern] {
        &self.paths
    }

    /// The addresses it may be used from; all, if there are none.
    pub fn addresses(&self) -> &[IpNet] {
        &self.addresses
    }

    /// What about a request from `client` is out of scope, if anything is; `raw_path` is its path as it came.
    ///
    /// The address is looked at first: who has stolen a key learns nothing else of it.
    ///
    /// # Errors
    /// The first that is.
    pub fn check(&self, method: &Method, raw_path: &str, client: IpAddr) -> Result<(), OutOfScope> {
        let client = client.to_canonical();
        if !is_open_or(&self.addresses, |network| network.contains(&client)) {
            return Err(OutOfScope::Address);
        }
        if !is_open_or(&self.methods, |allowed| covers_method(allowed, method)) {
            return Err(OutOfScope::Method);
        }
        if !self.paths.is_empty() && !self.covers_path(raw_path) {
            return Err(OutOfScope::Path);
        }
        Ok(())
    }

    /// Whether every reading of the path is covered: also on a route that takes ambiguous paths, a key that is
    /// narrowed does not.
    fn covers_path(&self, raw_path: &str) -> bool {
        let path = read(raw_path);
        // No pattern holds a parameter, so a segment with one is covered only where any segment is.
        path.ambiguity.is_none() && self.tree.find(&path.decoded).is_some()
    }

    /// Whether a key with `other` reaches nothing that a key with `own` does not: what somebody may grant who
    /// acts by a key with `own`. Says no where one pattern of `other` is only covered by several of `own`.
    pub fn is_within(other: Option<&Self>, own: Option<&Self>) -> bool {
        let Some(own) = own else { return true };
        let Some(other) = other else { return false };
        is_list_within(&other.methods, &own.methods, covers_method)
            && is_list_within(&other.paths, &own.paths, PathPattern::covers)
            && is_list_within(&other.addresses, &own.addresses, |wide, narrow| {
                wide.contains(narrow)
            })
    }
}

/// GET covers HEAD (RFC 9110 §9.3.2), as in routes.
fn covers_method(allowed: &Method, method: &Method) -> bool {
    allowed == method || (allowed == Method::GET && method == Method::HEAD)
}

/// Whether `list` says nothing, or an entry of it `fits`.
fn is_open_or<T>(list: &[T], fits: impl FnMut(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(fits)
}

fn is_list_within<T>(narrow: &[T], wide: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
    wide.is_empty()
        || (!narrow.is_empty() && narrow.iter().all(|one| wide.iter().any(|w| covers(w, one))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(methods: &[&str], paths: &[&str], networks: &[&str]) -> Option<Arc<Scopes>> {
        let methods = methods.iter().map(|text| method(text).unwrap()).collect();
        let paths = paths.iter().map(|text| path(text).unwrap()).collect();
        let networks = networks.iter().map(|text| network(text).unwrap()).collect();
        Scopes::new(methods, paths, networks)
    }

    #[test]
    fn nothing_narrows_nothing() {
        assert!(scopes(&[], &[], &[]).is_none());
    }

    #[test]
    fn each_list_narrows_by_itself() {
        let scopes = scopes(&["GET", "PUT"], &["/a/{*rest}", "/b/{id}"], &["10.0.0.0/8", "::1"]);
        let scopes = scopes.unwrap();
        let check = |method: &str, path, client: &str, expect| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let found = scopes.check(&method, path, client.parse().unwrap());
            assert_eq!(found.err(), expect, "{method} {path} {client}");
        };
        check("GET", "/a", "10.1.2.3", None);
        check("HEAD", "/a/b/c", "::1", None);
        check("PUT", "/b/1", "::ffff:10.1.2.3", None);
        check("GET", "/%61/x", "10.1.2.3", None);
        check("POST", "/a", "10.1.2.3", Some(OutOfScope::Method));
        check("get", "/a", "10.1.2.3", Some(OutOfScope::Method));
        check("GET", "/ab", "10.1.2.3", Some(OutOfScope::Path));
        check("GET", "/b", "10.1.2.3", Some(OutOfScope::Path));
        check("GET", "/b/1/2", "10.1.2.3", Some(OutOfScope::Path));
        check("GET", "/A", "10.1.2.3", Some(OutOfScope::Path));
        check("GET", "/a", "11.0.0.1", Some(OutOfScope::Address));
        check("POST", "/c", "::2", Some(OutOfScope::Address));
    }

    #[test]
    fn a_path_with_two_readings_is_in_no_scope() {
        let scopes = scopes(&[], &["/a/{*rest}", "/b/{id}"], &[]).unwrap();
        for path in ["/a/../c", "/a/%2e%2e/c", "/a//b", "/a/b%2fc", "/a\\b", "*", "/b/;x", "/a/%zz"]
        {
            let found = scopes.check(&Method::GET, path, [127, 0, 0, 1].into());
            assert_eq!(found, Err(OutOfScope::Path), "{path}");
        }
        // A parameter changes nothing about what is covered, whoever reads it.
        let check = |path| scopes.check(&Method::GET, path, [127, 0, 0, 1].into());
        assert_eq!(check("/b/1;v=2"), Ok(()));
        assert_eq!(check("/a;v=2/c"), Err(OutOfScope::Path));
    }

    #[test]
    fn nobody_grants_more_than_they_have() {
        let check = |narrow: Option<Arc<Scopes>>, wide: Option<Arc<Scopes>>, expect: bool| {
            let found = Scopes::is_within(narrow.as_deref(), wide.as_deref());
            assert_eq!(found, expect, "{narrow:?} in {wide:?}");
        };
        let own = || scopes(&["GET"], &["/a/{*rest}", "/b/{id}"], &["10.0.0.0/8"]);
        check(None, None, true);
        check(own(), None, true);
        check(None, own(), false);
        check(own(), own(), true);
        check(scopes(&["HEAD"], &["/a", "/a/{x}/c"], &["10.1.0.0/16"]), own(), true);
        check(scopes(&["GET"], &["/b/7"], &["10.0.0.1"]), own(), true);
        check(scopes(&["PUT"], &["/a"], &["10.0.0.1"]), own(), false);
        check(scopes(&["GET"], &["/{*rest}"], &["10.0.0.1"]), own(), false);
        check(scopes(&["GET"], &["/b/{*rest}"], &["10.0.0.1"]), own(), false);
        check(scopes(&["GET"], &["/b"], &["10.0.0.1"]), own(), false);
        check(scopes(&["GET"], &["/a"], &["0.0.0.0/0"]), own(), false);
        check(scopes(&["GET"], &["/a"], &[]), own(), false);
        check(scopes(&[], &["/a"], &["10.0.0.1"]), own(), false);
        check(scopes(&["HEAD"], &[], &[]), scopes(&["GET"], &[], &[]), true);
        check(scopes(&["GET"], &[], &[]), scopes(&["HEAD"], &[], &[]), false);
    }

    #[test]
    fn what_is_hardly_meant_is_refused() {
        let told = |error: ScopeError| error.to_string();
        assert_eq!(
            method("get").map_err(told),
            Err("get is not GET: the case of a method counts; write GET".to_owned())
        );
        assert!(method("CONNECT").is_err() && method("A B").is_err() && method("").is_err());
        assert_eq!(method("PROPFIND").map(|method| method.to_string()), Ok("PROPFIND".to_owned()));
        assert_eq!(
            network("10.0.0.1/8").map_err(told),
            Err("10.0.0.1/8 has bits beyond its prefix; write 10.0.0.0/8 for the network, or \
                 10.0.0.1 for the one address"
                .to_owned())
        );
        assert!(network("10.0.0").is_err() && network("example.com").is_err());
        for wrong in ["a", "/a/../b", "/a?b", "/{*rest}/b"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
