//! What operators read: the access log ([`access_log`], one [`record`] a request) and the event log
//! ([`events`], one line for each thing that happens to the proxy itself).
//!
//! The access log is on the way of every request, so its lines are put together by hand in a buffer of
//! the worker's own and written by a thread of their own. The event log is quiet; it goes through
//! `tracing` to standard error.
//!
//! Never here: what a client sent, unless it comes as [`Shown`](crate::redact::Shown); decisions about a
//! request.

pub mod access_log;
pub mod events;
mod json;
pub mod metrics;
mod queue;
pub mod record;
mod stamp;
mod writer;

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// One line for people.
    Text,
}

impl Format {
    /// `[log] format = "auto"`: text on a terminal, JSON elsewhere.
    pub fn auto(is_terminal: bool) -> Self {
        if is_terminal { Self::Text } else { Self::Json }
    }
}
