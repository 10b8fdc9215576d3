//! The stream below HTTP/2, with an eye on frames that ask for nothing.
//!
//! h2 bounds CONTINUATION, empty DATA and resets of what was not looked at yet, but takes any number of PING, SETTINGS,
//! PRIORITY, WINDOW_UPDATE and of requests that are reset later (rapid reset, CVE-2023-44487). Each costs us work and the
//! client next to nothing. So a connection has a [`Budget`] of them. What we send of answers fills it up: whoever takes
//! answers has reason to make room for more, to measure the way, and to change its mind. Who is over it is told, and
//! read from no more.
//!
//! Never here: what a frame says beyond its head, or what happens to whoever is over the budget.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::server::transport::Transport;

/// How much a client may ask of us within a [`PERIOD`] without an answer that it takes. Browsers begin with a dozen of
/// such frames, and leave a page with a reset for each of its hundred streams.
const BUDGET: u32 = 1000;
const PERIOD: Duration = Duration::from_secs(10);
/// What a frame of an answer gives back: room on the stream and on the connection, a ping to measure the way (as gRPC
/// does), and a change of mind.
const EARNED: u32 = 4;
/// A request that is taken back may have reached an endpoint. 500 such are what Envoy allows.
const RESET_COST: u32 = 2;

/// What a client begins with (RFC 9113 §3.4) is no frame.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;

/// What is left to a client, shared with whoever drives the connection.
#[derive(Debug)]
pub(super) struct Budget {
    left: Cell<u32>,
    since: Cell<Instant>,
    is_overdrawn: Cell<bool>,
}

impl Budget {
    fn new(now: Instant) -> Self {
        Self { left: Cell::new(BUDGET), since: Cell::new(now), is_overdrawn: Cell::new(false) }
    }

    /// Whether the client floods us: nothing more is read from it.
    pub(super) fn is_overdrawn(&self) -> bool {
        self.is_overdrawn.get()
    }

    fn earn(&self) {
        self.left.set((self.left.get() + EARNED).min(BUDGET));
    }

    /// The clock is read by `now` only when nothing is left.
    fn spend(&self, cost: u32, now: impl FnOnce() -> Instant) {
        if let Some(left) = self.left.get().checked_sub(cost) {
            return self.left.set(left);
        }
        let now = now();
        if now.saturating_duration_since(self.since.get()) < PERIOD {
            return self.is_overdrawn.set(true);
        }
        self.since.set(now);
        self.left.set(BUDGET - cost);
    }
}

/// What a frame of a client takes from its budget.
fn cost(kind: u8, flags: u8, length: usize) -> u32 {
    match kind {
        // A request, which is answered; or a part of one.
        HEADERS | CONTINUATION => 0,
        DATA if length > 0 || flags & END_STREAM != 0 => 0,
        RST_STREAM => RESET_COST,
        _ => 1,
    }
}

/// Finds the heads of frames in bytes that pass.
#[derive(Debug)]
struct Heads {
    head: [u8; HEAD_BYTES],
    filled: usize,
    /// What is left of the frame before.
    skip: usize,
}

impl Heads {
    fn behind(skip: usize) -> Self {
        Self { head: [0; HEAD_BYTES], filled: 0, skip }
    }

    /// Calls `see` with the kind, the flags and the length of each frame whose head is whole now.
    fn pass(&mut self, mut bytes: &[u8], mut see: impl FnMut(u8, u8, usize)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            let taken = (HEAD_BYTES - self.filled).min(bytes.len());
            if taken == 0 {
                return;
            }
            self.head[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == HEAD_BYTES {
                let [high, middle, low, kind, flags, ..] = self.head;
                let length = u32::from_be_bytes([0, high, middle, low]) as usize;
                (self.filled, self.skip) = (0, length);
                see(kind, flags, length);
            }
        }
    }
}

/// A client's stream that is watched.
pub(super) struct Guarded {
    /// Shared with whoever may keep it open for longer.
    transport: Rc<RefCell<Transport>>,
    budget: Rc<Budget>,
    incoming: Heads,
    outgoing: Heads,
}

