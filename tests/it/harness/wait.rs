//! Waiting for a condition or a signal. Tests wait for what they need, never for a length of time.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

/// After this long a wait is a failure. Generous: it is met by a hanging proxy, not by a slow machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Polls until `condition` gives something; `what` names it in the failure.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let give_up_at = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < give_up_at, "waited {DEADLINE:?} in vain for {what}");
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks, not the wait")]
        thread::sleep(POLL_INTERVAL);
    }
}

/// A signal from a test to a script, or back.
pub(crate) fn signal() -> (SyncSender<()>, Mutex<Receiver<()>>) {
    let (sender, receiver) = sync_channel(1);
    (sender, Mutex::new(receiver))
}

pub(crate) fn wait(receiver: &Mutex<Receiver<()>>) {
    let receiver = receiver.lock().expect("one script waits at a time");
    receiver.recv_timeout(DEADLINE).expect("the other side comes to its signal");
}
