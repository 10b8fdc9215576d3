//! Upgrades: refused cleanly, before anything reaches the upstream; nobody gets a tunnel.

use crate::harness::{Actor, Stage, Upstream};

fn stage(app: Upstream) -> (Stage, Actor) {
    Stage::new(app, |setup| setup.key("alice", "viewer"))
}

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[test]
fn an_upgrade_is_refused_and_never_forwarded() {
    let (stage, alice) = stage(Upstream::hello());
    for lines in [
        WEBSOCKET,
        "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n",
        "Connection: Upgrade\r\nUpgrade: foo\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
    ] {
        let head = "GET /chat HTTP/1.1\r\nHost: a\r\n";
        let key = alice.header();
        stage.refuses(format!("{head}{key}{lines}\r\n"), 501, "upgrade_not_supported");
        let status = stage.kw.ask(format!("{head}{lines}\r\n")).status();
        assert!(matches!(status, 401 | 501), "{status} without a key");
    }
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn an_offer_of_h2c_is_ignored_and_never_forwarded() {
    let (stage, alice) = stage(Upstream::hello());
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{}{offer}\r\n", alice.header());
    let received = stage.passes(request);
    for name in ["upgrade", "http2-settings", "connection"] {
        assert_eq!(received.field(name), None, "{}", received.head);
    }
}

#[test]
fn what_is_sent_behind_a_refused_upgrade_is_http_or_nothing() {
    let (stage, alice) = stage(Upstream::hello());
    let key = alice.header();
    let mut client = stage.kw.connect();
    client.send(format!(
        "GET /chat HTTP/1.1\r\nHost: a\r\n{key}{WEBSOCKET}\r\n\
         GET /behind HTTP/1.1\r\nHost: a\r\n\r\n",
    ));
    assert_eq!(client.answer().status(), 501);
    if let Ok(second) = client.try_answer_head() {
        assert_eq!(second.status(), 401, "{}", second.head);
    }
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn a_101_that_nobody_asked_for_is_a_broken_upstream() {
    let (stage, alice) = stage(Upstream::answering(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n",
    ));
    let answer = stage.kw.get("/", &alice);
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_protocol"));
}
