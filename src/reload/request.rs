//! Asking for a reload from another thread, and hearing what came of it.
//!
//! Never here: reading files.

use tokio::sync::{mpsc, oneshot};

use crate::snapshot::Shared;

/// Who asks waits for the answer, so this many can ask at once; one more waits for room.
const ASKING_MAX: usize = 64;

/// What came of a reload that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What is in the files is in force, in this generation.
    InForce(u64),
    /// The files are refused: what was in force before is in force still.
    Refused,
    /// Nobody reloads any more: the process is about to end.
    Ending,
}

/// For who wants the files to be in force; may be cloned.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<Asked>);

/// Where the control plane hears of that.
#[derive(Debug)]
pub struct Requests(mpsc::Receiver<Asked>);

/// Somebody waits for the files to be in force.
#[derive(Debug)]
pub struct Asked(oneshot::Sender<Outcome>);

/// Both ends.
pub fn channel() -> (Reloads, Requests) {
    let (sender, receiver) = mpsc::channel(ASKING_MAX);
    (Reloads(sender), Requests(receiver))
}

impl Reloads {
    /// Waits until the files as they are now are in force, or are refused.
    pub async fn ask(&self) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        if self.0.send(Asked(answer)).await.is_err() {
            return Outcome::Ending;
        }
        outcome.await.unwrap_or(Outcome::Ending)
    }
}

impl Requests {
    /// Waits for the next who asks.
    pub async fn next(&mut self) -> Asked {
        match self.0.recv().await {
            Some(asked) => asked,
            // Without an admin listener nobody ever asks.
            None => std::future::pending().await,
        }
    }
}

impl Asked {
    /// Says what came of the look at the files that was just taken.
    pub fn answer(self, shared: &Shared) {
        let outcome = match shared.reloads().is_refused() {
            false => Outcome::InForce(shared.current().load().generation),
            true => Outcome::Refused,
        };
        // Who went away does not want to know.
        let _ = self.0.send(outcome);
    }
}
