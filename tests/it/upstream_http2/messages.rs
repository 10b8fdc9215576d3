//! What passes: heads with their identity and without credentials, bodies of any length and trailers both ways.

use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use h2::RecvStream;
use http::header::HeaderMap;
use http::request::Parts;
use http::{Method, Version};

use super::endpoint::{Call, Endpoint};
use super::frames::{DATA, END_STREAM, Wire, ok_with_length};
use super::start;
use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Upstream, wait_for};
use crate::http2::{self, request, run_on};

fn hello() -> Endpoint {
    Endpoint::start(|mut call: Call| async move {
        call.read().await;
        call.answer("hello");
    })
}

/// The values of a field.
fn values(head: &Parts, name: &str) -> Vec<String> {
    let values = head.headers.get_all(name).iter();
    values.map(|value| value.to_str().expect("text").to_owned()).collect()
}

#[test]
fn a_head_arrives_with_an_identity_and_without_a_key() {
    let app = hello();
    let (kw, alice) = start(&[app.address], |_| {});
    let lines = "Connection: x-secret, te, X-Auth-User\r\nX-Secret: s\r\nTE: trailers\r\nX-Auth-Role: admin\r\n\
                 Keep-Alive: 1\r\nX-Auth_User: root\r\nX-Forwarded-For: 10.9.9.9\r\nAccept: a, b\r\nCookie: a=1; b=2\r\n";
    let answer = kw.ask(get("/a%20b?c=d&&e", &format!("{}{lines}", alice.header())));
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    run_on(&kw, |mut client| async move {
        let get = http2::get("/a%20b?c=d&&e", &alice);
        let get = get
            .header("te", "trailers")
            .header("x-auth-role", "admin")
            .header("x-auth_user", "root");
        let get = get.header("accept", "a, b").header("cookie", "a=1").header("cookie", "b=2");
        assert_eq!(client.ask(request(get)).await.text, "hello");
    });
    let heads = app.heads();
    assert_eq!(heads.len(), 2);
    for head in heads {
        assert_eq!((head.version, head.method.as_str()), (Version::HTTP_2, "GET"));
        assert_eq!(head.uri.to_string(), "http://app.example/a%20b?c=d&&e");
        for (name, expected) in [
            ("x-auth-user", &["alice"][..]),
            ("x-auth-role", &["viewer"]),
            ("x-auth_user", &[]),
            ("x-api-key", &[]),
            ("x-secret", &[]),
            ("connection", &[]),
            ("keep-alive", &[]),
            ("host", &[]),
            ("te", &["trailers"]),
            ("accept", &["a, b"]),
            ("cookie", &["a=1; b=2"]),
            ("x-forwarded-for", &["127.0.0.1"]),
            ("x-forwarded-host", &["app.example"]),
            ("content-length", &[]),
        ] {
            assert_eq!(values(&head, name), expected, "{name}");
        }
        assert_eq!(values(&head, "x-auth-key-id").len(), 1);
        assert_eq!(values(&head, "x-request-id").len(), 1);
        assert_eq!(values(&head, "forwarded").len(), 1);
    }
}

#[test]
fn the_host_is_kept_or_the_endpoints_or_another() {
    for (host, expected) in
        [("keep", Some("app.example")), ("endpoint", None), ("b.example:81", Some("b.example:81"))]
    {
        let app = hello();
        let (kw, alice) = start(&[app.address], |setup| {
            setup.set("upstreams.app", &format!("host = {host:?}"));
        });
        assert_eq!(kw.get("/", &alice).status(), 200);
        let endpoint = app.address.to_string();
        let authority = app.heads()[0].uri.authority().map(ToString::to_string);
        assert_eq!(authority.as_deref(), Some(expected.unwrap_or(&endpoint)), "{host}");
    }
}

#[test]
fn a_unix_socket_is_an_endpoint_like_any_other() {
    let unused = "127.0.0.1:1".parse().expect("an address");
    let (kw, alice) = start(&[unused], |setup| {
        let listener =
            UnixListener::bind(setup.folder.path().join("app.sock")).expect("a new socket");
        listener.set_nonblocking(true).expect("an open socket takes options");
        thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().expect("a runtime").block_on(async {
                let listener =
                    tokio::net::UnixListener::from_std(listener).expect("within a runtime");
                let (stream, _) = listener.accept().await.expect("a connection");
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    assert_eq!(request.uri(), "http://app.example/");
                    respond.send_response(http::Response::new(()), true).expect("it is wanted");
                }
            });
        });
        setup.endpoints(&["\"unix:app.sock\"".to_owned()], "http2 = true");
    });
    for _ in 0..3 {
        assert_eq!(kw.get("/", &alice).status(), 200);
    }
}

