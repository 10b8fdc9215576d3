//! What the control plane asks of the workers, and waits for.
//!
//! Orders go to each worker's own loop, which obeys between two requests: nothing is locked, and nothing waits for the
//! worker's next tick.
//!
//! Never here: a decision about a request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{Sender, channel};
use tokio::time::timeout;

use super::worker::{Measured, Order};

/// How long an end is waited for. Only a client that does not take its last answer needs so long.
const PATIENCE: Duration = Duration::from_secs(2);

/// Gives orders to all workers. Those that have ended have nothing left that an order could be about.
#[derive(Clone, Debug)]
pub struct Control(Arc<[Sender<Order>]>);

/// What was closed because its key is no longer good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closed {
    /// How many requests and tunnels, by key id.
    pub requests: BTreeMap<String, usize>,
    /// How long it took until all of them had ended.
    pub took: Duration,
    /// Whether they had; what is left ends as soon as its client takes the answer, or with its time.
    pub is_whole: bool,
}

impl Control {
    pub(super) fn of(orders: Vec<Sender<Order>>) -> Self {
        Self(orders.into())
    }

    /// Closes what keys hold open that are no longer good in the current snapshot: to be called behind every swap.
    ///
    /// What of a key began before the swap is closed, whatever it is; what begins later is refused.
    pub async fn close_revoked(&self) -> Closed {
        let begun = Instant::now();
        // One message of each worker.
        let (closing, mut closed) = channel(self.0.len());
        let mut answer = Closed::default();
        let gather = async {
            for worker in self.0.iter() {
                let _ = worker.send(Order::CloseRevoked(closing.clone())).await;
            }
            drop(closing);
            // It ends when nobody holds the other side any more: no worker, and no request that is being closed.
            while let Some(of_worker) = closed.recv().await {
                for of_key in of_worker {
                    let id = of_key.identity.key_id().to_owned();
                    *answer.requests.entry(id).or_default() += of_key.requests;
                }
            }
        };
        let is_whole = timeout(PATIENCE, gather).await.is_ok();
        let took = begun.elapsed();
        if !is_whole {
            tracing::warn!(?took, "what a key held open that is no longer good has not ended yet");
        }
        Closed { took, is_whole, ..answer }
    }

    /// Has all workers report what is new of the usage of keys. Behind that, [`Usage::settle`] waits until it is counted.
    ///
    /// [`Usage::settle`]: crate::usage::recorder::Usage::settle
    pub async fn report_usage(&self) {
        let (done, mut is_done) = channel(1);
        let all = async {
            for worker in self.0.iter() {
                let _ = worker.send(Order::ReportUsage(done.clone())).await;
            }
            drop(done);
            while is_done.recv().await.is_some() {}
        };
        // A worker that does not come to it reports later.
        let _ = timeout(PATIENCE, all).await;
    }

    /// What each worker has measured since its start; `None` if one of them does not say.
    pub(super) async fn measure(&self) -> Option<Vec<Measured>> {
        let (sender, mut measured) = channel(self.0.len());
        let all = async {
            for worker in self.0.iter() {
                worker.send(Order::Measure(sender.clone())).await.ok()?;
            }
            drop(sender);
            let mut all = Vec::with_capacity(self.0.len());
            while let Some(of_worker) = measured.recv().await {
                all.push(of_worker);
            }
            Some(all)
        };
        timeout(PATIENCE, all).await.ok()?.filter(|all| all.len() == self.0.len())
    }
}
