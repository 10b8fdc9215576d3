//! The command line: what can be asked for, who does it, and how its end is told.
//!
//! Results go to standard output and everything else to standard error; the exit code is 0 if all went
//! well, 1 if something failed, 2 for wrong usage or configuration.
//!
//! Never here: a secret taken from an argument.

mod audit;
mod check;
mod demo;
mod doctor;
mod failure;
mod init;
mod json;
mod keys;
mod making;
mod operator;
mod serve;
mod table;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::core_dumps::{self, Inherited};
use failure::Failure;

/// An authenticating reverse proxy: only requests with a valid API key for an allowed role reach your
/// service.
#[derive(Debug, Parser)]
#[command(name = "keyward", version, max_term_width = 100)]
pub struct Cli {
    /// The configuration file.
    #[arg(long, global = true, value_name = "PATH", default_value = "config/keyward.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin: write a configuration and make the first key, which is printed once.
    Init(init::Init),
    /// Serve: authenticate, authorize and forward requests until SIGTERM.
    Serve,
    /// Check the configuration and the keys, and show what would be served.
    Check(check::Check),
    /// Look for leaks: canary keys through every path of the configuration, then a search of all that was written.
    Doctor(doctor::Doctor),
    /// Make, list and switch off keys.
    #[command(subcommand)]
    Keys(keys::Command),
    /// See who changed which key, and whether the log of it was tampered with.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Try keyward in two minutes: a small service, a configuration, keys, and curl lines to copy.
    Demo {
        /// Where to serve; a free port is taken instead when this one is not free.
        #[arg(long, default_value_t = demo::PORT)]
        port: u16,
    },
    /// Print the completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page.
    Man {
        /// Write a page for every command into this folder instead.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// Does what `cli` asks for.
pub fn run(cli: Cli) -> ExitCode {
    // Nearly every command reads a key or makes one.
    let done = core_dumps::forbid().map_err(Failure::Io);
    match done.and_then(|inherited| dispatch(cli, inherited)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            // With standard error closed the exit code is all that is left to say.
            let _ = failure.write(&mut anstream::stderr().lock());
            failure.exit_code()
        }
    }
}

fn dispatch(cli: Cli, inherited: Inherited) -> Result<(), Failure> {
    match cli.command {
        Command::Init(init) => init::run(init, &cli.config),
        Command::Serve => serve::run(&cli.config, inherited),
        Command::Check(check) => check::run(&check, &cli.config),
        Command::Doctor(doctor) => doctor::run(&doctor, &cli.config),
        Command::Keys(command) => keys::run(command, &cli.config),
        Command::Audit(command) => audit::run(&command, &cli.config),
        Command::Demo { port } => demo::run(port, inherited),
        Command::Completions { shell } => completions(shell),
        Command::Man { dir } => man(dir),
    }
}

fn completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "keyward", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

fn man(dir: Option<PathBuf>) -> Result<(), Failure> {
    match dir {
        Some(dir) => Ok(clap_mangen::generate_to(Cli::command(), dir)?),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page)?;
            Ok(io::stdout().write_all(&page)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
