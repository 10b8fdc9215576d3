//! The data plane: one thread that accepts, and workers that serve.
//!
//! [`start`] binds and starts everything; [`Server::stop`] closes the listeners, lets what is in flight end, and
//! says what had to be cut.
//!
//! Never here: what is done with a connection (see [`connection`]) or a request.

mod acceptor;
mod answer;
pub mod body;
pub mod connection;
pub mod control;
mod handshake;
mod http1;
mod http2;
pub mod listeners;
pub mod metrics;
mod patience;
pub mod peer;
#[doc(hidden)]
pub mod proxy_protocol;
#[doc(hidden)]
pub mod request;
mod sending;
#[cfg(test)]
mod tests;
mod transport;
mod wire;
mod worker;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::sync::{oneshot, watch};

use crate::limit::{ConnectionLimit, TunnelLimit};
use crate::panics;
use crate::snapshot::Shared;
use crate::telemetry::access_log::{AccessLog, DroppedLines};
use crate::usage::recorder::{Reports, Usage};
use acceptor::Acceptor;
use control::Control;
use listeners::Listeners;
use metrics::Metrics;

/// What is done with the connections to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    /// Their requests are served; over TLS if there is a certificate.
    Serve,
    /// They are in clear, and are told to come back by https at `port`.
    Redirect { port: u16 },
}

/// A running data plane.
#[derive(Debug)]
pub struct Server {
    addresses: Vec<SocketAddr>,
    redirecting: Vec<SocketAddr>,
    /// Those the acceptor listens on, for a process that takes over.
    sockets: Vec<TcpListener>,
    control: Control,
    connections_limit: usize,
    tunnels: Arc<TunnelLimit>,
    stop: watch::Sender<Stop>,
    acceptor: JoinHandle<()>,
    workers: Vec<JoinHandle<io::Result<usize>>>,
}

/// When what is in flight must have ended; `None` while connections are accepted.
type Stop = Option<Instant>;

/// A data plane that takes no more connections, and lets what is in flight end.
#[derive(Debug)]
pub struct Stopping {
    stop: watch::Sender<Stop>,
    cut: oneshot::Receiver<io::Result<usize>>,
}

type Listener = (TcpListener, Purpose);

/// Binds the addresses of the current configuration, but those that there are `sockets` for, and serves on them.
///
/// # Errors
/// An address cannot be bound (the error names it), or a thread cannot be had.
pub fn start(
    shared: &Arc<Shared>,
    log: &AccessLog,
    reports: &Reports,
    mut sockets: Listeners,
) -> io::Result<Server> {
    let snapshot = shared.current().load_full();
    let server = &snapshot.config.server;
    let (mut listeners, addresses) = listen_on(&server.listen, Purpose::Serve, &mut sockets)?;
    let mut redirecting = Vec::new();
    if let Some(redirect) = &server.redirect {
        let purpose = Purpose::Redirect { port: redirect.port };
        let (more, addresses) = listen_on(&redirect.listen, purpose, &mut sockets)?;
        listeners.extend(more);
        redirecting = addresses;
    }
    sockets.finish()?;
    let sockets = listeners.iter().map(|(socket, _)| socket.try_clone());
    let sockets = sockets.collect::<io::Result<_>>()?;
    let (stop, stopped) = watch::channel(None);
    let mut handles = Vec::new();
    let mut orders = Vec::new();
    let mut workers = Vec::new();
    let tunnels = Arc::new(TunnelLimit::default());
    for number in 0..server.workers.get() {
        let (handle, give_order, worker) = worker::parts(number);
        let (shared, tunnels) = (Arc::clone(shared), Arc::clone(&tunnels));
        let (log, reports, stopped) = (log.worker(), reports.clone(), stopped.clone());
        let run = move || worker.run(&shared, tunnels, log, reports, &stopped);
        workers.push(panics::spawn_vital(format!("worker-{number}"), run)?);
        handles.push(handle);
        orders.push(give_order);
    }
    let connections_limit = server.limits.connections;
    let limit = ConnectionLimit::new(connections_limit);
    let shared = Arc::clone(shared);
    let accept = move || accept(listeners, handles, limit, shared, stopped);
    let acceptor = panics::spawn_vital("acceptor", accept)?;
    let control = Control::of(orders);
    Ok(Server {
        addresses,
        redirecting,
        sockets,
        control,
        connections_limit,
        tunnels,
        stop,
        acceptor,
        workers,
    })
}

