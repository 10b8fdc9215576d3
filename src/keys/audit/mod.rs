//! The audit log: who changed which key, when and how, as a chain of lines that shows where it was tampered with.
//!
//! A change is told before it is made: its lines are on the disk when the key file is replaced, so that nothing is
//! in force that was not told. Lines whose change then failed are followed by one that says so. What a crash leaves
//! between the two, the next change finds: every line has the hash of the key file before and after, so whether the
//! file is as the last line says can be seen, and that it was edited by other means, too.
//!
//! Never here: a key or its hash; reading the log for people ([`read`]) or looking for what is wrong ([`verify`]).

mod line;
pub mod read;
pub mod verify;

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use jiff::Timestamp;

use super::durable::{self, FileError, MODE, WRITABLE_BY_OTHERS};
pub(super) use line::Event;
use line::Place;
pub use line::{Entry, Hash};
use read::Backward;

/// The log cannot tell the two apart.
const NOT_MADE: &str = "the key file is as it was before the change: the program ended before it was made, or it was \
                        taken back by other means";

/// A log that nobody else appends to while this exists.
#[derive(Debug)]
pub(super) struct AuditLog<'a> {
    path: &'a Path,
    file: File,
    /// The last whole line.
    last: Option<Entry>,
    /// Where it ends.
    end: u64,
    /// Where the file ends: behind `end`, if a line was not finished.
    length: u64,
}

impl<'a> AuditLog<'a> {
    /// Opens the log at `path`, making it as need be, for changes of the key file at `store`.
    pub(super) fn open(path: &'a Path, store: &Path) -> Result<Self, FileError> {
        let fail = |doing| move |error| FileError::new(doing, path, error);
        let is_new = !path.exists();
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create(true).mode(MODE).open(path);
        let mut file = file.map_err(fail("open the audit log"))?;
        file.lock().map_err(fail("lock the audit log"))?;
        if is_new {
            durable::keep_owner(&file, store)
                .and_then(|()| file.set_permissions(Permissions::from_mode(MODE)))
                .and_then(|()| File::open(durable::folder_of(path))?.sync_all())
                .map_err(fail("make the audit log"))?;
        }
        let metadata = file.metadata().map_err(fail("read the audit log"))?;
        if !metadata.is_file() {
            return Err(fail("use the audit log")(io::Error::other("it is no regular file")));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            let error = io::Error::other(format!(
                "every user of this machine may write it; chmod 600 {}",
                path.display()
            ));
            return Err(fail("trust the audit log")(error));
        }
        let (last, end) = last_line(&mut file).map_err(fail("read the audit log"))?;
        Ok(Self { path, file, last, end, length: metadata.len() })
    }

