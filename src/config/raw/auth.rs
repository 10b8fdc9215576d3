//! The mirror of `[auth]`.
//!
//! Never here: defaults, limits, or what fits with what.

use std::fmt::{self, Formatter};

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{Field, Given, Table};

/// Where a request carries its key.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Auth {
    /// Tried in this order. Default: x-api-key, then authorization as Bearer, then as Basic.
    pub(in crate::config) key_sources: Field<Vec<Given<Table<KeySource>>>>,
    /// Whether every source is removed before forwarding, not only the one that matched. Default: true.
    pub(in crate::config) hide_credentials: Field<bool>,
    /// "forward" lets CORS preflights, which carry no key, pass as anonymous. Default: "refuse".
    #[schemars(extend("enum" = ["forward", "refuse"]))]
    pub(in crate::config) preflight: Field<String>,
    /// How often an address may show a key that nobody has; more are refused with 429 for a while. "off" for any number.
    pub(in crate::config) failures: Field<Failures>,
}

/// One place a key may be in: a header or a query parameter.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct KeySource {
    /// The name of a header.
    pub(in crate::config) header: Field<String>,
    /// What stands before the key in the header: "Bearer", "Basic" (the key as password, or as user name without one), or any other word.
    pub(in crate::config) scheme: Field<String>,
    /// The name of a query parameter. Queries end up in logs and histories: prefer a header.
    pub(in crate::config) query: Field<String>,
}

/// How often an address may fail: "off", or a table.
#[derive(Debug, JsonSchema)]
#[schemars(inline, untagged)]
pub(in crate::config) enum Failures {
    /// "off": as often as it likes.
    #[schemars(extend("enum" = ["off"]))]
    Word(String),
    /// So often.
    Table(Table<FailureRule>),
}

/// A bucket of failures for each address; when it is full, the address is banned. A good key passes all the same.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct FailureRule {
    /// Failures that fill the bucket. Default: 20.
    pub(in crate::config) limit: Field<i64>,
    /// How long a full bucket takes to be empty. Default: "1m".
    pub(in crate::config) window: Field<String>,
    /// How long an address is banned whose bucket is full. Default: "5m".
    pub(in crate::config) ban: Field<String>,
    /// Most addresses that are remembered, 24 bytes each; of IPv6, networks of 64 bits. Default: 65536.
    pub(in crate::config) addresses: Field<i64>,
}

impl<'de> Deserialize<'de> for Failures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherForm;
        impl<'de> Visitor<'de> for EitherForm {
            type Value = Failures;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str("\"off\", or a table such as { limit = 20 }")
            }

            fn visit_str<E>(self, text: &str) -> Result<Failures, E> {
                Ok(Failures::Word(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Failures, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(Failures::Table)
            }
        }
        deserializer.deserialize_any(EitherForm)
    }
}
