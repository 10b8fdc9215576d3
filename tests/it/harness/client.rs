//! A client that writes the bytes it is given and reads the answers.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::SockRef;

use super::{DEADLINE, Message};

/// One connection to the proxy.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    /// Connects.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy listens");
        stream.set_nodelay(true).expect("an open socket takes options");
        stream.set_read_timeout(Some(DEADLINE)).expect("an open socket takes options");
        stream.set_write_timeout(Some(DEADLINE)).expect("an open socket takes options");
        Self { stream: BufReader::new(stream) }
    }

    /// The socket, for what only a socket can do.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref()
    }

    /// Writes `bytes`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the proxy takes the bytes");
    }

    /// Writes `bytes`, if the proxy still takes them.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }

    /// The next answer, interim ones too. A connection that ends instead is a failure.
    pub(crate) fn answer(&mut self) -> Message {
        self.answer_to("GET")
    }

    /// The next answer to a request with `method`: one to HEAD has no content.
    pub(crate) fn answer_to(&mut self, method: &str) -> Message {
        let mut answer = self.answer_head();
        if !answer.has_no_content(method) {
            answer.read_body(&mut self.stream).unwrap_or_else(|error| {
                panic!("the content of the answer broke: {error}\n{}", answer.head)
            });
        }
        answer
    }

    /// The next answer, or how it broke off.
    pub(crate) fn try_answer(&mut self) -> io::Result<Message> {
        self.try_answer_to("GET")
    }

    /// The next answer to a request with `method`, or how it broke off.
    pub(crate) fn try_answer_to(&mut self, method: &str) -> io::Result<Message> {
        let mut answer = self.try_answer_head()?;
        if !answer.has_no_content(method) {
            answer.read_body(&mut self.stream)?;
        }
        Ok(answer)
    }

    /// The head of the next answer, so that its content can be read piece by piece.
    pub(crate) fn answer_head(&mut self) -> Message {
        self.try_answer_head().expect("an answer")
    }

    /// The head of the next answer, or why none came.
    pub(crate) fn try_answer_head(&mut self) -> io::Result<Message> {
        Message::read_head(&mut self.stream)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// The next chunk of an answer whose head is read.
    pub(crate) fn chunk(&mut self, answer: &mut Message) -> io::Result<Option<Vec<u8>>> {
        answer.read_chunk(&mut self.stream)
    }

    /// Exactly `length` bytes, of whatever protocol.
    pub(crate) fn read_bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("as many bytes as are waited for");
        bytes
    }

    /// Reads exactly `length` bytes of content and throws them away.
    pub(crate) fn skip(&mut self, length: u64) -> io::Result<()> {
        let copied = io::copy(&mut (&mut self.stream).take(length), &mut io::sink())?;
        if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Everything until the proxy closes the connection; a reset counts as a close.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => rest,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => rest,
            Err(error) => panic!("the proxy neither closed nor answered: {error}"),
        }
    }

    /// Leaves at once, in a way that cannot be taken for a half-closed connection.
    pub(crate) fn reset(self) {
        let socket = SockRef::from(self.stream.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("an open socket takes options");
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub(crate) fn half_close(&mut self) {
        self.stream.get_ref().shutdown(Shutdown::Write).expect("the connection is open");
    }
}

impl Read for Client {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for Client {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
