//! The access log's two ends: [`AccessLog`] for the program, [`WorkerLog`] for each worker.
//!
//! A worker formats into a buffer of its own; only a full one, or what [`WorkerLog::flush`] finds at the
//! worker's tick, crosses to the writer's thread. Buffers come back and are used again: a request
//! allocates nothing.
//!
//! Never here: a line that is lost without being counted.

use std::cell::RefCell;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::Format;
use super::record::Record;
use super::stamp::Stamp;
use super::writer::{BUFFER_BYTES, Output, Queue, empty_buffer, spawn};

/// Where access records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Nowhere.
    Off,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, made if it is missing (mode 0640) and appended to.
    File(PathBuf),
}

/// What happens when records come faster than they can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// Workers wait, and their requests with them: no line is lost.
    Block,
    /// Lines are dropped, counted, and their number is said in the event log.
    Drop,
}

/// The access log, with the thread that writes it.
#[derive(Debug)]
pub struct AccessLog {
    /// `None`: off.
    queue: Option<Arc<Queue>>,
    format: Format,
}

impl AccessLog {
    /// Opens `sink` and starts the thread that writes to it.
    ///
    /// # Errors
    /// The file cannot be opened, or no thread can be had.
    pub fn start(sink: &Sink, format: Format, overflow: Overflow) -> io::Result<Self> {
        match Output::open(sink)? {
            Some(output) => Self::start_with(output, format, overflow),
            None => Ok(Self { queue: None, format }),
        }
    }

    pub(super) fn start_with(
        output: Output,
        format: Format,
        overflow: Overflow,
    ) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(overflow));
        spawn(Arc::clone(&queue), output)?;
        Ok(Self { queue: Some(queue), format })
    }

    /// The end that one worker writes to.
    pub fn worker(&self) -> WorkerLog {
        let lines = if self.queue.is_some() { empty_buffer() } else { Vec::new() };
        let buffer = Buffer { lines, stamp: Stamp::default() };
        WorkerLog { queue: self.queue.clone(), format: self.format, buffer: RefCell::new(buffer) }
    }

    /// Has the file opened anew at its path, after logrotate has renamed it. Lines that workers have
    /// handed over go to the old file, later ones to the new; if it cannot be opened, the old one stays
    /// in use and an event says so. Returns at once.
    pub fn reopen(&self) {
        if let Some(queue) = &self.queue {
            queue.reopen();
        }
    }

    /// How many lines were dropped since the start.
    pub fn dropped_lines(&self) -> u64 {
        self.queue.as_ref().map_or(0, |queue| queue.dropped_lines())
    }

    /// Waits until all that was handed over is written. Drop every [`WorkerLog`] first: that hands over
    /// what is left in it.
    ///
    /// # Errors
    /// Lines are still not written after `patience`; they are lost.
    pub fn finish(self, patience: Duration) -> Result<(), Unwritten> {
        match self.queue.as_ref().map_or(0, |queue| queue.finish(patience)) {
            0 => Ok(()),
            lines => Err(Unwritten { lines }),
        }
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.close();
        }
    }
}

/// The access log could not be written to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// How many lines are lost.
    pub lines: u64,
}

impl Display for Unwritten {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} access log lines could not be written before the deadline", self.lines)
    }
}

impl std::error::Error for Unwritten {}

/// A worker's end of the access log. It belongs to one thread; what is left in it is handed over when it
/// is dropped.
#[derive(Debug)]
pub struct WorkerLog {
    queue: Option<Arc<Queue>>,
    format: Format,
    buffer: RefCell<Buffer>,
}

#[derive(Debug)]
struct Buffer {
    lines: Vec<u8>,
    stamp: Stamp,
}

impl WorkerLog {
    /// Whether records are wanted at all.
    pub fn is_off(&self) -> bool {
        self.queue.is_none()
    }

    /// Takes one record. With [`Overflow::Block`] this waits for the writer when it has fallen behind.
    pub fn write(&self, record: &Record<'_>) {
        let Some(queue) = &self.queue else { return };
        let mut buffer = self.buffer.borrow_mut();
        let Buffer { lines, stamp } = &mut *buffer;
        if lines.len() >= BUFFER_BYTES && !queue.hand_over(lines) {
            queue.count_dropped(1);
            return;
        }
        record.push(lines, stamp, self.format);
        if lines.len() >= BUFFER_BYTES {
            queue.try_hand_over(lines);
        }
    }

    /// Hands over what has gathered, if the writer has room; never waits. For the worker's tick, so that
    /// the log is never older than that; costs nothing when nothing has gathered.
    pub fn flush(&self) {
        let Some(queue) = &self.queue else { return };
        let mut buffer = self.buffer.borrow_mut();
        if !buffer.lines.is_empty() {
            queue.try_hand_over(&mut buffer.lines);
        }
    }
}

impl Drop for WorkerLog {
    fn drop(&mut self) {
        let Some(queue) = &self.queue else { return };
        let lines = &mut self.buffer.get_mut().lines;
        if !lines.is_empty() && !queue.hand_over(lines) {
            queue.count_dropped_in(lines);
        }
    }
}
