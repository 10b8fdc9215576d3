//! From an accepted connection to one that requests come over: the TLS handshake where TLS is spoken, and which
//! HTTP it is. Over TLS that is agreed on (ALPN); in clear a client of HTTP/2 begins with its preface, because it
//! knows (RFC 9113 §3.3).
//!
//! Both have a deadline, and end soon when the worker drains. Why one fails is the client's business; for the
//! operator it is in the log at level debug, for anybody can make thousands of them fail.
//!
//! Never here: certificates or keys (see [`tls`]).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::DerefMut;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::connection::{ConnectionInfo, LAST_CALL};
use super::transport::Transport;
use super::worker::{Registration, Siblings};
use super::{Purpose, http1, proxy_protocol};
use crate::config::Server;
use crate::proxy::Proxy;
use crate::proxy::error::Refusal;
use crate::proxy::forwarded::{Proto, is_trusted};
use crate::tls::{self, Protocol, ServerConfig};

/// A connection, ready for requests.
pub(super) struct Opened {
    pub(super) transport: Transport,
    pub(super) protocol: Protocol,
    pub(super) info: Rc<ConnectionInfo>,
    pub(super) registered: Registration,
}

/// Opens an accepted connection; `None` if nothing came of it.
pub(super) async fn open(
    mut stream: TcpStream,
    mut peer: SocketAddr,
    purpose: Purpose,
    proxy: &Rc<Proxy>,
    siblings: &Rc<Siblings>,
) -> Option<Opened> {
    let snapshot = proxy.snapshot();
    let server = &snapshot.config.server;
    let timeouts = &server.timeouts;
    if server.proxy_protocol && is_trusted(&server.trusted_proxies, peer.ip()) {
        peer = introduce(&mut stream, peer, server, siblings).await?;
    }
    let tls = snapshot.tls.as_ref().filter(|_| purpose == Purpose::Serve);
    let proto = if tls.is_some() { Proto::Https } else { Proto::Http };
    let info = Rc::new(ConnectionInfo::new(peer, proto));
    if snapshot.introduces_clients
        && let Ok(address) = stream.local_addr()
    {
        info.peer().set_reached(address);
    }
    let registered = siblings.register(&info);
    let opened = match tls {
        None => {
            info.deadline().start(info.now(), timeouts.request_header);
            in_time(pin!(listen(stream)), &info, siblings).await.map(Some)
        }
        Some(tls) => {
            info.deadline().start(info.now(), timeouts.tls_handshake);
            // Boxed, so that a plain connection does not carry the room for it.
            let handshake = Box::pin(shake_hands(stream, Arc::clone(tls), &info, proxy));
            in_time(handshake, &info, siblings).await
        }
    };
    match opened {
        Ok(opened) => {
            let (transport, protocol) = opened?;
            Some(Opened { transport, protocol, info, registered })
        }
        Err(error) => {
            tracing::debug!(%peer, %error, "a connection came to nothing");
            None
        }
    }
}

/// Who a trusted proxy says the client is; itself, if it speaks for nobody. `None` if it does not say.
async fn introduce(
    stream: &mut TcpStream,
    peer: SocketAddr,
    server: &Server,
    siblings: &Rc<Siblings>,
) -> Option<SocketAddr> {
    let info = Rc::new(ConnectionInfo::new(peer, Proto::Http));
    let _registered = siblings.register(&info);
    info.deadline().start(info.now(), server.timeouts.request_header);
    match in_time(Box::pin(proxy_protocol::read(stream)), &info, siblings).await {
        Ok(client) => Some(client.unwrap_or(peer)),
        Err(error) => {
            tracing::debug!(%peer, %error, "a proxy did not say who its client is");
            None
        }
    }
}

/// Which HTTP a client speaks in clear. No method of HTTP/1 is called PRI (RFC 9113 §11.6). Clients send their preface
/// in one piece; one that does not is taken for a client of HTTP/1, and refused as such.
async fn listen(stream: TcpStream) -> io::Result<(Transport, Protocol)> {
    const PREFACE: &[u8] = b"PRI ";
    let mut first = [0; PREFACE.len()];
    let seen = stream.peek(&mut first).await?;
    let protocol = if first[..seen] == *PREFACE { Protocol::Http2 } else { Protocol::Http1 };
    Ok((Transport::Plain(stream), protocol))
}

/// `None` for a client that does not speak TLS; it has its answer.
async fn shake_hands(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    info: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
) -> io::Result<Option<(Transport, Protocol)>> {
    let mut first = [0];
    stream.peek(&mut first).await?;
    // A method is made of letters; no record of TLS begins with one (RFC 8446 §5.1).
    if first[0].is_ascii_alphabetic() {
        let transport = Transport::Plain(stream);
        http1::turn_away(transport, Refusal::PlainHttp, info, proxy).await;
        return Ok(None);
    }
    let stream = TlsAcceptor::from(tls).accept(stream).await?;
    if let Some([certificate, ..]) = stream.get_ref().1.peer_certificates() {
        info.peer().set_names(tls::subject_names(certificate));
    }
    let protocol = Protocol::negotiated(stream.get_ref().1.alpn_protocol());
    Ok(Some((Transport::Tls(Box::new(stream)), protocol)))
}

/// Drives `opening` until its deadline, or until shortly after the worker began to drain.
async fn in_time<T>(
    mut opening: Pin<impl DerefMut<Target: Future<Output = io::Result<T>>>>,
    info: &ConnectionInfo,
    siblings: &Rc<Siblings>,
) -> io::Result<T> {
    let mut is_last = false;
    poll_fn(|cx| {
        if siblings.are_leaving() && !is_last {
            is_last = true;
            info.begin_turn();
            info.deadline().start(info.now(), LAST_CALL);
        }
        if let Poll::Ready(done) = opening.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        info.deadline().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await
}
