//! A case over HTTP/2: the same request in frames, or frames that only HTTP/2 has.
//!
//! Never here: whether what came of it is right.

use std::net::SocketAddr;

use serde_json::Value;

use super::case::{Case, KEY, Parts, Request};
use super::frames::{
    self, Connection, DATA, END_STREAM, Field, Frame, GOAWAY, HEADERS, RST_STREAM,
};

/// What came of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The status, and the body.
    Answered(u16, String),
    /// The stream was reset.
    Reset,
    /// The connection ended.
    Ended,
}

/// The frames of `case` on stream 1, if there are any.
pub(super) fn frames_of(case: &Case) -> Option<Vec<Frame>> {
    match &case.request {
        Request::Bytes(_) => None,
        Request::Parts(parts) => Some(frames_of_parts(parts)),
    }
}

fn frames_of_parts(parts: &Parts) -> Vec<Frame> {
    let text = |text: &str| text.as_bytes().to_vec();
    let mut fields = vec![
        (text(":method"), text(&parts.method)),
        (text(":scheme"), text("http")),
        (text(":authority"), text(&parts.host)),
        (text(":path"), text(&parts.target)),
    ];
    fields.extend(lower(&parts.fields));
    let (has_body, has_trailers) = (!parts.body.is_empty(), !parts.trailers.is_empty());
    let flags = if has_body || has_trailers { 0 } else { END_STREAM };
    let mut all = frames::head(1, flags, &fields);
    if has_body {
        let flags = if has_trailers { 0 } else { END_STREAM };
        all.push(Frame::new(DATA, flags, 1, parts.body.clone()));
    }
    if has_trailers {
        all.extend(frames::head(1, END_STREAM, &lower(&parts.trailers)));
    }
    all
}

/// Names have no capitals in HTTP/2 (RFC 9113 §8.2).
fn lower(fields: &[(String, Vec<u8>)]) -> Vec<Field> {
    let lower =
        |(name, value): &(String, Vec<u8>)| (name.to_ascii_lowercase().into_bytes(), value.clone());
    fields.iter().map(lower).collect()
}

/// Sends `frames`, and then another request on the same connection, for `probe`; gives back what came of stream 1, and of
/// the other.
pub(super) fn run(address: SocketAddr, frames: &[Frame], probe: &str) -> (Outcome, Outcome) {
    let mut connection = Connection::open(address);
    connection.send(frames);
    let first = outcome(&mut connection, 1);
    if first == Outcome::Ended {
        // Nobody is waited for who was told to go, and its connection may stay open for a while.
        return (first, Outcome::Ended);
    }
    let text = |text: &str| text.as_bytes().to_vec();
    let fields = [
        (text(":method"), text("GET")),
        (text(":scheme"), text("http")),
        (text(":path"), text(probe)),
        (text(":authority"), text("app.example")),
        (text("x-api-key"), text(KEY)),
    ];
    connection.send(&frames::head(3, END_STREAM, &fields));
    let second = outcome(&mut connection, 3);
    (first, second)
}

fn outcome(connection: &mut Connection, stream: u32) -> Outcome {
    let (mut status, mut body) = (None, Vec::new());
    while let Some(frame) = connection.next().expect("a connection that answers or ends") {
        match frame.kind {
            GOAWAY => return Outcome::Ended,
            _ if frame.stream != stream => continue,
            RST_STREAM if status.is_none() => return Outcome::Reset,
            RST_STREAM => panic!("an answer broke off"),
            HEADERS if status.is_none() => status = Some(status_of(&frame.payload)),
            DATA => body.extend_from_slice(&frame.payload),
            _ => {}
        }
        if frame.flags & END_STREAM != 0 {
            let text = String::from_utf8_lossy(&body).into_owned();
            // What HPACK's table has no place for is said by the problem document, too.
            let told =
                || serde_json::from_str::<Value>(&text).ok()?["status"].as_u64()?.try_into().ok();
            return Outcome::Answered(status.flatten().or_else(told).unwrap_or_default(), text);
        }
    }
    Outcome::Ended
}

/// The status that a field block begins with, if it is one of HPACK's static table (RFC 7541, A).
fn status_of(block: &[u8]) -> Option<u16> {
    const TABLE: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    let index = block.first()?.checked_sub(0x80 | 8)?;
    TABLE.get(usize::from(index)).copied()
}
