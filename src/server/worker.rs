//! A worker: a thread with a runtime of its own, its own connections, upstream pool and log buffer.
//! A request never crosses a thread.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::connection::ConnectionInfo;
use super::{Purpose, Stop, handshake, http1, http2};
use crate::limit::{ConnectionSlot, TunnelLimit};
use crate::proxy::Proxy;
use crate::proxy::in_flight::Closing;
use crate::snapshot::Shared;
use crate::telemetry::access_log::WorkerLog;
use crate::telemetry::metrics::cell::Counts;
use crate::tls::Protocol;
use crate::usage::recorder::Reports;

/// How often a worker looks after what no request looks after.
const TICK: Duration = Duration::from_millis(100);
/// Connections on their way to a worker; the acceptor waits when there are more.
const ARRIVING: usize = 1024;

/// A connection on its way to a worker.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) purpose: Purpose,
    pub(super) slot: ConnectionSlot,
}

/// The acceptor's side of a worker.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    arrivals: Sender<Arrival>,
    connections: Arc<AtomicUsize>,
}

/// What the control plane asks of a worker (see [`Control`](super::control::Control)).
#[derive(Debug)]
pub(super) enum Order {
    /// Close what keys hold open that are no longer good.
    CloseRevoked(Closing),
    /// Report what is new of the usage of keys, and let go of the sender.
    ReportUsage(Sender<()>),
    /// Send what was measured.
    Measure(Sender<Measured>),
}

/// What a worker has measured since its start.
#[derive(Debug)]
pub(super) struct Measured {
    /// Its number.
    pub(super) worker: usize,
    pub(super) counts: Counts,
    pub(super) connections_open: usize,
    pub(super) connections_taken: u64,
}

/// Orders on their way to a worker; whoever gives more waits.
const ORDERS: usize = 16;

impl WorkerHandle {
    /// Open connections, those on their way too.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Hands a connection over; waits while the worker is swamped.
    pub(super) async fn hand_over(&self, arrival: Arrival) {
        self.connections.fetch_add(1, Ordering::Relaxed);
        // A worker that is gone is one that drains: its listener closes too.
        let _ = self.arrivals.send(arrival).await;
    }
}

/// What is left of a worker's connections once the handle is dropped.
pub(super) struct Worker {
    arrivals: Receiver<Arrival>,
    orders: Receiver<Order>,
    number: usize,
    connections: Arc<AtomicUsize>,
    /// How many there were.
    taken: Cell<u64>,
}

/// The worker with this number, the acceptor's side of it, and the control plane's.
pub(super) fn parts(number: usize) -> (WorkerHandle, Sender<Order>, Worker) {
    let (sender, arrivals) = channel(ARRIVING);
    let (give_order, orders) = channel(ORDERS);
    let connections = Arc::new(AtomicUsize::new(0));
    (
        WorkerHandle { arrivals: sender, connections: Arc::clone(&connections) },
        give_order,
        Worker { arrivals, orders, number, connections, taken: Cell::new(0) },
    )
}

impl Worker {
    /// Serves what arrives until nothing can arrive any more; then drains, for as long as `stop` says.
    /// Returns how many connections were cut.
    pub(super) fn run(
        mut self,
        shared: &Shared,
        tunnels: Arc<TunnelLimit>,
        log: WorkerLog,
        reports: Reports,
        stop: &watch::Receiver<Stop>,
    ) -> io::Result<usize> {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
        let proxy = Proxy::new(shared, tunnels, log, reports).map_err(io::Error::other)?;
        let proxy = Rc::new(proxy);
        let siblings = Rc::new(Siblings::default());
        runtime.block_on(async {
            self.serve(&proxy, &siblings).await;
            siblings.leave();
            self.finish(&proxy, stop).await;
        });
        let cut = self.connections.load(Ordering::Relaxed);
        // What is still in flight is cut, and counted.
        drop(runtime);
        proxy.finish();
        Ok(cut)
    }

