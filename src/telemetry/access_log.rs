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
use super::queue::{BUFFER_BYTES, Queue, empty_buffer};
use super::record::Record;
use super::stamp::Stamp;
use super::writer::{self, Output};

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

/// How many lines were dropped.
#[derive(Clone, Debug)]
pub struct DroppedLines(Option<Arc<Queue>>);

impl DroppedLines {
    /// Since the start.
    pub fn count(&self) -> u64 {
        self.0.as_ref().map_or(0, |queue| queue.dropped_lines())
    }
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

    fn start_with(output: Output, format: Format, overflow: Overflow) -> io::Result<Self> {
        let queue = Arc::new(Queue::new(overflow));
        writer::spawn(Arc::clone(&queue), output)?;
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

    /// The count of lines that are dropped, for whoever shows it.
    pub fn dropped(&self) -> DroppedLines {
        DroppedLines(self.queue.clone())
    }

    /// How many lines were dropped since the start.
    pub fn dropped_lines(&self) -> u64 {
        self.dropped().count()
    }

    /// Waits until all that was handed over is written. Drop every [`WorkerLog`] first: that hands over
    /// what is left in it. What is written later is only counted.
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;
    use std::time::SystemTime;

    use serde_json::Value;

    use super::*;
    use crate::redact::Redactor;

    const LONG: Duration = Duration::from_secs(60);

    /// Writes a record that can be told from others.
    fn write(log: &WorkerLog, request_id: &str) {
        let redactor = Redactor::default();
        log.write(&Record {
            time: SystemTime::UNIX_EPOCH,
            request_id,
            client: "127.0.0.1",
            method: Some(redactor.text(b"GET")),
            path: Some(redactor.target(b"/")),
            status: Some(200),
            code: None,
            user: None,
            role: None,
            key_id: None,
            route: None,
            endpoint: None,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            upstream: None,
        });
    }

    fn request_id(line: &str) -> String {
        let record: Value = serde_json::from_str(line).expect("each line is JSON");
        record["request_id"].as_str().expect("each has an id").to_owned()
    }

    fn request_ids(path: &Path) -> Vec<String> {
        fs::read_to_string(path).expect("the log is there").lines().map(request_id).collect()
    }

    fn start(path: &Path, overflow: Overflow) -> AccessLog {
        let sink = Sink::File(path.to_owned());
        AccessLog::start(&sink, Format::Json, overflow).expect("it can be opened")
    }

    #[test]
    fn every_record_of_every_worker_is_in_the_file_in_its_order() {
        const WORKERS: usize = 4;
        const RECORDS: usize = 20_000;
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("access.log");
        let log = start(&path, Overflow::Block);
        thread::scope(|scope| {
            for worker in 0..WORKERS {
                let end = log.worker();
                scope.spawn(move || {
                    for record in 0..RECORDS {
                        write(&end, &format!("{worker}-{record}"));
                        if record % 1000 == 0 {
                            end.flush();
                        }
                    }
                });
            }
        });
        assert_eq!((log.dropped_lines(), log.finish(LONG)), (0, Ok(())));
        let ids = request_ids(&path);
        assert_eq!(ids.len(), WORKERS * RECORDS);
        for worker in 0..WORKERS {
            let mark = format!("{worker}-");
            let own = ids.iter().filter_map(|id| id.strip_prefix(&mark));
            assert!(own.eq((0..RECORDS).map(|record| record.to_string())), "worker {worker}");
        }
    }

    #[test]
    fn a_renamed_file_keeps_what_came_before_the_reopening() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = start(&path, Overflow::Block);
        let worker = log.worker();
        write(&worker, "before");
        worker.flush();
        fs::rename(&path, &old).expect("it can be renamed");
        log.reopen();
        write(&worker, "after");
        drop(worker);
        assert_eq!(log.finish(LONG), Ok(()));
        assert_eq!(
            (request_ids(&old), request_ids(&path)),
            (vec!["before".into()], vec!["after".into()])
        );
    }

    #[test]
    fn a_reopening_that_fails_keeps_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let (path, old) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let log = start(&path, Overflow::Block);
        let worker = log.worker();
        fs::rename(&path, &old).expect("it can be renamed");
        fs::create_dir(&path).expect("a folder can be made");
        log.reopen();
        write(&worker, "after");
        drop(worker);
        assert_eq!(log.finish(LONG), Ok(()));
        assert_eq!(request_ids(&old), ["after"]);
    }

    #[test]
    fn a_blocked_pipe_loses_nothing_when_workers_may_wait() {
        const RECORDS: usize = 60_000; // more than the pipe, the queue and a buffer hold together
        let (reader, writer) = io::pipe().expect("a pipe can be had");
        let output = Output::of_stream("pipe", writer.as_fd()).expect("it can be cloned");
        drop(writer);
        let log = AccessLog::start_with(output, Format::Json, Overflow::Block).expect("it starts");
        let (worker, is_done) = (log.worker(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let worker = worker;
                for record in 0..RECORDS {
                    write(&worker, &record.to_string());
                }
                is_done.store(true, Ordering::Release);
            });
            let mut lines =
                BufReader::new(reader).lines().map(|line| line.expect("it can be read"));
            assert!(!is_done.load(Ordering::Acquire), "nobody has made room yet");
            for record in 0..RECORDS {
                let line = lines.next().expect("a line is missing");
                assert_eq!(request_id(&line), record.to_string());
            }
        });
        assert_eq!((log.dropped_lines(), log.finish(LONG)), (0, Ok(())));
    }

    #[test]
    fn a_blocked_pipe_holds_nobody_up_when_lines_may_be_dropped() {
        let (reader, writer) = io::pipe().expect("a pipe can be had");
        let output = Output::of_stream("pipe", writer.as_fd()).expect("it can be cloned");
        drop(writer);
        let log = AccessLog::start_with(output, Format::Json, Overflow::Drop).expect("it starts");
        let worker = log.worker();
        let mut written = 0;
        while log.dropped_lines() < 1000 {
            write(&worker, "x");
            worker.flush();
            written += 1;
        }
        let reading = thread::spawn(|| BufReader::new(reader).lines().count() as u64);
        drop(worker);
        let dropped = log.dropped_lines();
        assert_eq!(log.finish(LONG), Ok(()));
        assert_eq!(reading.join().ok(), Some(written - dropped));
    }

    #[test]
    fn a_log_that_is_off_takes_records_for_nothing() {
        let log = AccessLog::start(&Sink::Off, Format::Json, Overflow::Block).expect("it starts");
        let worker = log.worker();
        write(&worker, "x");
        assert!(worker.is_off());
        drop(worker);
        assert_eq!((log.dropped_lines(), log.finish(Duration::ZERO)), (0, Ok(())));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let sink = Sink::File("/nonexistent/access.log".into());
        let error = AccessLog::start(&sink, Format::Json, Overflow::Block).expect_err("no folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
