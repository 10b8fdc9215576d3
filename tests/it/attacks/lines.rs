//! Lines of a head: their ends, their folds, and every byte that has no place in them. CVE-2023-25725, CVE-2023-40518.
//!
//! Never here: what a field means.

use super::case::{Case, KEY, OverHttp2, ask, bytes, get, inner, malformed, parts, passes};

/// Lines that are none.
pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for line in [
        "X-A : 1",
        "X-A\t: 1",
        "X A: 1",
        " X-A: 1",
        ": 1",
        ":",
        "X-A",
        "X-A 1",
        "X-A: 1\r\n 2",
        "X-A: 1\r\n\t2",
        "X-A:\r\n 1",
        "X-A: 1\nX-Auth-User: evil",
        "X-A: 1\rX-Auth-User: evil",
        "X-A: 1\r\rX-Auth-User: evil",
        "\rX-A: 1",
        "X-A: 1\r",
        "X-A: 1\n",
        "\nX-A: 1",
        "X\u{e9}: 1",
        "(X): 1",
        "X,A: 1",
        "X/A: 1",
        "X;A: 1",
        "X=A: 1",
        "X@A: 1",
        "X[A]: 1",
        "X\"A: 1",
        "X{A}: 1",
        "X\\A: 1",
        "X<A>: 1",
        "X?A: 1",
        "\u{feff}X-A: 1",
        "GET /evil HTTP/1.1",
        "0",
        "HTTP/1.1 200 OK",
    ] {
        let wire =
            format!("GET /x HTTP/1.1\r\nHost: a\r\n{line}\r\nX-Api-Key: {KEY}\r\n\r\n{}", inner());
        cases.push(bytes(format!("the line {line:?}"), wire, malformed()));
    }
    for first in [
        "GET /x",
        "GET",
        "",
        " ",
        "GET /x HTTP/1.1 ",
        "GET /x HTTP/1.1 HTTP/1.1",
        "GET  /x HTTP/1.1",
        "GET /x  HTTP/1.1",
        " GET /x HTTP/1.1",
        "GET\t/x\tHTTP/1.1",
        "GET\t/x HTTP/1.1",
        "GET /x\tHTTP/1.1",
        "GET /x y HTTP/1.1",
        "GET /x http/1.1",
        "GET /x HTTP/1.1\r",
        "GET /x HTTPS/1.1",
        "GET /x HTTP /1.1",
        "GET /x HTTP/1,1",
        "GET /x HTTP/11",
        "GET /x HTTP/1.1.1",
        "GET /x ICAP/1.0",
        "G(T /x HTTP/1.1",
        "G\u{e9}T /x HTTP/1.1",
        "GET: /x HTTP/1.1",
        "\"GET\" /x HTTP/1.1",
        "GET ?x HTTP/1.1",
        "/x HTTP/1.1",
        "HTTP/1.1 200 OK",
        "GET /x\u{b}HTTP/1.1",
        "GET /x\u{a0}HTTP/1.1",
        "GET /x HTTP/1.1; evil",
    ] {
        let wire = format!("{first}\r\nHost: a\r\nX-Api-Key: {KEY}\r\n\r\n{}", inner());
        cases.push(bytes(format!("the first line {first:?}"), wire, malformed()));
    }
    let key = format!("X-Api-Key: {KEY}");
    for (name, wire) in [
        ("all lines end in line feeds", format!("GET /x HTTP/1.1\nHost: a\n{key}\n\n")),
        (
            "the first line ends in a line feed",
            format!("GET /x HTTP/1.1\nHost: a\r\n{key}\r\n\r\n"),
        ),
        ("a field ends in a line feed", format!("GET /x HTTP/1.1\r\nHost: a\n{key}\r\n\r\n")),
        (
            "the key's line ends in a line feed",
            format!("GET /x HTTP/1.1\r\nHost: a\r\n{key}\n\r\n"),
        ),
        ("the empty line is a line feed", format!("GET /x HTTP/1.1\r\nHost: a\r\n{key}\r\n\n")),
        (
            "the empty line is two carriage returns",
            format!("GET /x HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\r\n\r\n"),
        ),
        ("lines end in carriage returns", format!("GET /x HTTP/1.1\rHost: a\r{key}\r\r\n\r\n")),
        ("a fold before the fields", format!("GET /x HTTP/1.1\r\n Host: a\r\n{key}\r\n\r\n")),
        ("a TLS handshake", "\u{16}\u{3}\u{1}\u{2}\r\n\r\n".to_owned()),
        ("an answer", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned()),
        (
            "a PROXY line",
            format!(
                "PROXY TCP4 1.2.3.4 1.2.3.4 1 1\r\nGET /x HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n"
            ),
        ),
        (
            "a line feed before the request",
            format!("\nGET /x HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n"),
        ),
        (
            "a carriage return before the request",
            format!("\rGET /x HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n"),
        ),
    ] {
        cases.push(bytes(name, wire + &inner(), malformed()));
    }
    // RFC 9112 §2.2 has us pass over it: old browsers send it behind a body.
    let wire = format!("\r\nGET /x HTTP/1.1\r\nHost: a\r\n{key}\r\n\r\n");
    cases.push(bytes("an empty line before the request", wire, passes()));
    for (name, value) in [
        ("tabs", "a\tb"),
        ("spaces around", "a"),
        ("Latin", "\u{e9}"),
        ("quotes", "\"a\\\"b\""),
        ("nothing", ""),
    ] {
        let request = get("/x").field("X-A", value);
        cases.push(parts(format!("a value with {name}"), request, passes()));
    }
    cases
}

/// Every control character at every place of a head; CR and LF have cases of their own.
pub(super) fn controls() -> Vec<Case> {
    let mut cases = Vec::new();
    for byte in (0x00..0x20).chain([0x7f]).filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')) {
        let odd = [b"a", &[byte][..], b"b"].concat();
        let value = get("/x").field("X-A", &odd);
        cases.push(
            parts(format!("{byte:#04x} in a value"), value, malformed())
                .over_http2(OverHttp2::Malformed),
        );
        let name = [
            b"GET /x HTTP/1.1\r\nHost: a\r\nX-",
            &odd[..],
            b": 1\r\nX-Api-Key: ",
            KEY.as_bytes(),
            b"\r\n\r\n",
        ]
        .concat();
        cases.push(bytes(format!("{byte:#04x} in a name"), name, malformed()));
        let text = String::from_utf8_lossy(&odd).into_owned();
        let target = ask("GET", &format!("/x{text}")).key();
        cases.push(
            parts(format!("{byte:#04x} in a target"), target, malformed())
                .over_http2(OverHttp2::Malformed),
        );
        let query = ask("GET", &format!("/x?{text}")).key();
        cases.push(
            parts(format!("{byte:#04x} in a query"), query, malformed())
                .over_http2(OverHttp2::Malformed),
        );
        let host = get("/x").host(&text);
        cases.push(
            parts(format!("{byte:#04x} in a host"), host, malformed())
                .over_http2(OverHttp2::Malformed),
        );
        let method = ask(&format!("GET{text}"), "/x").key();
        cases.push(
            parts(format!("{byte:#04x} in a method"), method, malformed())
                .over_http2(OverHttp2::Malformed),
        );
    }
    cases
}
