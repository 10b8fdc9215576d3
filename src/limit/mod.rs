//! How much clients may take of us: connections, in all and from one address, tunnels, and requests
//! ([`requests`], [`meters`]); and how often they may fail.
//!
//! Never here: what happens to a client that wants more (the acceptor, or the proxy, decides).

pub mod failures;
pub mod meter;
pub mod meters;
pub mod quota;
pub mod requests;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one subscriber has of IPv6 (RFC 6177): the first 64 bits.
const IPV6_REST: u32 = 64;

/// The part of an address that one client does not change at will, and that counts as one.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> IPV6_REST << IPV6_REST))
        }
        address => address,
    }
}

/// Counts open connections.
#[derive(Debug)]
pub struct ConnectionLimit {
    free: Arc<Semaphore>,
    by_client: Arc<DashMap<IpAddr, usize>>,
}

/// Leave to keep one connection open; dropping it makes room.
#[derive(Debug)]
pub struct ConnectionSlot {
    _place: OwnedSemaphorePermit,
    _client: Option<Client>,
}

#[derive(Debug)]
struct Client {
    address: IpAddr,
    by_client: Arc<DashMap<IpAddr, usize>>,
}

impl ConnectionLimit {
    /// Room for `connections`.
    pub fn new(connections: usize) -> Self {
        let free = Arc::new(Semaphore::new(connections.min(Semaphore::MAX_PERMITS)));
        Self { free, by_client: Arc::default() }
    }

    /// Whether there is no room at the moment.
    pub fn is_full(&self) -> bool {
        self.free.available_permits() == 0
    }

    /// Waits for room.
    pub async fn wait(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Fills `place` with a connection from `address`, unless it has `most` already.
    pub fn admit(
        &self,
        place: OwnedSemaphorePermit,
        address: IpAddr,
        most: usize,
    ) -> Option<ConnectionSlot> {
        let mut count = self.by_client.entry(address).or_insert(0);
        if *count >= most {
            return None;
        }
        *count += 1;
        let client = Client { address, by_client: Arc::clone(&self.by_client) };
        Some(ConnectionSlot { _place: place, _client: Some(client) })
    }

    /// Fills `place` with a connection that no limit by address holds for: a trusted proxy's.
    pub fn admit_trusted(&self, place: OwnedSemaphorePermit) -> ConnectionSlot {
        ConnectionSlot { _place: place, _client: None }
    }
}

/// Counts open tunnels, those of all workers together.
#[derive(Debug, Default)]
pub struct TunnelLimit(AtomicUsize);

/// Leave to keep one tunnel open; dropping it makes room.
#[derive(Debug)]
pub struct TunnelSlot(Arc<TunnelLimit>);

impl TunnelLimit {
    /// How many are open.
    pub fn open(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// One more, unless there are `most` already.
    pub fn admit(self: &Arc<Self>, most: usize) -> Option<TunnelSlot> {
        let one_more = |open: usize| (open < most).then_some(open + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(TunnelSlot(Arc::clone(self)))
    }
}

impl Drop for TunnelSlot {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.by_client.remove_if_mut(&self.address, |_, count| {
            *count -= 1;
            *count == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_taken_until_it_is_dropped_and_leaves_nothing_behind() {
        let limit = ConnectionLimit::new(3);
        let place = || Arc::clone(&limit.free).try_acquire_owned().expect("room");
        let address = IpAddr::from([192, 0, 2, 1]);
        let first = limit.admit(place(), address, 2).expect("the first of two");
        let second = limit.admit(place(), address, 2).expect("the second of two");
        assert!(limit.admit(place(), address, 2).is_none());
        let trusted = limit.admit_trusted(place());
        assert!(limit.is_full());
        drop(first);
        assert!(limit.admit(place(), address, 2).is_some());
        drop((second, trusted));
        assert!(limit.by_client.is_empty());
        assert_eq!(limit.free.available_permits(), 3);
    }

    #[test]
    fn there_are_as_many_tunnels_as_are_allowed_when_one_is_opened() {
        let limit = Arc::new(TunnelLimit::default());
        let first = limit.admit(2).expect("the first of two");
        let _second = limit.admit(2).expect("the second of two");
        assert!(limit.admit(2).is_none());
        assert!(limit.admit(1).is_none());
        drop(first);
        assert!(limit.admit(1).is_none(), "one is open");
        assert!(limit.admit(2).is_some());
    }
}
