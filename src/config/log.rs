//! Where the access log goes, and how.
//!
//! Never here: writing it.

use std::path::PathBuf;

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// Where access records go.
    pub access: AccessLog,
    /// How access and error records are written.
    pub format: LogFormat,
    /// What happens when the log cannot be written as fast as requests come.
    pub on_overflow: OnOverflow,
}

/// `[log] access`
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessLog {
    /// `"off"`
    Off,
    /// `"stdout"`, the default
    Stdout,
    /// `"stderr"`
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

/// `[log] format`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// One line of text.
    Text,
}

/// `[log] on_overflow`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOverflow {
    /// Requests wait for the log: no line is lost.
    #[default]
    Block,
    /// Lines are dropped, and counted in the log.
    Drop,
}
