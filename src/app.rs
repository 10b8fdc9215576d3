//! The composition root: from a configuration to a running program, and back down in order.
//!
//! The control plane (reload, signals, health checks, names) runs on the thread that calls [`App::run`]; the data plane has its
//! own threads (see [`server`]).

mod signals;

use std::io::{self, IsTerminal};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::time::sleep;

use self::signals::Signals;
use crate::admin::{self, Admin};
use crate::config::{self, AccessLog as Access, Config, LogFormat, OnOverflow, UsageFile as Kept};
use crate::diagnostics::Report;
use crate::keys::table::KeyTable;
use crate::panics;
use crate::reload::request::{self, Requests};
use crate::reload::{self, Loaded, Reloader};
use crate::server::control::{Closed, Control};
use crate::server::listeners::Listeners;
use crate::server::{self, Server};
use crate::snapshot::Shared;
use crate::systemd;
use crate::takeover::{Handover, Predecessor, Successor};
use crate::telemetry::Format;
use crate::telemetry::access_log::{AccessLog, Overflow, Sink};
use crate::upstream::health::HealthChecks;
use crate::upstream::names::Names;
use crate::usage::recorder::{self, Recorder};

/// How long the access log may take to write its last lines.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// How long workers may take to end when nothing is in flight any more, if one of all threads has panicked.
const WORKERS_PATIENCE: Duration = Duration::from_secs(5);

/// How long the last usage of keys may take to be kept.
const USAGE_PATIENCE: Duration = Duration::from_secs(5);

/// Why the program does not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration or the key file has faults.
    Faults(Report),
    /// The system refused something.
    Io(io::Error),
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A running keyward.
pub struct App {
    runtime: Runtime,
    signals: Signals,
    shared: Arc<Shared>,
    server: Server,
    admin: Option<Admin>,
    /// What the admin listener wants to be in force.
    requests: Requests,
    log: AccessLog,
    recorder: Recorder,
    reloader: Reloader,
}

impl App {
    /// Loads the configuration at `path`, and serves. With `start_events`, called as soon as the
    /// configuration is known, the caller decides where events go.
    ///
    /// # Errors
    /// Every fault in the files, or what the system refused.
    pub fn start(
        path: &Path,
        start_events: impl FnOnce(&Config) -> io::Result<()>,
    ) -> Result<Self, StartError> {
        let (predecessor, handed_over) = Predecessor::find()?.unzip();
        let mut reloader = Reloader::new(path);
        let Loaded { config, keys, handshakes } = reloader.load().map_err(StartError::Faults)?;
        start_events(&config)?;
        reload::warn(&config.warnings);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let signals = runtime.block_on(async { Signals::listen() })?;
        let log = access_log(&config.log)?;
        let Kept { path, interval } = &config.keys.usage;
        let (usage, reports, recorder) = recorder::start(path.as_deref(), *interval)?;
        let (count, routes) = (keys.table.len(), config.routes.routes().len());
        let mut sockets = Listeners::new(handed_over.unwrap_or_default())?;
        let for_admin = config.admin.as_ref().map(|admin| sockets.listen(admin.listen));
        let for_admin = for_admin.transpose()?;
        if counts_days(&config, &keys.table) {
            // What was kept of today counts from the first request on.
            runtime.block_on(usage.settle());
        }
        let shared = Shared::new(config, keys, handshakes);
        let today = usage.clone();
        let shared = Arc::new(shared.seeded(Box::new(move |key_id| today.admitted_today(key_id))));
        let server = server::start(&shared, &log, &reports, sockets)?;
        let (reloads, requests) = request::channel();
        let process = admin::Process {
            shared: Arc::clone(&shared),
            reloads,
            memory: reloader.key_memory(),
            workers: server.control(),
            metrics: server.metrics(&shared, &usage, log.dropped()),
            usage,
        };
        let start_admin = move |socket| admin::start(socket, process);
        let admin = for_admin.map(start_admin).transpose()?;
        for address in server.addresses() {
            tracing::info!(%address, keys = count, routes, "listening");
        }
        for address in server.redirecting() {
            tracing::info!(%address, "redirecting to https");
        }
        if let Some(admin) = &admin {
            tracing::info!(address = %admin.address(), "managing keys");
        }
        match predecessor {
            None => systemd::ready(),
            // It tells systemd, too, which listens to nobody else.
            Some(predecessor) => {
                predecessor.take_over()?;
                tracing::info!("took over");
            }
        }
        Ok(Self { runtime, signals, server, admin, requests, log, recorder, shared, reloader })
    }

