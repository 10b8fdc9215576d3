//! A key as it may be shown, in JSON: to people, to programs, and in the audit log.
//!
//! Never here: a hash, which nobody needs to see, or a key.

use jiff::Timestamp;
use serde::Serialize;

use super::KeyRecord;
use crate::scopes::Scopes;

/// All of a record that may be shown. Its state is left out: that is of a moment.
#[derive(Debug, Serialize)]
pub struct ShownKey<'a> {
    id: &'a str,
    user: &'a str,
    role: &'a str,
    label: &'a str,
    start: Option<&'a str>,
    enabled: bool,
    created_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    allowed_methods: Vec<&'a str>,
    allowed_paths: Vec<&'a str>,
    allowed_cidrs: Vec<String>,
    rate: Option<String>,
    burst: Option<u32>,
    concurrent: Option<u32>,
    daily: Option<u64>,
    disabled_at: Option<Timestamp>,
    disabled_by: Option<&'a str>,
    disabled_reason: Option<&'a str>,
    previous_expires_at: Option<Timestamp>,
}

impl<'a> ShownKey<'a> {
    /// What may be shown of `record`. An empty list allows all.
    pub fn new(record: &'a KeyRecord) -> Self {
        let scopes = record.scopes.as_deref();
        let methods = scopes.map(Scopes::methods).unwrap_or_default();
        let paths = scopes.map(Scopes::paths).unwrap_or_default();
        let addresses = scopes.map(Scopes::addresses).unwrap_or_default();
        Self {
            id: record.id.as_str(),
            user: record.user.as_str(),
            role: record.role.as_str(),
            label: record.label.as_str(),
            start: record.start.as_deref(),
            enabled: record.enabled,
            created_at: record.created_at,
            expires_at: record.expires_at,
            allowed_methods: methods.iter().map(|method| method.as_str()).collect(),
            allowed_paths: paths.iter().map(|path| path.as_str()).collect(),
            allowed_cidrs: addresses.iter().map(ToString::to_string).collect(),
            rate: record.limits.rate.map(|rate| rate.to_string()),
            burst: record.limits.burst,
            concurrent: record.limits.concurrent,
            daily: record.limits.daily,
            disabled_at: record.disabled_at,
            disabled_by: record.disabled_by.as_deref(),
            disabled_reason: record.disabled_reason.as_deref(),
            previous_expires_at: record.previous.map(|(_, until)| until),
        }
    }
}
