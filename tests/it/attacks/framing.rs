//! Where a body ends: `Content-Length` and `Transfer-Encoding` in every form that some parser has read in another way than
//! its neighbour. CVE-2026-89044, CVE-2026-66752, CVE-2021-40346, CVE-2023-40225, RUSTSEC-2021-0020, RUSTSEC-2021-0078.
//!
//! Never here: chunks.

use super::case::{
    Case, Expected, KEY, Parts, ask, bytes, inner, malformed, parts, passes, refused,
};

/// A POST with `lines`, and behind it an end of chunks, and a request.
fn post(lines: impl AsRef<[u8]>, body: &str) -> Vec<u8> {
    let head = format!("POST /x HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n");
    [head.as_bytes(), lines.as_ref(), b"\r\n\r\n", body.as_bytes(), inner().as_bytes()].concat()
}

/// Both fields, and either of them twice.
pub(super) fn two_ends() -> Vec<Case> {
    let mut cases = Vec::new();
    for (length, te) in [(0, 5), (5, 5), (6, 5), (1000, 5)] {
        for (order, lines) in [
            ("CL.TE", format!("Content-Length: {length}\r\nTransfer-Encoding: chunked")),
            ("TE.CL", format!("Transfer-Encoding: chunked\r\nContent-Length: {length}")),
            ("cl.te", format!("content-length: {length}\r\ntransfer-encoding: CHUNKED")),
        ] {
            let body = &"0\r\n\r\n"[..te];
            cases.push(bytes(format!("{order} with {length}"), post(lines, body), malformed()));
        }
    }
    for (name, lines) in [
        (
            "a Connection that names the length",
            "Connection: content-length\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        (
            "a Connection that names the coding",
            "Connection: transfer-encoding\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        ),
        ("another field between them", "Content-Length: 5\r\nX-A: 1\r\nTransfer-Encoding: chunked"),
        (
            "two lengths and a coding",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\nContent-Length: 5",
        ),
        ("an empty length and a coding", "Content-Length:\r\nTransfer-Encoding: chunked"),
        ("a length and an empty coding", "Content-Length: 5\r\nTransfer-Encoding:"),
        ("a length and identity", "Content-Length: 5\r\nTransfer-Encoding: identity"),
        (
            "an alias of the coding beside a length",
            "Content-Length: 5\r\nTransfer_Encoding: chunked",
        ),
        (
            "an alias of the length beside a coding",
            "Transfer-Encoding: chunked\r\nContent_Length: 5",
        ),
        (
            "Expect beside both",
            "Expect: 100-continue\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
        ),
    ] {
        cases.push(bytes(name, post(lines, "0\r\n\r\n"), malformed()));
    }
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PATCH"] {
        let wire = post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n");
        let wire = [method.as_bytes(), &wire[4..]].concat();
        // An answer to HEAD has no body that could name a code.
        let expected =
            if method == "HEAD" { Expected { code: "", ..malformed() } } else { malformed() };
        cases.push(bytes(format!("both on {method}"), wire, expected));
    }
    let without_key = format!(
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{}",
        inner()
    );
    cases.push(bytes("both, without a key", without_key, malformed()));
    cases
}

/// Everything that is nearly `chunked`.
pub(super) fn codings() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "xchunked",
        "chunke",
        "chunkedd",
        "chunked2",
        "identity",
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, cow",
        "cow, chunked",
        "chunked, chunked",
        "chunked, identity",
        "identity, chunked",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "chunked;",
        "chunked chunked",
        "\"chunked\"",
        "'chunked'",
        "(x) chunked",
        "chunked (x)",
        "chunked\\",
        "=chunked",
        "chun ked",
        "c\u{4bb}unked",
        "",
    ] {
        let wire = post(format!("Transfer-Encoding: {value}"), "0\r\n\r\n");
        cases.push(bytes(format!("the coding {value:?}"), wire, malformed()));
    }
    for lines in [
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chun\r\n ked",
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding:\r\n\tchunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        " Transfer-Encoding: chunked",
        "\tTransfer-Encoding: chunked",
        "X-A: 1\r\n Transfer-Encoding: chunked",
        "Transfer Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer.Encoding: chunked",
        "TRANSFER_ENCODING: chunked",
        "Transfer-Encoding:: chunked",
        "Transfer-Encoding; chunked",
        "Transfer-Encoding=chunked",
        "Transfer-Encoding chunked",
        ": Transfer-Encoding: chunked",
    ] {
        cases.push(bytes(format!("the lines {lines:?}"), post(lines, "0\r\n\r\n"), malformed()));
    }
    // A byte that some skip, at each place where one could.
    for byte in
        [0x00, 0x01, 0x08, 0x0b, 0x0c, 0x0d, 0x1b, 0x1f, 0x7f, 0x80, 0x85, 0xa0, 0xad, 0xff_u8]
    {
        for (place, before, after) in [
            ("before the name", "", "Transfer-Encoding: chunked"),
            ("behind the name", "Transfer-Encoding", ": chunked"),
            ("before the value", "Transfer-Encoding: ", "chunked"),
            ("behind the value", "Transfer-Encoding: chunked", ""),
        ] {
            let line = [before.as_bytes(), &[byte], after.as_bytes()].concat();
            cases.push(bytes(
                format!("{byte:#04x} {place} of the coding"),
                post(line, "0\r\n\r\n"),
                malformed(),
            ));
        }
    }
    for line in [
        "Transfer-Encoding:chunked",
        "Transfer-Encoding: \t chunked \t",
        "tRANSFER-eNCODING: cHuNkEd",
    ] {
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n{line}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        cases.push(bytes(format!("{line:?} is chunked"), head, passes()));
    }
    cases
}

