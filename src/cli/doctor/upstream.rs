//! The doctor's upstream: writes down every byte it receives, and answers as a request asks it to.
//!
//! Never here: a look at what it is told.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// The file in the doctor's folder that it writes to.
pub(super) const RECORD: &str = "the service";
/// The field in which a request says what it is to do.
pub(super) const ORDER: &str = "x-keyward-doctor";
/// What HTTP/2 begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2";

/// What it does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Answers well.
    Answer,
    /// Answers what is no HTTP.
    Break,
    /// Says nothing.
    Wait,
    /// Changes the protocol.
    Upgrade,
    /// Closes in the middle of its answer.
    Cut,
}

impl Act {
    /// The word for it in [`ORDER`].
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Answer => "answer",
            Self::Break => "break",
            Self::Wait => "wait",
            Self::Upgrade => "upgrade",
            Self::Cut => "cut",
        }
    }

    fn ordered(value: &str) -> Self {
        let acts = [Self::Break, Self::Wait, Self::Upgrade, Self::Cut];
        acts.into_iter().find(|act| act.word() == value).unwrap_or(Self::Answer)
    }
}

/// What was received, in a file.
type Record = Arc<Mutex<File>>;

/// A service on loopback with a thread of its own; it ends when dropped.
pub(super) struct Upstream {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Listens on a free port; what it receives goes to a file in `folder`.
    pub(super) fn start(folder: &Path) -> io::Result<Self> {
        let record: Record = Arc::new(Mutex::new(File::create(folder.join(RECORD))?));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread =
            thread::Builder::new().name("doctor-upstream".to_owned()).spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = accept(listener, record) => {}
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

impl Drop for Upstream {
    fn drop(&mut self) {
        // The sender's end is what the thread waits for, and a thread that panicked is over too.
        drop(self.stop.take());
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

async fn accept(listener: TcpListener, record: Record) {
    loop {
        // An error is about the one connection that was to be accepted: the next may be well.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::task::yield_now().await;
            continue;
        };
        // What a proxy does in the middle of a request is no event here.
        tokio::spawn(serve(stream, Arc::clone(&record)));
    }
}

async fn serve(stream: TcpStream, record: Record) -> io::Result<()> {
    let mut start = [0; PREFACE.len()];
    // A head and a preface each come in one piece, over loopback.
    let length = stream.peek(&mut start).await?;
    if length > 0 && PREFACE.starts_with(&start[..length]) {
        return serve_http2(stream, record).await.map_err(io::Error::other);
    }
    serve_http1(stream, record).await
}

fn write_down(record: &Record, bytes: &[u8]) -> io::Result<()> {
    record.lock().unwrap_or_else(PoisonError::into_inner).write_all(bytes)
}

async fn serve_http1(mut stream: TcpStream, record: Record) -> io::Result<()> {
    let mut received = Vec::new();
    let read = async |stream: &mut TcpStream, received: &mut Vec<u8>| {
        let before = received.len();
        let length = stream.read_buf(received).await?;
        write_down(&record, &received[before..])?;
        Ok::<bool, io::Error>(length > 0)
    };
    loop {
        let end = loop {
            if let Some(at) = memchr::memmem::find(&received, b"\r\n\r\n") {
                break at + 4;
            }
            if !read(&mut stream, &mut received).await? {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&received[..end]).to_ascii_lowercase();
        let field = |name: &str| {
            let value =
                |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_owned());
            head.lines().find_map(value)
        };
        received.drain(..end);
        let length = field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let is_chunked = field("transfer-encoding").is_some();
        while received.len() < length || (is_chunked && !is_last_chunk(&received)) {
            if !read(&mut stream, &mut received).await? {
                return Ok(());
            }
        }
        received.clear();
        let answer: &[u8] = match Act::ordered(&field(ORDER).unwrap_or_default()) {
            Act::Answer => b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n",
            Act::Break => b"this is no HTTP\r\n\r\n",
            Act::Cut => b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut",
            Act::Upgrade => {
                let protocol = field("upgrade").unwrap_or_default();
                let answer = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
                );
                stream.write_all(answer.as_bytes()).await?;
                while read(&mut stream, &mut received).await? {}
                return Ok(());
            }
            Act::Wait => {
                while read(&mut stream, &mut received).await? {}
                return Ok(());
            }
        };
        stream.write_all(answer).await?;
        if !answer.starts_with(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n") {
            return Ok(());
        }
    }
}

/// Whether a chunked body has come to its end; its data is the doctor's, and holds no such line.
fn is_last_chunk(body: &[u8]) -> bool {
    let has_last = body.starts_with(b"0\r\n") || memchr::memmem::find(body, b"\r\n0\r\n").is_some();
    has_last && body.ends_with(b"\r\n\r\n")
}

async fn serve_http2(stream: TcpStream, record: Record) -> Result<(), h2::Error> {
    let mut connection = h2::server::handshake(stream).await?;
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        tokio::spawn(answer_http2(request, respond, Arc::clone(&record)));
    }
    Ok(())
}

async fn answer_http2(
    request: http::Request<h2::RecvStream>,
    mut respond: h2::server::SendResponse<Bytes>,
    record: Record,
) -> Result<(), h2::Error> {
    let (head, mut body) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri).into_bytes();
    push_fields(&mut text, &head.headers);
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        text.extend(&data);
    }
    if let Some(trailers) = body.trailers().await? {
        push_fields(&mut text, &trailers);
    }
    text.push(b'\n');
    // The file is the doctor's own; that nothing comes is seen by what looks into it.
    let _ = write_down(&record, &text);
    let order = head.headers.get(ORDER).and_then(|value| value.to_str().ok());
    match Act::ordered(order.unwrap_or_default()) {
        Act::Answer | Act::Upgrade => {
            respond.send_response(Response::new(()), true)?;
        }
        Act::Break | Act::Cut => respond.send_reset(h2::Reason::INTERNAL_ERROR),
        Act::Wait => {
            // Until the other side gives up.
            let _ = std::future::poll_fn(|task| respond.poll_reset(task)).await;
        }
    }
    Ok(())
}

/// Each field as a line.
pub(super) fn push_fields(text: &mut Vec<u8>, fields: &http::HeaderMap) {
    for (name, value) in fields {
        text.extend(name.as_str().as_bytes());
        text.extend(b": ");
        text.extend(value.as_bytes());
        text.push(b'\n');
    }
}
