//! Upgrades over HTTP/2 (RFC 8441): a CONNECT with `:protocol` is allowed to whom a GET with `Upgrade` would be, and its
//! stream is a tunnel like any other.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::Shutdown;

use h2::Reason;
use http::{Request, request};
use serde_json::Value;
use tungstenite::handshake::derive_accept_key;

use super::{GRANTED, ROUTES, echo, granted, granting, stage, stage_with};
use crate::harness::keyward::get;
use crate::harness::streams::Answer;
use crate::harness::wait::{signal, wait};
use crate::harness::{Actor, Http2, Http2Stream, Stage, Upstream, wait_for};

/// A request of `actor` for WebSocket, as browsers make it.
pub(super) fn asking(target: &str, actor: &Actor) -> request::Builder {
    asking_without_key(target).header("x-api-key", &actor.key)
}

fn asking_without_key(target: &str) -> request::Builder {
    let uri = format!("https://app.example{target}");
    Request::builder().uri(uri).header("sec-websocket-version", "13")
}

/// A tunnel on a connection of its own.
fn open(stage: &Stage, actor: &Actor) -> Http2Stream {
    let begun = Http2::connect(stage.kw.address()).connect_to("websocket", asking("/chat", actor));
    assert_eq!(begun.status(), 200);
    begun.into_stream()
}

#[track_caller]
fn check_refused(answer: &Answer, status: u16, code: &str) {
    let context = format!("{} {:?} {}", answer.status, answer.headers, answer.text);
    assert_eq!(answer.status, status, "{context}");
    let problem: Value = serde_json::from_str(&answer.text).expect("a problem document");
    assert_eq!(problem["code"], code, "{context}");
    for name in ["connection", "upgrade", "transfer-encoding"] {
        assert!(!answer.headers.contains_key(name), "{context}");
    }
}

