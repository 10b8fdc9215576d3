//! A connection to an endpoint, and the bytes that came over it.
//!
//! Never here: what the bytes mean.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite as _;
use tokio::net::{TcpStream, UnixStream};

use super::Endpoint;
use super::introduction::Introduction;
use super::names;
use super::opening::Opening;
use super::settings::Address;
use super::stream::Stream;
use crate::http1::inbox::Inbox;

/// A connection to an endpoint. While it is idle it holds no memory for bytes.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    pub(super) inbox: Inbox,
    /// What it began with, and for whom.
    opening: Option<Arc<Opening>>,
    client: Option<Box<Introduction>>,
}

impl Connection {
    /// Opens one that begins with `opening`, for `client` if that introduces clients.
    pub(super) async fn open(
        endpoint: &Endpoint,
        opening: Option<&Arc<Opening>>,
        client: Option<Introduction>,
    ) -> io::Result<Self> {
        let address = endpoint.address();
        let is_secure = opening.is_some_and(|opening| opening.is_secure());
        if is_secure != matches!(address, Address::Tls { .. }) {
            // Nothing is ever sent in clear where TLS is meant.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let mut stream = match address {
            Address::Tcp { host, port } | Address::Tls { host, port } => {
                Stream::Tcp(connect(endpoint, host, *port).await?)
            }
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        };
        let client = client.map(Box::new);
        if let Some(opening) = opening {
            stream = Box::pin(opening.open(stream, client.as_deref())).await?;
        }
        Ok(Self { stream, inbox: Inbox::default(), opening: opening.cloned(), client })
    }

    /// Whether it began as one would that is opened now.
    pub(super) fn began_with(&self, opening: Option<&Arc<Opening>>) -> bool {
        self.opening.as_ref() == opening
    }

    /// Whether the endpoint takes it for one of `client`.
    pub(super) fn is_for(&self, client: Option<&Introduction>) -> bool {
        self.client.as_deref() == client
    }

    /// Whether an idle connection still seems good.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.stream.is_quiet()
    }

    /// The stream, for what is no HTTP any more, and the bytes that came over it.
    pub(super) fn into_parts(self) -> (Stream, Bytes) {
        (self.stream, self.inbox.unread)
    }

    /// Forgets what the last exchange needed.
    pub(super) fn rest(&mut self) {
        self.inbox.rest();
    }

    /// Reads more bytes behind those that are unread; `false` at the end of the stream.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.inbox.poll_fill(&mut self.stream, cx)
    }

    /// The socket, where what comes over it comes in clear and none of it was read yet.
    pub(super) fn untouched(&self) -> Option<&TcpStream> {
        match &self.stream {
            Stream::Tcp(stream) if self.inbox.unread.is_empty() => Some(stream),
            _ => None,
        }
    }

    /// Writes `pieces`, or the beginning of them.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write_gathered(cx, pieces)
    }

    /// Has everything that was written leave.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
}

/// Connects to any of the addresses of `host`, beginning with the one whose turn it is.
async fn connect(endpoint: &Endpoint, host: &str, port: u16) -> io::Result<TcpStream> {
    let mut addresses = endpoint.addresses().in_turn();
    if addresses.is_empty() {
        addresses = names::look_up(host, port).await?;
        endpoint.addresses().renew(addresses.clone());
    }
    let mut last = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}
