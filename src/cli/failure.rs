//! How a command can fail, what it says then, and the exit code that tells scripts.
//!
//! Never here: a secret; what is said was written by the parts that failed.

use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::diagnostics::Report;
use crate::keys::store::{AddFault, StoreError};

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration or the key file has faults. Exit code 2.
    Report(Report),
    /// The command cannot be meant like this. Exit code 2.
    Usage(String),
    /// It was meant well and failed. Exit code 1.
    Failed(String),
    /// The answer, already given, is no. Exit code 1.
    No,
    /// Input or output broke. Exit code 1, but 0 if the reader of standard output had enough.
    Io(io::Error),
}

impl Failure {
    /// Says it.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Report(report) => write!(to, "{}", report.render(true)),
            Self::Usage(message) | Self::Failed(message) => write_error(to, message),
            Self::Io(error) if error.kind() != ErrorKind::BrokenPipe => {
                write_error(to, &error.to_string())
            }
            Self::No | Self::Io(_) => Ok(()),
        }
    }

    /// The exit code it ends in.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Report(_) | Self::Usage(_) => ExitCode::from(2),
            Self::Io(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            Self::Failed(_) | Self::No | Self::Io(_) => ExitCode::from(1),
        }
    }
}

fn write_error(to: &mut impl Write, message: &str) -> io::Result<()> {
    let style: Style = AnsiColor::Red.on_default().bold();
    writeln!(to, "{style}error{style:#}: {message}")
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self::Report(report)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Faults(report) => Self::Report(report),
            StoreError::Refused(ref faults)
                if faults.iter().any(|(_, fault)| matches!(fault, AddFault::UnknownRole(_))) =>
            {
                Self::Usage(error.to_string())
            }
            StoreError::NoSuchKey => {
                Self::Failed(format!("{error}; `keyward keys list` shows the ids there are"))
            }
            StoreError::StillEnabled(_) => {
                Self::Failed(format!("{error}, or delete it at once with --force"))
            }
            error => Self::Failed(error.to_string()),
        }
    }
}
