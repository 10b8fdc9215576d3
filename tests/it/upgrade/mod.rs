//! Upgrades: for whom the route allows them, and nobody gets a tunnel before the endpoint itself grants it.

mod connect;
mod tunnel;
mod websocket;

use std::io::{self, Read as _, Write as _};

use tungstenite::handshake::derive_accept_key;

use crate::harness::{Actor, Client, Connection, Keyward, Message, Setup, Stage, Upstream};

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const GRANTED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
/// Everything but `/plain` may change to WebSocket.
const ROUTES: &str = "[[routes]]\npath = \"/plain\"\n\
                      [[routes]]\npath = \"/robots\"\nroles = [\"robot\"]\nupgrades = [\"websocket\"]\n\
                      [[routes]]\npath = \"/{*rest}\"\nupgrades = [\"websocket\", \"foo/2\"]\n";

fn stage(app: Upstream) -> (Stage, Actor) {
    stage_with(app, |_| {})
}

fn stage_with(app: Upstream, prepare: impl FnOnce(&mut Setup)) -> (Stage, Actor) {
    Stage::new(app, |setup| {
        setup.routes(ROUTES);
        prepare(setup);
        setup.key("alice", "viewer")
    })
}

/// A request by `actor` that asks for WebSocket.
fn asking(target: &str, actor: &Actor) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: a\r\n{}{WEBSOCKET}\r\n", actor.header())
}

/// The answer that grants WebSocket to `request`.
pub(crate) fn granted(request: &Message) -> String {
    let key = request.field("sec-websocket-key").unwrap_or_default();
    let accept = derive_accept_key(key.as_bytes());
    GRANTED.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &accept)
}

/// Grants what is asked for, then does `what` with the tunnel.
fn granting(what: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static) -> Upstream {
    Upstream::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            if request.field("upgrade").is_some() {
                connection.send(granted(&request))?;
                return what(connection);
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
        Ok(())
    })
}

/// Grants what is asked for, and sends back all that comes.
fn echo() -> Upstream {
    granting(|connection| {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match connection.read(&mut buffer)? {
                0 => return Ok(()),
                read => connection.write_all(&buffer[..read])?,
            }
        }
    })
}

/// A tunnel by way of `request`.
#[track_caller]
fn open(kw: &Keyward, request: String) -> Client {
    let mut client = kw.connect();
    client.send(request);
    let answer = client.answer();
    assert_eq!(answer.status(), 101, "{}{}", answer.head, answer.text());
    client
}

#[test]
fn what_a_route_does_not_allow_is_refused_and_never_forwarded() {
    let (stage, alice) = stage(Upstream::hello());
    let head = "GET /plain HTTP/1.1\r\nHost: a\r\n";
    for lines in [
        WEBSOCKET,
        "Connection: keep-alive, upgrade\r\nUpgrade: WebSocket\r\n",
        "Connection: Upgrade\r\nUpgrade: foo\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
    ] {
        let key = alice.header();
        stage.refuses(format!("{head}{key}{lines}\r\n"), 501, "upgrade_not_supported");
        stage.refuses(format!("{head}{lines}\r\n"), 401, "missing_key");
    }
    let other = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: foo\r\n";
    stage.refuses(format!("{other}{}\r\n", alice.header()), 501, "upgrade_not_supported");
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn an_offer_of_h2c_is_ignored_and_never_forwarded() {
    let (stage, alice) = stage(Upstream::hello());
    let offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    for target in ["/plain", "/chat"] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{}{offer}\r\n", alice.header());
        let received = stage.passes(request);
        for name in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(received.field(name), None, "{}", received.head);
        }
    }
}

#[test]
fn http_1_0_cannot_ask_for_another_protocol() {
    let (stage, alice) = stage(Upstream::hello());
    let request = asking("/chat", &alice).replace("HTTP/1.1", "HTTP/1.0");
    let received = stage.passes(request);
    for name in ["upgrade", "connection"] {
        assert_eq!(received.field(name), None, "{}", received.head);
    }
}

