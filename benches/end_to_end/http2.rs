//! The load's end of HTTP/2 (RFC 9113): as many streams at once as are asked for on one connection, each answer checked.
//!
//! It sends what other clients send, a header block that names what was sent before and a key that no table keeps,
//! but knows each block from the beginning, so that a request costs the load core next to nothing. Reads what proxies
//! answer to it; anything else is an error.

use std::collections::HashMap;
use std::io;
use std::time::Instant;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::generator::{Requests, Stream};
use crate::latencies::Latencies;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_BYTES: usize = 9;
/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// Types of frames and flags (RFC 9113 §6).
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
/// SETTINGS_ENABLE_PUSH = 0, and a window for each stream that no answer fills (SETTINGS_INITIAL_WINDOW_SIZE).
const OUR_SETTINGS: [u8; 12] = [0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff];
/// All that a connection's window can be raised by at its beginning, and by how much later, whenever so much was read.
const WINDOW: u32 = (1 << 31) - 1 - 65_535;
const WINDOW_PART: u32 = 1 << 30;

/// The codes of RFC 7541 Appendix B for what keys are made of: they are canonical, so that the first code of a length,
/// and the characters in order, are all there is to know.
const CODES: [(u64, u32, &str); 4] = [
    (0x00, 5, "012aceiost"),
    (0x14, 6, " %-./3456789=A_bdfghlmnpru"),
    (0x5c, 7, ":BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz"),
    (0xf8, 8, "&*,;XZ"),
];

/// The end of a header block that is its key's alone: `x-api-key`, never indexed (RFC 7541 §6.2.3).
pub(crate) fn key_field(key: &str) -> Vec<u8> {
    let mut block = vec![0x10];
    for text in ["x-api-key", key] {
        let coded = huffman(text);
        assert!(coded.len() < 127, "a length in one byte");
        block.push(0x80 | coded.len() as u8);
        block.extend(coded);
    }
    block
}

fn huffman(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut coded) = (0, 0, Vec::new());
    for character in text.chars() {
        let code = CODES.iter().find_map(|(first, length, characters)| {
            Some((first + characters.find(character)? as u64, length))
        });
        let (code, length) = code.expect("keys have letters, digits, - and _");
        (bits, count) = ((bits << length) | code, count + length);
        while count >= 8 {
            count -= 8;
            coded.push((bits >> count) as u8);
        }
    }
    if count > 0 {
        // Filled up with ones (RFC 7541 §5.2).
        coded.push(((bits << (8 - count)) | (0xff >> count)) as u8);
    }
    coded
}

/// A connection.
pub(crate) struct Http2 {
    stream: Box<dyn Stream>,
    requests: Requests,
    /// How many streams are busy at once.
    streams: usize,
    body_bytes: usize,
    next_stream: u32,
    /// When the request of each open stream was made.
    asked: HashMap<u32, Instant>,
    latencies: Option<Latencies>,
    /// What came and was not read yet; what goes out next.
    received: Vec<u8>,
    outgoing: Vec<u8>,
    /// Answers that have ended, and the bytes of all bodies.
    answers: u64,
    all_body_bytes: u64,
    /// What was read of the connection's window and not given back.
    taken: u32,
}

impl Http2 {
    /// Begins, with one request: it tells the proxy the fields that all others refer to.
    pub(crate) async fn begin(
        stream: Box<dyn Stream>,
        requests: Requests,
        streams: usize,
        path: &str,
        body_bytes: usize,
    ) -> io::Result<Http2> {
        let mut http = Http2 {
            stream,
            requests,
            streams,
            body_bytes,
            next_stream: 1,
            asked: HashMap::with_capacity(2 * streams),
            latencies: None,
            received: Vec::new(),
            outgoing: PREFACE.to_vec(),
            answers: 0,
            all_body_bytes: 0,
            taken: 0,
        };
        push_frame(&mut http.outgoing, SETTINGS, 0, 0, &[&OUR_SETTINGS]);
        push_frame(&mut http.outgoing, WINDOW_UPDATE, 0, 0, &[&WINDOW.to_be_bytes()]);
        // Literals that are added to the table (RFC 7541 §6.2.1), under names of the static one.
        let mut block = vec![0x82, 0x87]; // :method: GET, :scheme: https
        let fields = [(4, path), (1, "bench"), (58, "bench/1.0"), (19, "application/json")];
        for (name, value) in fields {
            block.extend([0x40 | name, value.len() as u8]);
            block.extend(value.as_bytes());
        }
        http.push_request(&block);
        http.exchange(1, |_| false).await?;
        Ok(http)
    }