#[test]
fn who_may_not_pass_gets_no_tunnel() {
    let (stage, alice) = stage_with(echo(), |setup| {
        setup.routes(&format!(
            "[[routes]]\npath = \"/posts\"\nmethods = [\"POST\"]\nupgrades = [\"foo/2\"]\n{ROUTES}"
        ));
    });
    let client = Http2::connect(stage.kw.address());
    let ask = |protocol: &str, request| client.connect_to(protocol, request).read();
    check_refused(&ask("websocket", asking_without_key("/chat")), 401, "missing_key");
    let mallory = Actor::new("mallory", "viewer");
    check_refused(&ask("websocket", asking("/chat", &mallory)), 401, "invalid_key");
    check_refused(&ask("websocket", asking("/robots", &alice)), 403, "forbidden");
    // It counts as the GET it becomes.
    check_refused(&ask("foo/2", asking("/posts", &alice)), 403, "forbidden");
    check_refused(&ask("websocket", asking("/a/../b", &alice)), 400, "ambiguous_path");
    for (protocol, target) in
        [("websocket", "/plain"), ("foo", "/chat"), ("h2c", "/chat"), ("connect-udp", "/chat")]
    {
        check_refused(&ask(protocol, asking(target, &alice)), 501, "upgrade_not_supported");
    }
    // A list is the name of no protocol.
    let answer = ask("foo, websocket", asking("/chat", &alice));
    check_refused(&answer, 501, "method_not_supported");
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn a_connect_that_names_no_protocol_stays_refused() {
    let (stage, alice) = stage(echo());
    let client = Http2::connect(stage.kw.address());
    let request = Request::builder().method("CONNECT").uri("app.example:443");
    let begun = client.begin(request.header("x-api-key", &alice.key), false);
    check_refused(&begun.read(), 501, "method_not_supported");
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn a_handshake_nobody_can_mean_is_refused() {
    let (stage, alice) = stage(echo());
    let client = Http2::connect(stage.kw.address());
    let ask = |versions: &[&str]| {
        let request = Request::builder().uri("https://app.example/chat");
        let request = request.header("x-api-key", &alice.key);
        let add = |request: request::Builder, version: &&str| {
            request.header("sec-websocket-version", *version)
        };
        client.connect_to("websocket", versions.iter().fold(request, add)).read()
    };
    for bad in [&[][..], &["x"], &["13", "13"]] {
        check_refused(&ask(bad), 400, "bad_request");
    }
    let answer = ask(&["8"]);
    check_refused(&answer, 426, "websocket_version");
    assert_eq!(answer.headers["sec-websocket-version"], "13");
    assert_eq!(stage.app.connections(), 0);
}

#[test]
fn the_endpoint_is_asked_as_in_http_1_and_knows_who_asks() {
    let app = Upstream::scripted(|connection| {
        let request = connection.request()?.expect("a request");
        let fields = "Sec-WebSocket-Protocol: chat.v2\r\nX-Room: 1\r\n\r\n";
        connection.send(granted(&request).trim_end().to_owned() + "\r\n" + fields)?;
        connection.wait_for_close()
    });
    let (stage, alice) = stage_with(app, |setup| {
        setup.set("auth", "key_sources = [{ header = \"x-api-key\" }, { query = \"api_key\" }]");
    });
    let client = Http2::connect(stage.kw.address());
    let request = asking_without_key(&format!("/chat?api_key={}&room=1", alice.key))
        .header("sec-websocket-protocol", "chat.v1, chat.v2")
        .header("sec-websocket-extensions", "permessage-deflate")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("origin", "https://app.example")
        .header("x-auth-user", "root");
    let begun = client.connect_to("websocket", request);
    assert_eq!(begun.status(), 200);
    assert_eq!(begun.headers()["sec-websocket-protocol"], "chat.v2");
    assert_eq!(begun.headers()["x-room"], "1");
    assert!(begun.headers().contains_key("x-request-id"));
    for name in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
        assert!(!begun.headers().contains_key(name), "{name}: {:?}", begun.headers());
    }
    let received = stage.app.only_request();
    assert_eq!(received.first_line, "GET /chat?room=1 HTTP/1.1");
    for (name, value) in [
        ("host", "app.example"),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "chat.v1, chat.v2"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("origin", "https://app.example"),
        ("x-auth-user", "alice"),
    ] {
        assert_eq!(received.fields(name), [value], "{}", received.head);
    }
    let keys = received.fields("sec-websocket-key");
    assert_eq!((keys.len(), keys[0].len()), (1, 24), "{}", received.head);
    assert_ne!(keys[0], "dGhlIHNhbXBsZSBub25jZQ==", "the client's key, which it cannot have");
    for name in ["x-api-key", "content-length", "transfer-encoding", "te", ":protocol"] {
        assert_eq!(received.field(name), None, "{}", received.head);
    }
}

#[test]
fn other_protocols_are_those_the_route_names() {
    let (stage, alice) = stage(Upstream::scripted(|connection| {
        connection.request()?;
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo/2\r\n\r\nhi",
        )?;
        connection.wait_for_close()
    }));
    let client = Http2::connect(stage.kw.address());
    let begun = client.connect_to("FOO/2", asking("/x", &alice));
    assert_eq!(begun.status(), 200);
    assert_eq!(begun.into_stream().read_bytes(2), b"hi");
    let received = stage.app.only_request();
    assert_eq!(received.fields("upgrade"), ["foo/2"]);
    assert_eq!(received.field("sec-websocket-key"), None);
}

#[test]
fn an_answer_that_is_no_101_is_no_tunnel() {
    let answer = |status: &str| {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno");
        let (stage, alice) = stage(Upstream::answering(answer));
        let client = Http2::connect(stage.kw.address());
        // More often than it takes to leave out an endpoint that fails: this one does not.
        for _ in 0..10 {
            client.connect_to("websocket", asking("/chat", &alice)).read();
        }
        let answer = client.connect_to("websocket", asking("/chat", &alice)).read();
        let ordinary = stage.kw.get("/chat", &alice);
        assert!(status.starts_with(&ordinary.status().to_string()), "{}", ordinary.head);
        answer
    };
    // The client would take these for the beginning of one.
    for status in ["200 OK", "201 Created"] {
        check_refused(&answer(status), 502, "upstream_protocol");
    }
    for (status, code) in [("403 Forbidden", 403), ("404 Not Found", 404), ("302 Found", 302)] {
        let answer = answer(status);
        assert_eq!((answer.status, answer.text.as_str()), (code, "no"));
    }
}

