//! Whether the chain of the audit log holds, and where it does not.
//!
//! What was edited, removed, put in or moved shows against the lines around it. Who cuts lines off the end, or writes
//! the whole log anew, leaves a chain that holds: that shows only against a head that was noted elsewhere.
//!
//! Never here: mending.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::read::LINE_BYTES_MAX;
use super::{Entry, Hash, line};

/// What is wrong in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Verdict {
    /// How many lines there are.
    pub lines: usize,
    /// The number and the hash of the last one.
    pub head: Option<(u64, Hash)>,
    /// Everything that is wrong, in the order of the lines.
    pub broken: Vec<Broken>,
    /// Bytes of a last line that is not finished: a crash leaves them, and the next change mends it.
    pub unfinished_bytes: usize,
    /// The line that has the hash asked for.
    pub noted_line: Option<usize>,
}

/// Goes over the log at `path`, and looks for the line whose hash was `noted`.
///
/// # Errors
/// It cannot be read.
pub fn verify(path: &Path, noted: Option<&Hash>) -> io::Result<Verdict> {
    let present = sequences(path)?;
    let mut verdict = Verdict::default();
    let mut chain = Chain { present, next: 1, previous: Some(Hash::none()) };
    each_line(path, |text| {
        let Some(text) = text.strip_suffix(b"\n") else {
            verdict.unfinished_bytes = text.len();
            return;
        };
        verdict.lines += 1;
        let line = verdict.lines;
        let broken = &mut verdict.broken;
        let Some(entry) = Entry::parse(text) else {
            broken.push(Broken { line, message: "this is no line of an audit log".to_owned() });
            chain.pass_over();
            return;
        };
        if !line::fits_its_hash(text) {
            let message = format!("number {} was edited: its hash does not fit", entry.sequence);
            broken.push(Broken { line, message });
        }
        broken.extend(chain.follow(&entry).map(|message| Broken { line, message }));
        if noted == Some(&entry.hash) {
            verdict.noted_line = Some(line);
        }
        verdict.head = Some((entry.sequence, entry.hash));
    })?;
    Ok(verdict)
}

/// The chain up to a line.
struct Chain {
    /// The numbers of all lines.
    present: HashSet<u64>,
    next: u64,
    /// The hash of the line before; nothing if that could not be read.
    previous: Option<Hash>,
}

impl Chain {
    /// Goes on behind a line that says nothing of itself.
    fn pass_over(&mut self) {
        self.next += 1;
        self.previous = None;
    }

    /// Goes on to `entry`; what is wrong with how it follows.
    fn follow(&mut self, entry: &Entry) -> Option<String> {
        let number = entry.sequence;
        let expected = self.next;
        let fits = self.previous.as_ref().is_none_or(|previous| *previous == entry.previous);
        let is_missing = |number: &u64| !self.present.contains(number);
        let missing = (expected..number).take(self.present.len() + 1).filter(is_missing).count();
        let fault = match fits {
            true if number == expected => None,
            _ if number > expected && missing > 0 => Some(match number - expected {
                1 => format!("number {expected} is missing before it"),
                _ => format!("numbers {expected} to {} are missing before it", number - 1),
            }),
            _ if number != expected => {
                Some(format!("number {number} is out of order: {expected} belongs here"))
            }
            _ => {
                Some(format!("number {number} does not follow the line before: that was replaced"))
            }
        };
        self.next = number.saturating_add(1);
        self.previous = Some(entry.hash.clone());
        fault
    }
}

fn sequences(path: &Path) -> io::Result<HashSet<u64>> {
    let mut present = HashSet::new();
    each_line(path, |text| {
        let line = text.strip_suffix(b"\n").unwrap_or_default();
        present.extend(Entry::parse(line).map(|entry| entry.sequence));
    })?;
    Ok(present)
}

/// Gives every line of the file, with its end if it has one, to `look`.
fn each_line(path: &Path, mut look: impl FnMut(&[u8])) -> io::Result<()> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut text = Vec::new();
    loop {
        text.clear();
        let limit = LINE_BYTES_MAX as u64 + 1;
        if reader.by_ref().take(limit).read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        if text.len() > LINE_BYTES_MAX {
            return Err(io::Error::other("it holds a line that is none of an audit log"));
        }
        look(&text);
    }
}
