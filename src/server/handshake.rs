//! From an accepted connection to one that requests come over: the TLS handshake, where TLS is spoken.
//!
//! A handshake has a deadline, and ends when the worker drains. Why one fails is the client's business; for the
//! operator it is in the log at level debug, for anybody can make thousands of them fail.
//!
//! Never here: certificates or keys (see [`tls`]).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::Purpose;
use super::connection::{self, ConnectionInfo};
use super::transport::Transport;
use super::worker::{Drain, Registration};
use crate::proxy::Proxy;
use crate::proxy::error::Refusal;
use crate::proxy::forwarded::Proto;
use crate::tls::{self, ServerConfig};

/// A connection, ready for requests.
pub(super) struct Opened {
    pub(super) transport: Transport,
    pub(super) info: Rc<ConnectionInfo>,
    pub(super) registered: Registration,
}

/// Opens an accepted connection; `None` if nothing came of it.
pub(super) async fn open(
    stream: TcpStream,
    peer: SocketAddr,
    purpose: Purpose,
    proxy: &Rc<Proxy>,
    drain: &Rc<Drain>,
) -> Option<Opened> {
    let snapshot = proxy.snapshot();
    let timeouts = &snapshot.config.server.timeouts;
    let tls = match (purpose, &snapshot.tls) {
        (Purpose::Serve, Some(tls)) => tls,
        _ => {
            let info = Rc::new(ConnectionInfo::new(peer, Proto::Http, timeouts));
            let registered = drain.register(&info);
            return Some(Opened { transport: Transport::Plain(stream), info, registered });
        }
    };
    let info = Rc::new(ConnectionInfo::new(peer, Proto::Https, timeouts));
    let registered = drain.register(&info);
    info.deadline().start(info.now(), timeouts.tls_handshake);
    let tls = Arc::clone(tls);
    drop(snapshot);
    // Boxed, so that a plain connection does not carry the room for it.
    let handshake = Box::pin(shake_hands(stream, tls, &info, proxy));
    match in_time(handshake, &info, drain).await {
        Ok(transport) => Some(Opened { transport: transport?, info, registered }),
        Err(error) => {
            tracing::debug!(%peer, %error, "a TLS handshake failed");
            None
        }
    }
}

/// `None` for a client that does not speak TLS; it has its answer.
async fn shake_hands(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    info: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
) -> io::Result<Option<Transport>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // A method is made of letters; no record of TLS begins with one (RFC 8446 §5.1).
    if first[0].is_ascii_alphabetic() {
        let transport = Transport::Plain(stream);
        connection::turn_away(transport, Refusal::PlainHttp, info, proxy).await;
        return Ok(None);
    }
    let stream = TlsAcceptor::from(tls).accept(stream).await?;
    if let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() {
        info.set_client_names(tls::subject_names(certificate));
    }
    Ok(Some(Transport::Tls(Box::new(stream))))
}

/// Drives `handshake` until its deadline, or until the worker drains.
async fn in_time<T>(
    handshake: impl Future<Output = io::Result<T>>,
    info: &ConnectionInfo,
    drain: &Rc<Drain>,
) -> io::Result<T> {
    let mut handshake = pin!(handshake);
    poll_fn(|cx| {
        if drain.has_begun() {
            return Poll::Ready(Err(io::Error::other("no more requests are taken")));
        }
        if let Poll::Ready(done) = handshake.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        info.deadline().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}
