//! HTTP/1: a message has one end and one content, however its bytes are cut on their way; what is accepted is what a
//! strict reader of RFC 9112 makes of it; and a body that is framed anew is the same.
//!
//! Input: a byte that says whose message it is and how it is cut, and the bytes of the message.

use bytes::Bytes;
use http::HeaderMap;
use keyward::http1::decode::{Chunk, Decoded, Decoder};
use keyward::http1::encode::{Encoder, Framing, Piece};
use keyward::upstream::answer;

use super::reading::{fields_of, unchunked};
use super::worker::{Content, Worker};

thread_local! {
    static WORKER: Worker = Worker::new();
}

/// What was read of a message.
#[derive(Debug, Default, PartialEq)]
struct Message {
    /// The parts of its head, as text.
    head: String,
    headers: HeaderMap,
    body: Option<Decoder>,
    content: Content,
    has_ended: bool,
    rest: Vec<u8>,
    is_refused: bool,
}

/// Runs the target.
pub fn run(data: &[u8]) {
    let Some((&kind, wire)) = data.split_first() else { return };
    let whole = read(kind, wire, wire.len());
    for size in [1, 2, usize::from(kind >> 3) + 3] {
        let cut = read(kind, wire, size);
        assert_eq!(cut, whole, "in pieces of {size}");
    }
    if whole.body.is_none() || whole.is_refused {
        return;
    }
    check_head(kind, wire, &whole);
    check_content(&whole);
}

/// The end of the head in `wire`.
fn head_end(wire: &[u8]) -> usize {
    let blank = wire.windows(4).position(|window| window == b"\r\n\r\n");
    blank.expect("a head that is whole") + 4
}

fn read(kind: u8, wire: &[u8], size: usize) -> Message {
    let (mut unread, mut message) = (Bytes::new(), Message::default());
    for piece in wire.chunks(size.max(1)) {
        unread = [&unread, piece].concat().into();
        if message.is_refused || (message.body.is_none() && !begin(kind, &mut unread, &mut message))
        {
            continue;
        }
        go_on(&mut unread, &mut message);
    }
    if message.is_refused {
        return Message { is_refused: true, ..Message::default() };
    }
    message.rest = unread.to_vec();
    message
}

/// Reads the head, if it is there.
fn begin(kind: u8, unread: &mut Bytes, message: &mut Message) -> bool {
    let read = match kind % 4 {
        0 | 1 => WORKER.with(|worker| worker.read(unread)).map_err(drop).and_then(|read| {
            let Some(read) = read else { return Ok(None) };
            let head = format!("{} {} {:?}", read.head.method, read.head.uri, read.head.version);
            Ok(Some((head, read.head.headers, read.body.map_err(drop)?)))
        }),
        to_head => answer::read_head(unread, to_head == 2).map_err(drop).map(|read| {
            let read = read?;
            let head = format!("{:?} {}", read.head.version, read.head.status.as_u16());
            Some((head, read.head.headers, read.body))
        }),
    };
    match read {
        Ok(None) => false,
        Ok(Some((head, headers, body))) => {
            (message.head, message.headers, message.body) = (head, headers, Some(body));
            true
        }
        Err(()) => {
            message.is_refused = true;
            false
        }
    }
}

fn go_on(unread: &mut Bytes, message: &mut Message) {
    let mut decoder = message.body.expect("the head was read");
    loop {
        match decoder.decode(unread) {
            Ok(Decoded::Frame(frame)) => match frame.into_data() {
                Ok(data) => message.content.data.extend_from_slice(&data),
                Err(frame) => {
                    message.content.trailers = frame.into_trailers().expect("data or trailers");
                }
            },
            Ok(Decoded::NeedsMore | Decoded::End) => break,
            Err(_) => {
                message.is_refused = true;
                break;
            }
        }
    }
    message.has_ended = decoder.has_ended();
    message.body = Some(decoder);
}

/// The head holds what its lines say, in the one way that they can be read.
fn check_head(kind: u8, wire: &[u8], message: &Message) {
    // RFC 9112 §2.2 lets empty lines stand before a request line.
    let skipped = wire.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(0);
    let wire = &wire[skipped..];
    let head = &wire[..head_end(wire)];
    let is_line = |at: usize| head[at] != b'\n' || (at > 0 && head[at - 1] == b'\r');
    assert!((0..head.len()).all(is_line), "a bare line feed");
    let (line, fields) = fields_of(head);
    let line = String::from_utf8_lossy(&line).into_owned();
    let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
    let ours: Vec<&str> = message.head.split(' ').collect();
    match kind % 4 {
        0 | 1 => assert_eq!((words[0], words[2]), (ours[0], ours[2])),
        _ => assert_eq!((words[0], words[1]), (ours[0], ours[1])),
    }
    assert_eq!(fields.len(), message.headers.len(), "{fields:?}");
    for (name, value) in &fields {
        let mut values = message.headers.get_all(name.as_str()).into_iter();
        assert!(values.any(|ours| ours.as_bytes() == value), "{name}");
    }
    check_body(wire, head.len(), message);
}

/// What is behind the head is what its framing says.
fn check_body(wire: &[u8], head_bytes: usize, message: &Message) {
    let behind = &wire[head_bytes..];
    let all = |name: &str| message.headers.get_all(name).into_iter().collect::<Vec<_>>();
    let (lengths, codings) = (all("content-length"), all("transfer-encoding"));
    assert!(lengths.len() + codings.len() <= 1, "framed twice");
    let has_no_body = message.content == Content::default() && message.has_ended;
    if has_no_body && message.rest == behind {
        return;
    }
    if let [coding] = codings[..] {
        assert!(coding.as_bytes().eq_ignore_ascii_case(b"chunked"), "{coding:?}");
        if let Some((data, rest)) = unchunked(behind) {
            assert!(message.has_ended, "there was all of it");
            assert_eq!((&message.content.data[..], &message.rest[..]), (&data[..], rest));
        } else {
            assert!(!message.has_ended, "there is more to come");
        }
    } else if let [length] = lengths[..] {
        let length = length.to_str().expect("digits").parse::<usize>().unwrap_or(usize::MAX);
        let data = &behind[..length.min(behind.len())];
        assert_eq!(message.content.data, data);
        assert_eq!(message.has_ended, behind.len() >= length);
        assert_eq!(message.rest, &behind[data.len()..]);
    } else {
        assert_eq!(message.content.data, behind);
    }
}

/// Framed anew, in chunks, it reads the same.
fn check_content(message: &Message) {
    if !message.has_ended {
        return;
    }
    let (mut encoder, mut wire) = (Encoder::new(Framing::Chunked), Vec::new());
    for data in message.content.data.chunks(7) {
        let mut piece = Piece::default();
        let frame = http_body::Frame::data(Bytes::copy_from_slice(data));
        encoder.frame(frame, &mut piece).expect("chunks of any length");
        wire.extend(piece.parts().concat());
    }
    let mut piece = Piece::default();
    if !message.content.trailers.is_empty() {
        let frame = http_body::Frame::trailers(message.content.trailers.clone());
        encoder.frame(frame, &mut piece).expect("trailers");
    }
    encoder.end(&mut piece).expect("an end");
    wire.extend(piece.parts().concat());
    let start = Message { body: Some(Decoder::Chunked(Chunk::Size)), ..Message::default() };
    let (mut again, mut unread) = (start, Bytes::from(wire));
    go_on(&mut unread, &mut again);
    assert!(again.has_ended && unread.is_empty() && !again.is_refused);
    assert_eq!(again.content, message.content);
}
