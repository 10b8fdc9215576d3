//! The floods: what each hostile connection begins with, what it sends again and again, and what it reads.
//!
//! Pieces are paced, so that all contestants are offered the same, and the hostile process does not need its whole core.

use std::time::Duration;

use crate::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, begin, field, frame, request,
};
use crate::support::Failure;

/// One flood.
#[derive(Clone, Copy)]
pub(crate) struct Flood {
    /// Its name in `CASES` and in the report.
    pub(crate) name: &'static str,
    /// What each connection does.
    pub(crate) what: &'static str,
    pub(crate) protocol: Protocol,
    /// Connections, in relation to what is usual.
    pub(crate) times: u64,
    /// Makes it, with a good key.
    pub(crate) make: fn(&str) -> Hostile,
}

/// What is spoken on the connections.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// HTTP/1.1 in clear.
    Clear,
    /// Where TLS is expected, but no handshake is made.
    RawTls,
    /// HTTP/1.1 over TLS.
    Tls,
    /// HTTP/2 over TLS.
    Http2,
}

/// What a hostile connection does.
pub(crate) struct Hostile {
    pub(crate) begin: Vec<u8>,
    /// What is sent each [`period`](Self::period): the number of the piece, from 0.
    pub(crate) piece: Box<dyn Fn(u32) -> Vec<u8>>,
    pub(crate) period: Duration,
    pub(crate) reads: Reads,
    /// Whether it closes by itself once it has begun.
    pub(crate) leaves: bool,
}

/// How much of what comes is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    All,
    /// Some bytes each period, into a small buffer.
    Little,
}

const SECOND: Duration = Duration::from_secs(1);
/// Ten times a second, of a thousand connections, is ten thousand writes.
const OFTEN: Duration = Duration::from_millis(100);
/// Frames in a piece: with a thousand connections, 500,000 a second.
const FRAMES: u32 = 50;
/// Streams in a piece, and how often there is one: with a thousand connections, 10,000 requests a second.
const STREAMS: u32 = 25;
const SELDOM: Duration = Duration::from_millis(2500);
/// As many as may be open at once.
const HELD: u32 = 100;

pub(crate) const ALL: [Flood; 24] = [
    clear("silent", "says nothing", |_| silent(Vec::new())),
    Flood {
        times: 10,
        ..clear("silent_10k", "says nothing; ten times as many", |_| silent(Vec::new()))
    },
    clear("slow_head", "a byte of a head a second", |_| {
        drip(b"GET / HTTP/1.1\r\nhost: bench\r\nx-slow: ".to_vec(), b"x")
    }),
    clear("slow_body", "a byte of a body a second, with a good key", |key| {
        drip(post(key, "content-length: 1000000"), b"x")
    }),
    clear("slow_chunks", "a chunk of a byte a second, with a good key", |key| {
        drip(post(key, "transfer-encoding: chunked"), b"1\r\nx\r\n")
    }),
    clear("slow_read", "takes 1 KiB a second of a 1 MiB answer, with a good key", slow_read),
    Flood { protocol: Protocol::Tls, ..clear("slow_read_tls", "the same over TLS", slow_read) },
    Flood {
        protocol: Protocol::RawTls,
        ..clear("tls_stall", "the beginning of a TLS handshake", |_| {
            silent(vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3])
        })
    },
    clear("fields", "a head of 10,000 fields", |_| {
        silent(
            [b"GET / HTTP/1.1\r\nhost: bench\r\n".to_vec(), b"x-field: 1\r\n".repeat(10_000)]
                .concat(),
        )
    }),
    clear("long_value", "a field of 300 KB", |_| {
        silent(
            [b"GET / HTTP/1.1\r\nhost: bench\r\nx-long: ".to_vec(), vec![b'x'; 300_000]].concat(),
        )
    }),
    clear(
        "chunk_extension",
        "an extension of a chunk without end, 80 KB a second, with a good key",
        |key| {
            let begin = [post(key, "transfer-encoding: chunked"), b"1;".to_vec()].concat();
            often(begin, |_| vec![b'x'; 8 << 10])
        },
    ),
    clear("connects", "connects and closes, twice a second", |_| Hostile {
        leaves: true,
        period: SECOND / 2,
        ..silent(Vec::new())
    }),
    clear("bad_keys", "four requests a second, each with another unknown key", |_| Hostile {
        piece: Box::new(|number| {
            format!("GET / HTTP/1.1\r\nhost: bench\r\nx-api-key: unknown-{number:020}\r\n\r\n")
                .into()
        }),
        period: SECOND / 4,
        ..silent(Vec::new())
    }),
    http2("rapid_reset", "10 requests a second, 25 at once, that are reset at once", |_| {
        rapid_reset(String::new())
    }),
    http2("rapid_reset_key", "the same with a good key", |key| rapid_reset(key.to_owned())),
    http2(
        "made_you_reset",
        "10 requests a second, 25 at once, whose windows are made too large, with a good key",
        |key| {
            let key = key.to_owned();
            streams(move |stream| {
                let widest = 0x7fff_ffff_u32.to_be_bytes();
                let get = request(stream, END_HEADERS | END_STREAM, "GET", &key);
                [get, frame(WINDOW_UPDATE, 0, stream, &widest)].concat()
            })
        },
    ),
    http2("continuation", "a head without end, 500 CONTINUATION a second", |_| {
        let begin = [begin(65_535), request(1, 0, "GET", "")].concat();
        frames(begin, &frame(CONTINUATION, 0, 1, &field("x-more", "more")))
    }),
    http2("settings", "500 SETTINGS a second", |_| {
        frames(begin(65_535), &frame(SETTINGS, 0, 0, &[]))
    }),
    http2("ping", "500 PING a second", |_| frames(begin(65_535), &frame(PING, 0, 0, &[0; 8]))),
    http2("priority", "500 PRIORITY a second", |_| {
        frames(begin(65_535), &frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]))
    }),
    http2("empty_data", "500 empty DATA a second, with a good key", |key| {
        let begin = [begin(65_535), request(1, END_HEADERS, "POST", key)].concat();
        frames(begin, &frame(DATA, 0, 1, &[]))
    }),
    http2("zero_window", "100 requests whose answers are not taken", |_| zero_window("")),
    http2("zero_window_key", "the same with a good key", zero_window),
    http2("huge_head", "a head of 300 KB", |_| {
        let more = field("x-more", &"x".repeat(100)).repeat(140);
        let rest = frame(CONTINUATION, 0, 1, &more).repeat(20);
        silent([begin(65_535), frame(HEADERS, 0, 1, &field(":method", "GET")), rest].concat())
    }),
];

