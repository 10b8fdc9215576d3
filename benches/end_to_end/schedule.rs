//! When requests are due in an open loop: at equal distances, each connection in its turn. A thread of its own waits for
//! the moments, since timers of the runtime have ticks of a millisecond, in which dozens of requests are due.

use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{self, Receiver};

use crate::support::pause;

/// The moments at which one connection's requests are due, each told when it has come.
pub(crate) type Dues = Receiver<Instant>;

/// Begins a schedule of `rate` requests a second for so many connections.
pub(crate) fn begin(
    connections: usize,
    rate: f64,
    start: Instant,
    duration: Duration,
) -> Vec<Dues> {
    let count = (rate * duration.as_secs_f64()) as usize;
    // Room for all that one is ever told: who waits for an answer must not keep the others waiting.
    let each = count / connections + 1;
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..connections).map(|_| mpsc::channel(each)).unzip();
    thread::spawn(move || {
        for (number, sender) in (0..count).zip(senders.iter().cycle()) {
            let due = start + Duration::from_secs_f64(number as f64 / rate);
            let early = due.saturating_duration_since(Instant::now());
            if !early.is_zero() {
                pause(early);
            }
            // A connection that is gone has said why.
            let _ = sender.try_send(due);
        }
    });
    receivers
}
