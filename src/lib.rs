//! Keyward: an authenticating reverse proxy.

pub mod auth;
pub mod config;
pub mod diagnostics;
pub mod identity;
pub mod keys;
pub mod policy;
pub mod redact;
