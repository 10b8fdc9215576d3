//! The route table: which rule speaks for a path and a method.
//!
//! The most specific pattern wins: a literal segment before `{name}`, that before `{*rest}`. Entries of one
//! path form one [`Route`] with rules by method. Compiling refuses what could be read in two ways.
//!
//! Never here: identities, and the decision itself (see [`authorize`](super::authorize)).

use std::sync::Arc;

use http::Method;
use percent_encoding::percent_decode_str;

use super::upgrades::Upgrades;
use crate::identity::RoleSet;
use crate::limit::quota::Quota;
use crate::paths::patterns::PatternTree;
use crate::paths::{self, Ambiguity};

/// One `[[routes]]` entry, checked except for how it fits with the others.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// The path pattern as it was written: `/admin/{*rest}`.
    pub path: String,
    /// The methods it speaks of; `None`: every method no other entry of this path names.
    pub methods: Option<Vec<Method>>,
    /// Who may pass.
    pub access: Access,
    /// Names, one of which the client's certificate must bear; none: it needs no certificate.
    pub client_subjects: Vec<String>,
    /// The protocols that the connection of a request may be handed over to.
    pub upgrades: Upgrades,
    /// How many requests each key may send, or each address that came without one.
    pub quota: Option<Arc<Quota>>,
    /// The place of its upstream in the configuration.
    pub upstream: usize,
    /// `ambiguous_paths = "allow"`: take the path as it stands, even if two parsers could differ.
    pub allow_ambiguous_paths: bool,
}

/// Who may pass a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody; a valid key is resolved all the same.
    Public,
    /// Any valid key.
    AnyKey,
    /// A key whose role is, or inherits from, one of these.
    Roles(RoleSet),
}

impl RouteRule {
    /// Whether a client passes whose certificate bears `names`; none without a certificate.
    pub fn takes_client(&self, names: &[String]) -> bool {
        self.client_subjects.is_empty() || self.client_subjects.iter().any(|s| names.contains(s))
    }
}

/// Why an entry cannot be part of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The pattern cannot be read; the text says why and what to write.
    Pattern(String),
    /// An earlier entry of the same path already decides for this method.
    MethodTwice {
        /// The method; `None`: both entries are for every other method.
        method: Option<Method>,
        /// The place of the earlier entry.
        earlier: usize,
    },
}

/// Every entry of one path.
#[derive(Debug)]
pub struct Route {
    place: usize,
    pattern: String,
    rules: Vec<RouteRule>,
    allow_ambiguous_paths: bool,
    /// Whether some who have a key may not pass.
    is_for_some: bool,
}

impl Route {
    /// Its place in [`RouteTable::routes`].
    pub fn place(&self) -> usize {
        self.place
    }

    /// The pattern as it was first written; what logs name the route by.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// The entries, as they were written.
    pub fn rules(&self) -> &[RouteRule] {
        &self.rules
    }

    /// The rule for `method`: the one that names it, else for HEAD the one that names GET
    /// (RFC 9110 §9.3.2), else the one that names no method.
    pub fn rule(&self, method: &Method) -> Option<&RouteRule> {
        let naming = |wanted: &Method| {
            let named =
                |rule: &&RouteRule| rule.methods.as_ref().is_some_and(|m| m.contains(wanted));
            self.rules.iter().find(named)
        };
        naming(method)
            .or_else(|| if method == Method::HEAD { naming(&Method::GET) } else { None })
            .or_else(|| self.rules.iter().find(|rule| rule.methods.is_none()))
    }

    /// Whether nobody needs a key here, whatever the method.
    pub fn is_public(&self) -> bool {
        self.rules.iter().all(|rule| rule.access == Access::Public)
    }
}

/// Every route, compiled.
#[derive(Debug)]
pub struct RouteTable {
    routes: Vec<Route>,
    patterns: PatternTree,
}

