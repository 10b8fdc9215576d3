//! Who is at the other end of a client's connection, as far as the connection itself tells.
//!
//! Never here: what requests say of themselves.

use std::cell::OnceCell;
use std::net::{IpAddr, SocketAddr};

use crate::proxy::forwarded::{Proto, Via};

/// The other end of a client's connection.
#[derive(Debug)]
pub struct Peer {
    address: SocketAddr,
    via: Via,
    /// What the client's certificate calls it.
    names: OnceCell<Vec<String>>,
    /// Our address that it connected to.
    reached: OnceCell<SocketAddr>,
}

impl Peer {
    pub(super) fn new(address: SocketAddr, proto: Proto) -> Self {
        Self {
            address,
            via: Via::new(address, proto),
            names: OnceCell::new(),
            reached: OnceCell::new(),
        }
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.address.ip()
    }

    /// Its address, with the port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Our address that it connected to, if that is known.
    pub fn reached(&self) -> Option<SocketAddr> {
        self.reached.get().copied()
    }

    pub(super) fn set_reached(&self, address: SocketAddr) {
        self.reached.get_or_init(|| address);
    }

    /// What the upstream is told about the connection.
    pub fn via(&self) -> &Via {
        &self.via
    }

    /// The names that the client's certificate bears; none without a certificate.
    pub fn names(&self) -> &[String] {
        self.names.get().map_or(&[], Vec::as_slice)
    }

    pub(super) fn set_names(&self, names: Vec<String>) {
        self.names.get_or_init(|| names);
    }
}