#[test]
fn hosts_of_every_form_arrive_as_they_are() {
    let app = hello();
    let (kw, alice) = start(&[app.address], |_| {});
    for (line, host, path, authority) in [
        ("OPTIONS / HTTP/1.1", "[::1]:80", "/", "[::1]:80"),
        ("GET /a HTTP/1.1", "a_b", "/a", "a_b"),
        ("GET /?a HTTP/1.1", "1.2.3.4:", "/", "1.2.3.4:"),
    ] {
        let before = app.heads().len();
        let answer = kw.ask(format!("{line}\r\nHost: {host}\r\n{}\r\n", alice.header()));
        assert_eq!(answer.status(), 200, "{line}: {}", answer.text());
        let head = &app.heads()[before];
        assert_eq!(head.uri.path(), path);
        assert_eq!(head.uri.authority().map(http::uri::Authority::as_str), Some(authority));
    }
    let answer = kw.ask(format!("GET / HTTP/1.0\r\n{}\r\n", alice.header()));
    assert_eq!(answer.status(), 200);
}

#[test]
fn a_body_says_its_length_if_its_client_does() {
    let app = hello();
    let (kw, alice) = start(&[app.address], |_| {});
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{}", alice.header());
    for (rest, expected) in [
        ("Content-Length: 3\r\n\r\nabc", &["3"][..]),
        ("Content-Length: 0\r\n\r\n", &["0"]),
        ("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", &[]),
        ("\r\n", &[]),
    ] {
        let before = app.heads().len();
        assert_eq!(kw.ask(format!("{head}{rest}")).status(), 200, "{rest:?}");
        assert_eq!(values(&app.heads()[before], "content-length"), expected, "{rest:?}");
    }
}

/// Takes a body, and sends it back as it comes, with its trailers behind it.
async fn echo(mut call: Call) {
    let mut stream = call.begin(&[("trailer", "x-sum")]);
    while let Some(Ok(piece)) = call.body.data().await {
        call.body.flow_control().release_capacity(piece.len()).expect("what came");
        if stream.send_data(piece, false).is_err() {
            return;
        }
    }
    let mut trailers = call.body.trailers().await.expect("a whole body").unwrap_or_default();
    trailers.insert("x-sum", "1".parse().expect("a value"));
    let _ = stream.send_trailers(trailers);
}

#[test]
fn bodies_and_trailers_stream_both_ways() {
    let app = Endpoint::start(echo);
    let (kw, alice) = start(&[app.address], |_| {});
    run_on(&kw, |mut client| {
        let post = request(http2::get("/", &alice).method(Method::POST).header("te", "trailers"));
        async move {
            let (answer, mut upload) = client.send(post, None).await;
            let mut download = answer.await.expect("a head").into_body();
            for piece in ["first", "second"] {
                upload.send_data(piece.into(), false).expect("a piece");
                let echoed = download.data().await.expect("a piece").expect("a piece");
                assert_eq!(echoed, piece, "it comes back before the next one goes out");
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("x-count", "2".parse().expect("a value"));
            trailers.insert("x-auth-user", "root".parse().expect("a value"));
            trailers.insert("x-api-key", "it-secret".parse().expect("a value"));
            upload.send_trailers(trailers).expect("trailers");
            assert!(download.data().await.is_none());
            let trailers = download.trailers().await.expect("a whole body").expect("trailers");
            let names: Vec<&str> = trailers.keys().map(http::HeaderName::as_str).collect();
            assert_eq!(names, ["x-count", "x-sum"]);
        }
    });
    let mut old = kw.connect();
    let lines = format!("{}TE: trailers\r\nTransfer-Encoding: chunked\r\n", alice.header());
    old.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n3\r\nabc\r\n0\r\nX-Count: 1\r\n\r\n"
    ));
    let answer = old.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "abc"));
    assert_eq!(answer.trailers.len(), 2, "{:?}", answer.trailers);
    old.send(get("/", &alice.header()));
    assert_eq!(old.answer().status(), 200, "the connection goes on");
}

#[test]
fn answers_without_a_body_have_none() {
    let app = Endpoint::start(|mut call: Call| async move {
        match call.head.uri.path() {
            "/head" => drop(call.begin(&[("content-length", "5")])),
            "/204" => call.answer_with(204),
            "/304" => call.answer_with(304),
            _ => call.answer("hello"),
        }
    });
    let (kw, alice) = start(&[app.address], |_| {});
    let mut client = kw.connect();
    client.send(get("/head", &alice.header()).replacen("GET", "HEAD", 1));
    let answer = client.answer_to("HEAD");
    assert_eq!((answer.status(), answer.field("content-length")), (200, Some("5")));
    for (target, status) in [("/204", 204), ("/304", 304), ("/", 200)] {
        client.send(get(target, &alice.header()));
        assert_eq!(client.answer().status(), status);
    }
}

