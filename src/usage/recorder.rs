//! A thread that adds up what all workers report, and keeps it in a file now and then: no more often than that, and
//! never while anybody who has a request waits.
//!
//! When the file cannot be written, that is said, once until it can be again; what is not kept yet stays in memory.
//!
//! Never here: what is counted (see [`UsageCell`](super::cell::UsageCell)).

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::file::{Read, Tallies, UsageFile};
use super::{HOURS, Report, Tally, Use, hour_of, later};
use crate::panics;

/// Reports on their way: two of each of many workers. One that does not fit is made later.
const REPORTS: usize = 64;
/// Looks that find out how a process ends.
const LOOK: Duration = Duration::from_millis(10);

/// The usage of every key, for whoever shows it.
#[derive(Clone, Debug)]
pub struct Usage {
    sums: Arc<Mutex<Sums>>,
    messages: Sender<Message>,
}

/// What became of a key, and what becomes of it now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyUsage {
    /// All that has ended.
    pub tally: Tally,
    /// Its requests in flight in this process.
    pub in_flight: u64,
}

/// What of that is shown of many keys at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brief {
    /// When the key was last used.
    pub last: Option<Use>,
    /// Its requests in each of the last [`HOURS`], the current one last.
    pub hourly: [u64; HOURS as usize],
}

/// Where a worker reports to.
#[derive(Clone, Debug)]
pub struct Reports(Option<Sender<Message>>);

/// The thread.
#[derive(Debug)]
pub struct Recorder {
    thread: JoinHandle<()>,
    messages: Sender<Message>,
}

#[derive(Debug)]
enum Message {
    Reports(Vec<Report>),
    /// Say that all that was sent before is added up; kept, too, if that is asked for.
    Settle(oneshot::Sender<()>, bool),
    /// There is nothing more.
    End,
}

#[derive(Debug, Default)]
struct Sums {
    /// What the file holds.
    kept: Tallies,
    /// What is just being appended to it, or could not be. Only the thread puts anything there.
    leaving: Arc<Tallies>,
    /// What it does not hold yet.
    new: Tallies,
    in_flight: HashMap<Box<str>, i64>,
}

impl Sums {
    fn of(&self, id: &str) -> Option<KeyUsage> {
        let in_flight = self.in_flight.get(id).map(|&count| count.max(0) as u64);
        if in_flight.is_none() && self.parts(id).next().is_none() {
            return None;
        }
        let mut tally = Tally::default();
        self.parts(id).for_each(|part| tally.add(part.clone()));
        tally.forget_before(hour_of(Timestamp::now()));
        Some(KeyUsage { tally, in_flight: in_flight.unwrap_or_default() })
    }

    /// What adds up to the tally of a key.
    fn parts(&self, id: &str) -> impl Iterator<Item = &Tally> {
        [self.kept.get(id), self.leaving.get(id), self.new.get(id)].into_iter().flatten()
    }

    fn last_used(&self, id: &str) -> Option<Timestamp> {
        if self.in_flight.get(id).is_some_and(|&count| count > 0) {
            return Some(Timestamp::now());
        }
        self.parts(id).filter_map(|tally| Some(tally.last.as_ref()?.at)).max()
    }

    fn brief(&self, id: &str, now: Timestamp) -> Brief {
        let mut brief = Brief::default();
        for tally in self.parts(id) {
            later(&mut brief.last, tally.last.clone());
            for (sum, more) in brief.hourly.iter_mut().zip(tally.hourly(now)) {
                *sum += more;
            }
        }
        brief
    }

    fn add(&mut self, report: Report) {
        let id = report.identity.key_id();
        if report.in_flight != 0 {
            let count = self.in_flight.entry(id.into()).or_default();
            *count += report.in_flight;
            if *count == 0 {
                self.in_flight.remove(id);
            }
        }
        if report.new != Tally::default() {
            match self.new.get_mut(id) {
                Some(tally) => tally.add(report.new),
                None => drop(self.new.insert(id.into(), report.new)),
            }
        }
    }
}

/// Starts to add up, from what the file at `path` holds on; it is written every `interval` and at the end. Without a
/// path nothing is kept.
///
/// # Errors
/// A thread cannot be had.
pub fn start(path: Option<&Path>, interval: Duration) -> io::Result<(Usage, Reports, Recorder)> {
    let (messages, received) = channel(REPORTS);
    let sums = Arc::new(Mutex::new(Sums::default()));
    let file = path.map(UsageFile::new);
    let runtime = Builder::new_current_thread().enable_time().build()?;
    let recording = Recording { sums: Arc::clone(&sums), file, has_failed: false, tidied: 0 };
    let run = move || runtime.block_on(recording.run(received, interval));
    let thread = panics::spawn_vital("usage", run)?;
    let reports = Reports(Some(messages.clone()));
    let recorder = Recorder { thread, messages: messages.clone() };
    Ok((Usage { sums, messages }, reports, recorder))
}

impl Usage {
    /// What is known of the key with this id; nothing if it was never used.
    pub fn of(&self, id: &str) -> Option<KeyUsage> {
        lock(&self.sums).of(id)
    }

    /// When a key was last in use: now, if it has a request in flight.
    pub fn last_used(&self, id: &str) -> Option<Timestamp> {
        lock(&self.sums).last_used(id)
    }

    /// How many requests of a key went on since midnight UTC, as far as is known.
    pub fn admitted_today(&self, id: &str) -> u64 {
        let now = Timestamp::now();
        lock(&self.sums).parts(id).map(|tally| tally.admitted_today(now)).sum()
    }

