//! Upstreams: named groups of endpoints, and the way to them.
//!
//! Never here: which requests may go there (a [`Permit`](crate::policy::Permit) says so), or their headers.

mod answer;
pub mod balance;
pub mod client;
mod connection;
pub mod endpoint;
pub mod exchange;
pub mod request;
pub mod stream;

use std::sync::Arc;

pub use endpoint::{Endpoint, Registry};

/// A named group of endpoints that serve the same.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: String,
    /// Never empty.
    pub endpoints: Vec<Arc<Endpoint>>,
}