#[test]
fn interim_answers_are_passed_over_and_an_end_may_come_late() {
    let app = Upstream::unrecorded(|connection| {
        let mut wire = Wire(connection);
        wire.start(&[])?;
        loop {
            let request = wire.request()?;
            for block in [b"\x08\x03100", b"\x08\x03103", b"\x08\x03101"] {
                wire.head(request.stream, block)?;
            }
            let text: &[u8] = if request.stream % 4 == 1 { b"real" } else { b"" };
            wire.head(request.stream, &ok_with_length(&text.len().to_string()))?;
            if !text.is_empty() {
                wire.send(DATA, 0, request.stream, text)?;
            }
            wire.send(DATA, END_STREAM, request.stream, b"")?;
        }
    });
    let (kw, alice) = start(&[app.address()], |_| {});
    let mut client = kw.connect();
    for text in ["real", "", "real", ""] {
        client.send(get("/", &alice.header()));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (200, text));
    }
    assert_eq!(app.connections(), 1);
}

const MIB: usize = 1 << 20;
const LONG: usize = 256 * MIB;
/// What the proxy's memory may grow by, however long a body is.
const MEMORY_GROWTH_BYTES: u64 = 8 * MIB as u64;

/// Reads to the end; how much it was.
async fn drain(body: &mut RecvStream) -> usize {
    let mut length = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.expect("the body goes on");
        length += piece.len();
        body.flow_control().release_capacity(piece.len()).expect("what came");
    }
    length
}

#[test]
fn long_bodies_go_up_and_down_without_gathering_in_memory() {
    let app = Endpoint::start(|mut call: Call| async move {
        if call.head.method == Method::POST {
            let length = drain(&mut call.body).await;
            return call.answer(length.to_string());
        }
        let mut stream = call.begin(&[]);
        let mut left = LONG;
        while left > 0 {
            stream.reserve_capacity(left.min(64 << 10));
            let more = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
            let room = more.expect("it is wanted").expect("it is wanted").min(left);
            stream.send_data(Bytes::from(vec![b'x'; room]), false).expect("it is wanted");
            left -= room;
        }
        stream.send_data(Bytes::new(), true).expect("it is wanted");
    });
    let (kw, alice) = start(&[app.address], |setup| {
        // Its memory is measured.
        setup.set("server", "core_dumps = true");
    });
    let upload = |length: usize| {
        let mut client = kw.connect();
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{}", alice.header());
        client.send(format!("{head}Content-Length: {length}\r\n\r\n"));
        for _ in 0..length / (64 << 10) {
            client.send([b'x'; 64 << 10]);
        }
        assert_eq!(client.answer().text(), length.to_string());
    };
    upload(MIB);
    kw.forget_memory_peak();
    let before = kw.memory_bytes();
    upload(LONG);
    let mut client = kw.connect();
    client.send(get("/", &alice.header()));
    let mut answer = client.answer_head();
    let mut length = 0;
    while let Some(chunk) = client.chunk(&mut answer).expect("the body goes on") {
        length += chunk.len();
    }
    assert_eq!(length, LONG);
    let growth = kw.memory_peak_bytes().saturating_sub(before);
    assert!(growth < MEMORY_GROWTH_BYTES, "the proxy grew by {growth} bytes");
}

#[test]
fn a_small_request_is_at_its_endpoint_before_its_client_says_that_it_is_whole() {
    let (arrived, has_arrived) = signal();
    let app = Endpoint::start(move |mut call: Call| {
        let arrived = arrived.clone();
        async move {
            call.body.data().await.expect("a piece").expect("a piece");
            arrived.send(()).expect("the test waits");
            call.answer("early");
        }
    });
    let (kw, alice) = start(&[app.address], |_| {});
    let mut client = kw.connect();
    let head =
        format!("POST / HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked", alice.header());
    client.send(format!("{head}\r\n\r\n1\r\na\r\n"));
    wait(&has_arrived);
    assert_eq!(client.answer().text(), "early");
}

#[test]
fn endpoints_are_asked_in_http2_whether_they_work() {
    let is_well = Arc::new(AtomicBool::new(true));
    let state = Arc::clone(&is_well);
    let app = Endpoint::start(move |call: Call| {
        let is_well = state.load(Ordering::SeqCst);
        async move {
            match call.head.uri.path() {
                "/up" if !is_well => call.answer_with(503),
                _ => call.answer("ok"),
            }
        }
    });
    let (kw, alice) = start(&[app.address], |setup| {
        setup.set("upstreams.app", "when_none_is_up = \"refuse\"\nhealth = { path = \"/up\", interval = \"10ms\", timeout = \"30s\" }");
    });
    wait_for("a check", || (!app.heads().is_empty()).then_some(()));
    assert_eq!(kw.get("/", &alice).text(), "ok");
    is_well.store(false, Ordering::SeqCst);
    wait_for("the refusal", || (kw.get("/", &alice).code() == "no_endpoint").then_some(()));
    is_well.store(true, Ordering::SeqCst);
    wait_for("an answer", || (kw.get("/", &alice).status() == 200).then_some(()));
}