#[test]
fn an_endpoint_that_does_not_understand_the_handshake_gets_no_tunnel() {
    let other = format!("Accept: {}", derive_accept_key(b"AAAAAAAAAAAAAAAAAAAAAA=="));
    let line = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    for wrong in [
        GRANTED.to_owned(),
        GRANTED.replace(line, ""),
        GRANTED.replace("Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &other),
        GRANTED.replace("Upgrade: websocket", "Upgrade: foo/2"),
    ] {
        let (stage, alice) = stage(Upstream::answering(wrong));
        let client = Http2::connect(stage.kw.address());
        let answer = client.connect_to("websocket", asking("/chat", &alice)).read();
        check_refused(&answer, 502, "upstream_protocol");
    }
    // Once is right, twice is not.
    let (stage, alice) = stage(Upstream::scripted(|connection| {
        let answer = granted(&connection.request()?.expect("a request"));
        let accept = answer.lines().find(|line| line.contains("Accept")).expect("it has one");
        connection.send(answer.replace(accept, &format!("{accept}\r\n{accept}")))
    }));
    let client = Http2::connect(stage.kw.address());
    let answer = client.connect_to("websocket", asking("/chat", &alice)).read();
    check_refused(&answer, 502, "upstream_protocol");
}

#[test]
fn a_tunnel_is_one_record_that_counts_its_bytes() {
    let (stage, alice) = stage(echo());
    let mut tunnel = open(&stage, &alice);
    let sent: Vec<u8> = (0..1_000_000).map(|i: usize| ((i * 7919) >> 5) as u8).collect();
    for piece in sent.chunks(50_000) {
        tunnel.write_all(piece).expect("the tunnel is open");
        assert!(tunnel.read_bytes(piece.len()) == piece);
    }
    assert!(stage.kw.access_log().is_empty(), "the record comes at the end");
    tunnel.half_close();
    assert_eq!(tunnel.rest(), b"");
    let record = stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    let bytes = sent.len();
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&bytes.into(), &bytes.into()));
    assert_eq!((&record["method"], &record["user"]), (&"GET".into(), &"alice".into()));
    assert_eq!((&record["path"], &record["code"]), (&"/chat".into(), &Value::Null));
}

#[test]
fn a_side_that_has_said_all_still_hears_the_other() {
    let (stage, alice) = stage(granting(|connection| {
        let mut said = Vec::new();
        connection.read_to_end(&mut said)?;
        connection.send(b"you said: ")?;
        connection.send(said)
    }));
    let mut tunnel = open(&stage, &alice);
    tunnel.write_all(b"all there is").expect("the tunnel is open");
    tunnel.half_close();
    assert_eq!(tunnel.rest(), b"you said: all there is");
}

#[test]
fn an_endpoint_that_has_said_all_still_hears_the_client() {
    let (heard, is_heard) = signal();
    let (stage, alice) = stage(Upstream::scripted(move |connection| {
        connection.request()?;
        connection.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo/2\r\n\r\nthat is all",
        )?;
        connection.socket().shutdown(Shutdown::Write)?;
        let mut said = Vec::new();
        connection.read_to_end(&mut said)?;
        assert_eq!(said, b"well then");
        heard.send(()).map_err(io::Error::other)
    }));
    let client = Http2::connect(stage.kw.address());
    let mut tunnel = client.connect_to("foo/2", asking("/chat", &alice)).into_stream();
    assert_eq!(tunnel.rest(), b"that is all");
    tunnel.write_all(b"well then").expect("its own way is open");
    tunnel.half_close();
    wait(&is_heard);
    let record = stage.kw.wait_for_record("the tunnel", |record| record["path"] == "/chat");
    assert_eq!(record["code"], Value::Null, "{record}");
}

#[test]
fn a_websocket_that_its_endpoint_has_closed_ends_even_if_the_client_leaves_its_way_open() {
    let (stage, alice) = stage(granting(|connection| connection.send("bye")));
    let mut tunnel = open(&stage, &alice);
    assert_eq!(tunnel.rest(), b"bye");
    let record = stage.kw.wait_for_record("the tunnel", |record| record["path"] == "/chat");
    assert_eq!((&record["status"], &record["code"]), (&101.into(), &Value::Null), "{record}");
}

#[test]
fn a_client_that_resets_its_stream_takes_the_endpoint_along() {
    let (left, has_left) = signal();
    let (stage, alice) = stage(granting(move |connection| {
        let error = connection.read_to_end(&mut Vec::new()).expect_err("no end of bytes");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        left.send(()).map_err(io::Error::other)
    }));
    open(&stage, &alice).reset();
    wait(&has_left);
    let record = stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    assert_eq!(record["code"], "client_left");
}