impl Guarded {
    pub(super) fn new(transport: Rc<RefCell<Transport>>, now: Instant) -> Self {
        Self {
            transport,
            budget: Rc::new(Budget::new(now)),
            incoming: Heads::behind(PREFACE_BYTES),
            outgoing: Heads::behind(0),
        }
    }

    pub(super) fn budget(&self) -> Rc<Budget> {
        Rc::clone(&self.budget)
    }

    fn sent(&mut self, bytes: &[u8]) {
        self.outgoing.pass(bytes, |kind, _, _| {
            if matches!(kind, DATA | HEADERS) {
                self.budget.earn();
            }
        });
    }
}

impl AsyncRead for Guarded {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.budget.is_overdrawn() {
            // Whoever drives the connection ends it in this very turn.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut *this.transport.borrow_mut()).poll_read(cx, buf))?;
        this.incoming.pass(&buf.filled()[before..], |kind, flags, length| {
            match cost(kind, flags, length) {
                0 => {}
                cost => this.budget.spend(cost, Instant::now),
            }
        });
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = ready!(Pin::new(&mut *this.transport.borrow_mut()).poll_write(cx, buf))?;
        this.sent(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written =
            ready!(Pin::new(&mut *this.transport.borrow_mut()).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for piece in bufs {
            let of_it = left.min(piece.len());
            this.sent(&piece[..of_it]);
            left -= of_it;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.transport.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // How it is closed is for whoever drives it.
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let [_, high, middle, low] = (length as u32).to_be_bytes();
        [&[high, middle, low, kind, flags, 0, 0, 0, 1][..], &vec![kind; length]].concat()
    }

    #[test]
    fn heads_are_found_however_the_bytes_are_cut() {
        let frames = [(4, 0, 6), (1, 5, 300), (0, 0, 0), (6, 1, 8), (0, 1, 70_000)];
        let mut bytes = vec![b'P'; PREFACE_BYTES];
        frames.iter().for_each(|&(kind, flags, length)| bytes.extend(frame(kind, flags, length)));
        for size in [1, 2, 8, 9, 10, 33, 4096, bytes.len()] {
            let mut heads = Heads::behind(PREFACE_BYTES);
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                heads.pass(piece, |kind, flags, length| seen.push((kind, flags, length)));
            }
            assert_eq!(seen, frames, "in pieces of {size}");
        }
    }

    #[test]
    fn only_what_asks_for_nothing_costs() {
        for (kind, flags, length, expect) in [
            (DATA, 0, 1, 0),
            (DATA, 0, 0, 1),
            (DATA, END_STREAM, 0, 0),
            (HEADERS, 4, 20, 0),
            (CONTINUATION, 0, 20, 0),
            (RST_STREAM, 0, 4, 2),
            (2, 0, 5, 1),
            (4, 0, 0, 1),
            (6, 0, 8, 1),
            (8, 0, 4, 1),
            (0xee, 0, 0, 1),
        ] {
            assert_eq!(cost(kind, flags, length), expect, "{kind} {flags} {length}");
        }
    }

    #[test]
    fn a_budget_is_for_a_period_and_answers_fill_it_up() {
        let begin = Instant::now();
        let spend = |budget: &Budget, count: u32, at: Duration| {
            (0..count).for_each(|_| budget.spend(1, || begin + at));
            budget.is_overdrawn()
        };
        let at_once = Duration::ZERO;
        let budget = Budget::new(begin);
        assert!(!spend(&budget, BUDGET, at_once));
        (0..10).for_each(|_| budget.earn());
        assert!(!spend(&budget, 10 * EARNED, at_once));
        assert!(!spend(&budget, BUDGET, PERIOD), "the next period");
        assert!(spend(&budget, 1, PERIOD));
        let budget = Budget::new(begin);
        (0..BUDGET).for_each(|_| budget.earn());
        assert!(spend(&budget, BUDGET + 1, at_once), "there is never more than all of it");
    }
}
