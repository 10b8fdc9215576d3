//! What goes over TLS to an endpoint: its end is told from a cut, and nothing is kept back.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use super::{BOTH, CA, app, hello, prepare, start, url};
use crate::harness::certificates::Authority;
use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Connection, TlsService, Upstream, wait_for};

const TUNNEL: &str = "Connection: Upgrade\r\nUpgrade: echo\r\n";

/// Over TLS, with a certificate for localhost.
fn scripted(
    authority: &Authority,
    script: impl Fn(&mut Connection) -> std::io::Result<()> + Send + Sync + 'static,
) -> Upstream {
    Upstream::tls(TlsService::new(&authority.server(&["localhost"]), BOTH), script)
}

#[test]
fn an_answer_up_to_the_close_ends_only_where_that_is_said() {
    let authority = Authority::new();
    let app = scripted(&authority, |connection| {
        let Some(request) = connection.request()? else { return Ok(()) };
        connection.send("HTTP/1.1 200 OK\r\n\r\nall of it")?;
        if request.target() == "/whole" { connection.end() } else { Ok(()) }
    });
    let (kw, alice) = start(&url(&app, "localhost"), &authority, CA);
    for _ in 0..3 {
        assert_eq!(kw.get("/whole", &alice).text(), "all of it");
        let mut client = kw.connect();
        client.send(get("/cut", &alice.header()));
        let cut = client.try_answer();
        assert!(cut.is_err(), "it seems to end: {cut:?}");
    }
}

#[test]
fn a_connection_that_was_closed_is_not_used_again() {
    let authority = Authority::new();
    for with_notice in [true, false] {
        let (close, has_closed) = signal();
        let app = scripted(&authority, move |connection| {
            let Some(_request) = connection.request()? else { return Ok(()) };
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
            if with_notice {
                connection.end()?;
            }
            connection.socket().shutdown(Shutdown::Both)?;
            close.send(()).expect("the test waits");
            Ok(())
        });
        let (kw, alice) = start(&url(&app, "localhost"), &authority, CA);
        let key = alice.header();
        for _ in 0..5 {
            // It is not idempotent, and goes out once: on a connection that is gone it would be lost.
            let post = format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 0\r\n\r\n");
            assert_eq!(kw.ask(post).text(), "hello");
            wait(&has_closed);
        }
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let authority = Authority::new();
    let app = scripted(&authority, |connection| {
        while let Some(request) = connection.request()? {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            connection.send(head.into_bytes())?;
            connection.send(&request.body)?;
        }
        Ok(())
    });
    let (kw, alice) = start(&url(&app, "localhost"), &authority, CA);
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let key = alice.header();
    for length in [0, 1, 16 << 10, body.len()] {
        let body = &body[..length];
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: {length}\r\n\r\n");
        let answer = kw.ask([head.as_bytes(), body].concat());
        assert_eq!(answer.status(), 200);
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
    }
    assert_eq!(app.connections(), 1);
}

/// What the system does not take at once waits in the session, up to 64 KiB: bodies of so many sizes that one of them
/// ends there.
#[test]
fn the_end_of_a_body_does_not_stay_behind() {
    let authority = Authority::new();
    let (go_on, may_go_on) = signal();
    let app = scripted(&authority, move |connection| {
        while let Some(mut request) = connection.head()? {
            wait(&may_go_on);
            connection.body(&mut request)?;
            let length = request.body.len().to_string();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", length.len());
            connection.send(head + &length)?;
        }
        Ok(())
    });
    let (kw, alice) = start(&url(&app, "localhost"), &authority, CA);
    let (_nobody, pause) = sync_channel::<()>(1);
    for length in (0..100).map(|number| number * (48 << 10)) {
        let key = alice.header();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: {length}\r\n\r\n");
        let request = [head.into_bytes(), vec![b'x'; length]].concat();
        let answer = thread::scope(|scope| {
            let asking = scope.spawn(|| kw.ask(request));
            // Long enough to fill what can be filled; were it not, the test would only find less.
            let _ = pause.recv_timeout(Duration::from_millis(40));
            go_on.send(()).expect("the script waits");
            asking.join().expect("an answer")
        });
        assert_eq!(answer.text(), length.to_string());
    }
}

#[test]
fn a_tunnel_goes_over_tls_and_its_end_is_told_from_a_cut() {
    let authority = Authority::new();
    let app = scripted(&authority, |connection| {
        let Some(request) = connection.request()? else { return Ok(()) };
        if request.target() == "/plain" {
            return connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
        connection.send(format!("HTTP/1.1 101 Switching Protocols\r\n{TUNNEL}\r\nfirst "))?;
        let mut all = Vec::new();
        let mut buffer = [0; 64];
        loop {
            let read = connection.read(&mut buffer)?;
            if read == 0 {
                break; // an end that was told: any other is an error
            }
            all.extend_from_slice(&buffer[..read]);
            if all.ends_with(b"cut") {
                return Ok(());
            }
            connection.write_all(&buffer[..read])?;
            connection.flush()?;
        }
        connection.send(" last")?;
        connection.end()
    });
    let (mut setup, alice) = prepare(&url(&app, "localhost"), &authority, CA);
    setup.routes("[[routes]]\npath = \"/{*rest}\"\nupgrades = [\"echo\"]\n");
    let kw = setup.start();
    for target in ["/whole", "/cut"] {
        let mut client = kw.connect();
        client.send(get(target, &format!("{}{TUNNEL}", alice.header())));
        assert_eq!(client.answer_head().status(), 101);
        assert_eq!(client.read_bytes(6), b"first ");
        for bytes in ["one", "two"] {
            client.send(bytes);
            assert_eq!(client.read_bytes(3), bytes.as_bytes());
        }
        if target == "/whole" {
            client.half_close();
        } else {
            client.send("cut");
        }
        let mut rest = Vec::new();
        let ended = client.read_to_end(&mut rest);
        match target {
            "/whole" => assert_eq!((ended.expect("an end"), rest.as_slice()), (5, &b" last"[..])),
            _ => assert!(ended.is_err(), "it seems to end: {rest:?}"),
        }
    }
    let cut = kw.wait_for_record("the cut", |record| record["path"] == "/cut");
    assert_eq!(cut["code"], "upstream_protocol", "{cut}");
}

#[test]
fn both_kinds_of_endpoint_may_stand_side_by_side() {
    let authority = Authority::new();
    let (secure, clear) = (app(&authority, "localhost"), Upstream::scripted(hello));
    let (mut setup, alice) = prepare("https://a", &authority, CA);
    setup.endpoints(
        &[format!("\"{}\"", url(&secure, "localhost")), format!("\"{}\"", clear.url())],
        "",
    );
    let kw = setup.start();
    wait_for("a request at both", || {
        assert_eq!(kw.get("/", &alice).text(), "hello");
        (!secure.requests().is_empty() && !clear.requests().is_empty()).then_some(())
    });
}