#[test]
fn an_endpoint_that_breaks_off_resets_one_stream() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            if request.field("upgrade").is_none() {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                continue;
            }
            connection.send(granted(&request))?;
            connection.read_exact(&mut [0; 4])?;
            return connection.reset();
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    let client = Http2::connect(stage.kw.address());
    let begun = client.connect_to("websocket", asking("/chat", &alice));
    assert_eq!(begun.status(), 200);
    let mut tunnel = begun.into_stream();
    tunnel.write_all(b"die!").expect("the tunnel is open");
    assert_eq!(tunnel.reason(), Reason::CANCEL);
    let record = stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    assert_eq!(record["code"], "upstream_protocol");
    assert_eq!(client.send(asking("/x", &alice)).read().text, "ok", "the connection goes on");
}

#[test]
fn a_tunnel_over_which_nothing_goes_is_closed() {
    let (left, has_left) = signal();
    let (stage, alice) = stage_with(
        granting(move |connection| {
            connection.wait_for_close()?;
            left.send(()).map_err(io::Error::other)
        }),
        |setup| {
            setup.set("server.timeouts", "tunnel_idle = \"300ms\"");
        },
    );
    let mut tunnel = open(&stage, &alice);
    assert_eq!(tunnel.rest(), b"");
    wait(&has_left);
    let record = stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    assert_eq!(record["code"], "tunnel_idle");
}

#[test]
fn there_are_so_many_tunnels_and_no_more() {
    let (stage, alice) = stage_with(echo(), |setup| {
        setup.set("server.limits", "tunnels = 2");
    });
    let client = Http2::connect(stage.kw.address());
    let ask = || client.connect_to("websocket", asking("/chat", &alice));
    let (first, second) = (ask(), ask());
    assert_eq!((first.status(), second.status()), (200, 200));
    let answer = ask().read();
    check_refused(&answer, 503, "overloaded");
    assert!(answer.headers.contains_key("retry-after"));
    // Those of HTTP/1 have the same places.
    let asking = super::asking("/chat", &alice);
    stage.refuses(asking, 503, "overloaded");
    stage.passes(get("/", &alice.header()));
    first.into_stream().reset();
    wait_for("the place of the one that left", || (ask().status() == 200).then_some(()));
    let mut second = second.into_stream();
    second.write_all(b"still there").expect("the tunnel is open");
    assert_eq!(second.read_bytes(11), b"still there");
}

#[test]
fn a_tunnel_that_nobody_reads_holds_up_no_other_stream() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            if request.field("upgrade").is_none() {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                continue;
            }
            connection.send(granted(&request))?;
            while connection.send([b'x'; 65536]).is_ok() {}
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    let client = Http2::connect(stage.kw.address());
    let begun = client.connect_to("websocket", asking("/chat", &alice));
    assert_eq!(begun.status(), 200);
    for _ in 0..50 {
        assert_eq!(client.send(asking("/x", &alice)).read().text, "ok");
    }
    begun.into_stream().reset();
    let record = stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    let bytes = record["bytes_out"].as_u64().expect("a count");
    assert!(bytes <= 64 * 1024, "{bytes} bytes for a client with a window of 64 KiB");
}

#[test]
fn a_tunnel_goes_on_while_the_process_drains() {
    let (stage, alice) = stage(echo());
    let mut tunnel = open(&stage, &alice);
    stage.kw.signal("TERM");
    stage.kw.wait_for_event("stopping: no new connections, requests in flight end", |_| true);
    tunnel.write_all(b"still here").expect("the tunnel is open");
    assert_eq!(tunnel.read_bytes(10), b"still here");
    tunnel.half_close();
    assert_eq!(tunnel.rest(), b"");
    assert_eq!(stage.kw.wait_for_exit().code(), Some(0));
    let record = &stage.kw.access_log()[0];
    assert_eq!((&record["status"], &record["code"]), (&101.into(), &Value::Null));
}

#[test]
fn a_tunnel_is_cut_when_draining_takes_too_long() {
    let (stage, alice) = stage_with(echo(), |setup| {
        setup.set("server.timeouts", "shutdown = \"300ms\"");
    });
    let mut tunnel = open(&stage, &alice);
    tunnel.write_all(b"hello").expect("the tunnel is open");
    assert_eq!(tunnel.read_bytes(5), b"hello");
    stage.kw.signal("TERM");
    tunnel.read(&mut [0]).expect_err("no end that could be taken for the endpoint's");
    assert_eq!(stage.kw.wait_for_exit().code(), Some(0));
    let records = stage.kw.access_log();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((&records[0]["code"], &records[0]["bytes_in"]), (&"tunnel_cut".into(), &5.into()));
}