    /// What is known of a key in short, without adding up addresses and routes.
    pub fn brief(&self, id: &str, now: Timestamp) -> Brief {
        lock(&self.sums).brief(id, now)
    }

    /// What is known of every key that was ever used, in no order.
    pub fn all(&self) -> Vec<(Box<str>, KeyUsage)> {
        let sums = lock(&self.sums);
        let mut ids: Vec<&str> = [sums.kept.keys(), sums.leaving.keys(), sums.new.keys()]
            .into_iter()
            .flatten()
            .chain(sums.in_flight.keys())
            .map(|id| &**id)
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().filter_map(|id| Some((id.into(), sums.of(id)?))).collect()
    }

    /// Waits until all that was reported is added up; behind
    /// [`Control::report_usage`](crate::server::control::Control::report_usage) that is all there is.
    pub async fn settle(&self) {
        self.message(false).await;
    }

    /// The same, and that it is in the file, if it can be written.
    pub async fn keep(&self) {
        self.message(true).await;
    }

    async fn message(&self, is_to_keep: bool) {
        let (done, is_done) = oneshot::channel();
        // Where the thread has ended, all is added up.
        if self.messages.send(Message::Settle(done, is_to_keep)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

impl Reports {
    /// Nobody wants to know.
    pub fn off() -> Self {
        Self(None)
    }

    /// Sends what `make` makes, if there is room; else that can wait.
    pub fn send(&self, make: impl FnOnce() -> Vec<Report>) {
        let Some(Ok(room)) = self.0.as_ref().map(Sender::try_reserve) else { return };
        let reports = make();
        if !reports.is_empty() {
            room.send(Message::Reports(reports));
        }
    }

    /// Sends the last ones, and waits for room. Never on a runtime's thread.
    pub fn send_last(&self, reports: Vec<Report>) {
        if let Some(messages) = self.0.as_ref().filter(|_| !reports.is_empty()) {
            // The recorder ends behind all workers.
            let _ = messages.blocking_send(Message::Reports(reports));
        }
    }
}

impl Recorder {
    /// Waits until all that was reported is kept, for `longest` at most.
    #[expect(
        clippy::disallowed_methods,
        reason = "on the thread that ends the process: a thread cannot be waited for within a time"
    )]
    pub fn finish(self, longest: Duration) {
        // A thread that has ended has kept it.
        let _ = self.messages.blocking_send(Message::End);
        let end = Instant::now() + longest;
        while !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(LOOK);
        }
        if !self.thread.is_finished() {
            tracing::error!("the last usage of keys could not be kept in time");
        }
    }
}

/// What the thread has.
struct Recording {
    sums: Arc<Mutex<Sums>>,
    file: Option<UsageFile>,
    /// Whether the last attempt to write did.
    has_failed: bool,
    /// The hour in which old hours were forgotten last.
    tidied: u64,
}

impl Recording {
    async fn run(mut self, mut received: Receiver<Message>, interval: Duration) {
        self.keep();
        let mut tick = interval_at(Instant::now() + interval, interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = received.recv() => match message {
                    Some(Message::Reports(reports)) => {
                        let mut sums = lock(&self.sums);
                        reports.into_iter().for_each(|report| sums.add(report));
                    }
                    Some(Message::Settle(done, is_to_keep)) => {
                        if is_to_keep {
                            self.keep();
                        }
                        // Who asked may have stopped waiting.
                        let _ = done.send(());
                    }
                    Some(Message::End) | None => return self.keep(),
                },
                _ = tick.tick() => self.keep(),
            }
        }
    }

    /// Brings memory and file together. Nobody else waits for the file.
    fn keep(&mut self) {
        let hour = hour_of(Timestamp::now());
        let leaving = {
            let sums = &mut *lock(&self.sums);
            let mut leaving = Arc::unwrap_or_clone(std::mem::take(&mut sums.leaving));
            add_all(&mut leaving, std::mem::take(&mut sums.new));
            sums.leaving = Arc::new(leaving);
            Arc::clone(&sums.leaving)
        };
        let read = match &mut self.file {
            Some(file) => file.exchange(&leaving, hour),
            None => Ok(Read { is_anew: false, tallies: Tallies::new() }),
        };
        let failed = read.map(|read| self.kept(read, leaving, hour)).err();
        let Some(file) = &self.file else { return };
        let (path, has_failed) = (file.path().display(), failed.is_some());
        match failed {
            Some(error) if !self.has_failed => tracing::error!(
                %path, %error,
                "the usage of keys cannot be kept; it is counted on, and tried again. Let the directory be writable, or say [keys] usage = \"off\""
            ),
            None if self.has_failed => tracing::info!(%path, "the usage of keys is kept again"),
            _ => {}
        }
        self.has_failed = has_failed;
    }

    /// `leaving` has been appended, behind what was `read`.
    fn kept(&mut self, read: Read, leaving: Arc<Tallies>, hour: u64) {
        let sums = &mut *lock(&self.sums);
        sums.leaving = Arc::default();
        if read.is_anew {
            sums.kept.clear();
        }
        add_all(&mut sums.kept, read.tallies);
        add_all(&mut sums.kept, Arc::unwrap_or_clone(leaving));
        if std::mem::replace(&mut self.tidied, hour) != hour {
            sums.kept.values_mut().for_each(|tally| tally.forget_before(hour));
        }
    }
}

fn add_all(sums: &mut Tallies, more: Tallies) {
    for (id, tally) in more {
        sums.entry(id).or_default().add(tally);
    }
}

/// Sums are whole between two additions, whoever panicked.
fn lock(sums: &Mutex<Sums>) -> MutexGuard<'_, Sums> {
    sums.lock().unwrap_or_else(PoisonError::into_inner)
}
