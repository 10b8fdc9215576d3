//! Keyward: an authenticating reverse proxy.

pub mod auth;
pub mod clock;
pub mod config;
pub mod deadline;
pub mod diagnostics;
pub mod identity;
pub mod keys;
pub mod policy;
pub mod problem;
pub mod redact;
pub mod snapshot;
pub mod telemetry;
pub mod upstream;
