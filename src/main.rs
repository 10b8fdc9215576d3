//! The `keyward` program: parse the arguments, run, and say by the exit code how it went.

use std::process::ExitCode;

use clap::Parser;
use keyward::cli::{self, Cli};

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
