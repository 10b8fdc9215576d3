//! Faults in a file, shown where they are: file, line, column, a caret under the value, and a remedy.
//!
//! Never here: what is right or wrong in a file; the readers of the configuration and the key file know.
//! A fault's texts must never quote key material.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A file's name and text, for faults to point into.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name that is shown.
    pub path: PathBuf,
    /// Its whole text, as it was read.
    pub text: String,
}

/// One thing that is wrong (or, in a warning, hardly meant).
#[derive(Clone, Debug)]
pub struct Fault {
    /// The bytes of the source it is about; `None` for the file as a whole (unreadable, say).
    pub span: Option<Range<usize>>,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to write instead or to do.
    pub help: Option<String>,
}

/// Whether a report stops a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Every fault found in one or more files.
#[derive(Clone, Debug, Default)]
pub struct Report {
    entries: Vec<(Severity, Source, Vec<Fault>)>,
}
