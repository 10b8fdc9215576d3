//! The mirror of `limits` of a role or a route.
//!
//! Never here: defaults, limits, or what fits with what.

use schemars::JsonSchema;
use serde::Deserialize;

use super::Field;

/// How many requests there may be.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RequestLimits {
    /// How fast requests may come, on average: "100/s", "30/m" or "1000/h". Default: no limit.
    pub(in crate::config) rate: Field<String>,
    /// How many may come at once, after a silence. Default: as many as come in a second at the rate.
    pub(in crate::config) burst: Field<i64>,
    /// How many may be in flight. Default: no limit.
    pub(in crate::config) concurrent: Field<i64>,
    /// How many there may be in a day of UTC. Default: no limit.
    pub(in crate::config) daily: Field<i64>,
}
