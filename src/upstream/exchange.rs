//! One request and its answer, and why there may be none.
//!
//! Never here: whether a failed exchange may be tried again (the caller knows the request), deadlines, or headers.

use std::io;

pub use super::http1::Exchange;
use crate::http1::Malformed;

/// Largest head of an answer.
pub(super) const MAX_HEAD_BYTES: usize = 64 * 1024;

/// Why there is no answer, or no end of one.
#[derive(Debug)]
pub enum Fault {
    /// The request's body broke off, or is not as long as its head says; its source knows more.
    Body,
    /// The endpoint closed or reset the connection.
    Closed {
        /// Whether a part of an answer had come.
        in_answer: bool,
        /// What the system said.
        error: Option<io::Error>,
    },
    /// What the endpoint sent is no answer, or one that could be read in two ways.
    Malformed(&'static str),
}

impl From<Malformed> for Fault {
    fn from(Malformed(reason): Malformed) -> Self {
        Self::Malformed(reason)
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Body => f.write_str("the request broke off"),
            Self::Closed { error: Some(error), .. } => write!(f, "{error}"),
            Self::Closed { in_answer: true, .. } => f.write_str("closed within an answer"),
            Self::Closed { .. } => f.write_str("closed without an answer"),
            Self::Malformed(reason) => f.write_str(reason),
        }
    }
}