#[test]
fn who_may_not_pass_gets_no_upgrade_either() {
    let (stage, alice) = stage(echo());
    let without_key = format!("GET /chat HTTP/1.1\r\nHost: a\r\n{WEBSOCKET}\r\n");
    stage.refuses(without_key, 401, "missing_key");
    let stranger = Actor::new("mallory", "viewer");
    stage.refuses(asking("/chat", &stranger), 401, "invalid_key");
    stage.refuses(asking("/robots", &alice), 403, "forbidden");
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn a_handshake_nobody_can_mean_is_refused() {
    let (stage, alice) = stage(echo());
    let good = asking("/chat", &alice);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    for bad in [
        good.replace(key, ""),
        good.replace(key, &key.repeat(2)),
        good.replace(key, "Sec-WebSocket-Key:\r\n"),
        good.replace(version, ""),
        good.replace(version, &version.repeat(2)),
        good.replace(version, "Sec-WebSocket-Version: x\r\n"),
        good.replace("GET ", "POST "),
    ] {
        stage.refuses(bad, 400, "bad_request");
    }
    for other in ["8", "0", "99"] {
        let request = good.replace(": 13", &format!(": {other}"));
        let answer = stage.refuses(request, 426, "websocket_version");
        assert_eq!(answer.field("sec-websocket-version"), Some("13"));
        assert_eq!(answer.field("upgrade"), Some("websocket"));
        assert_eq!(answer.field("connection"), Some("upgrade"));
    }
    for body in
        ["Content-Length: 2\r\n\r\nhi", "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"]
    {
        let request = good.trim_end().to_owned() + "\r\n" + body;
        stage.refuses(request, 501, "upgrade_not_supported");
    }
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn the_endpoint_is_asked_for_one_protocol_and_knows_who_asks() {
    let (stage, alice) = stage(echo());
    let request = asking("/chat?room=1", &alice)
        .replace("Connection: Upgrade", "Connection: keep-alive, Upgrade, X-Hop")
        .replace("Upgrade: websocket", "Upgrade: h2c, WebSocket\r\nUpgrade: foo/2")
        .replace(
            "\r\n\r\n",
            "\r\nX-Hop: 1\r\nHTTP2-Settings: AA\r\nX-Auth-User: eve\r\nTE: trailers\r\n\r\n",
        );
    let mut client = stage.kw.connect();
    client.send(request);
    let answer = client.answer();
    assert_eq!(answer.status(), 101, "{}", answer.head);
    assert_eq!(answer.fields("connection"), ["upgrade"], "{}", answer.head);
    assert_eq!(answer.fields("upgrade"), ["websocket"], "{}", answer.head);
    assert_eq!(answer.fields("sec-websocket-accept").len(), 1, "{}", answer.head);
    assert_eq!(answer.fields("x-request-id").len(), 1, "{}", answer.head);
    for name in ["content-length", "transfer-encoding"] {
        assert_eq!(answer.field(name), None, "{}", answer.head);
    }
    let received = stage.app.only_request();
    assert_eq!(received.first_line, "GET /chat?room=1 HTTP/1.1");
    assert_eq!(received.fields("connection"), ["upgrade"], "{}", received.head);
    assert_eq!(received.fields("upgrade"), ["websocket"], "{}", received.head);
    assert_eq!(received.fields("sec-websocket-key"), ["dGhlIHNhbXBsZSBub25jZQ=="]);
    assert_eq!(received.fields("sec-websocket-version"), ["13"]);
    assert_eq!(received.fields("x-auth-user"), ["alice"]);
    for name in ["x-hop", "http2-settings", "te", "x-api-key"] {
        assert_eq!(received.field(name), None, "{}", received.head);
    }
}

#[test]
fn other_protocols_are_those_the_route_names() {
    let (stage, alice) = stage(Upstream::scripted(|connection| {
        let request = connection.request()?.expect("a request");
        let protocol = request.field("upgrade").expect("it asks for one").to_uppercase();
        connection.send(format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\n"
        ))?;
        connection.wait_for_close()
    }));
    let lines = "Connection: upgrade\r\nUpgrade: bar, foo, FOO/2\r\n";
    let request = format!("POST /x HTTP/1.1\r\nHost: a\r\n{}{lines}\r\n", alice.header());
    open(&stage.kw, request);
    assert_eq!(stage.app.only_request().fields("upgrade"), ["foo/2"]);
}

#[test]
fn any_other_answer_than_101_is_an_ordinary_one() {
    for (status, body) in
        [("200 OK", "hello"), ("403 Forbidden", "no"), ("426 Upgrade Required", "")]
    {
        let length = body.len();
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        let (stage, alice) = stage(Upstream::answering(answer));
        let mut client = stage.kw.connect();
        // The connection stays one of HTTP: what comes behind is a request like any other.
        client.send(asking("/chat", &alice) + "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer();
        assert!(status.starts_with(&answer.status().to_string()), "{}", answer.head);
        assert_eq!(answer.text(), body);
        assert_eq!(client.answer().status(), 401);
        client.send(asking("/chat", &alice));
        assert_eq!(client.answer().text(), body);
        assert_eq!(stage.app.targets(), ["/chat", "/chat"]);
    }
}

#[test]
fn what_is_sent_behind_a_refused_upgrade_is_http_or_nothing() {
    let (stage, alice) = stage(Upstream::hello());
    let mut client = stage.kw.connect();
    client.send(asking("/plain", &alice) + "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer().status(), 501);
    if let Ok(second) = client.try_answer_head() {
        assert_eq!(second.status(), 401, "{}", second.head);
    }
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn a_101_that_nobody_asked_for_is_a_broken_upstream() {
    let (stage, alice) = stage(Upstream::answering(GRANTED));
    let answer = stage.kw.get("/", &alice);
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_protocol"));
}

#[test]
fn a_101_for_another_protocol_is_a_broken_upstream_and_no_tunnel() {
    for fields in [
        "Upgrade: foo/2\r\n",
        "Upgrade: h2c\r\n",
        "Upgrade: websocket, foo/2\r\n",
        "Upgrade: websocket\r\nUpgrade: websocket\r\n",
        "Upgrade:\r\n",
        "",
    ] {
        let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n";
        let (stage, alice) = stage(Upstream::answering(format!("{head}{fields}\r\n")));
        let mut client = stage.kw.connect();
        client.send(asking("/chat", &alice) + "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n");
        let answer = client.answer();
        let got = (answer.status(), answer.code());
        assert_eq!(got, (502, "upstream_protocol".to_owned()), "{fields:?}");
        assert_eq!(client.answer().status(), 401, "{fields:?}");
        assert_eq!(stage.app.targets(), ["/chat"], "{fields:?}");
    }
}