impl Server {
    /// Where it listens; a port 0 of the configuration is a real one here.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where it sends clients to https.
    pub fn redirecting(&self) -> &[SocketAddr] {
        &self.redirecting
    }

    /// What can be asked of its workers, as long as they run.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// What is measured of it, with what others know.
    pub fn metrics(&self, shared: &Arc<Shared>, usage: &Usage, dropped: DroppedLines) -> Metrics {
        let limits = (self.connections_limit, Arc::clone(&self.tunnels));
        Metrics::new(self.control(), Arc::clone(shared), limits, usage.clone(), dropped)
    }

    /// The sockets it listens on, for a process that takes over.
    ///
    /// # Errors
    /// The process has no file descriptors left.
    pub fn sockets(&self) -> io::Result<Vec<TcpListener>> {
        self.sockets.iter().map(TcpListener::try_clone).collect()
    }

    /// Stops: no new connections, requests in flight end until `end`, idle connections close.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub fn stop(self, end: Instant) -> io::Result<Stopping> {
        let Self { sockets, stop, acceptor, workers, .. } = self;
        drop(sockets);
        stop.send_replace(Some(end));
        let (sender, cut) = oneshot::channel();
        let join = move || {
            // Who no longer wants to know does not.
            let _ = sender.send(join(acceptor, workers));
        };
        thread::Builder::new().name("stopping".to_owned()).spawn(join)?;
        Ok(Stopping { stop, cut })
    }
}

impl Stopping {
    /// What is in flight must end at `end` already, if that is earlier.
    pub fn hurry(&self, end: Instant) {
        self.stop.send_modify(|until| *until = until.map(|until| until.min(end)));
    }

    /// Waits for the end; how many connections had to be cut.
    ///
    /// # Errors
    /// A worker could not run.
    pub async fn cut(&mut self) -> io::Result<usize> {
        (&mut self.cut)
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the end was not waited for")))
    }
}

fn join(
    acceptor: JoinHandle<()>,
    workers: Vec<JoinHandle<io::Result<usize>>>,
) -> io::Result<usize> {
    // Whoever panicked, the others end in good order.
    let accepted = acceptor.join().map_err(|_| io::Error::other("the acceptor panicked"));
    let ends: Vec<_> = workers.into_iter().map(JoinHandle::join).collect();
    accepted?;
    let mut cut = 0;
    for end in ends {
        cut += end.map_err(|_| io::Error::other("a worker panicked"))??;
    }
    Ok(cut)
}

/// The sockets, and where each really listens.
fn listen_on(
    addresses: &[SocketAddr],
    purpose: Purpose,
    sockets: &mut Listeners,
) -> io::Result<(Vec<Listener>, Vec<SocketAddr>)> {
    let listeners = addresses.iter().map(|&address| sockets.listen(address));
    let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
    let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
    Ok((listeners.into_iter().map(|listener| (listener, purpose)).collect(), addresses))
}

fn accept(
    listeners: Vec<Listener>,
    workers: Vec<worker::WorkerHandle>,
    limit: ConnectionLimit,
    shared: Arc<Shared>,
    stop: watch::Receiver<Stop>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let run = |runtime: tokio::runtime::Runtime| {
        runtime.block_on(async {
            let listeners = listeners.into_iter().map(|(listener, purpose)| {
                Ok((tokio::net::TcpListener::from_std(listener)?, purpose))
            });
            let listeners = listeners.collect::<io::Result<Vec<_>>>()?;
            Acceptor { listeners, workers, limit, shared }.run(stop).await;
            Ok(())
        })
    };
    if let Err(error) = runtime.and_then(run) {
        tracing::error!(%error, "connections can no longer be accepted");
    }
}
