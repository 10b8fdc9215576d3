//! A connection to an endpoint, and the bytes that came over it.
//!
//! Never here: what the bytes mean.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::net::{TcpStream, UnixStream};

use super::Endpoint;
use super::names;
use super::settings::Address;
use super::stream::Stream;
use crate::http1::inbox::{Inbox, Readable as _};

/// A connection to an endpoint. While it is idle it holds no memory for bytes.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    pub(super) inbox: Inbox,
}

impl Connection {
    pub(super) async fn open(endpoint: &Endpoint) -> io::Result<Self> {
        let stream = match endpoint.address() {
            Address::Tcp { host, port } => Stream::Tcp(connect(endpoint, host, *port).await?),
            Address::Unix(path) => Stream::Unix(UnixStream::connect(path).await?),
        };
        Ok(Self { stream, inbox: Inbox::default() })
    }

    /// Whether an idle connection still seems good: nobody closed it, and nothing came that nobody asked for.
    /// Costs no system call but where something has happened to it.
    pub(super) fn is_quiet(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        if self.stream.poll_read_ready(&mut nobody).is_pending() {
            return true;
        }
        let read = self.stream.try_read(&mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
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

    /// Writes `pieces`, or the beginning of them.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.poll_write_gathered(cx, pieces)
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
