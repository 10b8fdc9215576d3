//! One client connection that speaks HTTP/1: request after request, each answered before the next is read. It is
//! driven together with its one deadline, what cannot be read or comes too slowly is answered too, and it is closed so
//! that the client still reads our last answer.
//!
//! Never here: what is done with a request (see [`proxy`](crate::proxy)).

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response, Version};
use http_body::Body as _;
use tokio::time::timeout;

use super::Purpose;
use super::answer::{self, Reader};
use super::body::Incoming;
use super::connection::{ConnectionInfo, LAST_CALL, LINGER};
use super::handshake::Opened;
use super::patience;
use super::request::{self, Received};
use super::sending::{Sending, Sent};
use super::transport::Transport;
use super::wire::Wire;
use super::worker::Siblings;
use crate::config::{Limits, Timeouts};
use crate::http1::spare;
use crate::panics;
use crate::proxy::Proxy;
use crate::proxy::body::ResponseBody;
use crate::proxy::error::Refusal;
use crate::proxy::tunnel::{self, Tunnel};
use crate::rate::Pace;

/// Why a connection ended.
enum End {
    /// Both sides are through.
    Closed,
    /// We are, and the client may still send.
    Lingering,
    /// An answer broke off.
    Broken,
    /// The client is gone.
    Left,
    /// What goes over it is HTTP no more.
    Tunnel(Box<Tunnel>),
}

/// What is waited for between two answers.
#[expect(clippy::large_enum_variant, reason = "it lives for a moment, and mostly is the large one")]
enum Next {
    Request(Received),
    /// What came cannot be served.
    Refused(Refusal),
    /// Nothing comes any more.
    Nothing,
}

/// Serves the requests in HTTP/1 that come over a connection, to its end.
pub(super) async fn serve(
    opened: Opened,
    purpose: Purpose,
    proxy: Rc<Proxy>,
    siblings: Rc<Siblings>,
) {
    let Opened { transport, info, registered: _registered, .. } = opened;
    let connection = Connection::new(transport, info, proxy);
    // An answer that a panic cut must not look whole.
    let driven = {
        let driving = pin!(connection.drive(purpose, &siblings));
        panics::caught(driving).await
    };
    let end = driven.unwrap_or(End::Broken);
    let Some(wire) = Rc::into_inner(connection.wire) else { return };
    let (stream, unread) = wire.into_inner().into_parts();
    match end {
        // Boxed, so that other connections do not carry the room for it.
        End::Tunnel(tunnel) => Box::pin(carry(tunnel, stream, unread)).await,
        End::Closed => drop(timeout(LINGER, stream.close()).await),
        End::Lingering => stream.linger().await,
        End::Broken => stream.reset(),
        End::Left => {}
    }
}

/// Answers what is no request that may come over `transport`, and closes.
pub(super) async fn turn_away(
    transport: Transport,
    refusal: Refusal,
    info: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
) {
    let connection = Connection::new(transport, Rc::clone(info), Rc::clone(proxy));
    let answer = proxy.turn_away(info, None, refusal);
    let _ = timeout(LINGER, connection.send(answer, LAST)).await;
    if let Some(wire) = Rc::into_inner(connection.wire) {
        wire.into_inner().into_parts().0.linger().await;
    }
}

/// Whoever reads the answer to what could not be read.
const LAST: Reader =
    Reader { version: Version::HTTP_11, is_head: false, takes_trailers: false, keeps_alive: false };

struct Connection {
    wire: Rc<RefCell<Wire>>,
    info: Rc<ConnectionInfo>,
    proxy: Rc<Proxy>,
    limits: Limits,
    timeouts: Timeouts,
    /// How slowly its client may take an answer.
    pace: Pace,
}

impl Connection {
    fn new(transport: Transport, info: Rc<ConnectionInfo>, proxy: Rc<Proxy>) -> Self {
        let snapshot = proxy.snapshot();
        let server = &snapshot.config.server;
        Self {
            wire: Rc::new(RefCell::new(Wire::new(transport))),
            limits: server.limits.clone(),
            timeouts: server.timeouts.clone(),
            pace: patience::pace(server),
            info,
            proxy,
        }
    }

