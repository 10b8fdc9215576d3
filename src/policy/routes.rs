//! Routes.

use http::Method;

use crate::identity::RoleSet;

/// One `[[routes]]` entry, checked except for how it fits with the others.
#[derive(Clone, Debug)]
pub struct RouteRule {
    /// The path pattern as it was written: `/admin/{*rest}`.
    pub path: String,
    /// The methods it speaks of; `None`: every method no other entry of this path names.
    pub methods: Option<Vec<Method>>,
    /// Who may pass.
    pub access: Access,
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

/// Why an entry cannot be part of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// The pattern cannot be read; the text says why and what to write.
    Pattern(String),
    /// It conflicts with the pattern of an earlier entry: neither is more specific.
    Conflict {
        /// The place of the earlier entry.
        earlier: usize,
    },
    /// An earlier entry of the same path already decides for this method.
    MethodTwice {
        /// The method; `None`: both entries are for every other method.
        method: Option<Method>,
        /// The place of the earlier entry.
        earlier: usize,
    },
}

/// Every route, compiled.
#[derive(Debug)]
pub struct RouteTable {}

impl RouteTable {
    /// Compiles `rules`; no rules at all means that every path takes any valid key and goes to upstream 0.
    /// Each error names the place of the entry it is about.
    pub fn new(rules: Vec<RouteRule>) -> Result<Self, Vec<(usize, RouteError)>> {
        let _ = rules;
        Ok(Self {})
    }
}
