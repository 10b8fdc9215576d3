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

use std::thread;
use std::time::Duration;

/// What any step of a bench may fail with: the text says which step, and the bench ends.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// Waits between two looks at what has no event to wait for: a process that starts or ends, and a
/// holder who asks again.
#[expect(clippy::disallowed_methods, reason = "a bench's own pace, on a thread that serves nobody")]
pub(crate) fn pause(duration: Duration) {
    thread::sleep(duration);
}
