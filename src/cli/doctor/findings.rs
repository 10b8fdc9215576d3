//! What the doctor found.
//!
//! Never here: looking for it, or a key.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::canary::Sighting;
use super::cases::Case;
use super::probe::Folding;

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// How many requests were sent.
    pub(super) requests: usize,
    /// How many got which status; `None`: no answer.
    pub(super) answers: BTreeMap<Option<u16>, usize>,
    /// What was looked at, with the number of its lines, or of answers.
    pub(super) sinks: BTreeMap<String, usize>,
    /// In the order in which they were found.
    pub(super) leaks: Vec<Leak>,
    /// The places from which a key goes on to the service, as the contract says.
    pub(super) passed: BTreeSet<String>,
    /// Files that should have heard of requests and did not.
    pub(super) unheard: Vec<String>,
    /// Whether upstreams fold names, if they were asked.
    pub(super) folding: Vec<Folding>,
}

/// A key where none should be.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Leak {
    /// A file, or what else holds it.
    pub(super) sink: String,
    /// From 1.
    pub(super) line: usize,
    /// The line, without the key.
    pub(super) text: String,
    /// The doctor's request that caused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<String>,
    /// The operator's key that it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<LeakedKey>,
}

/// A key of the operator's.
#[derive(Clone, Debug, Serialize)]
pub(super) struct LeakedKey {
    /// Its id; none if the key file does not know it.
    pub(super) id: Option<String>,
    /// Whose it is.
    pub(super) user: Option<String>,
    /// `enabled`, `disabled`, `expired` or `unknown`.
    pub(super) state: &'static str,
}

impl Leak {
    /// A canary in `sink`.
    pub(super) fn of(sink: String, sighting: Sighting, cases: &[Case]) -> Self {
        let Sighting { line, text, trace } = sighting;
        Self { sink, line, text, request: Some(cases[trace.case].what.clone()), key: None }
    }
}
