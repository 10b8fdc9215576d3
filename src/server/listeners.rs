//! The sockets that clients connect to: bound here, passed in by systemd (sd_listen_fds(3)), or handed over by the
//! process that this one takes over from.
//!
//! A socket that is there serves the address of `listen` that it is bound to. It stays open while the program is
//! restarted: connections that come meanwhile wait, and none is refused.
//!
//! Never here: accepting.

use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections the kernel holds for us before they are accepted; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

type Bound = (SocketAddr, TcpListener);

/// Sockets that are there and not in use yet.
#[derive(Debug)]
pub struct Listeners {
    by_systemd: Vec<Bound>,
    handed_over: Vec<Bound>,
}

impl Listeners {
    /// What was handed over, and what systemd passed in to this process, if it did.
    ///
    /// # Errors
    /// That was something else than a listening TCP socket.
    pub fn new(handed_over: Vec<TcpListener>) -> io::Result<Self> {
        let mut passed = ListenFd::from_env();
        let mut by_systemd = Vec::new();
        for place in 0..passed.len() {
            let listener = passed.take_tcp_listener(place).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("socket {place} of those that systemd passed: {error}"),
                )
            })?;
            if let Some(listener) = listener {
                listener.set_nonblocking(true)?;
                by_systemd.push((listener.local_addr()?, listener));
            }
        }
        let handed_over = handed_over.into_iter().map(|socket| Ok((socket.local_addr()?, socket)));
        Ok(Self { by_systemd, handed_over: handed_over.collect::<io::Result<_>>()? })
    }

    /// The socket for `address`: the one that is there for it, or a new one.
    ///
    /// # Errors
    /// The address cannot be bound; the error names it.
    pub fn listen(&mut self, address: SocketAddr) -> io::Result<TcpListener> {
        for there in [&mut self.by_systemd, &mut self.handed_over] {
            if let Some(place) = there.iter().position(|(bound, _)| *bound == address) {
                return Ok(there.swap_remove(place).1);
            }
        }
        bind(address).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
        })
    }

    /// Ends the search. What was handed over and is not named any more closes.
    ///
    /// # Errors
    /// A socket of systemd is left: it stays open, and nobody would ever accept its connections.
    pub fn finish(self) -> io::Result<()> {
        for (address, _) in &self.handed_over {
            tracing::info!(%address, "no longer listening");
        }
        match self.by_systemd.first() {
            None => Ok(()),
            Some((address, _)) => Err(io::Error::other(format!(
                "systemd passed a socket for {address}, which the configuration does not listen on: add it to [server] \
                 listen, or remove its ListenStream from the socket unit"
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
