//! What the benches that start processes share: children that end with us, a key ring, an upstream,
//! a blocking client, statistics and the machine's name. Nothing here measures.

pub(crate) mod child;
pub(crate) mod client;
pub(crate) mod keyring;
pub(crate) mod keyward;
pub(crate) mod machine;
pub(crate) mod settings;
pub(crate) mod stats;
pub(crate) mod upstream;

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

/// What any step of a bench may fail with: the text says which step, and the bench ends.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Runs the bench `name`, and says what it failed with. `part` is what the process does instead where its arguments say
/// so: a bench may start itself to play a part.
pub(crate) fn run(
    name: &str,
    part: impl FnOnce(&[&str]) -> Option<Result<(), Failure>>,
    bench: impl FnOnce() -> Result<(), Failure>,
) -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match part(&arguments) {
        Some(done) => done,
        // `cargo test --benches` runs benches without it, and wants to know that they build.
        None if !arguments.contains(&"--bench") => Ok(()),
        None => bench(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Waits between two looks at what has no event to wait for: a process that starts or ends, and a
/// holder who asks again.
#[expect(clippy::disallowed_methods, reason = "a bench's own pace, on a thread that serves nobody")]
pub(crate) fn pause(duration: Duration) {
    thread::sleep(duration);
}
