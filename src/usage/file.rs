//! The file of what became of each key: one JSON object a line, each of which adds to those before.
//!
//! Several processes may write it, while one takes over from another: each appends under a lock, and reads what others
//! appended meanwhile. When it has doubled, whoever is about to append puts one line a key in its place.
//!
//! Appending is not followed by fsync. A process that is killed loses nothing that it wrote, and a power failure at most
//! what the kernel had not written yet, some half a minute of counts, which is no reason to make a disk wait that
//! others write to. A file that takes the place of another is synced before it does: that must not lose the whole.
//!
//! Never here: a request's way, or key material.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{
    self, BufRead as _, BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _,
};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Tally;

/// Who may read it: its owner. It tells who uses what, and when.
const MODE: u32 = 0o600;
/// Below this it may grow as it likes.
const SMALL_BYTES: u64 = 1024 * 1024;

/// What became of keys, by id.
pub(super) type Tallies = HashMap<Box<str>, Tally>;

/// One line.
#[derive(Serialize, Deserialize)]
struct Line<K, T> {
    key: K,
    usage: T,
}

/// The file, as far as it was read.
#[derive(Debug)]
pub(super) struct UsageFile {
    path: PathBuf,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Up to where it was read.
    read: u64,
    /// How long it was when it last had one line a key.
    compact: u64,
}

impl UsageFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Brings `known`, which is what was read of it, up to what it holds now; then appends `new` to it, and adds that to
    /// `known` as well. On an error, nothing of `new` was added to either.
    ///
    /// `tidy` sees each tally before it is kept.
    pub(super) fn exchange(
        &mut self,
        known: &mut Tallies,
        new: &mut Tallies,
        tidy: impl Fn(&mut Tally),
    ) -> io::Result<()> {
        let is_other = self.lock()?;
        if is_other {
            known.clear();
        }
        let open = self.open.as_mut().expect("it was locked");
        let done = open.read(known).and_then(|is_torn| {
            known.values_mut().for_each(&tidy);
            open.append(new, is_torn)?;
            for (id, tally) in new.drain() {
                known.entry(id).or_default().add(tally);
            }
            if open.read > SMALL_BYTES && open.read / 2 > open.compact {
                Ok(true)
            } else {
                Ok(false)
            }
        });
        let done = done.and_then(|is_due| if is_due { self.compact(known) } else { Ok(()) });
        match (&done, &self.open) {
            // What was read of it in part would be read once more.
            (Err(_), _) => self.open = None,
            (Ok(()), Some(open)) => open.file.unlock()?,
            (Ok(()), None) => {}
        }
        done
    }

    /// Waits for the lock on the file that is in its place now. Whether that is another than before.
    fn lock(&mut self) -> io::Result<bool> {
        let mut is_other = false;
        loop {
            let open = match self.open.take() {
                Some(open) => open,
                None => {
                    is_other = true;
                    let mut options = OpenOptions::new();
                    let file = options.read(true).append(true).create(true).mode(MODE);
                    Open { file: file.open(&self.path)?, read: 0, compact: 0 }
                }
            };
            open.file.lock()?;
            // Somebody may have put another in its place, or taken it away.
            if fs::metadata(&self.path).is_ok_and(|there| is_same(&there, &open.file)) {
                self.open = Some(open);
                return Ok(is_other);
            }
        }
    }

    /// Puts a file with one line for each of `known` in its place, under the lock.
    fn compact(&mut self, known: &Tallies) -> io::Result<()> {
        let temporary = self.path.with_added_extension("tmp");
        let write = || {
            // Under the lock nobody else writes it: it is left over from a crash.
            let _ = fs::remove_file(&temporary);
            let mut options = OpenOptions::new();
            let file =
                options.read(true).append(true).create_new(true).mode(MODE).open(&temporary)?;
            let mut writer = BufWriter::new(&file);
            for (key, tally) in known {
                write_line(&mut writer, key, tally)?;
            }
            writer.flush()?;
            drop(writer);
            file.sync_all()?;
            fs::rename(&temporary, &self.path)?;
            Ok(file)
        };
        let file: File = write().inspect_err(|_: &io::Error| drop(fs::remove_file(&temporary)))?;
        let length = file.metadata()?.len();
        // The lock is on the one before. Whoever appends to this one meanwhile is read the next time.
        self.open = Some(Open { file, read: length, compact: length });
        Ok(())
    }
}

impl Open {
    /// Adds the lines that were not read yet to `known`. Whether the last is torn, of a process that was killed.
    fn read(&mut self, known: &mut Tallies) -> io::Result<bool> {
        let end = self.file.metadata()?.len();
        self.file.seek(SeekFrom::Start(self.read))?;
        let mut lines = BufReader::new((&self.file).take(end - self.read.min(end)));
        let mut line = Vec::new();
        let mut is_torn = false;
        while lines.read_until(b'\n', &mut line)? > 0 {
            is_torn = !line.ends_with(b"\n");
            // One that was torn, or that somebody broke, tells of nothing.
            if let Ok(Line { key, usage }) = serde_json::from_slice::<Line<Box<str>, Tally>>(&line)
            {
                known.entry(key).or_default().add(usage);
            }
            line.clear();
        }
        if self.compact == 0 {
            self.compact = end;
        }
        self.read = end;
        Ok(is_torn)
    }

