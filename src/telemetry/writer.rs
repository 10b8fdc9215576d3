//! The thread that writes the access log, and the queue that leads to it.
//!
//! The queue holds whole buffers and is bounded in bytes; a worker touches its lock once a buffer, that is
//! about once in a hundred requests. Each buffer is written with one system call: at 32 KiB, gathering
//! several for `writev` gains nothing.
//!
//! Never here: a request's thread in a `write` system call; an error that is not said.

use std::collections::VecDeque;
use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::access_log::{Overflow, Sink};
use crate::redact::MAX_SHOWN_BYTES;

/// A buffer of so many bytes is full.
pub(super) const BUFFER_BYTES: usize = 32 * 1024;
/// So much may wait to be written: a second's lines at 20,000 requests a second.
const QUEUE_BYTES: usize = 4 * 1024 * 1024;
/// Empty buffers kept for use again.
const SPARE_BUFFERS: usize = 32;
/// A lasting trouble is said so often, not at every write.
const REPEAT_EVERY: Duration = Duration::from_secs(5);
/// Until a failed write is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Until a pipe in non-blocking mode that was full is tried again.
const RETRY_FULL_AFTER: Duration = Duration::from_millis(5);

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Queue {
    overflow: Overflow,
    state: Mutex<State>,
    /// There is something for the writer to do.
    work: Condvar,
    /// There is room again, or there never will be.
    room: Condvar,
    /// The writer has ended.
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
    /// Nothing more will be written.
    ended: bool,
}

/// What the writer does next.
enum Work {
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
            .wait_timeout_while(self.lock(), patience, |state| !state.ended)
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
    fn next(&self, report_in: Option<Duration>) -> Work {
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
            None if state.closed => Work::End,
            None => Work::Report,
        }
    }

    /// Takes a buffer back that has been dealt with.
    fn recycle(&self, mut lines: Vec<u8>) {
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
    fn pause(&self, time: Duration) -> Pause {
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

    fn end(&self) {
        self.lock().ended = true;
        self.end.notify_all();
        self.room.notify_all();
    }
}

enum Pause {
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

/// An open sink.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    name: Name,
}

#[derive(Debug)]
enum Name {
    Stream(&'static str),
    Path(PathBuf),
}

impl Output {
    /// Opens `sink`; `None` if it is off.
    pub(super) fn open(sink: &Sink) -> io::Result<Option<Self>> {
        match sink {
            Sink::Off => Ok(None),
            Sink::Stdout => Self::of_stream("stdout", io::stdout().as_fd()).map(Some),
            Sink::Stderr => Self::of_stream("stderr", io::stderr().as_fd()).map(Some),
            Sink::File(path) => {
                Ok(Some(Self { file: append_to(path)?, name: Name::Path(path.clone()) }))
            }
        }
    }

    /// A stream by its descriptor: std's own handles would split buffers at lines and lock.
    pub(super) fn of_stream(name: &'static str, stream: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self { file: File::from(stream.try_clone_to_owned()?), name: Name::Stream(name) })
    }
}

impl Display for Output {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.name {
            Name::Stream(name) => f.write_str(name),
            Name::Path(path) => Display::fmt(&path.display(), f),
        }
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o640).open(path)
}

/// Starts the thread that writes what comes through `queue` to `output`.
pub(super) fn spawn(queue: Arc<Queue>, output: Output) -> io::Result<()> {
    let writer = Writer {
        queue,
        output,
        is_torn: false,
        failed: None,
        reported: Reported { lines: 0, at: None },
    };
    // Not joined: a write into a pipe that nobody reads may never return.
    thread::Builder::new().name("access-log".into()).spawn(move || writer.run()).map(drop)
}

struct Writer {
    queue: Arc<Queue>,
    output: Output,
    /// The output ends in the middle of a line.
    is_torn: bool,
    /// Writing does not work; when that was said last.
    failed: Option<Instant>,
    reported: Reported,
}

/// How many dropped lines the event log knows of, and since when.
struct Reported {
    lines: u64,
    at: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        loop {
            match self.queue.next(self.report_in()) {
                Work::Write(lines) => {
                    self.write(&lines);
                    self.queue.recycle(lines);
                }
                Work::Reopen => self.reopen(),
                Work::Report => {}
                Work::End => break,
            }
            if self.report_in() == Some(Duration::ZERO) {
                self.report_dropped();
            }
        }
        self.report_dropped();
        self.queue.end();
    }

    /// Writes `lines`, or gives up as far as losing lines is allowed.
    fn write(&mut self, lines: &[u8]) {
        let mut rest = lines;
        while !rest.is_empty() {
            let result = match self.is_torn {
                true => self.output.file.write(b"\n").map(|_| 0),
                false => self.output.file.write(rest).and_then(|count| match count {
                    0 => Err(ErrorKind::WriteZero.into()),
                    count => Ok(count),
                }),
            };
            let pause = match result {
                Ok(count) => {
                    rest = &rest[count..];
                    self.is_torn = false;
                    self.say_recovered();
                    continue;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => RETRY_FULL_AFTER,
                Err(error) => {
                    self.say_failed(&error);
                    if self.queue.overflow == Overflow::Drop {
                        return self.give_up(lines, rest);
                    }
                    RETRY_AFTER
                }
            };
            match self.queue.pause(pause) {
                Pause::Over => {}
                Pause::Reopen => self.reopen(),
                Pause::End => return self.give_up(lines, rest),
            }
        }
    }

    fn give_up(&mut self, lines: &[u8], rest: &[u8]) {
        self.queue.count_dropped_in(rest);
        let written = &lines[..lines.len() - rest.len()];
        self.is_torn |= written.last().is_some_and(|&byte| byte != b'\n');
    }

    fn reopen(&mut self) {
        let Name::Path(path) = &self.output.name else { return };
        match append_to(path) {
            Ok(file) => {
                self.output.file = file;
                self.is_torn = false;
                info!(output = %self.output, "access log reopened");
            }
            Err(error) => error!(
                output = %self.output, %error,
                "access log cannot be reopened; the file that was open stays in use"
            ),
        }
    }

    fn say_failed(&mut self, error: &io::Error) {
        if self.failed.is_some_and(|said| said.elapsed() < REPEAT_EVERY) {
            return;
        }
        self.failed = Some(Instant::now());
        let dropped_lines = self.queue.dropped_lines();
        match self.queue.overflow {
            Overflow::Block => error!(
                output = %self.output, %error,
                "access log cannot be written; requests wait until it can"
            ),
            Overflow::Drop => error!(
                output = %self.output, %error, dropped_lines,
                "access log cannot be written; lines are dropped"
            ),
        }
    }

    fn say_recovered(&mut self) {
        if self.failed.take().is_some() {
            info!(output = %self.output, "access log is written again");
        }
    }

    /// In how long the lines dropped meanwhile are to be reported; `None` if there are none.
    fn report_in(&self) -> Option<Duration> {
        (self.queue.dropped_lines() > self.reported.lines && self.failed.is_none()).then(|| {
            self.reported.at.map_or(Duration::ZERO, |at| REPEAT_EVERY.saturating_sub(at.elapsed()))
        })
    }

    fn report_dropped(&mut self) {
        let lines = self.queue.dropped_lines();
        let count = lines - self.reported.lines;
        if count > 0 {
            self.reported = Reported { lines, at: Some(Instant::now()) };
            warn!(count, "access log lines dropped");
        }
    }
}
