//! Other protocols on the same connection: whoever passes the question on by itself has opened a tunnel past all checks.
//! CVE-2026-88008, CVE-2026-2833, CVE-2026-58055.
//!
//! Never here: what goes through a tunnel that may be.

use super::case::{
    Case, Expected, OverHttp2, Parts, Then, ask, get, inner, parts, passes, refused,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, request: Parts, expected: Expected| {
        cases.push(parts(name, request, expected).over_http2(OverHttp2::Malformed));
    };
    let h2c =
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"];
    let unseen = || passes().without("upgrade").without("http2-settings").without("connection");
    add("h2c".to_owned(), get("/x").lines(&h2c), unseen());
    add("h2c on a route of WebSocket".to_owned(), get("/chat").lines(&h2c), unseen());
    add(
        "h2c without a key".to_owned(),
        ask("GET", "/x").lines(&h2c),
        refused(&[401], "missing_key"),
    );
    add(
        "h2c in capitals".to_owned(),
        get("/x").lines(&["Connection: upgrade", "UPGRADE: H2C"]),
        unseen(),
    );
    add(
        "h2c without its settings".to_owned(),
        get("/x").lines(&["Connection: Upgrade", "Upgrade: h2c"]),
        unseen(),
    );
    add(
        "h2c, not for this connection".to_owned(),
        get("/x").lines(&["Upgrade: h2c", h2c[2]]),
        unseen(),
    );
    add(
        "an Upgrade that Connection does not name".to_owned(),
        get("/x").lines(&["Upgrade: websocket"]),
        unseen(),
    );
    add(
        "a Connection without an Upgrade".to_owned(),
        get("/x").lines(&["Connection: Upgrade"]),
        unseen(),
    );
    let h2c_with_body = ask("POST", "/x").key().lines(&h2c).body(inner());
    add("h2c with a request as its body".to_owned(), h2c_with_body, unseen());
    let not_here = || refused(&[501], "upgrade_not_supported");
    for protocol in [
        "websocket",
        "WebSocket",
        "foo",
        "evil/1",
        "HTTP/2.0",
        "TLS/1.0",
        "IRC/6.9, RTA/x11",
        "websocket, h2c",
        "h2c, websocket",
        "connect-udp",
        "h2",
    ] {
        let lines = ["Connection: Upgrade", &format!("Upgrade: {protocol}")];
        add(format!("{protocol} where none may be"), get("/x").lines(&lines), not_here());
        let expected = refused(&[401], "missing_key");
        add(format!("{protocol} without a key"), ask("GET", "/x").lines(&lines), expected);
        let expected = refused(&[403], "forbidden");
        add(format!("{protocol} on another's route"), get("/admin/x").lines(&lines), expected);
    }
    let asking = |lines: &[&str]| {
        get("/chat").lines(&["Connection: Upgrade", "Upgrade: websocket"]).lines(lines)
    };
    let (key, version) =
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13");
    let bad = || refused(&[400], "bad_request");
    add("no key of WebSocket".to_owned(), asking(&[version]), bad());
    add("no version".to_owned(), asking(&[key]), bad());
    add("two versions".to_owned(), asking(&[key, version, version]), bad());
    add("two keys of WebSocket".to_owned(), asking(&[key, key, version]), bad());
    for other in ["0", "8", "14", "777"] {
        let line = format!("Sec-WebSocket-Version: {other}");
        add(
            format!("version {other}"),
            asking(&[key, &line]),
            refused(&[426], "websocket_version"),
        );
    }
    add(
        "another protocol on a route of WebSocket".to_owned(),
        get("/chat").lines(&["Connection: Upgrade", "Upgrade: foo"]),
        not_here(),
    );
    let with_body = asking(&[key, version]).body(inner());
    add("a handshake with a request as its body".to_owned(), with_body, not_here().then(Then::Any));
    let mut post = asking(&[key, version]);
    "POST".clone_into(&mut post.method);
    add("a handshake by POST".to_owned(), post, bad());
    // The upstream of these tests answers 200: no tunnel is opened, and what follows is a request.
    add(
        "a handshake that is not granted".to_owned(),
        asking(&[key, version]),
        passes().with("upgrade: websocket\r\n"),
    );
    // In HTTP/2 this is a field like any other; it does not pass either.
    cases.push(parts("settings alone", get("/x").lines(&[h2c[2]]), unseen()));
    cases
}