impl RouteTable {
    /// Compiles `rules`; no rules at all means that every path takes any valid key and goes to upstream 0.
    /// Each error names the place of the entry it is about.
    pub fn new(mut rules: Vec<RouteRule>) -> Result<Self, Vec<(usize, RouteError)>> {
        if rules.is_empty() {
            rules.push(RouteRule {
                path: "/{*rest}".to_owned(),
                methods: None,
                access: Access::AnyKey,
                client_subjects: Vec::new(),
                upgrades: Upgrades::default(),
                quota: None,
                upstream: 0,
                allow_ambiguous_paths: false,
            });
        }
        let mut compiler = Compiler::default();
        for (place, rule) in rules.into_iter().enumerate() {
            compiler.add(place, rule);
        }
        if compiler.errors.is_empty() {
            Ok(Self { routes: compiler.routes, patterns: compiler.patterns })
        } else {
            Err(compiler.errors)
        }
    }

    /// The route that speaks for `raw_path`, the path of a request target without its query.
    ///
    /// # Errors
    /// A path that two parsers could read in two ways, unless its route allows such paths.
    pub fn find(&self, raw_path: &str) -> Result<Option<&Route>, Ambiguity> {
        let path = paths::read(raw_path);
        let found = self.patterns.find(&path.decoded);
        if let Some(ambiguity) = path.ambiguity {
            return match found {
                Some(at) if self.routes[at].allow_ambiguous_paths => Ok(Some(&self.routes[at])),
                _ => Err(ambiguity),
            };
        }
        let route = found.map(|at| &self.routes[at]);
        if path.decoded.contains('%') && !route.is_some_and(|route| route.allow_ambiguous_paths) {
            // Whoever decodes it once more must come to the same rule.
            let twice = percent_decode_str(&path.decoded).decode_utf8_lossy();
            let stripped = paths::without_parameters(&twice);
            if self.patterns.find(&twice) != found || self.patterns.find(&stripped) != found {
                return Err(Ambiguity::DoubleEncoding);
            }
        }
        if path.has_parameters && !route.is_some_and(|route| route.allow_ambiguous_paths) {
            let stripped = paths::without_parameters(&path.decoded);
            if route.is_some_and(|route| route.is_for_some)
                || self.patterns.find(&stripped) != found
            {
                return Err(Ambiguity::Parameter);
            }
        }
        Ok(route)
    }

    /// Every route, in the order of their first entries.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }
}

/// A table in the making.
#[derive(Default)]
struct Compiler {
    routes: Vec<Route>,
    /// The places of each route's entries, for errors.
    places: Vec<Vec<usize>>,
    patterns: PatternTree,
    errors: Vec<(usize, RouteError)>,
}

impl Compiler {
    fn add(&mut self, place: usize, rule: RouteRule) {
        let new = self.routes.len();
        match self.patterns.insert(&rule.path, new) {
            Err(reason) => self.errors.push((place, RouteError::Pattern(reason))),
            Ok(at) => {
                if at == new {
                    self.places.push(Vec::new());
                    self.routes.push(Route {
                        place: new,
                        pattern: rule.path.clone(),
                        rules: Vec::new(),
                        allow_ambiguous_paths: true,
                        is_for_some: false,
                    });
                }
                self.add_rule(at, place, rule);
            }
        }
    }

