//! A case over HTTP/1.1: its bytes are written as they are, and the connection is looked at to its end.
//!
//! Never here: whether what came of it is right.

use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::time::Duration;

use super::case::{Case, KEY, Request, Then};
use crate::harness::{Client, Message};

/// What a client got.
#[derive(Debug)]
pub(super) struct Outcome {
    /// The first answer; or how it ended without one.
    pub(super) answer: Result<Message, String>,
    /// What came behind it.
    pub(super) then: Next,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Closed,
    /// The next request got its own answer.
    Kept,
    /// Something else than that.
    Wrong(String),
}

/// Sends `case` to `address`, and then, unless it must be closed, another request on the same connection, for `probe`.
/// Whoever is silent for `patience` is left.
pub(super) fn run(address: SocketAddr, case: &Case, probe: &str, patience: Duration) -> Outcome {
    let wire = match &case.request {
        Request::Bytes(bytes) => bytes.clone(),
        Request::Parts(parts) => parts.to_http1(),
    };
    let method =
        String::from_utf8_lossy(wire.split(|&byte| byte == b' ').next().unwrap_or_default());
    let mut client = connect(address, patience);
    // A proxy that has seen enough may close before it has all of it.
    let _sent_or_refused = client.try_send(&wire);
    let answer = match final_answer(&mut client, &method) {
        Ok(answer) => answer,
        Err(error) => return Outcome { answer: Err(error.to_string()), then: Next::Closed },
    };
    let then = match case.expected.then {
        Then::Closed => rest(&mut client),
        Then::Kept | Then::Any => ask_again(&mut client, probe),
    };
    Outcome { answer: Ok(answer), then }
}

/// What comes until the connection is closed: nothing may.
fn rest(client: &mut Client) -> Next {
    let mut rest = Vec::new();
    match client.read_to_end(&mut rest) {
        Err(error) if !is_close(&error) => Next::Wrong(format!("not closed: {error}")),
        _ if rest.is_empty() => Next::Closed,
        _ => Next::Wrong(format!("more than one answer: {}", String::from_utf8_lossy(&rest))),
    }
}

/// What another request on the same connection gets.
fn ask_again(client: &mut Client, probe: &str) -> Next {
    let _sent_or_closed = client.try_send(probing(probe));
    match final_answer(client, "GET") {
        Ok(next) if is_for(&next, probe) => Next::Kept,
        Ok(next) => Next::Wrong(format!("another answer: {}{}", next.head, next.text())),
        Err(error) if is_close(&error) => Next::Closed,
        Err(error) => Next::Wrong(error.to_string()),
    }
}

/// Whether somebody else, on a connection of their own, gets the answer to their own request.
pub(super) fn is_served(
    address: SocketAddr,
    target: &str,
    patience: Duration,
) -> Result<(), String> {
    let mut client = connect(address, patience);
    client.try_send(probing(target)).map_err(|error| error.to_string())?;
    match final_answer(&mut client, "GET") {
        Ok(answer) if is_for(&answer, target) => Ok(()),
        Ok(answer) => Err(format!("somebody else's answer: {}{}", answer.head, answer.text())),
        Err(error) => Err(error.to_string()),
    }
}

fn connect(address: SocketAddr, patience: Duration) -> Client {
    let client = Client::connect(address);
    client.socket().set_read_timeout(Some(patience)).expect("an open socket takes options");
    client
}

fn probing(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\nConnection: close\r\n\r\n")
}

fn is_for(answer: &Message, target: &str) -> bool {
    answer.status() == 200 && answer.text() == target
}

/// The next answer that is not interim.
fn final_answer(client: &mut Client, method: &str) -> io::Result<Message> {
    loop {
        let answer = client.try_answer_to(method)?;
        if !answer.first_line.starts_with("HTTP/1.") || answer.status() > 101 {
            return Ok(answer);
        }
    }
}

fn is_close(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | BrokenPipe)
}
