//! Asking for a reload from another thread, and hearing what came of it.
//!
//! Never here: reading files.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::server::control::Closed;
use crate::snapshot::Shared;

/// Who asks waits for the answer, so this many can ask at once; one more waits for room.
const ASKING_MAX: usize = 64;
/// Of so many reloads it is known what they closed. Whoever asks has changed a file just now, and at most a few came since.
const SETTLED_MAX: usize = 8;

/// What came of a reload that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What is in the files is in force.
    InForce(InForce),
    /// The files are refused: what was in force before is in force still.
    Refused,
    /// Nobody reloads any more: the process is about to end.
    Ending,
}

/// A change that holds from the next request on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// The generation that is in force.
    pub generation: u64,
    /// How many requests and tunnels of the key were closed, for it is no longer good.
    pub closed: usize,
    /// How long it took until they, and those of other keys that ended with the same reload, had ended.
    pub took: Duration,
    /// Whether they had; what is left ends as soon as its client takes the answer, or with its time.
    pub is_whole: bool,
}

/// For who wants the files to be in force; may be cloned.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<Asked>);

/// Where the control plane hears of that.
#[derive(Debug)]
pub struct Requests {
    asked: mpsc::Receiver<Asked>,
    /// What reloads closed, by the generation they brought, the newest last.
    settled: VecDeque<(u64, Closed)>,
}

/// Somebody waits for the files to be in force.
#[derive(Debug)]
pub struct Asked {
    key_id: String,
    /// The generation that was in force before the change.
    before: u64,
    answer: oneshot::Sender<Outcome>,
}

/// Both ends.
pub fn channel() -> (Reloads, Requests) {
    let (sender, asked) = mpsc::channel(ASKING_MAX);
    (Reloads(sender), Requests { asked, settled: VecDeque::new() })
}

impl Reloads {
    /// Waits until the files as they are now are in force, or are refused. The key with this id was changed since the
    /// generation `before`.
    pub async fn ask(&self, key_id: &str, before: u64) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let asked = Asked { key_id: key_id.to_owned(), before, answer };
        if self.0.send(asked).await.is_err() {
            return Outcome::Ending;
        }
        outcome.await.unwrap_or(Outcome::Ending)
    }
}

impl Requests {
    /// Waits for the next who asks.
    pub async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            // Without an admin listener nobody ever asks.
            None => std::future::pending().await,
        }
    }

    /// The reload that brought `generation` has closed this. Whoever changed a file may ask only then: the change of the
    /// file is seen without them, too.
    pub fn settled(&mut self, generation: u64, closed: Closed) {
        if self.settled.len() == SETTLED_MAX {
            self.settled.pop_front();
        }
        self.settled.push_back((generation, closed));
    }

    /// Says what came of the look at the files that was just taken, and of those since the change.
    pub fn answer(&self, asked: Asked, shared: &Shared) {
        let outcome = match shared.reloads().is_refused() {
            true => Outcome::Refused,
            false => Outcome::InForce(self.in_force(&asked, shared.current().load().generation)),
        };
        // Who went away does not want to know.
        let _ = asked.answer.send(outcome);
    }

    fn in_force(&self, asked: &Asked, generation: u64) -> InForce {
        let nothing = InForce { generation, closed: 0, took: Duration::ZERO, is_whole: true };
        let since = self.settled.iter().filter(|(generation, _)| *generation > asked.before);
        since.fold(nothing, |sum, (_, closed)| InForce {
            closed: sum.closed + closed.requests.get(&asked.key_id).copied().unwrap_or_default(),
            took: sum.took.max(closed.took),
            is_whole: sum.is_whole && closed.is_whole,
            ..sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_closed_since_the_change_is_told_of_its_key() {
        let (_reloads, mut requests) = channel();
        let closed = |id: &str, requests, took_ms| Closed {
            requests: [(id.to_owned(), requests)].into(),
            took: Duration::from_millis(took_ms),
            is_whole: true,
        };
        requests.settled(3, closed("key_a", 5, 50));
        requests.settled(4, closed("key_a", 2, 7));
        requests.settled(5, Closed { is_whole: false, ..closed("key_b", 1, 9) });
        let check = |key_id: &str, before, expect| {
            let (answer, _) = oneshot::channel();
            let asked = Asked { key_id: key_id.to_owned(), before, answer };
            let InForce { generation, closed, took, is_whole } = requests.in_force(&asked, 5);
            assert_eq!((generation, closed, took.as_millis(), is_whole), expect);
        };
        check("key_a", 3, (5, 2, 9, false));
        check("key_a", 2, (5, 7, 50, false));
        check("key_b", 4, (5, 1, 9, false));
        check("key_c", 5, (5, 0, 0, true));
    }

    #[test]
    fn only_the_last_reloads_are_remembered() {
        let (_reloads, mut requests) = channel();
        (0..100).for_each(|generation| requests.settled(generation, Closed::default()));
        assert_eq!((requests.settled.len(), requests.settled[0].0), (SETTLED_MAX, 92));
    }
}
