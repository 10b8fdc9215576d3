//! Which certificate a client is given: by the host it asks for (SNI, RFC 6066 §3).
//!
//! Never here: whether a request may be for another host than the connection; every host has the same routes.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

type Candidates = Vec<Arc<CertifiedKey>>;

/// The certificates there are.
#[derive(Debug)]
pub(super) struct Choice {
    by_host: HashMap<String, Candidates>,
    /// By what stands behind `*.`: a wildcard is for one label (RFC 9525 §6.3).
    by_parent: HashMap<String, Candidates>,
    /// For whoever asks for no host, or for none of these.
    default: Candidates,
}

impl Choice {
    /// Of `pairs`, each with its hosts; the first is the default.
    pub(super) fn new(pairs: Vec<(Vec<String>, Arc<CertifiedKey>)>) -> Self {
        let default = pairs.first().map(|(_, key)| Arc::clone(key)).into_iter().collect();
        let mut choice = Self { by_host: HashMap::new(), by_parent: HashMap::new(), default };
        for (hosts, key) in pairs {
            for host in hosts {
                let candidates = match host.strip_prefix("*.") {
                    Some(parent) => choice.by_parent.entry(parent.to_owned()),
                    None => choice.by_host.entry(host),
                };
                candidates.or_default().push(Arc::clone(&key));
            }
        }
        choice
    }

    fn candidates(&self, host: &str) -> &Candidates {
        let by_parent = || self.by_parent.get(host.split_once('.')?.1);
        self.by_host.get(host).or_else(by_parent).unwrap_or(&self.default)
    }
}

impl ResolvesServerCert for Choice {
    /// Of several certificates for a host, one of RSA and one of ECDSA say, the first that the client can verify.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let candidates = hello.server_name().map_or(&self.default, |host| self.candidates(host));
        let schemes = hello.signature_schemes();
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        candidates.iter().find(suits).cloned()
    }
}
