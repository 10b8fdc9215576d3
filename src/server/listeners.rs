//! The sockets that clients connect to: bound here, or passed in by systemd (sd_listen_fds(3)).
//!
//! A socket that was passed in serves the address of `listen` that it is bound to. It stays open while the program
//! is restarted: connections that come meanwhile wait, and none is refused.
//!
//! Never here: accepting.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections the kernel holds for us before they are accepted; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Sockets that were passed in and are not in use yet.
pub(super) struct Listeners(Vec<(SocketAddr, TcpListener)>);

impl Listeners {
    /// Takes what was passed in to this process, if anything was.
    ///
    /// # Errors
    /// Something else than a listening TCP socket was.
    pub(super) fn passed_in() -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut listeners = Vec::new();
        for place in 0..passed.len() {
            let listener = passed.take_tcp_listener(place).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("socket {place} of those that systemd passed: {error}"),
                )
            })?;
            if let Some(listener) = listener {
                listener.set_nonblocking(true)?;
                listeners.push((listener.local_addr()?, listener));
            }
        }
        Ok(Self(listeners))
    }

    /// The socket for `address`: the one that was passed in for it, or a new one.
    ///
    /// # Errors
    /// The address cannot be bound; the error names it.
    pub(super) fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        match self.0.iter().position(|(bound, _)| *bound == address) {
            Some(place) => Ok(self.0.swap_remove(place).1),
            None => bind(address).map_err(|error| {
                io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
            }),
        }
    }

    /// Ends the search.
    ///
    /// # Errors
    /// A socket is left: nobody would ever accept its connections.
    pub(super) fn finish(self) -> io::Result<()> {
        match self.0.first() {
            None => Ok(()),
            Some((address, _)) => Err(io::Error::other(format!(
                "systemd passed a socket for {address}, which [server] listen does not name: add it there, or remove \
                 its ListenStream from the socket unit"
            ))),
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from(socket))
}