    async fn serve(&mut self, proxy: &Rc<Proxy>, siblings: &Rc<Siblings>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                arrival = self.arrivals.recv() => match arrival {
                    Some(arrival) => self.spawn(arrival, proxy, siblings),
                    None => return,
                },
                Some(order) = self.orders.recv() => self.obey(order, proxy),
                now = tick.tick() => proxy.tick(now.into_std()),
            }
        }
    }

    fn spawn(&self, arrival: Arrival, proxy: &Rc<Proxy>, siblings: &Rc<Siblings>) {
        let Arrival { stream, peer, purpose, slot } = arrival;
        self.taken.set(self.taken.get() + 1);
        let open = Open { _slot: slot, connections: Arc::clone(&self.connections) };
        let (proxy, siblings) = (Rc::clone(proxy), Rc::clone(siblings));
        tokio::task::spawn_local(async move {
            let _open = open;
            let stream = match tokio::net::TcpStream::from_std(stream) {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::error!(%error, "a connection could not be taken over");
                    return;
                }
            };
            let opened = handshake::open(stream, peer, purpose, &proxy, &siblings).await;
            let Some(opened) = opened else { return };
            match opened.protocol {
                Protocol::Http1 => http1::serve(opened, purpose, proxy, siblings).await,
                // Boxed, so that a connection of HTTP/1 does not carry the room for it.
                Protocol::Http2 => Box::pin(http2::serve(opened, purpose, proxy, siblings)).await,
            }
        });
    }

    async fn finish(&mut self, proxy: &Proxy, stop: &watch::Receiver<Stop>) {
        let is_time_left = || stop.borrow().is_none_or(|end| Instant::now() < end);
        while self.connections.load(Ordering::Relaxed) > 0 && is_time_left() {
            tokio::select! {
                Some(order) = self.orders.recv() => self.obey(order, proxy),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
            proxy.tick(Instant::now());
        }
    }

    fn obey(&self, order: Order, proxy: &Proxy) {
        match order {
            Order::CloseRevoked(closing) => proxy.close_revoked(&closing),
            Order::ReportUsage(done) => {
                proxy.report_usage();
                drop(done);
            }
            Order::Measure(measured) => {
                // There is room for one of each worker; who asked may have stopped waiting.
                let _ = measured.try_send(Measured {
                    worker: self.number,
                    counts: proxy.counts(),
                    connections_open: self.connections.load(Ordering::Relaxed),
                    connections_taken: self.taken.get(),
                });
            }
        }
    }
}

/// Counts a connection as open until it is dropped.
struct Open {
    _slot: ConnectionSlot,
    connections: Arc<AtomicUsize>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What a worker's connections know of each other.
#[derive(Debug, Default)]
pub(super) struct Siblings {
    are_leaving: Cell<bool>,
    /// Streams of HTTP/2 that are open.
    pub(super) streams: Cell<usize>,
    registered: RefCell<HashMap<u64, Rc<ConnectionInfo>>>,
    next: Cell<u64>,
}

impl Siblings {
    /// Whether no more requests are taken.
    pub(super) fn are_leaving(&self) -> bool {
        self.are_leaving.get()
    }

    /// Has `connection` woken when they leave, until the registration is dropped.
    pub(super) fn register(self: &Rc<Self>, connection: &Rc<ConnectionInfo>) -> Registration {
        let number = self.next.get();
        self.next.set(number + 1);
        self.registered.borrow_mut().insert(number, Rc::clone(connection));
        Registration { siblings: Rc::clone(self), number }
    }

    fn leave(&self) {
        self.are_leaving.set(true);
        for connection in self.registered.borrow().values() {
            connection.deadline().wake_driver();
        }
    }
}

/// A place among those that are woken.
pub(super) struct Registration {
    siblings: Rc<Siblings>,
    number: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.siblings.registered.borrow_mut().remove(&self.number);
    }
}