    /// Keeps all streams busy until the deadline.
    pub(crate) async fn run(mut self, deadline: Instant, latencies: Latencies) -> io::Result<()> {
        self.latencies = Some(latencies);
        let (streams, now) = (self.streams, Instant::now());
        (0..streams).for_each(|_| self.push_known_request(now));
        self.exchange(streams, |now| now < deadline).await
    }

    /// Sends what is to go out and reads, until no stream is `open`; one that ends is followed by another while `goes_on`.
    async fn exchange(
        &mut self,
        mut open: usize,
        goes_on: impl Fn(Instant) -> bool,
    ) -> io::Result<()> {
        while open > 0 {
            if !self.outgoing.is_empty() {
                self.stream.write_all(&self.outgoing).await?;
                self.stream.flush().await?;
                self.outgoing.clear();
            }
            let ended = self.receive().await?;
            let now = Instant::now();
            match goes_on(now) {
                true => (0..ended).for_each(|_| self.push_known_request(now)),
                false => open -= ended,
            }
        }
        match self.all_body_bytes == self.answers * self.body_bytes as u64 {
            true => Ok(()),
            false => Err(io::Error::other("bodies of a wrong length")),
        }
    }

    /// A request that refers to the fields of the first: entries 62 to 65, the newest first.
    fn push_known_request(&mut self, now: Instant) {
        self.asked.insert(self.next_stream, now);
        self.push_request(&[0x82, 0x87, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]);
    }

    fn push_request(&mut self, block: &[u8]) {
        let stream = self.next_stream;
        self.next_stream += 2;
        let payload = [block, self.requests.next()];
        push_frame(&mut self.outgoing, HEADERS, END_HEADERS | END_STREAM, stream, &payload);
    }

    /// Reads what is there and handles all whole frames; how many streams ended.
    async fn receive(&mut self) -> io::Result<usize> {
        self.received.reserve(READ_BYTES);
        if self.stream.read_buf(&mut self.received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let received = std::mem::take(&mut self.received);
        let (mut rest, mut ended) = (&received[..], 0);
        while let Some((head, after)) = rest.split_first_chunk::<FRAME_HEAD_BYTES>() {
            let [high, middle, low, kind, flags, stream @ ..] = *head;
            let length = u32::from_be_bytes([0, high, middle, low]) as usize;
            let Some((payload, after)) = after.split_at_checked(length) else { break };
            rest = after;
            if self.handle(kind, flags, payload)? {
                ended += 1;
                let asked = self.asked.remove(&u32::from_be_bytes(stream));
                if let (Some(latencies), Some(asked)) = (&self.latencies, asked) {
                    latencies.record(asked);
                }
            }
        }
        let read = received.len() - rest.len();
        self.received = received;
        self.received.drain(..read);
        self.answers += ended as u64;
        Ok(ended)
    }

    /// Counts bytes of a body, and gives the connection's window back in large pieces.
    fn take(&mut self, count: usize) {
        self.all_body_bytes += count as u64;
        self.taken += count as u32;
        if self.taken >= WINDOW_PART {
            let part = WINDOW_PART.to_be_bytes();
            push_frame(&mut self.outgoing, WINDOW_UPDATE, 0, 0, &[&part]);
            self.taken -= WINDOW_PART;
        }
    }

    /// Handles one frame; whether its stream has ended.
    fn handle(&mut self, kind: u8, flags: u8, payload: &[u8]) -> io::Result<bool> {
        match kind {
            DATA if flags & !END_STREAM == 0 => self.take(payload.len()),
            HEADERS if flags & !END_STREAM == END_HEADERS && is_200(payload) => {}
            SETTINGS if flags & ACK == 0 => push_frame(&mut self.outgoing, SETTINGS, ACK, 0, &[]),
            PING if flags & ACK == 0 => push_frame(&mut self.outgoing, PING, ACK, 0, &[payload]),
            SETTINGS | PING | WINDOW_UPDATE => {}
            _ => {
                let text = format!("a frame of type {kind}, flags {flags}: {payload:02x?}");
                return Err(io::Error::other(text));
            }
        }
        Ok(matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0)
    }
}

fn push_frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[&[u8]]) {
    let length = payload.iter().map(|part| part.len()).sum::<usize>() as u32;
    to.extend(&length.to_be_bytes()[1..]);
    to.extend([kind, flags]);
    to.extend(stream.to_be_bytes());
    payload.iter().for_each(|part| to.extend(*part));
}

/// Whether a block begins with `:status: 200`, entry 8 of the static table, behind changes of the table's size.
fn is_200(mut block: &[u8]) -> bool {
    while let [0x20..=0x3f, rest @ ..] = block {
        let is_long = block[0] == 0x3f;
        let more = rest.iter().take_while(|byte| is_long && **byte & 0x80 != 0).count();
        block = rest.get(more + usize::from(is_long)..).unwrap_or_default();
    }
    block.first() == Some(&0x88)
}
