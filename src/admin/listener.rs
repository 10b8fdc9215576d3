//! Connections to the admin listener: accepted, opened, and bounded in number and in time.
//!
//! HTTP/1.1 alone is spoken here, by hyper. Whatever others do here, they take no more of the process than is said below.
//!
//! Never here: a key that comes in clear from another machine.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::guard::{self, Ends};
use super::{Phase, State};
use crate::limit::{ConnectionLimit, ConnectionSlot};

/// People, scripts, a scraper and some probes. At the limit accepting waits.
const CONNECTIONS_MAX: usize = 128;
/// Of one address; leaves room for others.
const CONNECTIONS_PER_CLIENT_MAX: usize = 64;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Also how long an idle connection is kept.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// A connection closes at the end of the answer after which it has been open for this long; this bounds a client that
/// reads slowly, too.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// How long an answer may take when its connection is to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// A request's head, at most; hyper refuses larger ones.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// How long to wait when accepting fails for want of something the process has run out of.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the process stops; then lets what is in flight end.
pub(super) async fn serve(
    listener: TcpListener,
    state: Arc<State>,
    router: Router,
    mut phase: watch::Receiver<Phase>,
) {
    let limit = ConnectionLimit::new(CONNECTIONS_MAX);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = phase.wait_for(|phase| *phase == Phase::Stopped) => break,
            Some(_) = connections.join_next() => continue,
            accepted = async {
                let place = limit.wait().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (place, Ok((stream, client))) => {
                // One more than its share is closed at once.
                if let Some(slot) = limit.admit(place, client.ip(), CONNECTIONS_PER_CLIENT_MAX) {
                    let (state, router) = (Arc::clone(&state), router.clone());
                    connections.spawn(connection(stream, client, state, router, slot));
                }
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "the admin listener cannot accept a connection");
                sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Opens one connection and serves it. What goes wrong with it concerns nobody else.
async fn connection(
    stream: TcpStream,
    client: SocketAddr,
    state: Arc<State>,
    router: Router,
    _slot: ConnectionSlot,
) {
    let Ok(here) = stream.local_addr() else { return };
    let _ = stream.set_nodelay(true);
    let ends = Ends { client, here };
    let tls = state.shared.current().load().admin_tls.clone();
    match tls {
        Some(tls) => {
            let handshake = TlsAcceptor::from(tls).accept(stream);
            match timeout(HANDSHAKE_TIMEOUT, handshake).await.map_err(io::Error::from) {
                Ok(Ok(stream)) => requests(stream, ends, state, router).await,
                Ok(Err(error)) | Err(error) => {
                    tracing::debug!(%client, %error, "no TLS with a client of the admin listener");
                }
            }
        }
        None if state.is_on_loopback => requests(stream, ends, state, router).await,
        // A reload has taken [admin.tls] or [admin] away, which holds from the next start on.
        None => tracing::error!(
            %client,
            "the admin listener can be reached by others and has no [admin.tls] any more: nobody is served until the next start"
        ),
    }
}

async fn requests(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ends: Ends,
    state: Arc<State>,
    router: Router,
) {
    let mut phase = state.phase.clone();
    let answer = service_fn(move |request| {
        let (state, router) = (Arc::clone(&state), router.clone());
        async move { Ok::<_, Infallible>(guard::answer(state, router, ends, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answer);
    let mut connection = pin!(connection);
    tokio::select! {
        // How it ended is the client's affair.
        _ = connection.as_mut() => return,
        _ = phase.wait_for(|phase| *phase == Phase::Stopped) => {}
        () = sleep(CONNECTION_TIMEOUT) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(CLOSE_TIMEOUT, connection).await;
}