const fn clear(name: &'static str, what: &'static str, make: fn(&str) -> Hostile) -> Flood {
    Flood { name, what, protocol: Protocol::Clear, times: 1, make }
}

const fn http2(name: &'static str, what: &'static str, make: fn(&str) -> Hostile) -> Flood {
    Flood { name, what, protocol: Protocol::Http2, times: 1, make }
}

fn silent(begin: Vec<u8>) -> Hostile {
    let piece = Box::new(|_| Vec::new());
    Hostile { begin, piece, period: SECOND, reads: Reads::All, leaves: false }
}

fn drip(begin: Vec<u8>, piece: &'static [u8]) -> Hostile {
    Hostile { piece: Box::new(|_| piece.to_vec()), ..silent(begin) }
}

fn often(begin: Vec<u8>, piece: impl Fn(u32) -> Vec<u8> + 'static) -> Hostile {
    Hostile { piece: Box::new(piece), period: OFTEN, ..silent(begin) }
}

fn frames(begin: Vec<u8>, frame: &[u8]) -> Hostile {
    let piece = frame.repeat(FRAMES as usize);
    often(begin, move |_| piece.clone())
}

fn streams(of_one: impl Fn(u32) -> Vec<u8> + 'static) -> Hostile {
    let piece = move |piece| {
        (0..STREAMS).flat_map(|number| of_one(2 * (piece * STREAMS + number) + 1)).collect()
    };
    Hostile { period: SELDOM, ..often(begin(65_535), piece) }
}

fn rapid_reset(key: String) -> Hostile {
    streams(move |stream| {
        let get = request(stream, END_HEADERS | END_STREAM, "GET", &key);
        [get, frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
    })
}

fn zero_window(key: &str) -> Hostile {
    let flags = END_HEADERS | END_STREAM;
    let requests = (0..HELD).flat_map(|number| request(2 * number + 1, flags, "GET", key));
    silent(begin(0).into_iter().chain(requests).collect())
}

fn slow_read(key: &str) -> Hostile {
    let get = format!("GET /large HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\n\r\n");
    Hostile { reads: Reads::Little, ..silent(get.into()) }
}

fn post(key: &str, framing: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nhost: bench\r\nx-api-key: {key}\r\n{framing}\r\n\r\n").into()
}

impl Flood {
    /// The flood of this name.
    pub(crate) fn named(name: &str) -> Result<Flood, Failure> {
        let names = || ALL.map(|flood| flood.name).join(", ");
        let flood = ALL.into_iter().find(|flood| flood.name == name);
        flood.ok_or_else(|| format!("no flood is called {name}: there are {}", names()).into())
    }

    /// Whether the contestants that speak TLS are flooded.
    pub(crate) fn is_tls(&self) -> bool {
        self.protocol != Protocol::Clear
    }
}