    /// Tells what is about to happen to the key file, whose text is `before` and will be `after`, and first what
    /// happened to file and log since the last line. On return it is on the disk.
    ///
    /// # Errors
    /// The log is as it was, and the change must not be made.
    pub(super) fn tell(
        &mut self,
        before: Option<&str>,
        after: &str,
        events: &[Event<'_>],
    ) -> Result<(), FileError> {
        let (before, after) = (before.map(Hash::of), Hash::of(after));
        let mut lines = Lines::behind(self.last.as_ref());
        for (note, from) in self.notes(before.as_ref()) {
            lines.push_change(from.as_ref(), before.as_ref(), &[note]);
        }
        lines.push_change(before.as_ref(), Some(&after), events);
        self.append(&lines.text)
    }

    /// Tells that what was told last did not happen, because of `error`.
    ///
    /// Where this cannot be told either, the next change will find it out.
    pub(super) fn take_back(&mut self, error: &FileError) {
        let Some(last) = self.last.clone() else { return };
        let reason = format!("the change was not made: {error}");
        let note = Event::Note { action: "undone", undoes: Some(last.change), reason };
        let mut lines = Lines::behind(Some(&last));
        lines.push_change(last.store_after.as_ref(), last.store_before.as_ref(), &[note]);
        let _ = self.append(&lines.text);
    }

    /// What is to be told before anything else, and as what the log knew the key file, which is `store` now.
    fn notes(&self, store: Option<&Hash>) -> Vec<(Event<'static>, Option<Hash>)> {
        let note = |action, undoes, reason: &str| Event::Note {
            action,
            undoes,
            reason: reason.to_owned(),
        };
        let mut notes = Vec::new();
        let known = self.last.as_ref().and_then(|last| last.store_after.clone());
        match &self.last {
            None if store.is_some() => {
                notes.push((
                    note("begin", None, "the log begins; the key file was there before"),
                    None,
                ));
            }
            Some(last) if known.as_ref() != store => {
                // Only a change can be left undone: what a note tells has happened.
                let is_undone = last.key_id.is_some() && last.store_before.as_ref() == store;
                let told = match is_undone {
                    true => note("undone", Some(last.change), NOT_MADE),
                    false => note("edited", None, "the key file was changed by other means"),
                };
                notes.push((told, known));
            }
            _ => {}
        }
        let torn = self.length - self.end;
        if torn > 0 {
            let reason = format!("removed {torn} bytes of a line that was not finished");
            notes.push((note("mended", None, &reason), store.cloned()));
        }
        notes
    }

    fn append(&mut self, text: &str) -> Result<(), FileError> {
        let fail = |error| FileError::new("write the audit log", self.path, error);
        // A line that was not finished gives way to the note of it.
        self.file.set_len(self.end).map_err(fail)?;
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_all());
        if let Err(error) = written {
            // Half a line is mended by the next change, if not now.
            let _ = self.file.set_len(self.end);
            return Err(fail(error));
        }
        let last = text.lines().next_back().map(str::as_bytes);
        self.last = last.and_then(Entry::parse);
        self.end += text.len() as u64;
        self.length = self.end;
        Ok(())
    }
}

/// The last whole line of the log, and where it ends.
fn last_line(file: &mut File) -> io::Result<(Option<Entry>, u64)> {
    let mut lines = Backward::new(file)?;
    let end = lines.end();
    let Some(line) = lines.next().transpose()? else { return Ok((None, end)) };
    match Entry::parse(&line) {
        Some(entry) => Ok((Some(entry), end)),
        None => Err(io::Error::other(
            "its last line cannot be read, so nothing can follow it. See what `keyward audit verify` \
             says; move the file away, and a new one begins",
        )),
    }
}

/// Lines in the making, each linked to the one before.
struct Lines {
    text: String,
    next: u64,
    previous: Hash,
    time: Timestamp,
}

impl Lines {
    fn behind(last: Option<&Entry>) -> Self {
        // Microseconds are more than anybody compares.
        let time = Timestamp::from_millisecond(Timestamp::now().as_millisecond())
            .expect("the present is a time that exists");
        Self {
            text: String::new(),
            next: last.map_or(1, |last| last.sequence.saturating_add(1)),
            previous: last.map_or_else(Hash::none, |last| last.hash.clone()),
            time,
        }
    }

    /// Lines for all `events` of one change of the key file.
    fn push_change(&mut self, before: Option<&Hash>, after: Option<&Hash>, events: &[Event<'_>]) {
        let change = self.next;
        for event in events {
            let place = Place {
                sequence: self.next,
                change,
                time: self.time,
                store_before: before,
                store_after: after,
                previous: &self.previous,
            };
            self.previous = line::push(&mut self.text, &place, event);
            self.next += 1;
        }
    }
}

/// Whether the key file, whose text is `store`, is as the last line of the log at `path` says. Nothing without a line.
///
/// # Errors
/// The log cannot be read.
pub fn matches_store(path: &Path, store: &str) -> io::Result<Option<bool>> {
    let (last, _) = last_line(&mut File::open(path)?)?;
    Ok(last.map(|last| last.store_after == Some(Hash::of(store))))
}

#[cfg(test)]
mod tests;
