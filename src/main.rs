//! The `keyward` program: parse the arguments, run, and say by the exit code how it went.

use std::process::ExitCode;

use clap::Parser;
use keyward::cli::{self, Cli};
use mimalloc::MiMalloc;

/// A request makes some ten small allocations; see benches/end_to_end for what this one saves.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run(Cli::parse())
}
