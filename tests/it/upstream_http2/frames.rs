//! HTTP/2 frame by frame, for an endpoint that does what no library would (RFC 9113 §4.1, §6).

use std::io::{self, Read, Write};

use crate::harness::Connection;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

pub(super) const NO_ERROR: u32 = 0;
pub(super) const INTERNAL_ERROR: u32 = 2;
pub(super) const REFUSED_STREAM: u32 = 7;
pub(super) const CANCEL: u32 = 8;

/// A field block that says `:status: 200`, from HPACK's static table.
pub(super) const OK: &[u8] = &[0x88];

/// A frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
    pub(super) payload: Vec<u8>,
}

/// A request, less its head.
pub(super) struct Request {
    pub(super) stream: u32,
    pub(super) body: Vec<u8>,
}

impl Frame {
    /// Whether it is the last of its stream.
    pub(super) fn ends(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The code of an RST_STREAM.
    pub(super) fn code(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().expect("four bytes"))
    }
}

/// `:status: 200` and `content-length: length`.
pub(super) fn ok_with_length(length: &str) -> Vec<u8> {
    // A literal without indexing, with the name at 28 of the static table (RFC 7541 §6.2.2, A).
    [OK, &[0x0f, 28 - 15, length.len() as u8], length.as_bytes()].concat()
}

/// The endpoint's side of a connection.
pub(super) struct Wire<'a>(pub(super) &'a mut Connection);

impl Wire<'_> {
    /// Reads what a client begins with, and says what it may do: `settings` as (identifier, value).
    pub(super) fn start(&mut self, settings: &[(u16, u32)]) -> io::Result<()> {
        let mut preface = [0; PREFACE.len()];
        self.0.read_exact(&mut preface)?;
        assert_eq!(preface, PREFACE);
        let pair =
            |(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<u8> = settings.iter().flat_map(pair).collect();
        self.send(SETTINGS, 0, 0, &payload)
    }

    /// The next frame; settings and pings are acknowledged and passed over, and data makes room for more.
    pub(super) fn next(&mut self) -> io::Result<Frame> {
        loop {
            let frame = self.read()?;
            match (frame.kind, frame.flags & ACK) {
                (SETTINGS | PING, 0) => self.send(frame.kind, ACK, 0, &frame.payload_to_ack())?,
                (SETTINGS | PING, _) => {}
                (DATA, _) if !frame.payload.is_empty() => {
                    let length = (frame.payload.len() as u32).to_be_bytes();
                    for stream in [0, frame.stream] {
                        self.send(WINDOW_UPDATE, 0, stream, &length)?;
                    }
                    return Ok(frame);
                }
                _ => return Ok(frame),
            }
        }
    }

    /// The next frame that `is_it` accepts.
    pub(super) fn wait_for(&mut self, is_it: impl Fn(&Frame) -> bool) -> io::Result<Frame> {
        loop {
            let frame = self.next()?;
            if is_it(&frame) {
                return Ok(frame);
            }
        }
    }

    /// The next request, read to its end; no other one comes meanwhile.
    pub(super) fn request(&mut self) -> io::Result<Request> {
        let mut body = Vec::new();
        loop {
            let frame = self.next()?;
            if frame.kind == DATA {
                body.extend_from_slice(&frame.payload);
            }
            if frame.ends() {
                return Ok(Request { stream: frame.stream, body });
            }
        }
    }

    /// Whatever is next.
    fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload)?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & (u32::MAX >> 1);
        Ok(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    pub(super) fn send(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
    ) -> io::Result<()> {
        let length = (payload.len() as u32).to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat())
    }

    /// The head of an answer; it has a body.
    pub(super) fn head(&mut self, stream: u32, block: &[u8]) -> io::Result<()> {
        self.send(HEADERS, END_HEADERS, stream, block)
    }

    /// 200 and `text`.
    pub(super) fn answer(&mut self, stream: u32, text: &str) -> io::Result<()> {
        self.head(stream, OK)?;
        self.send(DATA, END_STREAM, stream, text.as_bytes())
    }

    pub(super) fn reset(&mut self, stream: u32, code: u32) -> io::Result<()> {
        self.send(RST_STREAM, 0, stream, &code.to_be_bytes())
    }

    /// Says that no stream above `last` was, or will be, looked at.
    pub(super) fn go_away(&mut self, last: u32) -> io::Result<()> {
        self.send(GOAWAY, 0, 0, &[last.to_be_bytes(), NO_ERROR.to_be_bytes()].concat())
    }
}

impl Frame {
    fn payload_to_ack(&self) -> Vec<u8> {
        if self.kind == PING { self.payload.clone() } else { Vec::new() }
    }
}
