//! The queue between the workers and the thread that writes the access log.
//!
//! It holds whole buffers and is bounded in bytes; a worker touches its lock once a buffer, that is about
//! once in a hundred requests. Written buffers come back through it to be filled again.
//!
//! Never here: input or output.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::access_log::Overflow;
use crate::redact::MAX_SHOWN_BYTES;

/// A buffer of so many bytes is full: as much as nginx is usually given. Each costs a switch to the writer.
pub(super) const BUFFER_BYTES: usize = 64 * 1024;
/// So much may wait to be written: half a second's lines at 20,000 requests a second.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Empty buffers kept for use again.
const SPARE_BUFFERS: usize = 32;

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) overflow: Overflow,
    state: Mutex<State>,
    /// There is something for the writer to do.
    work: Condvar,
    /// There is room again, or there never will be.
    room: Condvar,
    /// The writer is done.
    end: Condvar,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    full: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    /// In `full` and in the writer's hands.
    bytes: usize,
    /// In the writer's hands.
    lines_in_hand: u64,
    /// Buffers that go to the old file before it is opened anew.
    reopen_after: Option<usize>,
    /// Nothing more will come.
    closed: bool,
    /// Nothing more will be written; what is handed over now is refused.
    ended: bool,
    /// The writer has said its last.
    is_done: bool,
}

/// What the writer does next.
pub(super) enum Work {
    Write(Vec<u8>),
    Reopen,
    Report,
    End,
}

impl Queue {
    pub(super) fn new(overflow: Overflow) -> Self {
        Self {
            overflow,
            state: Mutex::default(),
            work: Condvar::new(),
            room: Condvar::new(),
            end: Condvar::new(),
            dropped: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is whole before anything in it could panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `lines` and leaves an empty buffer. False if there is no room and lines may be dropped, or
    /// the writer has ended; else waits for room.
    pub(super) fn hand_over(&self, lines: &mut Vec<u8>) -> bool {
        let mut state = self.lock();
        if self.overflow == Overflow::Block {
            let is_full = |state: &mut State| state.bytes >= QUEUE_BYTES && !state.ended;
            state = self.room.wait_while(state, is_full).unwrap_or_else(PoisonError::into_inner);
        }
        self.take(state, lines)
    }

    /// The same, but never waits: without room the lines stay where they are.
    pub(super) fn try_hand_over(&self, lines: &mut Vec<u8>) {
        self.take(self.lock(), lines);
    }

    fn take(&self, mut state: MutexGuard<'_, State>, lines: &mut Vec<u8>) -> bool {
        if state.ended || state.bytes >= QUEUE_BYTES {
            return false;
        }
        let empty = state.spare.pop().unwrap_or_else(empty_buffer);
        let lines = std::mem::replace(lines, empty);
        state.bytes += lines.len();
        state.full.push_back(lines);
        drop(state);
        self.work.notify_one();
        true
    }

    pub(super) fn reopen(&self) {
        let mut state = self.lock();
        state.reopen_after = Some(state.full.len());
        drop(state);
        self.work.notify_one();
    }

    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_one();
    }

    /// Waits for the writer to end; then how many lines it has left.
    pub(super) fn finish(&self, patience: Duration) -> u64 {
        self.close();
        let (mut state, _) = self
            .end
            .wait_timeout_while(self.lock(), patience, |state| !state.is_done)
            .unwrap_or_else(PoisonError::into_inner);
        let waiting: u64 = state.full.iter().map(|lines| count_lines(lines)).sum();
        let left = waiting + state.lines_in_hand;
        state.ended = true;
        drop(state);
        self.room.notify_all();
        self.work.notify_one();
        left
    }

    pub(super) fn count_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    pub(super) fn count_dropped_in(&self, lines: &[u8]) {
        self.count_dropped(count_lines(lines));
    }

    pub(super) fn dropped_lines(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits for something to do; with something to report, for so long only.
    pub(super) fn next(&self, report_in: Option<Duration>) -> Work {
        let mut state = self.lock();
        let is_idle = |state: &mut State| {
            state.full.is_empty() && state.reopen_after.is_none() && !state.closed && !state.ended
        };
        state = match report_in {
            None => self.work.wait_while(state, is_idle).unwrap_or_else(PoisonError::into_inner),
            Some(time) => {
                self.work
                    .wait_timeout_while(state, time, is_idle)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0
            }
        };
        if state.ended {
            return Work::End;
        }
        match state.reopen_after {
            Some(0) => {
                state.reopen_after = None;
                return Work::Reopen;
            }
            Some(count) => state.reopen_after = Some(count - 1),
            None => {}
        }
        match state.full.pop_front() {
            Some(lines) => {
                state.lines_in_hand = count_lines(&lines);
                Work::Write(lines)
            }
            None if state.closed => {
                // Under the same lock, so that no line comes in between and is lost.
                state.ended = true;
                Work::End
            }
            None => Work::Report,
        }
    }

    /// Takes a buffer back that has been dealt with.
    pub(super) fn recycle(&self, mut lines: Vec<u8>) {
        let mut state = self.lock();
        state.bytes -= lines.len();
        state.lines_in_hand = 0;
        lines.clear();
        if state.spare.len() < SPARE_BUFFERS {
            state.spare.push(lines);
        }
        drop(state);
        self.room.notify_all();
    }

    /// After a failed write: waits a while, or until it is worth trying at once.
    pub(super) fn pause(&self, time: Duration) -> Pause {
        let is_calm = |state: &mut State| state.reopen_after.is_none() && !state.ended;
        let (mut state, _) = self
            .work
            .wait_timeout_while(self.lock(), time, is_calm)
            .unwrap_or_else(PoisonError::into_inner);
        match (state.ended, state.reopen_after.take()) {
            (true, _) => Pause::End,
            (false, Some(_)) => Pause::Reopen,
            (false, None) => Pause::Over,
        }
    }

    pub(super) fn end(&self) {
        self.lock().is_done = true;
        self.end.notify_all();
        self.room.notify_all();
    }
}

pub(super) enum Pause {
    Over,
    /// The file is to be opened anew: perhaps that is the remedy.
    Reopen,
    End,
}

/// One buffer and the record that makes it full.
pub(super) fn empty_buffer() -> Vec<u8> {
    Vec::with_capacity(BUFFER_BYTES + MAX_SHOWN_BYTES)
}

fn count_lines(lines: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', lines).count() as u64
}
