//! A blocking HTTP/1.1 client on one keep-alive connection, for checks and latency loops. Reads what
//! the proxies here answer (a body of known length), and nothing else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No answer within this time is a failure of the bench, never a long measurement.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The largest answer read: a page of two hundred keys, with room.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// One connection to a proxy.
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    host: SocketAddr,
    buffer: Vec<u8>,
    /// Whether the proxy has said that nothing follows.
    is_over: bool,
}

/// What came back.
pub(crate) struct Answer {
    /// The status code.
    pub(crate) status: u16,
    /// The body.
    pub(crate) body: String,
}

impl<S: Read + Write> Client<S> {
    /// Connects, with the time limits set; `wrap` makes of the connection what the proxy speaks on it.
    pub(crate) fn connect(
        address: SocketAddr,
        wrap: impl FnOnce(TcpStream) -> io::Result<S>,
    ) -> io::Result<Client<S>> {
        Self::over(TcpStream::connect(address)?, address, wrap)
    }

    /// The same on a connection that was made.
    pub(crate) fn over(
        stream: TcpStream,
        address: SocketAddr,
        wrap: impl FnOnce(TcpStream) -> io::Result<S>,
    ) -> io::Result<Client<S>> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.set_write_timeout(Some(ANSWER_LIMIT))?;
        Ok(Client { stream: wrap(stream)?, host: address, buffer: Vec::new(), is_over: false })
    }

    /// Sends `GET path` with the header lines given (each ends in CR LF) and reads the answer. `NotConnected` where
    /// the last answer has said that it is the last: nothing is sent then.
    pub(crate) fn get(&mut self, path: &str, headers: &str) -> io::Result<Answer> {
        self.ask("GET", path, headers, "")
    }

    /// The same with any method, and a body behind the head.
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &str,
    ) -> io::Result<Answer> {
        if self.is_over {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let host = self.host;
        let request = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}\r\n{body}");
        self.stream.write_all(request.as_bytes())?;
        self.stream.flush()?;
        self.buffer.clear();
        let head_end = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more()?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..head_end]).to_ascii_lowercase();
        self.is_over = head.lines().any(|line| line == "connection: close");
        let status = head.get(9..12).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| invalid("no status line"))?;
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())
            .ok_or_else(|| invalid("an answer without content-length"))?;
        while self.buffer.len() < head_end + length {
            self.read_more()?;
        }
        let body = String::from_utf8_lossy(&self.buffer[head_end..head_end + length]);
        Ok(Answer { status, body: body.into_owned() })
    }

    fn read_more(&mut self) -> io::Result<()> {
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.buffer.extend_from_slice(&chunk[..count]);
        if self.buffer.len() > ANSWER_MAX_BYTES {
            return Err(invalid("an answer larger than any that is expected"));
        }
        Ok(())
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
