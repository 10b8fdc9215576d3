//! Keyward: an authenticating reverse proxy.

pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod deadline;
pub mod diagnostics;
pub mod identity;
pub mod keys;
pub mod limit;
pub mod policy;
pub mod problem;
pub mod proxy;
pub mod redact;
pub mod reload;
pub mod server;
pub mod snapshot;
pub mod telemetry;
pub mod upstream;
