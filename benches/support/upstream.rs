//! The service behind every proxy: one epoll loop that answers each GET with 100 bytes, or, on
//! `/echo`, with the request head it received, or, on `/medium` and `/large`, with 16 KiB and 1 MiB. It takes as
//! little of the load core as HTTP allows, and never waits for a slow reader. A POST is never answered: nobody here
//! sends the end of a body.

use std::io::{self, Read, Write};
use std::net;

use memchr::memmem;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use rustix::io::Errno;
use slab::Slab;

/// A whole answer: a head as an application server writes it and a body of 100 bytes.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\n\
    date: Mon, 23 Nov 2026 10:00:00 GMT\r\n\
    content-type: application/json\r\n\
    content-length: 100\r\n\
    \r\n\
    {\"order\":42,\"state\":\"shipped\",\"lines\":[{\"item\":\"A-1007\",\"count\":2},\
    {\"item\":\"B-2213\",\"count\":1}]}   \n";
/// What asks for larger answers, and their body, of which `/medium` is a part.
const MEDIUM: &[u8] = b"GET /medium";
const MEDIUM_BYTES: usize = 16 * 1024;
const LARGE: &[u8] = b"GET /large";
static LARGE_BODY: [u8; 1024 * 1024] = [0; 1024 * 1024];
/// What asks for the head back instead.
const ECHO: &[u8] = b"GET /echo";
/// What is never answered: the body that it waits for has no end.
const UPLOAD: &[u8] = b"POST ";
const HEAD_END: &[u8] = b"\r\n\r\n";
const LISTENER: Token = Token(usize::MAX);
/// More than 64 clients' requests at once, and more than any head here.
const READ_BYTES: usize = 16 * 1024;

struct Connection {
    stream: TcpStream,
    /// The beginning of a head whose end has not come.
    partial: Vec<u8>,
    /// What the socket would not take yet of a large answer; nothing is read meanwhile.
    unsent: &'static [u8],
}

/// Serves until the process ends.
pub(crate) fn serve(listener: net::TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut do_others_wait = false;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            if event.token() == LISTENER {
                do_others_wait = !accept_all(&listener, &poll, &mut connections)?;
                continue;
            }
            let number = event.token().0;
            let is_over = |connection: &mut Connection| {
                !connection.answer(&mut buffer, event.is_read_closed())
            };
            if connections.get_mut(number).is_some_and(is_over) {
                connections.remove(number); // dropping the socket takes it out of epoll, too
                if do_others_wait {
                    do_others_wait = !accept_all(&listener, &poll, &mut connections)?;
                }
            }
        }
    }
}

/// Whether all were accepted. If the process has no file descriptors left, the others wait until a connection ends.
fn accept_all(
    listener: &TcpListener,
    poll: &Poll,
    connections: &mut Slab<Connection>,
) -> io::Result<bool> {
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
            Err(error) if Errno::from_io_error(&error) == Some(Errno::MFILE) => return Ok(false),
            Err(error) => return Err(error),
        };
        stream.set_nodelay(true)?;
        let place = connections.vacant_entry();
        // Edge-triggered: that there is room is told only after there was none, so it costs nothing else.
        let both = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut stream, Token(place.key()), both)?;
        place.insert(Connection { stream, partial: Vec::new(), unsent: &[] });
    }
}

impl Connection {
    /// Answers every request that has arrived; false when the connection is over. A short read has
    /// emptied the socket (edge-triggered epoll wakes us for what comes after it), so that a request
    /// costs one read and one write.
    fn answer(&mut self, buffer: &mut [u8], peer_closed: bool) -> bool {
        loop {
            match self.send_large() {
                Ok(()) if self.unsent.is_empty() => {}
                Ok(()) => return true,
                Err(_) => return false,
            }
            let count = match self.stream.read(buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            };
            if self.answer_bytes(&buffer[..count]).is_err() {
                return false;
            }
            if count < buffer.len() && !peer_closed && self.unsent.is_empty() {
                return true;
            }
        }
    }

    fn answer_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.partial.is_empty() && bytes.ends_with(HEAD_END) {
            return self.answer_heads(bytes);
        }
        self.partial.extend_from_slice(bytes);
        let Some(last) = memmem::rfind(&self.partial, HEAD_END) else { return Ok(()) };
        let rest = self.partial.split_off(last + HEAD_END.len());
        let heads = std::mem::replace(&mut self.partial, rest);
        self.answer_heads(&heads)
    }

    /// A write that the socket's buffer cannot take is an error: nobody here pipelines that much.
    fn answer_heads(&mut self, heads: &[u8]) -> io::Result<()> {
        let mut start = 0;
        for end in memmem::find_iter(heads, HEAD_END) {
            let head = &heads[start..end + HEAD_END.len()];
            start = end + HEAD_END.len();
            if head.starts_with(ECHO) {
                let length = head.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                self.stream.write_all(&[answer.as_bytes(), head].concat())?;
            } else if head.starts_with(LARGE) {
                self.begin_large(&LARGE_BODY)?;
            } else if head.starts_with(MEDIUM) {
                self.begin_large(&LARGE_BODY[..MEDIUM_BYTES])?;
            } else if !head.starts_with(UPLOAD) {
                self.stream.write_all(ANSWER)?;
            }
        }
        Ok(())
    }

    fn begin_large(&mut self, body: &'static [u8]) -> io::Result<()> {
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        self.stream.write_all(answer.as_bytes())?;
        self.unsent = body;
        Ok(())
    }

    /// Sends what the socket takes of a large answer.
    fn send_large(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent) {
                Ok(count) => self.unsent = &self.unsent[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