    /// Serves its requests. Whoever waits in there sees that its wait was too long.
    async fn drive(&self, purpose: Purpose, siblings: &Siblings) -> End {
        let mut requests = pin!(self.serve(purpose));
        poll_fn(|cx| {
            self.info.begin_turn();
            if siblings.are_leaving() {
                self.info.leave();
            }
            loop {
                if let Poll::Ready(end) = requests.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                if self.info.deadline().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    async fn serve(&self, purpose: Purpose) -> End {
        let mut longest_idle = self.timeouts.request_header;
        loop {
            self.wait(longest_idle);
            let received = match self.next().await {
                Next::Request(received) => received,
                Next::Refused(refusal) => return self.turn_away(None, refusal).await,
                Next::Nothing => return End::Closed,
            };
            self.info.deadline().clear();
            let expects_continue = received.expects_continue();
            let Received { head, body, keeps_alive, takes_trailers } = received;
            let Ok(body) = body else {
                return self.turn_away(Some(&head), Refusal::BadFraming).await;
            };
            self.wire.borrow_mut().begin_body(body, expects_continue);
            let (version, is_head) = (head.version, head.method == Method::HEAD);
            let reader = Reader { version, is_head, takes_trailers, keeps_alive };
            let Some(mut answer) = self.answer(head, purpose).await else { return End::Left };
            let tunnel = answer.body_mut().take_tunnel();
            let (sent, keeps_alive) = self.send(answer, reader).await;
            self.info.deadline().lift_end();
            match (sent, tunnel) {
                (Sent::Whole, Some(tunnel)) => return End::Tunnel(tunnel),
                (Sent::Whole, None) => {}
                (Sent::Broken, _) => return End::Broken,
                (Sent::Left, _) => return End::Left,
            }
            let is_through = poll_fn(|cx| Poll::Ready(self.wire.borrow_mut().read_away(cx))).await;
            if !(is_through && keeps_alive) {
                let is_silent = is_through && self.wire.borrow().inbox.unread.is_empty();
                return if is_silent { End::Closed } else { End::Lingering };
            }
            longest_idle = self.timeouts.keep_alive;
        }
    }

    fn wait(&self, longest: Duration) {
        self.info.deadline().start(self.info.now(), longest);
    }

    /// The next request. Its head has its own time, from its first byte on.
    async fn next(&self) -> Next {
        let (mut seen, mut is_last_call) = (0, false);
        poll_fn(|cx| {
            let wire = &mut *self.wire.borrow_mut();
            if seen == 0 {
                wire.begin_head();
            }
            loop {
                let unread = &mut wire.inbox.unread;
                if unread.len() > seen && request::is_worth_reading(unread, seen, &self.limits) {
                    match request::read_head(unread, &self.limits) {
                        Ok(Some(received)) => return Poll::Ready(Next::Request(received)),
                        Ok(None) => {}
                        Err(refusal) => return Poll::Ready(Next::Refused(refusal)),
                    }
                }
                if seen == 0 && !unread.is_empty() {
                    self.wait(self.timeouts.request_header);
                }
                seen = unread.len();
                match wire.poll_fill(cx) {
                    Poll::Ready(Ok(true)) => {}
                    Poll::Ready(Ok(false) | Err(_)) => return Poll::Ready(Next::Nothing),
                    Poll::Pending if self.info.deadline().has_passed() => {
                        return Poll::Ready(match seen {
                            0 => Next::Nothing,
                            _ => Next::Refused(Refusal::RequestTimeout),
                        });
                    }
                    Poll::Pending => {
                        if self.info.is_leaving() && seen == 0 && !is_last_call {
                            is_last_call = true;
                            self.wait(LAST_CALL);
                        }
                        return Poll::Pending;
                    }
                }
            }
        })
        .await
    }

    /// The answer to a request; `None` if the client has left.
    async fn answer(&self, head: Parts, purpose: Purpose) -> Option<Response<ResponseBody>> {
        if let Purpose::Redirect { port } = purpose {
            return Some(self.proxy.redirect(&self.info, &head, port));
        }
        let body = Incoming::http1(&self.wire);
        let mut handling = pin!(self.proxy.handle(&self.info, head, body));
        poll_fn(|cx| match handling.as_mut().poll(cx) {
            Poll::Ready(answer) => Poll::Ready(Some(answer)),
            Poll::Pending if self.wire.borrow().has_left(cx) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Sends an answer; whether another may follow.
    async fn send(&self, answer: Response<ResponseBody>, reader: Reader) -> (Sent, bool) {
        self.wire.borrow_mut().begin_answer();
        let (head, body) = answer.into_parts();
        let date = self.proxy.http_date(self.info.now());
        let begun = answer::begin(&head, body.size_hint().exact(), reader, &date);
        spare::keep(head.headers);
        let keeps_alive = begun.keeps_alive;
        let mut sending =
            Sending::new(&self.wire, &self.info, &self.proxy.pipes, begun, body, self.pace);
        (poll_fn(|cx| sending.poll(cx)).await, keeps_alive)
    }

    /// Answers what cannot be served.
    async fn turn_away(&self, head: Option<&Parts>, refusal: Refusal) -> End {
        let answer = self.proxy.turn_away(&self.info, head, refusal);
        let is_head = head.is_some_and(|head| head.method == Method::HEAD);
        match self.send(answer, Reader { is_head, ..LAST }).await.0 {
            Sent::Whole => End::Lingering,
            Sent::Broken => End::Broken,
            Sent::Left => End::Left,
        }
    }
}

/// Hands the client's stream to a tunnel, to its end. `unread` came behind the last request.
async fn carry(tunnel: Box<Tunnel>, mut stream: Transport, unread: Bytes) {
    match tunnel.run(&mut stream, unread).await {
        tunnel::End::Closed => drop(timeout(LINGER, stream.close()).await),
        tunnel::End::Broken => stream.reset(),
    }
}
