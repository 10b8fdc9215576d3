//! One stream: its request is answered, and the answer sent as the client takes it.
//!
//! The client says how much it takes (RFC 9113 §5.2), and may take nothing while other streams go on. So the wait for
//! it is the stream's own, and when that is too long the stream alone is reset: it holds a request and a connection to
//! an endpoint, and others may need them.
//!
//! Never here: what the answer is (see [`proxy`](crate::proxy)).

use std::future::poll_fn;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, UPGRADE};
use http::response::Parts;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body as _;

use super::duplex::{Duplex, poll_room};
use super::waiting::Place;
use super::{Purpose, Stream};
use crate::clock::HttpDate;
use crate::proxy::body::ResponseBody;
use crate::proxy::tunnel::{self, Tunnel};
use crate::proxy::{Proxy, upgrade};
use crate::server::body::Incoming;
use crate::server::connection::ConnectionInfo;
use crate::server::patience::Patience;

/// Answers the request on one stream.
pub(super) async fn answer(
    proxy: Rc<Proxy>,
    purpose: Purpose,
    stream: Stream,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    stream.info.begin_turn();
    let (mut head, incoming) = request.into_parts();
    // Often it comes together with the request (rapid reset), or follows from what else came (MadeYouReset).
    if poll_fn(|cx| Poll::Ready(respond.poll_reset(cx).is_ready())).await {
        return proxy.was_left(&stream.info, &head);
    }
    // What comes behind a request for another protocol is no body of its own.
    let (body, behind) = if upgrade::by_connect(&mut head) {
        (Incoming::empty(), Some(incoming))
    } else {
        (Incoming::http2(incoming, &head.headers), None)
    };
    let is_head = head.method == Method::HEAD;
    let answer = match purpose {
        Purpose::Serve => {
            let handled = pin!(proxy.handle(&stream.info, head, body));
            let Some(answer) = unless_reset(&stream, &mut respond, handled).await else { return };
            answer
        }
        Purpose::Redirect { port } => proxy.redirect(&stream.info, &head, port),
    };
    let (mut head, mut body) = answer.into_parts();
    prepare(&mut head, &body, &proxy.http_date(stream.info.now()));
    let tunnel = body.take_tunnel().zip(behind);
    if tunnel.is_some() {
        // RFC 8441 §4: what HTTP/1 says with 101.
        head.status = 200.try_into().expect("a status");
    }
    // An answer to HEAD tells of what it leaves out.
    let has_ended = tunnel.is_none() && (is_head || body.is_end_stream());
    let Ok(outgoing) = respond.send_response(Response::from_parts(head, ()), has_ended) else {
        respond.send_reset(Reason::INTERNAL_ERROR);
        return;
    };
    match tunnel {
        // Boxed, so that other streams do not carry the room for it.
        Some((tunnel, incoming)) => {
            let client = Duplex::new(incoming, outgoing, tunnel.is_websocket());
            Box::pin(carry(tunnel, client)).await;
        }
        None if has_ended => {}
        None => {
            let is_refusal = body.is_own();
            let patience = Patience::new(stream.all.pace);
            let sending = Sending { body, outgoing, held: Bytes::new(), patience };
            send(stream, sending, is_refusal).await;
        }
    }
}

/// Sends what is left of an answer. A client may hold a hundred on each connection, and what was needed to make them is
/// ten times what is needed to wait: so whoever takes nothing is waited for by a task of its own.
async fn send(stream: Stream, mut sending: Sending, is_refusal: bool) {
    let is_taken = poll_fn(|cx| {
        let sent = stream.poll(cx, |cx| sending.poll(cx, &stream.info));
        if sent.is_pending() && sending.held.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(sent.is_ready())
        }
    });
    if is_taken.await {
        return;
    }
    let place = if is_refusal { Place::take(&stream.all) } else { None };
    if is_refusal && place.is_none() {
        return sending.give_up(Reason::ENHANCE_YOUR_CALM);
    }
    tokio::task::spawn_local(async move {
        let _place = place;
        poll_fn(|cx| stream.poll(cx, |cx| sending.poll(cx, &stream.info))).await;
    });
}

/// What `handled` comes to; `None` if the client does not wait for it.
async fn unless_reset<F: Future>(
    stream: &Stream,
    respond: &mut SendResponse<Bytes>,
    mut handled: Pin<&mut F>,
) -> Option<F::Output> {
    let mut poll = |cx: &mut Context<'_>| match handled.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(Some(answer)),
        Poll::Pending => respond.poll_reset(cx).map(|_| None),
    };
    poll_fn(|cx| stream.poll(cx, &mut poll)).await
}

/// Makes a head one of HTTP/2: no fields about the connection (RFC 9113 §8.2.2).
fn prepare(head: &mut Parts, body: &ResponseBody, date: &HttpDate) {
    for name in [CONNECTION, UPGRADE] {
        head.headers.remove(name);
    }
    let date = || HeaderValue::from_bytes(date).expect("a date is plain text");
    head.headers.entry(DATE).or_insert_with(date);
    if let Some(length) = body.size_hint().exact().filter(|_| !body.is_end_stream()) {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
    }
}

/// Hands the stream to a tunnel, to its end.
async fn carry(tunnel: Box<Tunnel>, mut client: Duplex) {
    match tunnel.run(&mut client, Bytes::new()).await {
        tunnel::End::Closed => client.close(),
        tunnel::End::Broken => client.reset(),
    }
}

/// An answer's body on its way out.
struct Sending {
    body: ResponseBody,
    outgoing: SendStream<Bytes>,
    /// What the client has not taken yet.
    held: Bytes,
    patience: Patience,
}

impl Sending {
    /// Sends what can be sent now; ready at the end.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &ConnectionInfo) -> Poll<()> {
        loop {
            // The client does not want it any more, or is gone.
            if self.outgoing.poll_reset(cx).is_ready() {
                return Poll::Ready(());
            }
            if self.held.is_empty() {
                match ready!(self.poll_next(cx)) {
                    ControlFlow::Continue(()) => continue,
                    ControlFlow::Break(()) => return Poll::Ready(()),
                }
            }
            let room = poll_room(&mut self.outgoing, cx, self.held.len());
            if self.patience.is_over(stream, room.is_pending()) {
                self.give_up(Reason::CANCEL);
                return Poll::Ready(());
            }
            let Some(room) = ready!(room) else { return Poll::Ready(()) };
            self.patience.took(room);
            let piece = self.held.split_to(room);
            let is_last = self.held.is_empty() && self.body.is_end_stream();
            if self.outgoing.send_data(piece, is_last).is_err() || is_last {
                return Poll::Ready(());
            }
        }
    }

    /// The client has not taken it.
    fn give_up(&mut self, reason: Reason) {
        self.body.was_not_taken();
        self.outgoing.send_reset(reason);
    }

    /// Asks the body for its next piece. What is none ends the stream.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<ControlFlow<()>> {
        let sent = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.held = data;
                    return Poll::Ready(ControlFlow::Continue(()));
                }
                Err(frame) => {
                    self.outgoing.send_trailers(frame.into_trailers().unwrap_or_default())
                }
            },
            Some(Err(_)) => {
                self.outgoing.send_reset(Reason::INTERNAL_ERROR);
                Ok(())
            }
            None => self.outgoing.send_data(Bytes::new(), true),
        };
        // A stream that is gone needs no end.
        drop(sent);
        Poll::Ready(ControlFlow::Break(()))
    }
}
