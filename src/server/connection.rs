//! The state of one client connection, as the requests on it see it: who is there, the wait that it is in, and whether
//! it goes on.
//!
//! Never here: what drives it (see [`http1`](super::http1) and [`http2`](super::http2)), or what is done with a
//! request.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::peer::Peer;
use crate::deadline::Deadline;
use crate::proxy::forwarded::Proto;

/// How long a client may still take to begin a request when the worker drains: it may be on its way, and is not
/// lost. The answer says that it is the last.
pub(super) const LAST_CALL: Duration = Duration::from_secs(1);

/// How long a client may take to read our last answer while it still sends: as long as nginx waits between
/// two reads of a lingering close. To close at once would reset the connection, and could take the answer along.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// How much of what it still sends is read and thrown away meanwhile.
pub(super) const LINGER_BYTES: usize = 1024 * 1024;

/// One client connection, as the requests on it see it. To a request of HTTP/2 its stream is a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    peer: Rc<Peer>,
    deadline: Deadline,
    now: Cell<Instant>,
    is_leaving: Cell<bool>,
}

impl ConnectionInfo {
    /// A connection from `peer` that nothing came over yet.
    pub fn new(peer: SocketAddr, proto: Proto) -> Self {
        Self::of(Rc::new(Peer::new(peer, proto)))
    }

    /// A stream of this connection.
    pub(super) fn stream(&self) -> Self {
        Self::of(Rc::clone(&self.peer))
    }

    fn of(peer: Rc<Peer>) -> Self {
        Self {
            peer,
            deadline: Deadline::default(),
            now: Cell::new(Instant::now()),
            is_leaving: Cell::new(false),
        }
    }

    /// The other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The wait that the connection is in.
    pub fn deadline(&self) -> &Deadline {
        &self.deadline
    }

    /// When the driver last had its turn. Within one turn that is now; reading the clock for each of the eight
    /// times a request asks would cost more than all its timers.
    pub fn now(&self) -> Instant {
        self.now.get()
    }

    /// The driver has its turn: reads the clock.
    pub fn begin_turn(&self) -> Instant {
        let now = Instant::now();
        self.now.set(now);
        now
    }

    /// Whether no more requests are taken behind the one that is served.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    /// The next answer is the last.
    pub(super) fn leave(&self) {
        self.is_leaving.set(true);
    }
}
