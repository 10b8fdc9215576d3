//! The demo's upstream: answers every request with what it received.
//!
//! Never here: a look at who is asking, or a body kept in memory; its bytes are counted as they pass.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, request};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A service on loopback with a thread of its own; it ends when dropped.
pub(super) struct Echo {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Listens on a free port and answers from now on.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("demo-upstream".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // The sender's end is what the thread waits for, and a thread that panicked is over too.
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn serve(listener: TcpListener) {
    loop {
        // An error is about the one connection that was to be accepted: the next may be well.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        tokio::spawn(async move {
            // A proxy that closes in the middle of a request is no event here.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<String>, Infallible> {
    let (head, mut body) = request.into_parts();
    let mut body_bytes = 0;
    while let Some(Ok(frame)) = poll_fn(|task| Pin::new(&mut body).poll_frame(task)).await {
        body_bytes += frame.data_ref().map_or(0, Bytes::len);
    }
    let wants_json = head.headers.get(ACCEPT).is_some_and(|value| value == "application/json");
    let (media_type, text) = if wants_json {
        ("application/json", as_json(&head, body_bytes))
    } else {
        ("text/plain; charset=utf-8", as_text(&head, body_bytes))
    };
    let mut response = Response::new(text);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    Ok(response)
}

fn as_text(head: &request::Parts, body_bytes: usize) -> String {
    let mut text = "The service behind keyward received:\n\n".to_owned();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  {} {}", head.method, head.uri);
    for (name, value) in &head.headers {
        let _ = writeln!(text, "  {name}: {}", String::from_utf8_lossy(value.as_bytes()));
    }
    if body_bytes > 0 {
        let _ = writeln!(text, "\n  and {body_bytes} bytes of content");
    }
    text
}

fn as_json(head: &request::Parts, body_bytes: usize) -> String {
    let fields: Vec<_> = head
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())))
        .collect();
    let received = serde_json::json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "fields": fields,
        "body_bytes": body_bytes,
    });
    format!("{received:#}\n")
}
