//! A client of HTTP/2 whose streams are read and written like connections: by tests that block, and by libraries for
//! other protocols. The connection is driven by a thread of its own.
//!
//! Never here: what a request looks like.

use std::future::{Future, poll_fn};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use bytes::{Buf as _, Bytes};
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::request::Builder as Asking;
use http::{HeaderMap, Method, Request, Response, Version};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio_rustls::TlsConnector;

use super::tls::TlsClients;
use super::{DEADLINE, wait_for};

/// What HTTP/2 begins with (RFC 9113 §6.9.2).
const WINDOW_BYTES: u32 = 65_535;

/// One connection.
#[derive(Clone)]
pub(crate) struct Http2(SendRequest<Bytes>);

/// A request whose answer has begun.
pub(crate) struct Begun {
    answer: Response<RecvStream>,
    outgoing: SendStream<Bytes>,
}

/// An answer, read whole.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

/// One stream, behind the heads of its request and of the answer.
pub(crate) struct Http2Stream {
    incoming: RecvStream,
    unread: Bytes,
    outgoing: SendStream<Bytes>,
}

trait Transport: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Transport for T {}

impl Http2 {
    /// In clear.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::start(address, None, WINDOW_BYTES)
    }

    /// In clear; takes only `window` bytes of each answer that is not read.
    pub(crate) fn connect_with_window(address: SocketAddr, window: u32) -> Self {
        Self::start(address, None, window)
    }

    /// Over TLS, for `host`.
    pub(crate) fn connect_tls(address: SocketAddr, clients: TlsClients, host: &str) -> Self {
        Self::start(address, Some((clients, host.to_owned())), WINDOW_BYTES)
    }

    fn start(address: SocketAddr, tls: Option<(TlsClients, String)>, window: u32) -> Self {
        let (sender, connected) = sync_channel(1);
        thread::spawn(move || {
            runtime().block_on(async {
                let socket = TcpStream::connect(address).await.expect("the proxy listens");
                socket.set_nodelay(true).expect("an open socket takes options");
                let stream: Box<dyn Transport> = match tls {
                    None => Box::new(socket),
                    Some((clients, host)) => {
                        let config = clients.offering(&["h2"]).into_config();
                        let host = ServerName::try_from(host).expect("a host name");
                        let connecting = TlsConnector::from(Arc::new(config)).connect(host, socket);
                        Box::new(connecting.await.expect("the handshake succeeds"))
                    }
                };
                // Room for more than one stream that the test does not read.
                let mut builder = h2::client::Builder::new();
                builder.initial_window_size(window).initial_connection_window_size(1 << 20);
                let (send, connection) = builder.handshake(stream).await.expect("a connection");
                sender.send(send).expect("the test waits");
                // How it ends is seen on its streams.
                let _ = connection.await;
            });
        });
        Self(connected.recv_timeout(DEADLINE).expect("a connection"))
    }

    /// Sends a request without a body.
    pub(crate) fn send(&self, request: Asking) -> Begun {
        self.begin(request, true)
    }

    /// Sends a request for another protocol (RFC 8441).
    pub(crate) fn connect_to(&self, protocol: &str, request: Asking) -> Begun {
        wait_for("the settings of the proxy", || {
            self.0.is_extended_connect_protocol_enabled().then_some(())
        });
        let request = request.method(Method::CONNECT).extension(Protocol::from(protocol));
        self.begin(request, false)
    }

    /// Sends a request that stays open.
    pub(crate) fn begin(&self, request: Asking, is_whole: bool) -> Begun {
        let request: Request<()> = request.version(Version::HTTP_2).body(()).expect("a request");
        let mut ready = block_on(self.0.clone().ready()).expect("room for a stream");
        let (answer, outgoing) = ready.send_request(request, is_whole).expect("it can be sent");
        Begun { answer: block_on(answer).expect("an answer"), outgoing }
    }
}

impl Begun {
    pub(crate) fn status(&self) -> u16 {
        self.answer.status().as_u16()
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        self.answer.headers()
    }

    /// Reads the rest.
    pub(crate) fn read(self) -> Answer {
        let (status, headers) = (self.status(), self.headers().clone());
        let mut text = String::new();
        self.into_stream().read_to_string(&mut text).expect("a whole answer in text");
        Answer { status, headers, text }
    }

    /// The stream.
    pub(crate) fn into_stream(self) -> Http2Stream {
        let Self { answer, outgoing } = self;
        Http2Stream { incoming: answer.into_body(), unread: Bytes::new(), outgoing }
    }
}

impl Http2Stream {
    /// Says that nothing more will be sent.
    pub(crate) fn half_close(&mut self) {
        self.outgoing.send_data(Bytes::new(), true).expect("the stream is open");
    }

    /// Breaks the stream.
    pub(crate) fn reset(mut self) {
        self.outgoing.send_reset(Reason::CANCEL);
    }

    /// Exactly `length` bytes.
    pub(crate) fn read_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.read_exact(&mut bytes).expect("as many bytes as are waited for");
        bytes
    }

    /// What comes in one frame; `None` at the end.
    pub(crate) fn frame(&mut self) -> Option<Bytes> {
        let frame = block_on(self.incoming.data())?.expect("the stream is not reset");
        self.incoming.flow_control().release_capacity(frame.len()).expect("it was received");
        Some(frame)
    }

    /// Everything to the end.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.read_to_end(&mut rest).expect("an end, and no reset");
        rest
    }

    /// Why the stream was reset, after whatever comes before.
    pub(crate) fn reason(&mut self) -> Reason {
        loop {
            match block_on(self.incoming.data()).expect("no end, but a reset") {
                Ok(data) => {
                    self.incoming.flow_control().release_capacity(data.len()).expect("as above");
                }
                Err(error) => return error.reason().expect("a reset"),
            }
        }
    }
}

impl Read for Http2Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.unread.is_empty() {
            match block_on(self.incoming.data()) {
                Some(data) => self.unread = data.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let read = self.unread.len().min(buffer.len());
        self.unread.copy_to_slice(&mut buffer[..read]);
        self.incoming.flow_control().release_capacity(read).map_err(io::Error::other)?;
        Ok(read)
    }
}

impl Write for Http2Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.outgoing.reserve_capacity(bytes.len());
        while self.outgoing.capacity() == 0 {
            let room = block_on(poll_fn(|cx| self.outgoing.poll_capacity(cx)));
            room.ok_or(io::ErrorKind::BrokenPipe)?.map_err(io::Error::other)?;
        }
        let taken = self.outgoing.capacity().min(bytes.len());
        let data = Bytes::copy_from_slice(&bytes[..taken]);
        self.outgoing.send_data(data, false).map_err(io::Error::other)?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits for `future`, as long as a test waits for anything.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    thread_local! {
        static RUNTIME: Runtime = runtime();
    }
    RUNTIME
        .with(|runtime| runtime.block_on(async { tokio::time::timeout(DEADLINE, future).await }))
        .expect("it comes in time")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}
