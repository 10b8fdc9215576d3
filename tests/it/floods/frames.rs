//! A client of HTTP/2 that sends what no library would, frame by frame (RFC 9113 §4.1, §6).

use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};

use crate::harness::{Actor, DEADLINE};

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;

pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame that came.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    /// The code of a GOAWAY or a reset.
    pub(super) fn code(&self) -> u32 {
        let begin = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[begin..begin + 4].try_into().expect("a code"))
    }

    /// Whether it is the last of its stream.
    pub(super) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }
}

/// The bytes of a frame.
pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field whose name and value no table keeps (RFC 7541 §6.2.2).
pub(super) fn field(name: &str, value: &str) -> Vec<u8> {
    [&[0x00][..], &text(name), &text(value)].concat()
}

/// A string literal that is not compressed (RFC 7541 §5.2).
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    match text.len().checked_sub(127) {
        None => bytes.push(text.len() as u8),
        Some(mut rest) => {
            bytes.push(127);
            while rest >= 128 {
                bytes.push(rest as u8 | 128);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
    }
    [bytes.as_slice(), text.as_bytes()].concat()
}

/// The field block of a request.
pub(super) fn request(method: &str, path: &str, actor: &Actor) -> Vec<u8> {
    let fields = [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "app.example"),
        ("x-api-key", &actor.key),
    ];
    fields.iter().flat_map(|(name, value)| field(name, value)).collect()
}

/// A whole GET.
pub(super) fn get(stream: u32, path: &str, actor: &Actor) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &request("GET", path, actor))
}

/// One connection.
pub(super) struct Wire(BufReader<TcpStream>);

impl Wire {
    /// Begins; `settings` as (identifier, value).
    pub(super) fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).expect("the proxy listens");
        stream.set_nodelay(true).expect("an open socket takes options");
        stream.set_read_timeout(Some(DEADLINE)).expect("an open socket takes options");
        stream.set_write_timeout(Some(DEADLINE)).expect("an open socket takes options");
        let pair =
            |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<u8> = settings.iter().flat_map(pair).collect();
        let mut wire = Self(BufReader::new(stream));
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let begin = [&preface[..], &frame(SETTINGS, 0, 0, &payload)].concat();
        wire.send(&begin).expect("the proxy takes it");
        wire
    }

    /// The same connection, for another thread.
    pub(super) fn writer(&self) -> TcpStream {
        self.0.get_ref().try_clone().expect("a socket can be shared")
    }

    /// Closes both ways.
    pub(super) fn close(&self) {
        let _ = self.0.get_ref().shutdown(Shutdown::Both);
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// The next frame; `None` at the end, however it comes.
    pub(super) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.read(&mut payload)?;
        Some(Frame { kind: head[3], flags: head[4], payload })
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.0.read_exact(buffer) {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {
                panic!("the proxy neither sends nor closes")
            }
            read => read.ok(),
        }
    }

    /// The next frame that `is_it` accepts, unless the end comes before.
    pub(super) fn wait_for(&mut self, is_it: impl Fn(&Frame) -> bool) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if is_it(&frame) {
                return Some(frame);
            }
        }
    }
}
