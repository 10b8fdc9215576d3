//! One client connection that speaks HTTP/1: hyper reads and writes its requests; here it is driven together with its
//! one deadline, what came too slowly is answered, and it is closed so that the client still reads our last answer.
//!
//! Never here: what is done with a request (see [`proxy`](crate::proxy)).

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{poll_fn, ready};
use std::io;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Either;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Purpose;
use super::connection::{ConnectionInfo, Phase};
use super::handshake::Opened;
use super::transport::Transport;
use super::wire::{SharedStream, Wire};
use super::worker::Drain;
use crate::config::Limits;
use crate::proxy::Proxy;
use crate::proxy::error::Refusal;
use crate::proxy::tunnel::{self, Tunnel};

/// How long a client may take to read our last answer while it still sends: as long as nginx waits between
/// two reads of a lingering close.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what it still sends is read and thrown away meanwhile.
const LINGER_BYTES: usize = 1024 * 1024;

/// Why a connection ended.
enum End {
    Closed(hyper::Result<()>),
    TooSlow,
    /// The client is gone.
    Reset,
    /// What goes over it is HTTP no more. The bytes came behind the last request.
    Tunnel(Box<Tunnel>, Bytes),
}

/// Serves the requests in HTTP/1 that come over a connection, to its end.
pub(super) async fn serve(opened: Opened, purpose: Purpose, proxy: Rc<Proxy>, drain: Rc<Drain>) {
    let Opened { transport, info: connection, registered: _registered, .. } = opened;
    connection.expect_request();
    let stream: SharedStream = Rc::new(RefCell::new(transport));
    let wire = Wire::new(Rc::clone(&stream), Rc::clone(&connection), Rc::clone(&proxy));
    let http = builder(&proxy.snapshot().config.server.limits);
    let end = drive(&http, wire, purpose, &stream, &connection, &proxy, &drain).await;
    // hyper is done with it: the stream is ours alone again.
    let Some(stream) = Rc::into_inner(stream) else { return };
    match end {
        // Boxed, so that other connections do not carry the room for it.
        End::Tunnel(tunnel, unread) => {
            Box::pin(carry(tunnel, stream.into_inner(), unread)).await;
        }
        end => close(end, stream.into_inner(), &connection, &proxy).await,
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    if limits.headers != HYPER_MAX_HEADERS {
        builder.max_headers(limits.headers);
    }
    builder
        .half_close(true)
        .max_header_size(limits.header_bytes)
        .max_buf_size(limits.header_bytes.max(MIN_BUFFER_BYTES))
        .header_read_timeout(None);
    builder
}

/// What hyper takes unasked, and then parses without allocating.
const HYPER_MAX_HEADERS: usize = 100;
/// The smallest buffer that hyper takes.
const MIN_BUFFER_BYTES: usize = 8192;

async fn drive(
    http: &http1::Builder,
    wire: Wire,
    purpose: Purpose,
    stream: &SharedStream,
    connection: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
    drain: &Drain,
) -> End {
    let opened = &RefCell::new(None);
    let service = service_fn(|request| {
        let answer = match purpose {
            Purpose::Serve => Either::Left(proxy.handle(connection, request)),
            Purpose::Redirect { port } => {
                Either::Right(ready(proxy.redirect(connection, request, port)))
            }
        };
        answer.map(move |mut answer| {
            *opened.borrow_mut() = answer.body_mut().take_tunnel();
            Ok::<_, Infallible>(answer)
        })
    });
    let mut requests = http.serve_connection(TokioIo::new(wire), service);
    let end = poll_fn(|cx| {
        connection.begin_turn();
        loop {
            if let Poll::Ready(result) = requests.poll_unpin(cx) {
                return Poll::Ready(End::Closed(result));
            }
            // Behind a 101 there is nothing to shut down, and hyper would no longer flush it.
            if drain.has_begun() && !connection.is_leaving() && opened.borrow().is_none() {
                connection.leave();
            }
            if connection.waits_for_upstream() && stream.borrow().has_reset(cx) {
                return Poll::Ready(End::Reset);
            }
            if connection.deadline().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match connection.phase() {
                Phase::Idle => return Poll::Ready(End::Closed(Ok(()))),
                Phase::Head => return Poll::Ready(End::TooSlow),
                Phase::Service if connection.is_blocked() => {
                    connection.broke_off();
                    return Poll::Ready(End::Closed(Ok(())));
                }
                // Whoever waits sees that its wait was too long, and answers.
                Phase::Service => {}
            }
        }
    })
    .await;
    match (end, opened.take()) {
        (End::Closed(Ok(())), Some(tunnel)) => End::Tunnel(tunnel, requests.into_parts().read_buf),
        (end, _) => end,
    }
}

/// Hands the client's stream to a tunnel, to its end.
async fn carry(tunnel: Box<Tunnel>, mut stream: Transport, unread: Bytes) {
    match tunnel.run(&mut stream, unread).await {
        tunnel::End::Closed => {
            let _ = tokio::time::timeout(LINGER, stream.close()).await;
        }
        tunnel::End::Broken => stream.reset(),
    }
}

async fn close(
    end: End,
    mut stream: Transport,
    connection: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
) {
    let refusal = match &end {
        End::TooSlow => Some(Refusal::RequestTimeout),
        End::Closed(Err(error)) if error.is_parse() && !connection.is_refused() => {
            Some(Refusal::Unparsable)
        }
        End::Closed(_) | End::Reset | End::Tunnel(..) => None,
    };
    if connection.is_broken() {
        stream.reset();
    } else if let Some(refusal) = refusal {
        turn_away(stream, refusal, connection, proxy).await;
    } else if connection.is_refused() || connection.has_unread_body() {
        let _ = tokio::time::timeout(LINGER, linger(&mut stream)).await;
    } else {
        let _ = tokio::time::timeout(LINGER, stream.close()).await;
    }
}

/// Answers what could not be read as a request, and closes.
pub(super) async fn turn_away(
    mut stream: Transport,
    refusal: Refusal,
    connection: &Rc<ConnectionInfo>,
    proxy: &Rc<Proxy>,
) {
    let answer = proxy.refuse_unread(connection, refusal);
    let _ = tokio::time::timeout(LINGER, stream.write_all(&answer)).await;
    let _ = tokio::time::timeout(LINGER, linger(&mut stream)).await;
}

/// Closing while the client still sends would reset the connection, and with it our last answer.
async fn linger(stream: &mut Transport) -> io::Result<()> {
    stream.shutdown().await?;
    let mut thrown_away = 0;
    let mut buffer = [0; 4096];
    while thrown_away < LINGER_BYTES {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => thrown_away += read,
        }
    }
    Ok(())
}