    /// Where it serves.
    pub fn addresses(&self) -> &[SocketAddr] {
        self.server.addresses()
    }

    /// Where its keys are managed.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
    }

    /// Runs until SIGTERM or SIGINT, or until another process has taken over; then lets what is in flight end, and
    /// stops. SIGHUP reloads, SIGUSR1 reopens the access log, SIGUSR2 starts the program once more to take over.
    ///
    /// # Errors
    /// What the system refused; the access log's last lines could not be written.
    pub fn run(self) -> io::Result<()> {
        let Self { runtime, mut signals, shared, server, admin, log, recorder, .. } = self;
        let (mut reloader, requests) = (self.reloader, self.requests);
        let listening = Listening { server: &server, admin: admin.as_ref() };
        let end = runtime.block_on(control(
            &mut signals,
            &mut reloader,
            requests,
            &shared,
            &listening,
            &log,
        ));
        let timeouts = shared.current().load().config.server.timeouts.clone();
        let longest = match end {
            End::Asked => {
                systemd::stopping();
                tracing::info!("stopping: no new connections, requests in flight end");
                admin.iter().for_each(Admin::ending);
                timeouts.shutdown
            }
            End::Fell => {
                systemd::stopping();
                tracing::error!(
                    "a thread that all depends on has panicked: requests in flight end, and so does this process"
                );
                admin.iter().for_each(Admin::ending);
                timeouts.shutdown
            }
            End::Succeeded => timeouts.takeover,
        };
        let cut = runtime.block_on(async {
            let workers = server.control();
            let mut stopping = server.stop(Instant::now() + longest)?;
            // A worker may wait for the very thread that is gone.
            let mut given_up = pin!(sleep(longest + WORKERS_PATIENCE));
            loop {
                tokio::select! {
                    cut = stopping.cut() => return cut,
                    () = &mut given_up, if matches!(end, End::Fell) => {
                        return Err(io::Error::other("a worker did not end"));
                    }
                    () = panics::vital_thread_fell() => stopping.hurry(Instant::now() + timeouts.shutdown),
                    // What is in flight may be so for long, and is to end with its key here, too.
                    () = reloader.changed() => drop(look(&mut reloader, &shared, &workers).await),
                    () = signals.end.recv() => stopping.hurry(Instant::now() + timeouts.shutdown),
                }
            }
        });
        let managed = admin.map_or(Ok(()), Admin::stop);
        // A name that is just being looked up must not hold up the end.
        runtime.shutdown_background();
        recorder.finish(USAGE_PATIENCE);
        log.finish(LOG_PATIENCE).map_err(io::Error::other)?;
        managed?;
        let cut = cut?;
        if matches!(end, End::Fell) {
            return Err(io::Error::other("a thread that all depends on has panicked"));
        }
        match cut {
            0 => tracing::info!("stopped"),
            cut => tracing::warn!(cut, "stopped; connections still in use were cut"),
        }
        Ok(())
    }
}

/// Why a process comes to its end.
enum End {
    /// It was told to.
    Asked,
    /// Another one serves in its place.
    Succeeded,
    /// A thread that it cannot do without has panicked.
    Fell,
}

/// What listens.
struct Listening<'a> {
    server: &'a Server,
    admin: Option<&'a Admin>,
}

impl Listening<'_> {
    /// Every socket, for a process that takes over.
    fn sockets(&self) -> io::Result<Vec<TcpListener>> {
        let mut sockets = self.server.sockets()?;
        if let Some(admin) = self.admin {
            sockets.push(admin.socket()?);
        }
        Ok(sockets)
    }
}

