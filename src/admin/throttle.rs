//! How often an address may fail to sign in.
//!
//! Guessing is refused before a key is looked at, so that a refusal tells nothing about it. Who shares an address with one
//! who guesses waits, too.
//!
//! Never here: keys.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What a failure costs: so often one is free again.
const COST: Duration = Duration::from_secs(3);
/// Failures in a row that are free: a wrong clipboard, or a script with an old key.
const FREE: u32 = 20;
/// Addresses that are remembered; beyond it, those with the fewest failures are forgotten.
const ADDRESSES_MAX: usize = 4_096;
/// What one subscriber has of IPv6 (RFC 6177).
const IPV6_PREFIX: u32 = 64;

/// The failures of every address, as the moment at which all of them are paid for.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<IpAddr, Instant>>);

impl Throttle {
    /// Whether somebody at `address` may try `now`; or when next.
    pub(super) fn admit(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let paid_at = self.lock().get(&network(address)).copied().unwrap_or(now);
        let debt = paid_at.saturating_duration_since(now);
        let allowed = COST * (FREE - 1);
        if debt > allowed { Err(debt - allowed) } else { Ok(()) }
    }

    /// Somebody at `address` has failed.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let mut debts = self.lock();
        let address = network(address);
        if debts.len() >= ADDRESSES_MAX && !debts.contains_key(&address) {
            debts.retain(|_, paid_at| *paid_at > now);
        }
        if debts.len() >= ADDRESSES_MAX && !debts.contains_key(&address) {
            let least = debts.iter().min_by_key(|(_, paid_at)| **paid_at).map(|(least, _)| *least);
            least.and_then(|least| debts.remove(&least));
        }
        let paid_at = debts.entry(address).or_insert(now);
        *paid_at = (*paid_at).max(now) + COST;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, Instant>> {
        // What is in the map is sound after every line.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The part of an address that one person does not change at will.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> IPV6_PREFIX << IPV6_PREFIX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn some_failures_are_free_and_further_ones_come_back_one_by_one() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for _ in 0..FREE {
            assert_eq!(throttle.admit(ip("192.0.2.1"), start), Ok(()));
            throttle.failed(ip("192.0.2.1"), start);
        }
        assert_eq!(throttle.admit(ip("192.0.2.1"), start), Err(COST));
        assert_eq!(throttle.admit(ip("::ffff:192.0.2.1"), start), Err(COST));
        assert_eq!(throttle.admit(ip("192.0.2.2"), start), Ok(()));
        assert_eq!(throttle.admit(ip("192.0.2.1"), start + COST), Ok(()));
        throttle.failed(ip("192.0.2.1"), start + COST);
        assert_eq!(throttle.admit(ip("192.0.2.1"), start + COST), Err(COST));
        assert_eq!(throttle.admit(ip("192.0.2.1"), start + 3 * COST), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_is_one() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for last in 0..FREE {
            throttle.failed(ip(&format!("2001:db8::{last}")), start);
        }
        assert!(throttle.admit(ip("2001:db8::ffff:1"), start).is_err());
        assert!(throttle.admit(ip("2001:db8:0:1::1"), start).is_ok());
    }

    #[test]
    fn memory_is_bounded_and_who_failed_most_is_remembered() {
        let throttle = Throttle::default();
        let start = Instant::now();
        for _ in 0..FREE {
            throttle.failed(ip("192.0.2.1"), start);
        }
        for number in 0..2 * ADDRESSES_MAX as u32 {
            throttle.failed(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), start);
        }
        assert!(throttle.lock().len() <= ADDRESSES_MAX);
        assert!(throttle.admit(ip("192.0.2.1"), start).is_err());
        throttle.failed(ip("192.0.2.3"), start + 100 * COST);
        assert_eq!(throttle.lock().len(), 1, "what is paid for is forgotten first");
    }
}
