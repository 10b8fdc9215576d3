//! The thread that writes the access log.
//!
//! Each buffer is written with one system call: at 32 KiB, gathering several for `writev` gains nothing.
//! A write that fails is said in the event log, then tried again or counted as dropped, as the operator
//! chose.
//!
//! Never here: an error that is not said; a wait that a shutdown's deadline cannot end, save the system
//! call itself.

use std::fmt::{self, Display, Formatter};
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::access_log::{Overflow, Sink};
use super::queue::{Pause, Queue, Work};
use crate::panics;

/// A lasting trouble is said so often, not at every write.
const REPEAT_EVERY: Duration = Duration::from_secs(5);
/// Until a failed write is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(200);
/// Until a pipe in non-blocking mode that was full is tried again.
const RETRY_FULL_AFTER: Duration = Duration::from_millis(5);

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
    let writer = Writer::new(queue, output);
    // Not joined: a write into a pipe that nobody reads may never return.
    panics::spawn_vital("access-log", move || writer.run()).map(drop)
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
    fn new(queue: Arc<Queue>, output: Output) -> Self {
        let reported = Reported { lines: 0, at: None };
        Self { queue, output, is_torn: false, failed: None, reported }
    }

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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read};
    use std::os::unix::net::UnixStream;
    use std::thread;
    use std::thread::JoinHandle;

    use tracing::level_filters::LevelFilter;

    use super::*;
    use crate::telemetry::Format;
    use crate::telemetry::events::{self, Captured};

    const LONG: Duration = Duration::from_secs(60);

    /// A writer on a thread of the test's, whose events are kept.
    struct Running {
        queue: Arc<Queue>,
        events: Captured,
        thread: JoinHandle<()>,
    }

    impl Running {
        fn start(output: Output, overflow: Overflow) -> Self {
            let queue = Arc::new(Queue::new(overflow));
            let events = Captured::default();
            let subscriber = events::subscriber(Format::Text, LevelFilter::INFO, events.clone());
            let writer = Writer::new(Arc::clone(&queue), output);
            let run = || tracing::subscriber::with_default(subscriber, || writer.run());
            Self { queue, events, thread: thread::spawn(run) }
        }

        /// Sends lines until one is refused; how many were sent.
        fn fill(&self) -> u64 {
            let mut sent = 0;
            loop {
                let mut line = format!("{sent:01000}\n").into_bytes();
                sent += 1;
                if !self.queue.hand_over(&mut line) {
                    self.queue.count_dropped(1);
                    return sent;
                }
            }
        }

        /// Ends the writer; what it said.
        fn end(self) -> Vec<String> {
            assert_eq!(self.queue.finish(LONG), 0, "lines are left");
            self.thread.join().expect("the writer does not panic");
            self.events.lines(Format::Text)
        }
    }

    fn file(path: &Path) -> Output {
        Output::open(&Sink::File(path.to_owned()))
            .expect("it can be opened")
            .expect("it is not off")
    }

    fn full_disk() -> Output {
        file(Path::new("/dev/full"))
    }

    #[test]
    fn lines_for_which_a_blocked_pipe_has_no_room_are_counted_and_said() {
        let (reader, writer) = io::pipe().expect("a pipe can be had");
        let output = Output::of_stream("pipe", writer.as_fd()).expect("it can be cloned");
        drop(writer);
        let running = Running::start(output, Overflow::Drop);
        let sent = running.fill();
        let dropped = running.queue.dropped_lines();
        let reading = thread::spawn(|| BufReader::new(reader).lines().count() as u64);
        assert_eq!(running.end(), [format!(" WARN access log lines dropped count={dropped}")]);
        let read = reading.join().expect("the reader does not panic");
        assert_eq!((dropped, read + dropped), (1, sent));
    }

    #[test]
    fn a_pipe_in_non_blocking_mode_is_waited_for() {
        let (mut reader, writer) = UnixStream::pair().expect("a pair can be had");
        writer.set_nonblocking(true).expect("it can be set");
        let output = Output::of_stream("socket", writer.as_fd()).expect("it can be cloned");
        drop(writer);
        let running = Running::start(output, Overflow::Drop);
        let sent = running.fill();
        let reading = thread::spawn(move || {
            let mut text = String::new();
            reader.read_to_string(&mut text).map(|_| text.lines().count() as u64)
        });
        assert_eq!(running.end(), [" WARN access log lines dropped count=1"]);
        let read = reading.join().expect("the reader does not panic").expect("it can be read");
        assert_eq!(read + 1, sent);
    }

    #[test]
    fn a_full_disk_is_said_now_and_then_and_its_lines_are_counted() {
        const BUFFERS: u64 = 1000;
        let running = Running::start(full_disk(), Overflow::Drop);
        for _ in 0..BUFFERS {
            assert!(running.queue.hand_over(&mut b"a\nb\n".to_vec()), "there is room");
        }
        let queue = Arc::clone(&running.queue);
        let said = running.end();
        let failed = "ERROR access log cannot be written; lines are dropped output=/dev/full \
                      error=\"No space left on device (os error 28)\" dropped_lines=0";
        let dropped = format!(" WARN access log lines dropped count={}", 2 * BUFFERS);
        assert_eq!((said.first().unwrap(), said.last().unwrap()), (&failed.to_owned(), &dropped));
        assert!(said.len() < 100, "not at every write: {said:?}");
        assert_eq!(queue.dropped_lines(), 2 * BUFFERS);
    }

    #[test]
    fn a_full_disk_keeps_lines_waiting_until_there_is_another() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("access.log");
        std::os::unix::fs::symlink("/dev/full", &path).expect("it can be linked");
        let running = Running::start(file(&path), Overflow::Block);
        assert!(running.queue.hand_over(&mut b"a\nb\n".to_vec()), "there is room");
        running.events.wait_for("requests wait until it can");
        std::fs::remove_file(&path).expect("it can be removed");
        running.queue.reopen();
        let said = running.end();
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "a\nb\n");
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[1].contains("access log reopened"), "{said:?}");
        assert!(said[2].contains("access log is written again"), "{said:?}");
    }

    #[test]
    fn what_a_deadline_leaves_unwritten_is_counted() {
        let running = Running::start(full_disk(), Overflow::Block);
        assert!(running.queue.hand_over(&mut b"a\nb\n".to_vec()), "there is room");
        running.events.wait_for("requests wait until it can");
        assert!(running.queue.hand_over(&mut b"c\n".to_vec()), "there is room");
        assert_eq!(running.queue.finish(Duration::ZERO), 3);
        running.thread.join().expect("the deadline ends the writer");
    }

    #[test]
    fn a_line_after_a_torn_one_begins_anew() {
        let folder = tempfile::tempdir().expect("a folder can be made");
        let path = folder.path().join("access.log");
        let mut writer = Writer::new(Arc::new(Queue::new(Overflow::Drop)), file(&path));
        writer.write(b"a\nb");
        writer.give_up(b"a\nb\nc\n", b"\nc\n");
        writer.write(b"d\n");
        writer.write(b"e\n");
        assert_eq!(std::fs::read_to_string(&path).expect("it is there"), "a\nb\nd\ne\n");
        assert_eq!(writer.queue.dropped_lines(), 2);
    }
}
