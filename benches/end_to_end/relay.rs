//! The floor: an L4 relay that moves bytes between a client's connection and one to the upstream, in
//! one epoll loop, and knows no HTTP at all. What a proxy costs beyond this, it costs for its work.

use std::io::{self, Read, Write};
use std::net::{self, SocketAddr};

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
const READ_BYTES: usize = 16 * 1024;

/// One end of a pair.
struct End {
    stream: TcpStream,
    /// What the socket would not take yet; while there is any, the other end is not read.
    backlog: Vec<u8>,
}

/// A client's connection and the upstream's that belongs to it.
struct Pair {
    client: End,
    upstream: End,
}

/// Relays until the process ends.
pub(crate) fn serve(listener: net::TcpListener, upstream: SocketAddr) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut pairs: Vec<Option<Pair>> = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, upstream, &poll, &mut pairs)?;
                continue;
            }
            let slot = &mut pairs[event.token().0 / 2];
            if let Some(pair) = slot
                && pair.advance(event, &mut buffer).is_err()
            {
                *slot = None; // dropping the sockets takes both out of epoll, too
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    upstream: SocketAddr,
    poll: &Poll,
    pairs: &mut Vec<Option<Pair>>,
) -> io::Result<()> {
    loop {
        let client = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        // A blocking connect: on loopback it is done at once, and only at a round's beginning.
        let upstream = net::TcpStream::connect(upstream)?;
        upstream.set_nonblocking(true)?;
        let index = pairs.iter().position(Option::is_none).unwrap_or(pairs.len());
        let mut pair =
            Pair { client: End::new(client)?, upstream: End::new(TcpStream::from_std(upstream))? };
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut pair.client.stream, Token(2 * index), both)?;
        poll.registry().register(&mut pair.upstream.stream, Token(2 * index + 1), both)?;
        match pairs.get_mut(index) {
            Some(slot) => *slot = Some(pair),
            None => pairs.push(Some(pair)),
        }
    }
}

impl Pair {
    /// Moves what can be moved; an error (the end of a stream is one) ends the pair.
    fn advance(&mut self, event: &Event, buffer: &mut [u8]) -> io::Result<()> {
        let from_client = event.token().0.is_multiple_of(2);
        let (this, other) = match from_client {
            true => (&mut self.client, &mut self.upstream),
            false => (&mut self.upstream, &mut self.client),
        };
        if event.is_writable() && !this.backlog.is_empty() {
            this.flush()?;
            pump(other, this, buffer, true)?;
        }
        if event.is_readable() {
            pump(this, other, buffer, event.is_read_closed())?;
        }
        Ok(())
    }
}

impl End {
    fn new(stream: TcpStream) -> io::Result<End> {
        stream.set_nodelay(true)?;
        Ok(End { stream, backlog: Vec::new() })
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.backlog.is_empty() {
            match self.stream.write(&self.backlog) {
                Ok(count) => drop(self.backlog.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = match self.stream.write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        self.backlog.extend_from_slice(&bytes[sent..]);
        Ok(())
    }
}

/// Reads `from` and writes to `to`. A short read has emptied the socket, since edge-triggered epoll
/// wakes us for what comes after it; `to_the_end` reads on all the same, until the socket says so.
fn pump(from: &mut End, to: &mut End, buffer: &mut [u8], to_the_end: bool) -> io::Result<()> {
    while to.backlog.is_empty() {
        let count = match from.stream.read(buffer) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        to.send(&buffer[..count])?;
        if count < buffer.len() && !to_the_end {
            return Ok(());
        }
    }
    Ok(())
}
