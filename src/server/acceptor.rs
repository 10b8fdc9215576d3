//! Accepting connections, and handing each to the worker that has the fewest.
//!
//! One thread accepts for all workers: a connection lives long, so an even spread is worth more than the
//! hand-over costs. Running out of file descriptors is waited out, and said.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::worker::{Arrival, WorkerHandle};
use super::{Purpose, Stop};
use crate::limit::ConnectionLimit;
use crate::proxy::forwarded::is_trusted;
use crate::snapshot::Shared;

/// How long to wait when accepting fails for want of something the process has run out of.
const PAUSE: Duration = Duration::from_millis(50);
/// How often the same trouble is said.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// Accepts on every listener.
pub(super) struct Acceptor {
    pub(super) listeners: Vec<(TcpListener, Purpose)>,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) limit: ConnectionLimit,
    pub(super) shared: std::sync::Arc<Shared>,
}

impl Acceptor {
    /// Accepts until `stop` changes, and what has arrived by then. Dropping the handles lets the workers drain.
    pub(super) async fn run(self, stop: watch::Receiver<Stop>) {
        let accepts = self
            .listeners
            .iter()
            .map(|(listener, purpose)| self.accept_all(listener, *purpose, stop.clone()));
        join_all(accepts).await;
    }

    async fn accept_all(
        &self,
        listener: &TcpListener,
        purpose: Purpose,
        mut stop: watch::Receiver<Stop>,
    ) {
        let mut trouble = Trouble::default();
        loop {
            if self.limit.is_full() {
                trouble.say("every connection that [server.limits] connections allows is in use; accepting waits");
            }
            let accepted = tokio::select! {
                biased;
                accepted = async {
                    let place = self.limit.wait().await;
                    (place, listener.accept().await)
                } => accepted,
                _ = stop.wait_for(Option::is_some) => return,
            };
            match accepted {
                (place, Ok((stream, peer))) => {
                    self.admit(place, stream, peer, purpose, &mut trouble).await;
                }
                (_, Err(error)) if is_clients_doing(&error) => {}
                (_, Err(error)) => {
                    trouble
                        .say(&format!("a connection could not be accepted, trying again: {error}"));
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn admit(
        &self,
        place: tokio::sync::OwnedSemaphorePermit,
        stream: TcpStream,
        peer: SocketAddr,
        purpose: Purpose,
        trouble: &mut Trouble,
    ) {
        let address = peer.ip().to_canonical();
        let snapshot = self.shared.current().load_full();
        let server = &snapshot.config.server;
        let slot = if is_trusted(&server.trusted_proxies, address) {
            self.limit.admit_trusted(place)
        } else {
            let most = server.limits.connections_per_client;
            let Some(slot) = self.limit.admit(place, address, most) else {
                trouble.say("a client has as many connections as [server.limits] connections_per_client allows; \
                             one more was closed");
                return;
            };
            slot
        };
        let prepared = stream.set_nodelay(true).and_then(|()| stream.into_std());
        match prepared {
            Ok(stream) => {
                let idlest = self.workers.iter().min_by_key(|worker| worker.connections());
                let idlest = idlest.expect("there is at least one worker");
                idlest.hand_over(Arrival { stream, peer, purpose, slot }).await;
            }
            // The client left while it was being accepted.
            Err(error) => tracing::debug!(%error, "a connection was gone before it was served"),
        }
    }
}

/// Whether accepting failed because a client changed its mind: the next one may be fine.
fn is_clients_doing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Says something wrong now and then, however often it happens.
#[derive(Default)]
struct Trouble(Option<Instant>);

impl Trouble {
    fn say(&mut self, what: &str) {
        if self.0.is_none_or(|last| last.elapsed() >= SAY_AGAIN) {
            self.0 = Some(Instant::now());
            tracing::warn!("{what}");
        }
    }
}