/// Everything that is nearly a number.
pub(super) fn lengths() -> Vec<Case> {
    let mut cases = Vec::new();
    for value in [
        "+10",
        "-10",
        "-0",
        "+0",
        "0x0",
        "0xa",
        "0b1",
        "1_0",
        "10.0",
        "10.",
        "1e1",
        "1,0",
        "10,",
        ",10",
        "10, 10",
        "10, 0",
        "0, 10",
        "10 0",
        "10;",
        "10;q=1",
        "(10)",
        "\"10\"",
        "ten",
        "a",
        "NaN",
        "\u{661}\u{660}",
        "18446744073709551616",
        "18446744073709551626",
        "99999999999999999999999999",
        "\u{b2}",
        "",
    ] {
        let wire = post(format!("Content-Length: {value}"), "");
        cases.push(bytes(format!("the length {value:?}"), wire, malformed()));
    }
    for lines in [
        "Content-Length: 10\r\nContent-Length: 0",
        "Content-Length: 0\r\nContent-Length: 10",
        "Content-Length: 0\r\nContent-Length: 0",
        "Content-Length: 10\r\ncontent-length: 10",
        "Content-Length: 0\r\nX-A: 1\r\nContent-Length: 72",
        "Content-Length: 1\r\n 0",
        "Content-Length:\r\n 10",
        "Content-Length : 10",
        "Content-Length\t: 10",
        " Content-Length: 10",
        "Content_Length: 10",
        "Content.Length: 10",
        "content_length: 0\r\nContent-Length: 0",
        "Content-Length: 0\r\nCONTENT_LENGTH: 72",
        "Content-Length\0: 10",
        "Content-Length: 1\u{b}0",
        "Content-Length: \u{c}10",
        "Content-Length: 10\u{b}",
        "Content Length: 10",
        "Content-Length:: 10",
        "Content-Length=10",
    ] {
        cases.push(bytes(format!("the lines {lines:?}"), post(lines, ""), malformed()));
    }
    for value in ["5", "05", "0000000000000000000005", "\t5", "5 "] {
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\nContent-Length: {value}\r\n\r\nhello"
        );
        // Zeros in front are digits; what goes on is ours.
        cases.push(bytes(
            format!("the length {value:?} is 5"),
            head,
            passes().with("content-length: 5\r\n"),
        ));
    }
    let alias = |name: &str| -> Parts { ask("POST", "/x").key().field(name, "0") };
    for name in ["Content_Length", "content.length", "Transfer_Encoding", "Host_"] {
        let expected = if name == "Host_" { passes() } else { refused(&[400], "bad_request") };
        let expected = expected.then(if name == "Host_" {
            super::case::Then::Kept
        } else {
            super::case::Then::Closed
        });
        cases.push(parts(format!("{name} in both protocols"), alias(name), expected));
    }
    cases
}

/// What is older than chunks.
pub(super) fn http_1_0() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, version, lines) in [
        ("chunked", "1.0", "Transfer-Encoding: chunked"),
        ("chunked and keep-alive", "1.0", "Connection: keep-alive\r\nTransfer-Encoding: chunked"),
        ("chunked and a length", "1.0", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("identity", "1.0", "Transfer-Encoding: identity"),
        ("two lengths", "1.0", "Connection: keep-alive\r\nContent-Length: 5\r\nContent-Length: 0"),
        ("a version between", "1.2", "Content-Length: 5"),
        ("an old version", "0.9", "Content-Length: 5"),
        ("a version of two digits", "1.10", "Content-Length: 5"),
        ("a version of one digit", "1", "Content-Length: 5"),
        ("the next version", "2.0", "Content-Length: 5"),
        ("a version with a sign", "+1.1", "Content-Length: 5"),
    ] {
        let head = format!(
            "POST /x HTTP/{version}\r\nHost: a\r\nX-Api-Key: {KEY}\r\n{lines}\r\n\r\n0\r\n\r\n"
        );
        cases.push(bytes(format!("HTTP/{version}, {name}"), head + &inner(), malformed()));
    }
    cases.push(bytes("HTTP/0.9", "GET /x\r\n\r\n", malformed()));
    let silent = format!("GET /x HTTP/1.0\r\nX-Api-Key: {KEY}\r\n\r\n{}", inner());
    cases.push(bytes(
        "HTTP/1.0 closes, whatever is behind",
        silent,
        passes().then(super::case::Then::Closed),
    ));
    cases
}
