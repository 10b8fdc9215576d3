//! The state of one client connection, as its driver and the requests on it see it: what it is doing, and the wait
//! that it is in.
//!
//! Never here: what drives it (see [`http1`](super::http1) and [`http2`](super::http2)), or what is done with a
//! request.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::framing::HeadScan;
use super::peer::Peer;
use crate::config::Server;
use crate::deadline::Deadline;
use crate::proxy::forwarded::Proto;
use crate::rate::{Allowance, Pace};

/// How long a client may still take to begin a request when the worker drains: it may be on its way, and is not
/// lost. The answer says that it is the last.
pub(super) const LAST_CALL: Duration = Duration::from_secs(1);

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for a request.
    Idle,
    /// Reading a request's head.
    Head,
    /// Serving a request.
    Service,
}

/// How long the waits are that the connection itself begins.
#[derive(Clone, Copy, Debug)]
struct Waits {
    request_header: Duration,
    response_body: Pace,
    keep_alive: Duration,
}

/// One client connection, as the requests on it see it. To a request of HTTP/2 its stream is a connection.
#[derive(Debug)]
pub struct ConnectionInfo {
    peer: Rc<Peer>,
    deadline: Deadline,
    waits: Waits,
    /// How long the client may still take nothing of the answer.
    taking: Allowance,
    phase: Cell<Phase>,
    now: Cell<Instant>,
    /// The raw head that came, or is coming, in.
    head: Cell<HeadScan>,
    /// Whether `head` began where the request did, as far as can be told.
    is_head_whole: Cell<bool>,
    /// Whether everything written so far has left.
    is_flushed: Cell<bool>,
    /// Whether a part of the last request's body may still be coming.
    has_unread_body: Cell<bool>,
    /// Whether hyper's own refusal was replaced by ours.
    is_refused: Cell<bool>,
    /// Whether an answer broke off, which the client must not take for its end.
    is_broken: Cell<bool>,
    /// Whether the client takes nothing of what is written.
    is_blocked: Cell<bool>,
    /// Whether the next answer is the last.
    is_leaving: Cell<bool>,
}

impl ConnectionInfo {
    /// A connection from `peer` that nothing came over yet.
    pub fn new(peer: SocketAddr, proto: Proto, server: &Server) -> Self {
        let timeouts = &server.timeouts;
        let waits = Waits {
            request_header: timeouts.request_header,
            response_body: Pace {
                longest: timeouts.response_body_idle,
                min_rate: server.limits.response_body_min_rate,
            },
            keep_alive: timeouts.keep_alive,
        };
        Self::of(Rc::new(Peer::new(peer, proto)), waits)
    }

    /// A stream of this connection.
    pub(super) fn stream(&self) -> Self {
        Self::of(Rc::clone(&self.peer), self.waits)
    }

    fn of(peer: Rc<Peer>, waits: Waits) -> Self {
        Self {
            peer,
            deadline: Deadline::default(),
            waits,
            taking: Allowance::full(waits.response_body),
            phase: Cell::new(Phase::Idle),
            now: Cell::new(Instant::now()),
            head: Cell::new(HeadScan::default()),
            is_head_whole: Cell::new(true),
            is_flushed: Cell::new(true),
            has_unread_body: Cell::new(false),
            is_refused: Cell::new(false),
            is_broken: Cell::new(false),
            is_blocked: Cell::new(false),
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

    /// A request's head was read.
    pub fn request_started(&self, has_body: bool) {
        self.phase.set(Phase::Service);
        self.is_flushed.set(false);
        self.has_unread_body.set(has_body);
        self.taking.refill();
        self.deadline.clear();
    }

    /// Its answer was written, or never will be. `body_was_read`: to its end.
    pub fn request_ended(&self, now: Instant, body_was_read: bool) {
        self.phase.set(Phase::Idle);
        self.deadline.lift_end();
        if body_was_read {
            self.has_unread_body.set(false);
        }
        // What came behind the head may be the beginning of another one, which has less time.
        let may_be_in_head = !self.head.get().leaves_nothing_behind();
        let longest = match () {
            // The answer may have begun before, and said that another request may follow.
            () if self.is_leaving.get() => LAST_CALL,
            () if may_be_in_head => self.waits.request_header,
            () => self.waits.keep_alive,
        };
        self.deadline.start(now, longest.min(self.waits.keep_alive));
    }

    /// The last stream has ended.
    pub(super) fn wait_for_next(&self) {
        self.deadline.start(Instant::now(), self.waits.keep_alive);
    }

    /// An answer that had begun broke off.
    pub fn broke_off(&self) {
        self.is_broken.set(true);
    }

    /// Whether the request's head has both `Content-Length` and `Transfer-Encoding`.
    pub fn has_ambiguous_framing(&self) -> bool {
        self.head.get().has_both()
    }

    /// Whether [`has_ambiguous_framing`](Self::has_ambiguous_framing) is sure: a head that began in the same
    /// piece as the request before it was not seen whole. What follows such a request cannot be trusted to
    /// be where it seems to be.
    pub fn is_framing_certain(&self) -> bool {
        self.is_head_whole.get()
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// A request's head is waited for, from the connection's first moment on.
    pub(super) fn expect_request(&self) {
        self.deadline.start(self.begin_turn(), self.waits.request_header);
    }

    /// Whether the client takes nothing of what is written.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked.get()
    }

    /// Whether an answer [broke off](Self::broke_off).
    pub fn is_broken(&self) -> bool {
        self.is_broken.get()
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_refused.get()
    }

    pub(super) fn has_unread_body(&self) -> bool {
        self.has_unread_body.get()
    }

    /// Whether no more requests are taken behind the one that is served.
    pub fn is_leaving(&self) -> bool {
        self.is_leaving.get()
    }

    /// The next answer is the last.
    pub(super) fn leave(&self) {
        self.is_leaving.set(true);
        if self.phase.get() == Phase::Idle {
            self.deadline.start(self.now(), LAST_CALL);
        }
    }

    /// Bytes came.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut head = self.head.get();
        if self.phase.get() == Phase::Idle {
            self.phase.set(Phase::Head);
            self.deadline.start(self.now(), self.waits.request_header);
            self.is_head_whole.set(head.leaves_nothing_behind());
            head = HeadScan::default();
        }
        head.feed(bytes);
        self.head.set(head);
    }

    /// What an attempt to write came to.
    pub(super) fn wrote(&self, polled: &Poll<io::Result<usize>>) {
        let was_blocked = self.is_blocked.replace(polled.is_pending());
        if polled.is_pending() && !was_blocked {
            let longest = self.taking.begin_wait(self.now());
            self.deadline.start(self.now(), longest);
        }
        if polled.is_ready() && was_blocked {
            self.taking.end_wait(self.now());
            self.deadline.clear();
        }
        if let Poll::Ready(Ok(bytes)) = polled {
            self.taking.earn(*bytes);
        }
    }

    /// Everything written so far has left.
    pub(super) fn flushed(&self) {
        if self.phase.get() != Phase::Service {
            self.is_flushed.set(true);
        }
    }

    /// Whether no request is served and every answer has left.
    pub(super) fn is_quiet(&self) -> bool {
        self.phase.get() != Phase::Service && self.is_flushed.get()
    }

    /// Whether a request is served that was read whole: nobody reads from the client then.
    pub(super) fn waits_for_upstream(&self) -> bool {
        self.phase.get() == Phase::Service && !self.has_unread_body.get()
    }

    pub(super) fn set_refused(&self) {
        self.is_refused.set(true);
    }
}
