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
    self, BufRead, BufReader, BufWriter, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _,
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

/// What was read of it.
#[derive(Debug)]
pub(super) struct Read {
    /// Whether this is all of it: it is another file than before.
    pub(super) is_anew: bool,
    /// And else what others have appended.
    pub(super) tallies: Tallies,
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

/// All that the file holds at the hour `now`; nothing if there is none.
pub(super) fn load(path: &Path, now: u64) -> io::Result<Tallies> {
    let mut tallies = Tallies::new();
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(tallies),
        opened => opened?,
    };
    // Nobody is in the midst of a line then.
    file.lock_shared()?;
    read_lines(BufReader::new(&file), &mut tallies)?;
    tallies.values_mut().for_each(|tally| tally.forget_before(now));
    Ok(tallies)
}

impl UsageFile {
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Appends `new`, and gives back what was in the file before and had not been read yet. On an error, nothing was
    /// appended. What is older than the hour `now` allows is left out where the file is made small.
    pub(super) fn exchange(&mut self, new: &Tallies, now: u64) -> io::Result<Read> {
        let is_anew = self.lock()?;
        let open = self.open.as_mut().expect("it was locked");
        let mut tallies = Tallies::new();
        let done = open.read(&mut tallies).and_then(|is_torn| open.append(new, is_torn));
        if done.is_ok() && open.read > SMALL_BYTES && open.read / 2 > open.compact {
            // What was appended is safe: one that cannot be made small is tried again.
            if let Err(error) = self.compact(now) {
                let path = self.path.display();
                tracing::warn!(%path, %error, "the usage of keys grows, for its file cannot be replaced");
            }
        }
        match (&done, &self.open) {
            // What was read of it in part would be read once more.
            (Err(_), _) => self.open = None,
            // Closing unlocks, too.
            (Ok(()), Some(open)) => drop(open.file.unlock()),
            (Ok(()), None) => {}
        }
        done.map(|()| Read { is_anew, tallies })
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

    /// Puts a file with one line a key in its place, under the lock.
    fn compact(&mut self, now: u64) -> io::Result<()> {
        let temporary = self.path.with_added_extension("tmp");
        let file = self.write_compact(&temporary, now).inspect_err(|_| {
            // The next try would remove it, too.
            let _ = fs::remove_file(&temporary);
        })?;
        let length = file.metadata()?.len();
        // The lock was on the one before, and whoever waits for that finds this one.
        self.open = Some(Open { file, read: length, compact: length });
        Ok(())
    }

    fn write_compact(&self, temporary: &Path, now: u64) -> io::Result<File> {
        let mut all = Tallies::new();
        let file = File::open(&self.path)?;
        read_lines(BufReader::new(&file), &mut all)?;
        // Under the lock nobody else writes it: it is left over from a crash.
        let _ = fs::remove_file(temporary);
        let mut options = OpenOptions::new();
        let file = options.read(true).append(true).create_new(true).mode(MODE).open(temporary)?;
        let mut writer = BufWriter::new(&file);
        for (key, mut tally) in all {
            tally.forget_before(now);
            write_line(&mut writer, &key, &tally)?;
        }
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        fs::rename(temporary, &self.path)?;
        Ok(file)
    }
}

impl Open {
    /// Adds the lines that were not read yet to `known`. Whether the last is torn.
    fn read(&mut self, known: &mut Tallies) -> io::Result<bool> {
        let end = self.file.metadata()?.len();
        self.file.seek(SeekFrom::Start(self.read))?;
        let lines = BufReader::new((&self.file).take(end.saturating_sub(self.read)));
        let is_torn = read_lines(lines, known)?;
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

/// Adds every line. Whether the last is torn, of a process that was killed.
fn read_lines(mut lines: impl BufRead, known: &mut Tallies) -> io::Result<bool> {
    let mut line = Vec::new();
    let mut is_torn = false;
    while lines.read_until(b'\n', &mut line)? > 0 {
        is_torn = !line.ends_with(b"\n");
        // One that was torn, or that somebody broke, tells of nothing.
        if let Ok(Line { key, usage }) = serde_json::from_slice::<Line<Box<str>, Tally>>(&line) {
            known.entry(key).or_default().add(usage);
        }
        line.clear();
    }
    Ok(is_torn)
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
            self.try_add(entries).expect("our own file");
        }

        fn try_add(&mut self, entries: &[(&str, u64)]) -> io::Result<()> {
            let read = self.0.exchange(&tallies(entries), 0)?;
            if read.is_anew {
                self.1.clear();
            }
            for (id, tally) in read.tallies.into_iter().chain(tallies(entries)) {
                self.1.entry(id).or_default().add(tally);
            }
            Ok(())
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
        assert_eq!(load(third.0.path(), 0).unwrap(), third.1);
        assert_eq!(load(&folder.path().join("none"), 0).unwrap(), Tallies::new());
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
        let mut one = Process::on(&folder.path().join("gone"));
        assert!(one.try_add(&[("key_a", 1)]).is_err());
        one.knows(&[]);
        fs::create_dir(folder.path().join("gone")).unwrap();
        one.adds(&[("key_a", 1)]);
        one.knows(&[("key_a", 1)]);
        fs::remove_file(one.0.path()).unwrap();
        one.adds(&[("key_a", 5)]);
        one.knows(&[("key_a", 5)]);
    }
}