async fn control(
    signals: &mut Signals,
    reloader: &mut Reloader,
    mut requests: Requests,
    shared: &Shared,
    listening: &Listening<'_>,
    log: &AccessLog,
) -> End {
    let (mut checks, mut names) = (HealthChecks::default(), Names::default());
    let mut handover: Option<Handover> = None;
    let workers = listening.server.control();
    loop {
        let snapshot = shared.current().load_full();
        shared.free_unused();
        checks.follow(&snapshot.upstreams);
        names.follow(&snapshot.upstreams);
        tokio::select! {
            () = signals.end.recv() => return End::Asked,
            () = panics::vital_thread_fell() => return End::Fell,
            _ = signals.upgrade.recv() => begin(&mut handover, listening),
            outcome = outcome(&mut handover) => match outcome.and_then(|successor| succeed(successor, listening)) {
                Ok(()) => return End::Succeeded,
                Err(error) => {
                    handover = None;
                    tracing::error!(%error, "the new process did not take over; this one goes on serving");
                }
            },
            _ = signals.hangup.recv() => {
                if reloader.reload(shared) {
                    requests.settled(workers.close_revoked().await, shared);
                }
            }
            asked = requests.next() => {
                if let Some(closed) = look(reloader, shared, &workers).await {
                    requests.settled(closed, shared);
                }
                requests.answer(asked, shared);
            }
            _ = signals.reopen.recv() => {
                log.reopen();
                tracing::info!("access log reopened");
            }
            () = reloader.changed() => {
                if let Some(closed) = look(reloader, shared, &workers).await {
                    requests.settled(closed, shared);
                }
            }
        }
    }
}

/// Reloads if a file has changed. What a key held open that is no longer good ends with that; it is given back.
async fn look(reloader: &mut Reloader, shared: &Shared, workers: &Control) -> Option<Closed> {
    match reloader.look(shared) {
        true => Some(workers.close_revoked().await),
        false => None,
    }
}

/// Starts the program once more, to take over.
fn begin(handover: &mut Option<Handover>, listening: &Listening<'_>) {
    if handover.is_some() {
        tracing::warn!("a new process is just about to take over; it is not started twice");
        return;
    }
    tracing::info!("starting a new process, to take over");
    match listening.sockets().and_then(Handover::begin) {
        Ok(begun) => *handover = Some(begun),
        Err(error) => {
            tracing::error!(%error, "no new process could be started; this one goes on serving");
        }
    }
}

/// What comes of a takeover, if one has begun.
async fn outcome(handover: &mut Option<Handover>) -> io::Result<Successor> {
    match handover {
        Some(handover) => handover.outcome().await,
        None => std::future::pending().await,
    }
}

/// Leaves everything new to `successor`.
fn succeed(successor: Successor, listening: &Listening<'_>) -> io::Result<()> {
    let pid = successor.pid();
    successor.go()?;
    // It has the same socket, and what is changed there is in force.
    listening.admin.iter().for_each(|admin| admin.close());
    systemd::succeeded_by(pid);
    tracing::info!(pid, "a new process has taken over; requests in flight end here");
    Ok(())
}

/// Whether the requests of a day are limited for any key.
fn counts_days(config: &Config, keys: &KeyTable) -> bool {
    let of_keys = keys.identities().filter_map(|identity| identity.quota());
    let of_roles = config.roles.iter().map(|role| role.limits());
    of_roles.chain(of_keys.map(|quota| quota.limits())).any(|limits| limits.daily.is_some())
}

fn access_log(log: &config::Log) -> io::Result<AccessLog> {
    let (sink, is_terminal) = match &log.access {
        Access::Off => (Sink::Off, false),
        Access::Stdout => (Sink::Stdout, io::stdout().is_terminal()),
        Access::Stderr => (Sink::Stderr, io::stderr().is_terminal()),
        Access::File(path) => (Sink::File(path.clone()), false),
    };
    let overflow = match log.on_overflow {
        OnOverflow::Block => Overflow::Block,
        OnOverflow::Drop => Overflow::Drop,
    };
    let format = log_format(log.format, is_terminal);
    AccessLog::start(&sink, format, overflow).map_err(|error| match &log.access {
        Access::File(path) => io::Error::new(
            error.kind(),
            format!("cannot open the access log {}: {error}", path.display()),
        ),
        _ => error,
    })
}

/// The format in which lines for a terminal, or for something else, are written.
pub fn log_format(format: LogFormat, is_terminal: bool) -> Format {
    match format {
        LogFormat::Auto => Format::auto(is_terminal),
        LogFormat::Json => Format::Json,
        LogFormat::Text => Format::Text,
    }
}
