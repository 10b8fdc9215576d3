//! A client's side of HTTP/2, frame by frame (RFC 9113 §4.1), with HPACK's plainest form (RFC 7541 §6.2.2): it sends
//! what no library would.
//!
//! Never here: what a request looks like.

use std::io::{self, Read as _};
use std::net::SocketAddr;

use crate::harness::Client;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// A field, of a head or of trailers; pseudo fields are fields like any other here.
pub(super) type Field = (Vec<u8>, Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

impl Frame {
    pub(super) fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let length = (self.payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes()].concat();
        [head, self.payload.clone()].concat()
    }
}

/// Fields as literals without indexing, names too, nothing compressed.
pub(super) fn block(fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            push_length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// RFC 7541 §5.1, with a prefix of seven bits.
fn push_length(block: &mut Vec<u8>, length: usize) {
    const PREFIX: usize = 127;
    if length < PREFIX {
        return block.push(length as u8);
    }
    block.push(PREFIX as u8);
    let mut rest = length - PREFIX;
    while rest > 127 {
        block.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// The frames of a head; one that is too long for one frame goes on in others (§6.10).
pub(super) fn head(stream: u32, flags: u8, fields: &[Field]) -> Vec<Frame> {
    const FRAME_BYTES: usize = 16_384;
    let block = block(fields);
    let mut pieces: Vec<Frame> =
        block.chunks(FRAME_BYTES).map(|piece| Frame::new(CONTINUATION, 0, stream, piece)).collect();
    if let Some(first) = pieces.first_mut() {
        (first.kind, first.flags) = (HEADERS, flags);
    }
    if let Some(last) = pieces.last_mut() {
        last.flags |= END_HEADERS;
    }
    pieces
}

/// A connection that was begun.
pub(super) struct Connection(Client);

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Self {
        let mut client = Client::connect(address);
        let settings = Frame::new(SETTINGS, 0, 0, []).to_bytes();
        client.send([PREFACE, &settings].concat());
        Self(client)
    }

    /// Writes `frames` at once, if they are still taken.
    pub(super) fn send(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::to_bytes).collect();
        let _sent_or_closed = self.0.try_send(bytes);
    }

    /// The next frame that is no housekeeping; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            let mut head = [0; 9];
            match self.0.read_exact(&mut head) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(None),
                read => read?,
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload)?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let frame = Frame::new(head[3], head[4], stream, payload);
            match (frame.kind, frame.flags & ACK) {
                (SETTINGS, 0) => self.send(&[Frame::new(SETTINGS, ACK, 0, [])]),
                (PING, 0) => self.send(&[Frame::new(PING, ACK, 0, frame.payload)]),
                (DATA | HEADERS | RST_STREAM | GOAWAY, _) => return Ok(Some(frame)),
                _ => {}
            }
        }
    }
}
