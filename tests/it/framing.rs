//! Request smuggling: bytes that two parsers could cut into different requests are refused, the
//! connection is closed, and nothing reaches the upstream.

use crate::harness::keyward::get;
use crate::harness::{Actor, Stage, Upstream};

fn stage() -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| setup.key("alice", "viewer"))
}

/// What an attacker wants to reach the upstream as a request of its own.
fn inner(alice: &Actor) -> String {
    get("/smuggled", &alice.header())
}

/// `request` gets one 400 in a problem document, the connection closes, and nothing reaches the upstream.
#[track_caller]
fn check_refused(stage: &Stage, request: impl AsRef<[u8]>) {
    let shown = String::from_utf8_lossy(request.as_ref()).into_owned();
    let mut client = stage.kw.connect();
    client.send(request);
    let answer = client.answer();
    assert_eq!((answer.status(), answer.code().as_str()), (400, "bad_request"), "{shown:?}");
    assert_eq!(answer.fields("x-request-id").len(), 1, "{shown:?}");
    assert_eq!(String::from_utf8_lossy(&client.rest()), "", "a second answer to {shown:?}");
    assert_eq!(stage.app.targets(), [""; 0], "{shown:?}");
}

#[test]
fn transfer_encoding_is_exactly_chunked_or_the_request_is_refused() {
    let (stage, alice) = stage();
    for framing in [
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked, cow",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: \u{b}chunked",
        "Transfer-Encoding: chunked\u{b}",
        "Transfer-Encoding:",
        "Transfer-Encoding: ,chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chun\r\n ked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding : chunked",
        "Transfer_Encoding: chunked",
        "Transfer.Encoding: chunked",
        "transfer_encoding: chunked\r\nContent-Length: 5",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{}{framing}\r\n\r\n0\r\n\r\n{}",
            alice.header(),
            inner(&alice),
        );
        check_refused(&stage, request);
    }
}

#[test]
fn content_length_is_one_plain_number_or_the_request_is_refused() {
    let (stage, alice) = stage();
    for framing in [
        "Content-Length: +10",
        "Content-Length: -10",
        "Content-Length: 0xa",
        "Content-Length: 1_0",
        "Content-Length: 10.0",
        "Content-Length: 1e1",
        "Content-Length:",
        "Content-Length: 10, 0",
        "Content-Length: 10 0",
        "Content-Length: ten",
        "Content-Length: 10;",
        "Content-Length: 18446744073709551616",
        "Content-Length: 18446744073709551626",
        "Content-Length: 10\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 10",
        "Content-Length : 10",
        "Content_Length: 10",
        "Content.Length: 10",
        "Content-Length: 0\r\nContent_Length: 10",
        "Content-Length: 1\r\n 0",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{}{framing}\r\n\r\n{}",
            alice.header(),
            inner(&alice),
        );
        check_refused(&stage, request);
    }
}

#[test]
fn content_length_beside_transfer_encoding_is_refused() {
    let (stage, alice) = stage();
    for framing in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "transfer-encoding: CHUNKED\r\ncontent-length: 0",
        "Connection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
    ] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{}{framing}\r\n\r\n0\r\n\r\n{}",
            alice.header(),
            inner(&alice),
        );
        check_refused(&stage, request);
    }
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    let (stage, alice) = stage();
    let request = format!(
        "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n{}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
        alice.header(),
        inner(&alice),
    );
    check_refused(&stage, request);
}

#[test]
fn malformed_lines_are_refused() {
    let (stage, alice) = stage();
    let key = alice.header();
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\nX-Odd: a\rb\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Odd: a\0b\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Odd : a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX Odd: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Odd\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Odd: a\r\n b\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\u{e9}: a\r\n",
        "GET /a b HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1 \r\nHost: a\r\n",
        "GET  / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n",
        "GET / HTTP/2.0\r\nHost: a\r\n",
        "GET / http/1.1\r\nHost: a\r\n",
        "GET /\r\nHost: a\r\n",
        "G(T / HTTP/1.1\r\nHost: a\r\n",
        "GET /\u{1} HTTP/1.1\r\nHost: a\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n",
    ] {
        check_refused(&stage, format!("{head}{key}\r\n"));
    }
}

