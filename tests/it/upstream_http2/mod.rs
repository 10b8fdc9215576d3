//! HTTP/2 to endpoints: how connections are shared, what passes over them, and what becomes of requests when they or
//! their streams fail.

mod endpoint;
mod faults;
mod frames;
mod messages;
mod openings;
mod sharing;

use std::net::SocketAddr;

use crate::harness::{Actor, Keyward, Setup};

/// One worker, so that whoever comes could share a connection.
fn start(endpoints: &[SocketAddr], prepare: impl FnOnce(&mut Setup)) -> (Keyward, Actor) {
    let mut setup = Setup::with_endpoint(endpoints[0]);
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    let urls: Vec<String> =
        endpoints.iter().map(|address| format!("\"http://{address}\"")).collect();
    setup.endpoints(&urls, "http2 = true");
    prepare(&mut setup);
    let alice = setup.key("alice", "viewer");
    (setup.start(), alice)
}

/// A POST of `body` with HTTP/1.
fn post(target: &str, actor: &Actor, body: &str) -> String {
    let head = format!("POST {target} HTTP/1.1\r\nHost: app.example\r\n{}", actor.header());
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}
