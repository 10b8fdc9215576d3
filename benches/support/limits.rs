//! How much of what the system counts a bench may have, beyond what is usual.

use std::fs;
use std::process::{self, Command};

use crate::support::Failure;

/// As many file descriptors as are allowed, for this process and all that it starts.
pub(crate) fn raise_files() -> Result<(), Failure> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let hard =
        line.and_then(|line| line.split_ascii_whitespace().nth(4)).ok_or("no limit of files")?;
    let process = process::id().to_string();
    let limit = format!("--nofile={hard}:{hard}");
    let raised = Command::new("prlimit").args(["--pid", &process, &limit]).status()?;
    match raised.success() {
        true => Ok(()),
        false => Err("prlimit of util-linux could not raise the limit of open files".into()),
    }
}
