//! Authentication.
pub mod credentials;
