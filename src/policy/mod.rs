//! Authorization.
pub mod routes;
