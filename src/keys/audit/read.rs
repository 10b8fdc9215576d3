//! The audit log for those who read it: newest first, a page at a time.
//!
//! Reads behind whoever appends: a line that is not finished yet is not there yet.
//!
//! Never here: whether the chain holds (see [`verify`](super::verify)).

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memmem;
use serde::Serialize;

use super::Entry;
use crate::identity::{KeyId, UserName};

/// Bytes read at once: some hundred lines.
const CHUNK_BYTES: u64 = 64 * 1024;
/// The longest line that is one: a hundred times what a key with all it can have takes.
pub(super) const LINE_BYTES_MAX: usize = 1024 * 1024;

/// Which lines are asked for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// Only those about this key.
    pub key_id: Option<&'a KeyId>,
    /// Only those about keys of this user.
    pub user: Option<&'a UserName>,
    /// Only those before the one with this number.
    pub before: Option<u64>,
    /// So many of them at most.
    pub limit: usize,
}

impl Query<'_> {
    /// Whether a line need not be read: it names neither the key asked for, nor a change that was not made.
    fn passes_over(&self, line: &[u8]) -> bool {
        let holds = |text: &[u8]| memmem::find(line, text).is_some();
        self.key_id.is_some_and(|id| !holds(id.as_str().as_bytes())) && !holds(b"\"undoes\":")
    }

    fn takes(&self, entry: &Entry) -> bool {
        self.before.is_none_or(|before| entry.sequence < before)
            && self.key_id.is_none_or(|id| entry.key_id.as_deref() == Some(id.as_str()))
            && self.user.is_none_or(|user| entry.user() == Some(user.as_str()))
    }
}

/// Some lines.
#[derive(Debug, Default)]
pub struct Page {
    /// The newest first.
    pub entries: Vec<Told>,
    /// What to ask for `before` to get those behind; nothing if there are none.
    pub next: Option<u64>,
    /// How many of the lines passed could not be read: somebody tampered with the log.
    pub unreadable: usize,
}

/// A line, and whether what it tells of was made.
#[derive(Debug, Serialize)]
pub struct Told {
    /// The line.
    #[serde(flatten)]
    pub entry: Entry,
    /// A later line says that the change was not made.
    pub undone: bool,
}

/// Reads lines of the log at `path`; none if there is no log yet.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path, query: &Query<'_>) -> io::Result<Page> {
    let mut page = Page::default();
    let mut file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(page),
        opened => opened?,
    };
    // That a change was not made is said behind it, so it is read before.
    let mut undone = HashSet::new();
    for line in Backward::new(&mut file)? {
        let line = line?;
        if query.passes_over(&line) {
            continue;
        }
        let Some(entry) = Entry::parse(&line) else {
            page.unreadable += 1;
            continue;
        };
        undone.extend(entry.undoes);
        if !query.takes(&entry) {
            continue;
        }
        if page.entries.len() == query.limit {
            page.next = page.entries.last().map(|told| told.entry.sequence);
            break;
        }
        let undone = undone.contains(&entry.change);
        page.entries.push(Told { entry, undone });
    }
    Ok(page)
}

/// The whole lines of a file, without their ends, from the last to the first.
pub(super) struct Backward<'a> {
    file: &'a mut File,
    /// Where what was not read yet ends.
    unread: u64,
    /// What was read and not given yet; begins at `unread` and, between two lines, ends with a line end, unless all
    /// is given.
    read: Vec<u8>,
    end: u64,
}

impl<'a> Backward<'a> {
    pub(super) fn new(file: &'a mut File) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        let mut lines = Self { file, unread: length, read: Vec::new(), end: 0 };
        // What stands behind the last line end is no line.
        let place = lines.find_line_end()?;
        lines.read.truncate(place.map_or(0, |place| place + 1));
        lines.end = lines.unread + lines.read.len() as u64;
        Ok(lines)
    }

    /// Where the last whole line ends.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// The place in `read` of the last line end, after reading as far back as it takes.
    fn find_line_end(&mut self) -> io::Result<Option<usize>> {
        loop {
            if let Some(place) = memchr::memrchr(b'\n', &self.read) {
                return Ok(Some(place));
            }
            if self.unread == 0 {
                return Ok(None);
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("it holds a line that is none of an audit log"));
            }
            let bytes = self.unread.min(CHUNK_BYTES);
            self.unread -= bytes;
            let mut chunk = vec![0; bytes as usize];
            self.file.seek(SeekFrom::Start(self.unread))?;
            self.file.read_exact(&mut chunk)?;
            chunk.append(&mut self.read);
            self.read = chunk;
        }
    }
}

impl Iterator for Backward<'_> {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        // The end of the line to give.
        self.read.pop()?;
        match self.find_line_end() {
            Ok(place) => Some(Ok(self.read.split_off(place.map_or(0, |place| place + 1)))),
            Err(error) => Some(Err(error)),
        }
    }
}
