//! The addresses behind an endpoint's name: all of them are used in turn, and they are looked up again and again.
//!
//! That runs on the control plane. A request looks a name up itself only as long as nobody ever has. When a name
//! cannot be resolved, the addresses it had last stay.
//!
//! Never here: connecting.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::settings::Address;
use super::tasks::Tasks;
use super::{Endpoint, Upstream};

/// The addresses of an endpoint.
#[derive(Debug)]
pub(super) struct Addresses {
    /// In order; empty for a name that was never resolved, and behind a Unix socket.
    known: ArcSwap<Vec<SocketAddr>>,
    turn: AtomicUsize,
    /// How often they became others.
    generation: AtomicUsize,
}

impl Addresses {
    pub(super) fn new(address: &Address) -> Self {
        let literal = address
            .host_and_port()
            .and_then(|(host, port)| Some(SocketAddr::new(host.parse::<IpAddr>().ok()?, port)));
        let known = literal.into_iter().collect();
        let (turn, generation) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { known: ArcSwap::from_pointee(known), turn, generation }
    }

    /// All of them, beginning with the one whose turn it is.
    pub(super) fn in_turn(&self) -> Vec<SocketAddr> {
        let mut addresses = self.known.load().to_vec();
        if addresses.len() > 1 {
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let count = addresses.len();
            addresses.rotate_left(turn % count);
        }
        addresses
    }

    /// Takes in what was found. Says whether there were others before.
    pub(super) fn renew(&self, mut found: Vec<SocketAddr>) -> bool {
        found.sort_unstable();
        found.dedup();
        let before = self.known.load();
        if found.is_empty() || **before == found {
            return false;
        }
        self.known.store(Arc::new(found));
        let had_others = !before.is_empty();
        self.generation.fetch_add(usize::from(had_others), Ordering::Relaxed);
        had_others
    }

    /// Changes when the addresses become others: connections from before lead to the old ones.
    pub(super) fn generation(&self) -> usize {
        self.generation.load(Ordering::Relaxed)
    }
}

/// Asks the system for the addresses of `host`; never empty.
pub(super) async fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
    if found.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(found)
}

/// The names that are looked up again and again; dropped, they no longer are.
#[derive(Debug, Default)]
pub struct Names(Tasks<Duration>);

impl Names {
    /// Looks up the names in `upstreams` from now on, and no others. To be called within a runtime.
    pub fn follow(&mut self, upstreams: &[Upstream]) {
        let named = upstreams.iter().flat_map(|upstream| {
            let names = upstream.members.iter().map(|member| &member.endpoint);
            let names = names.filter(|endpoint| endpoint.address().is_name());
            names.map(|endpoint| (Arc::clone(endpoint), upstream.settings.dns_refresh))
        });
        self.0.follow(named, keep_looking_up);
    }
}

async fn keep_looking_up(endpoint: Arc<Endpoint>, every: Duration) {
    let Some((host, port)) = endpoint.address().host_and_port() else { return };
    let mut is_unknown = false;
    loop {
        note(&endpoint, look_up(host, port).await, &mut is_unknown);
        tokio::time::sleep(every).await;
    }
}

/// Takes in the result of a look-up; says each change once.
fn note(endpoint: &Endpoint, found: io::Result<Vec<SocketAddr>>, is_unknown: &mut bool) {
    let name = endpoint.name();
    match found {
        Ok(found) => {
            let addresses = found.iter().map(|address| address.ip().to_string());
            let addresses = addresses.collect::<Vec<_>>().join(", ");
            if endpoint.addresses().renew(found) {
                tracing::info!(endpoint = name, addresses, "a name has other addresses");
            }
            *is_unknown = false;
        }
        Err(error) => {
            if !std::mem::replace(is_unknown, true) {
                tracing::warn!(endpoint = name, %error, "a name cannot be resolved; what it had last stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(host: &str) -> Addresses {
        Addresses::new(&Address::Tcp { host: host.to_owned(), port: 80 })
    }

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[test]
    fn an_address_needs_no_look_up() {
        assert_eq!(addresses("10.0.0.1").in_turn(), [at(1)]);
        assert_eq!(addresses("::1").in_turn(), ["[::1]:80".parse().expect("an address")]);
        assert_eq!(addresses("localhost").in_turn(), []);
    }

    #[test]
    fn all_addresses_of_a_name_take_turns() {
        let addresses = addresses("app");
        addresses.renew(vec![at(2), at(1), at(3), at(1)]);
        let firsts: Vec<_> = (0..4).map(|_| addresses.in_turn()[0]).collect();
        assert_eq!(firsts, [at(1), at(2), at(3), at(1)]);
        assert_eq!(addresses.in_turn(), [at(2), at(3), at(1)]);
    }

    #[test]
    fn only_other_addresses_make_old_connections_useless() {
        let addresses = addresses("app");
        assert!(!addresses.renew(vec![at(1), at(2)]), "nothing was known");
        assert!(!addresses.renew(vec![at(2), at(1)]));
        assert!(!addresses.renew(Vec::new()), "the last good ones stay");
        assert_eq!((addresses.generation(), addresses.in_turn().len()), (0, 2));
        assert!(addresses.renew(vec![at(3)]));
        assert_eq!((addresses.generation(), addresses.in_turn()), (1, vec![at(3)]));
    }

    #[test]
    fn a_failed_look_up_keeps_what_was_known() {
        let registry = crate::upstream::Registry::default();
        let address = Address::Tcp { host: "app".to_owned(), port: 80 };
        let endpoint = registry.endpoint("a", &address, &Default::default());
        let mut is_unknown = false;
        note(&endpoint, Ok(vec![at(1)]), &mut is_unknown);
        note(&endpoint, Err(io::ErrorKind::NotFound.into()), &mut is_unknown);
        assert!(is_unknown);
        assert_eq!(endpoint.addresses().in_turn(), [at(1)]);
        note(&endpoint, Ok(vec![at(2)]), &mut is_unknown);
        assert!(!is_unknown);
        assert_eq!(endpoint.addresses().in_turn(), [at(2)]);
    }
}