    /// Appends a line for each of `new`, all or nothing.
    fn append(&mut self, new: &Tallies, is_torn: bool) -> io::Result<()> {
        if new.is_empty() {
            return Ok(());
        }
        let mut text = Vec::new();
        if is_torn {
            text.push(b'\n');
        }
        for (key, tally) in new {
            write_line(&mut text, key, tally)?;
        }
        let written = (&self.file).write_all(&text);
        // What was written of it would be counted twice.
        written.inspect_err(|_| drop(self.file.set_len(self.read)))?;
        self.read += text.len() as u64;
        Ok(())
    }
}

fn write_line(to: &mut impl io::Write, key: &str, usage: &Tally) -> io::Result<()> {
    serde_json::to_writer(&mut *to, &Line { key, usage })?;
    to.write_all(b"\n")
}

fn is_same(there: &fs::Metadata, file: &File) -> bool {
    file.metadata().is_ok_and(|ours| (ours.dev(), ours.ino()) == (there.dev(), there.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn tallies(entries: &[(&str, u64)]) -> Tallies {
        let tally = |&(id, count): &(&str, u64)| {
            (id.into(), Tally { requests: [0, 0, count, 0, 0, 0], ..Tally::default() })
        };
        entries.iter().map(tally).collect()
    }

    /// A process that writes it.
    struct Process(UsageFile, Tallies);

    impl Process {
        fn on(folder: &Path) -> Self {
            Self(UsageFile::new(&folder.join("keys.usage.jsonl")), Tallies::new())
        }

        fn adds(&mut self, entries: &[(&str, u64)]) {
            let mut new = tallies(entries);
            self.0.exchange(&mut self.1, &mut new, |_| {}).expect("our own file");
            assert!(new.is_empty());
        }

        #[track_caller]
        fn knows(&self, entries: &[(&str, u64)]) {
            assert_eq!(self.1, tallies(entries));
        }
    }

    #[test]
    fn what_several_processes_add_is_known_to_all_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (Process::on(folder.path()), Process::on(folder.path()));
        one.adds(&[("key_a", 1), ("key_b", 2)]);
        other.adds(&[("key_a", 10)]);
        other.knows(&[("key_a", 11), ("key_b", 2)]);
        one.adds(&[]);
        one.knows(&[("key_a", 11), ("key_b", 2)]);
        let mut third = Process::on(folder.path());
        third.adds(&[("key_c", 5)]);
        third.knows(&[("key_a", 11), ("key_b", 2), ("key_c", 5)]);
        let mode = fs::metadata(third.0.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
    }

    #[test]
    fn a_line_that_was_torn_tells_of_nothing_and_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let mut one = Process::on(folder.path());
        one.adds(&[("key_a", 1)]);
        let path = one.0.path().to_owned();
        let whole = fs::read(&path).unwrap();
        let torn = [&whole[..], &whole[..whole.len() / 2]].concat();
        fs::write(&path, torn).unwrap();
        let mut other = Process::on(folder.path());
        other.adds(&[("key_a", 2)]);
        other.knows(&[("key_a", 3)]);
        let mut third = Process::on(folder.path());
        third.adds(&[]);
        third.knows(&[("key_a", 3)]);
    }

    #[test]
    fn a_file_that_has_doubled_is_made_small_while_others_write_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut one, mut other) = (Process::on(folder.path()), Process::on(folder.path()));
        let mut count = 0;
        let mut largest = 0;
        let mut was_small = false;
        for _ in 0..12_000 {
            for process in [&mut one, &mut other] {
                process.adds(&[("key_a", 1)]);
                count += 1;
            }
            let length = fs::metadata(one.0.path()).unwrap().len();
            was_small |= length < largest;
            largest = length.max(largest);
        }
        assert!(was_small && largest < 2 * SMALL_BYTES, "{largest}");
        one.adds(&[]);
        one.knows(&[("key_a", count)]);
        other.adds(&[]);
        other.knows(&[("key_a", count)]);
    }

    #[test]
    fn a_file_that_is_taken_away_or_cannot_be_written_loses_nothing_new() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gone").join("keys.usage.jsonl");
        let (mut file, mut known) = (UsageFile::new(&path), Tallies::new());
        let mut new = tallies(&[("key_a", 1)]);
        assert!(file.exchange(&mut known, &mut new, |_| {}).is_err());
        assert_eq!((new.clone(), known.len()), (tallies(&[("key_a", 1)]), 0));
        fs::create_dir(folder.path().join("gone")).unwrap();
        file.exchange(&mut known, &mut new, |_| {}).unwrap();
        fs::remove_file(&path).unwrap();
        let mut more = tallies(&[("key_a", 5)]);
        file.exchange(&mut known, &mut more, |_| {}).unwrap();
        assert_eq!(known, tallies(&[("key_a", 5)]));
    }
}
