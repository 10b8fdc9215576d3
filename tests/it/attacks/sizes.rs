//! Heads and chunks that are too large: refused, in bounded memory, and nobody else notices.
//!
//! Never here: how much memory it is, or whoever is slow.

use super::case::{Case, Expected, KEY, OverHttp2, Then, bytes, get, malformed, parts, refused};

pub(super) fn cases() -> Vec<Case> {
    let too_large = || refused(&[431], "headers_too_large").then(Then::Closed);
    let mut cases = Vec::new();
    for count in [101, 1000, 10_000] {
        let lines = "X-A: 1\r\n".repeat(count);
        let wire = format!("GET /x HTTP/1.1\r\nHost: a\r\n{lines}X-Api-Key: {KEY}\r\n\r\n");
        cases.push(bytes(format!("{count} fields"), wire, too_large()));
        let wire = format!("GET /x HTTP/1.1\r\nHost: a\r\n{lines}");
        cases.push(bytes(format!("{count} fields, and no end"), wire, too_large()));
    }
    for kib in [33, 64, 300] {
        let long = "x".repeat(kib << 10);
        let value = get("/x").field("X-A", &long);
        cases.push(
            parts(format!("a value of {kib} KiB"), value, too_large())
                .over_http2(OverHttp2::Nothing),
        );
        let name = get("/x").field(&long, "1");
        cases.push(
            parts(format!("a name of {kib} KiB"), name, too_large()).over_http2(OverHttp2::Nothing),
        );
        let wire = format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n");
        cases.push(bytes(format!("a target of {kib} KiB"), wire, too_large()));
        let wire = format!("{long} /x HTTP/1.1\r\nHost: a\r\n\r\n");
        cases.push(bytes(format!("a method of {kib} KiB"), wire, too_large()));
        let wire = format!("GET /x HTTP/1.1\r\nHost: a\r\nX-A: {long}");
        cases.push(bytes(format!("a value of {kib} KiB that does not end"), wire, too_large()));
        let key = get("/x").field("Authorization", format!("Bearer {long}"));
        cases.push(
            parts(format!("a key of {kib} KiB"), key, too_large()).over_http2(OverHttp2::Nothing),
        );
    }
    let chunked = format!(
        "POST /x HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let broken = || -> Expected { malformed().begun() };
    for kib in [5, 64, 1024] {
        let long = "x".repeat(kib << 10);
        let wire = format!("{chunked}5;{long}\r\nhello\r\n0\r\n\r\n");
        cases.push(bytes(format!("an extension of {kib} KiB"), wire, broken()));
        let wire = format!("{chunked}{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(kib << 10));
        cases.push(bytes(format!("{kib} KiB of zeros in front of a size"), wire, broken()));
    }
    for kib in [17, 64] {
        let wire = format!("{chunked}5\r\nhello\r\n0\r\nX-A: {}\r\n\r\n", "x".repeat(kib << 10));
        cases.push(bytes(format!("a trailer of {kib} KiB"), wire, broken()));
    }
    let wire = format!("{chunked}5\r\nhello\r\n0\r\n{}\r\n", "X-A: 1\r\n".repeat(1000));
    cases.push(bytes("1000 trailers", wire, broken()));
    cases
}