#[test]
fn a_bare_line_feed_is_refused_or_forwarded_as_a_clean_line() {
    let (stage, alice) = stage();
    for request in [
        format!("GET /lf HTTP/1.1\nHost: a\nX-Api-Key: {}\n\n", alice.key),
        format!(
            "GET /lf HTTP/1.1\r\nHost: a\r\nX-Odd: a\nX-Auth-User: root\r\n{}\r\n",
            alice.header()
        ),
    ] {
        let status = stage.kw.ask(&request).status();
        assert!(matches!(status, 200 | 400), "{status} for {request:?}");
    }
    for received in stage.app.requests() {
        assert_eq!(received.head.matches('\n').count(), received.head.matches("\r\n").count());
        assert_eq!(received.fields("x-auth-user"), ["alice"]);
    }
}

#[test]
fn a_malformed_chunk_ends_the_request_and_the_connection() {
    for chunks in [
        "5\r\nhelloX",
        "5\r\nhello\r\nzz\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
    ] {
        let (stage, alice) = stage();
        let mut client = stage.kw.connect();
        let head = format!(
            "POST /outer HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked\r\n\r\n",
            alice.header(),
        );
        client.send(head + chunks + &inner(&alice));
        let answers = String::from_utf8_lossy(&client.rest()).into_owned();
        assert!(answers.starts_with("HTTP/1.1 400 "), "{chunks:?} got {answers:?}");
        assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{chunks:?} got {answers:?}");
        let targets = stage.app.targets();
        assert!(!targets.iter().any(|target| target == "/smuggled"), "{chunks:?}: {targets:?}");
        // The half-sent request must not be finished by somebody else's.
        // The upstream may notice the half-sent one later than this one: they are on two connections.
        assert_eq!(stage.kw.get("/after", &alice).status(), 200, "{chunks:?}");
        let targets = stage.app.targets();
        assert_eq!(
            targets.iter().filter(|target| *target == "/after").count(),
            1,
            "{chunks:?}: {targets:?}"
        );
        assert!(!targets.iter().any(|target| target == "/smuggled"), "{chunks:?}: {targets:?}");
    }
}

#[test]
fn chunk_extensions_are_not_forwarded() {
    let (stage, alice) = stage();
    let received = stage.passes(format!(
        "POST / HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked\r\n\r\n\
         5;name=value\r\nhello\r\n0;last\r\n\r\n",
        alice.header(),
    ));
    assert_eq!(received.text(), "hello");
}

#[test]
fn the_body_of_a_refused_request_is_never_a_request() {
    let (stage, alice) = stage();
    let body = inner(&alice);
    let length = body.len();
    for method in ["POST", "GET", "HEAD", "OPTIONS", "DELETE"] {
        let head = format!("{method} / HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n");
        for lines in ["", "Expect: 100-continue\r\n"] {
            let mut client = stage.kw.connect();
            client.send(format!("{head}{lines}\r\n{body}"));
            assert_eq!(client.answer_to(method).status(), 401);
            // The proxy may close, or read the body away; then this is the next request.
            let next = get("/next", &alice.header());
            if client.try_send(next).is_ok() {
                let _closed_or_answered = client.try_answer_head();
            }
            let targets = stage.app.targets();
            assert!(!targets.iter().any(|target| target == "/smuggled"), "{method} {lines}");
        }
    }
}

#[test]
fn a_body_on_a_method_without_meaning_for_one_is_framed_for_the_upstream() {
    let (stage, alice) = stage();
    let body = inner(&alice);
    for method in ["GET", "HEAD", "OPTIONS", "DELETE"] {
        let head = format!("{method} /outer HTTP/1.1\r\nHost: a\r\n{}", alice.header());
        let length = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(stage.passes(length).text(), body, "{method}");
        let size = body.len();
        let chunked =
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n");
        assert_eq!(stage.passes(chunked).text(), body, "{method}");
    }
    assert!(stage.app.targets().iter().all(|target| target == "/outer"));
}
