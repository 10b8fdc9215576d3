//! Where keys are managed: the API, the web page, health, and their listener, `[admin]`.
//!
//! All of it has a thread and a runtime of its own, so that no worker ever waits for it. It reads the current snapshot,
//! changes the key file, and has the control plane bring that into force:
//!
//! ```text
//! connection   listener     TLS, limits, HTTP/1.1
//! request      guard        Host, Origin; what every answer carries
//!   Actor      signin       whose key it is, and that it manages any
//!   handler    api          reads the request, shows the answer
//!     decision rights       who may do what: pure
//!     change   keys         in turn, on the file as it is, then in force
//! ```
//!
//! Never here: the data plane, or what a proxied request may do.

mod api;
mod audit;
mod body;
mod changes;
mod create;
mod explain;
mod guard;
mod health;
mod idempotency;
mod keys;
mod limits;
mod list;
mod listener;
mod metrics;
mod page;
mod refusal;
mod revision;
mod rights;
mod signin;
mod usage;
mod view;

use std::fmt::{self, Debug, Formatter};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::HeaderValue;
use tokio::runtime::Builder;
use tokio::sync::watch;

use crate::keys::memory::Memory;
use crate::limit::failures::Failures;
use crate::panics;
use crate::proxy::request_id::RequestIds;
use crate::reload::request::Reloads;
use crate::server::control::Control;
use crate::server::metrics::Metrics;
use crate::snapshot::Shared;
use crate::usage::recorder::Usage;
use idempotency::Answers;
use keys::Keys;
use page::session::Sessions;
use refusal::Refusal;
use usage::Uses;

/// Threads that read and write the key file, and search: one writes at a time anyway.
const BLOCKING_THREADS_MAX: usize = 4;

/// How far the life of the process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Requests are served.
    Serving,
    /// Requests in flight end; the admin listener says so.
    Ending,
    /// The admin listener closes, too.
    Stopped,
}

/// A running admin listener.
pub struct Admin {
    address: SocketAddr,
    /// For a process that takes over.
    socket: TcpListener,
    phase: watch::Sender<Phase>,
    thread: JoinHandle<()>,
}

/// What of the process is shown and changed there.
pub struct Process {
    /// The current snapshot.
    pub shared: Arc<Shared>,
    /// Brings changes into force.
    pub reloads: Reloads,
    /// What was read of the key file.
    pub memory: Memory,
    /// The data plane.
    pub workers: Control,
    /// What keys are used for.
    pub usage: Usage,
    /// What is measured.
    pub metrics: Metrics,
}

/// What all requests share.
struct State {
    shared: Arc<Shared>,
    keys: Keys,
    uses: Uses,
    metrics: Metrics,
    /// Those of keys that were no good.
    failures: Failures,
    answers: Answers,
    /// Who has signed in to the page.
    sessions: Sessions,
    phase: watch::Receiver<Phase>,
    /// Whether only this machine reaches it.
    is_on_loopback: bool,
    request_ids: Mutex<RequestIds>,
    /// The OpenAPI document.
    document: Bytes,
}

/// Serves on `listener`. What `memory` knows of the key file is not read again.
///
/// # Errors
/// A thread or randomness cannot be had.
pub fn start(listener: TcpListener, process: Process) -> io::Result<Admin> {
    let Process { shared, reloads, memory, workers, usage, metrics } = process;
    let address = listener.local_addr()?;
    let socket = listener.try_clone()?;
    let (phase, in_phase) = watch::channel(Phase::Serving);
    let document = api::document().to_json().map_err(io::Error::other)?;
    let state = Arc::new(State {
        keys: Keys::new(Arc::clone(&shared), reloads, memory),
        shared,
        uses: Uses { workers, reported: usage },
        metrics,
        failures: Failures::default(),
        answers: Answers::default(),
        sessions: Sessions::default(),
        phase: in_phase.clone(),
        is_on_loopback: address.ip().is_loopback(),
        request_ids: Mutex::new(RequestIds::new().map_err(io::Error::other)?),
        document: Bytes::from(document),
    });
    let runtime = Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_name("admin-files")
        .build()?;
    let run = move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => {
                    let router =
                        api::router(Arc::clone(&state)).merge(page::router(Arc::clone(&state)));
                    listener::serve(listener, state, router, in_phase).await;
                }
                Err(error) => tracing::error!(%error, "keys can no longer be managed here"),
            }
        });
    };
    let thread = panics::spawn_vital("admin", run)?;
    Ok(Admin { address, socket, phase, thread })
}

impl Admin {
    /// Where it listens; a port 0 of the configuration is a real one here.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its socket, for a process that takes over.
    ///
    /// # Errors
    /// The process has no file descriptors left.
    pub fn socket(&self) -> io::Result<TcpListener> {
        self.socket.try_clone()
    }

    /// Says to whoever asks that the process is about to end, and changes nothing any more.
    pub fn ending(&self) {
        self.phase.send_replace(Phase::Ending);
    }

    /// Takes no more connections; what is in flight there ends.
    pub fn close(&self) {
        self.phase.send_replace(Phase::Stopped);
    }

    /// Closes it, and waits for the end of what is in flight there; that takes some seconds at most.
    ///
    /// # Errors
    /// Its thread panicked.
    pub fn stop(self) -> io::Result<()> {
        self.close();
        let Self { address: _, socket, phase: _, thread } = self;
        drop(socket);
        thread.join().map_err(|_| io::Error::other("the admin thread panicked"))
    }
}

impl Debug for Admin {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("address", &self.address).finish_non_exhaustive()
    }
}

impl State {
    /// A name for a request.
    fn request_id(&self) -> HeaderValue {
        self.request_ids.lock().unwrap_or_else(PoisonError::into_inner).make()
    }

    /// Changes need the control plane, which has let go of everything when the process is about to end.
    fn unless_ending(&self) -> Result<(), Refusal> {
        match *self.phase.borrow() {
            Phase::Serving => Ok(()),
            Phase::Ending | Phase::Stopped => Err(Refusal::Ending),
        }
    }
}
