//! Upstreams: named groups of endpoints, and the way to them.
//!
//! Never here: which requests may go there (a [`Permit`](crate::policy::Permit) says so), or their headers.

mod answer;
pub mod balance;
pub mod client;
mod connection;
pub mod exchange;
pub mod request;
pub mod stream;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use http::HeaderValue;

/// A named group of endpoints that serve the same.
#[derive(Debug)]
pub struct Upstream {
    /// Its name in the configuration.
    pub name: String,
    /// Never empty.
    pub endpoints: Vec<Arc<Endpoint>>,
}

/// One server.
#[derive(Debug)]
pub struct Endpoint {
    /// Its place in the [`Registry`]; stays the same over reloads.
    place: usize,
    host: String,
    port: u16,
    authority: HeaderValue,
}

impl Endpoint {
    /// `host:port`, what logs name it by.
    pub fn name(&self) -> &str {
        self.authority.to_str().expect("a checked host is ASCII")
    }

    /// `host:port` as a `Host` value, for clients that sent none.
    pub fn authority(&self) -> &HeaderValue {
        &self.authority
    }
}

/// Every endpoint this process has known. What a worker keeps about one outlives a reload.
#[derive(Debug, Default)]
pub struct Registry(Mutex<HashMap<(String, u16), Arc<Endpoint>>>);

impl Registry {
    /// The endpoint at `host` and `port`: the same one whenever it is asked for.
    ///
    /// # Panics
    /// If `host` cannot stand in a `Host` header; the configuration's check rules that out.
    pub fn endpoint(&self, host: &str, port: u16) -> Arc<Endpoint> {
        let mut known = self.0.lock().expect("nothing panics while holding the registry");
        let place = known.len();
        let make = || {
            let authority = if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            };
            let authority =
                HeaderValue::from_str(&authority).expect("a checked host is header-safe");
            Arc::new(Endpoint { place, host: host.to_owned(), port, authority })
        };
        Arc::clone(known.entry((host.to_owned(), port)).or_insert_with(make))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_stays_the_same_over_reloads() {
        let registry = Registry::default();
        let first = registry.endpoint("app", 80);
        let other = registry.endpoint("::1", 80);
        assert!(Arc::ptr_eq(&first, &registry.endpoint("app", 80)));
        assert_eq!((first.place, other.place), (0, 1));
        assert_eq!((first.name(), other.name()), ("app:80", "[::1]:80"));
    }
}
