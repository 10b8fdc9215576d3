//! The mirror of `[upstreams.NAME]`.
//!
//! Never here: defaults, limits, or what fits with what.

use std::fmt::{self, Formatter};

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

use super::{Field, Given, Section, Table};

/// A service behind keyward.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["endpoints"]))]
pub(in crate::config) struct Upstream {
    /// Its servers, `"http://HOST[:PORT]"`, `"https://HOST[:PORT]"`, `"unix:PATH"` or `{ url = "…", weight = 2 }`.
    pub(in crate::config) endpoints: Field<Vec<Given<Endpoint>>>,
    /// Which endpoint is next: "round_robin", "least_request" (the less busy of two at random) or "hash_user" (a user's requests always to the same one). Default: "round_robin".
    #[schemars(extend("enum" = ["round_robin", "least_request", "hash_user"]))]
    pub(in crate::config) balance: Field<String>,
    /// What an endpoint is told as Host: "keep" what the client said, the "endpoint"'s own, or any other. Default: "keep".
    pub(in crate::config) host: Field<String>,
    /// Whether HTTP/2 is spoken to the endpoints, at once and without asking, as to servers of gRPC. Default: false.
    pub(in crate::config) http2: Field<bool>,
    /// How often the names of endpoints are looked up. Default: "30s".
    pub(in crate::config) dns_refresh: Field<String>,
    /// When every endpoint is left out: "try" them all, or "refuse" with 503. Default: "try".
    #[schemars(extend("enum" = ["try", "refuse"]))]
    pub(in crate::config) when_none_is_up: Field<String>,
    /// Most connections in use at once to each endpoint (with http2: requests); further requests wait. Default: no limit.
    pub(in crate::config) max_connections: Field<i64>,
    /// Most requests that wait for a connection; above it 503. Default: 100.
    pub(in crate::config) max_pending: Field<i64>,
    /// Most requests to the upstream at once; above it 503. Default: no limit.
    pub(in crate::config) max_in_flight: Field<i64>,
    /// How long the share of an endpoint that came back grows; "0s" for not at all. Default: "10s".
    pub(in crate::config) slow_start: Field<String>,
    /// Begin each connection to an endpoint with a header of the PROXY protocol, "v1" or "v2", that names the client. Default: none.
    #[schemars(extend("enum" = ["v1", "v2"]))]
    pub(in crate::config) proxy_protocol: Field<String>,
    /// How the endpoints with https are known, and what they are shown. Its files are read again when they change.
    pub(in crate::config) tls: Section<UpstreamTls>,
    /// When an endpoint is left out because requests to it failed.
    pub(in crate::config) ejection: Section<Ejection>,
    /// How often a request is tried on another endpoint.
    pub(in crate::config) retries: Section<Retries>,
    /// Ask every endpoint now and then whether it works. Default: not.
    pub(in crate::config) health: Section<Health>,
}

/// TLS to the endpoints with https. Its files are in PEM, and read again when they change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct UpstreamTls {
    /// The certificates of the authorities that vouch for the endpoints. Default: those that the system trusts.
    pub(in crate::config) ca: Field<String>,
    /// The name that the endpoints' certificate must be for, and that they are asked for. Default: the host of each.
    pub(in crate::config) server_name: Field<String>,
    /// The certificate that keyward shows, followed by those between it and its authority. Default: none.
    pub(in crate::config) certificate: Field<String>,
    /// The key of the first certificate.
    pub(in crate::config) private_key: Field<String>,
}

/// When an endpoint is left out because requests to it failed.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Ejection {
    /// So many failures in a row; 0 for never. Default: 5.
    pub(in crate::config) after: Field<i64>,
    /// How long the first time; twice as long each further time. Default: "1s".
    pub(in crate::config) back_off: Field<String>,
    /// The longest. Default: "1m".
    pub(in crate::config) max_back_off: Field<String>,
}

/// How often a request is tried on another endpoint.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Retries {
    /// Most endpoints a request is sent to; 1 for no retries. Default: 3.
    pub(in crate::config) attempts: Field<i64>,
    /// How many in a hundred of the last seconds' requests may be tried again. Default: 20.
    pub(in crate::config) budget_percent: Field<i64>,
    /// And how many more, by each worker. Default: 10.
    pub(in crate::config) budget_min: Field<i64>,
}

/// A server: where it is, or a table that says more of it.
#[derive(Debug, JsonSchema)]
#[schemars(inline, untagged)]
pub(in crate::config) enum Endpoint {
    /// `"http://HOST[:PORT]"`, `"https://HOST[:PORT]"` or `"unix:PATH"`.
    Url(String),
    /// With its weight.
    Table(Table<WeightedEndpoint>),
}

/// A server and its weight.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub(in crate::config) struct WeightedEndpoint {
    /// Where it is: `"http://HOST[:PORT]"`, `"https://HOST[:PORT]"` or `"unix:PATH"`.
    pub(in crate::config) url: Field<String>,
    /// How much it takes, measured by the others. Default: 1.
    pub(in crate::config) weight: Field<i64>,
}

/// How every endpoint is asked now and then whether it works.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(in crate::config) struct Health {
    /// What is asked for; any answer below 400 is good.
    pub(in crate::config) path: Field<String>,
    /// Between two checks. Default: "5s".
    pub(in crate::config) interval: Field<String>,
    /// The longest wait for an answer. Default: "2s".
    pub(in crate::config) timeout: Field<String>,
    /// So many good checks in a row bring an endpoint back. Default: 2.
    pub(in crate::config) healthy_after: Field<i64>,
    /// So many failed checks in a row leave it out. Default: 3.
    pub(in crate::config) unhealthy_after: Field<i64>,
}

impl<'de> Deserialize<'de> for Endpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EitherForm;
        impl<'de> Visitor<'de> for EitherForm {
            type Value = Endpoint;

            fn expecting(&self, f: &mut Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "a string such as \"http://127.0.0.1:3000\", or a table with such a url",
                )
            }

            fn visit_str<E>(self, text: &str) -> Result<Endpoint, E> {
                Ok(Endpoint::Url(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Endpoint, A::Error> {
                Table::deserialize(MapAccessDeserializer::new(map)).map(Endpoint::Table)
            }
        }
        deserializer.deserialize_any(EitherForm)
    }
}