    fn add_rule(&mut self, at: usize, place: usize, rule: RouteRule) {
        let route = &mut self.routes[at];
        for (earlier, &earlier_place) in route.rules.iter().zip(&self.places[at]) {
            let twice = match (&earlier.methods, &rule.methods) {
                (None, None) => Some(None),
                (Some(theirs), Some(ours)) => {
                    ours.iter().find(|m| theirs.contains(m)).cloned().map(Some)
                }
                _ => None,
            };
            if let Some(method) = twice {
                let error = RouteError::MethodTwice { method, earlier: earlier_place };
                self.errors.push((place, error));
                return;
            }
        }
        route.allow_ambiguous_paths &= rule.allow_ambiguous_paths;
        route.is_for_some |=
            matches!(rule.access, Access::Roles(_)) || !rule.client_subjects.is_empty();
        route.rules.push(rule);
        self.places[at].push(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str, methods: &[Method], access: Access) -> RouteRule {
        let methods = if methods.is_empty() { None } else { Some(methods.to_vec()) };
        RouteRule {
            path: path.to_owned(),
            methods,
            access,
            client_subjects: Vec::new(),
            upgrades: Upgrades::default(),
            quota: None,
            upstream: 0,
            allow_ambiguous_paths: false,
        }
    }

    #[track_caller]
    fn check(table: &RouteTable, path: &str, expected: Option<&str>) {
        let found = table.find(path).map(|route| route.map(Route::pattern));
        assert_eq!(found, Ok(expected), "{path}");
    }

    #[test]
    fn without_entries_every_path_takes_any_key() {
        let table = RouteTable::new(Vec::new()).expect("no entries fit together");
        let route = table.find("/any/thing").expect("one reading").expect("a route");
        assert_eq!(route.rule(&Method::DELETE).map(|rule| rule.access), Some(Access::AnyKey));
    }

    #[test]
    fn entries_of_one_path_are_rules_by_method() {
        let rules = vec![
            rule("/x/{id}", &[Method::GET], Access::Public),
            rule("/x/{name}", &[Method::POST], Access::AnyKey),
        ];
        let table = RouteTable::new(rules).expect("the entries fit together");
        let route = table.find("/x/1").expect("one reading").expect("a route");
        let access = |method| route.rule(&method).map(|rule| rule.access);
        assert_eq!(access(Method::GET), Some(Access::Public));
        assert_eq!(access(Method::HEAD), Some(Access::Public));
        assert_eq!(access(Method::POST), Some(Access::AnyKey));
        assert_eq!(access(Method::PUT), None);
    }

    #[test]
    fn entries_that_both_decide_are_refused() {
        let rules = vec![
            rule("/x", &[Method::GET], Access::Public),
            rule("/x", &[Method::POST, Method::GET], Access::AnyKey),
            rule("/y", &[], Access::Public),
            rule("/y", &[], Access::AnyKey),
        ];
        let errors = RouteTable::new(rules).expect_err("two entries decide for one method");
        let twice = |method, earlier| RouteError::MethodTwice { method, earlier };
        assert_eq!(errors, [(1, twice(Some(Method::GET), 0)), (3, twice(None, 2))]);
    }

    #[test]
    fn a_parameter_must_not_change_the_rules() {
        let role = Access::Roles(RoleSet::default());
        let rules = vec![rule("/admin/{*rest}", &[], role), rule("/{*rest}", &[], Access::AnyKey)];
        let table = RouteTable::new(rules).expect("the patterns fit together");
        check(&table, "/a;v=1/b", Some("/{*rest}"));
        for path in ["/admin;x", "/admin;x/y", "/admin/y;x", "/%61dmin%3bx/y"] {
            assert_eq!(table.find(path).err(), Some(Ambiguity::Parameter), "{path}");
        }
    }

    #[test]
    fn decoding_once_more_must_not_change_the_rules() {
        let rules = vec![
            rule("/admin/{*rest}", &[], Access::AnyKey),
            rule("/{*rest}", &[], Access::AnyKey),
        ];
        let table = RouteTable::new(rules).expect("the patterns fit together");
        check(&table, "/a%2541/100%25", Some("/{*rest}"));
        check(&table, "/admin/%2541", Some("/admin/{*rest}"));
        for path in ["/%2561dmin", "/%2561dmin/x", "/%2561dmin;x"] {
            assert_eq!(table.find(path).err(), Some(Ambiguity::DoubleEncoding), "{path}");
        }
    }

    #[test]
    fn a_route_may_allow_ambiguous_paths() {
        let mut repository = rule("/repos/{*rest}", &[], Access::AnyKey);
        repository.allow_ambiguous_paths = true;
        let rules = vec![repository, rule("/{*rest}", &[], Access::AnyKey)];
        let table = RouteTable::new(rules).expect("the patterns fit together");
        check(&table, "/repos/a%2Fb", Some("/repos/{*rest}"));
        assert_eq!(table.find("/other/a%2Fb").err(), Some(Ambiguity::EncodedSlash));
    }
}
