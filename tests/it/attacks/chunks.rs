//! Chunks that two parsers cut at different places. What is forwarded is framed anew. CVE-2025-55315, CVE-2023-40175,
//! CVE-2025-22871.
//!
//! Never here: which coding it is.

use super::case::{Case, Expected, KEY, bytes, inner, malformed, passes};

/// A POST in `chunks`, and behind them a request.
fn post(name: String, chunks: impl AsRef<[u8]>, expected: Expected) -> Case {
    let head = format!(
        "POST /x HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    bytes(name, [head.as_bytes(), chunks.as_ref(), inner().as_bytes()].concat(), expected)
}

pub(super) fn cases() -> Vec<Case> {
    let broken = || malformed().begun();
    let mut cases = Vec::new();
    for size in [
        "0x5",
        "0X5",
        "+5",
        "-5",
        "-0",
        "5.0",
        "5h",
        "5 5",
        "5,5",
        "_5",
        "5_",
        "\"5\"",
        "'5'",
        "five",
        "",
        " 5",
        "\t5",
        "\u{b}5",
        "5\u{b}",
        "5\0",
        "\0",
        "5\u{7f}",
        "5\r",
        "10000000000000005",
        "fffffffffffffffff",
        "0x",
        "x5",
        "5=",
        "5\\",
        "5/",
        "\u{665}",
        "G",
        "#5",
        "%35",
        "80000000000000000",
    ] {
        cases.push(post(
            format!("the size {size:?}"),
            format!("{size}\r\nhello\r\n0\r\n\r\n"),
            broken(),
        ));
    }
    for (name, chunks) in [
        ("a size that ends in a line feed", "5\nhello\r\n0\r\n\r\n"),
        ("a size that ends in a carriage return", "5\rhello\r\n0\r\n\r\n"),
        ("data that ends in a line feed", "5\r\nhello\n0\r\n\r\n"),
        ("data that ends in a carriage return", "5\r\nhello\r0\r\n\r\n"),
        ("data without an end", "5\r\nhello0\r\n\r\n"),
        ("data with another end", "5\r\nhelloXX0\r\n\r\n"),
        ("data that is longer", "5\r\nhello!\r\n0\r\n\r\n"),
        ("data that is shorter", "5\r\nhell\r\n0\r\n\r\n"),
        ("an empty line between", "5\r\nhello\r\n\r\n0\r\n\r\n"),
        ("an empty line before", "\r\n5\r\nhello\r\n0\r\n\r\n"),
        ("an extension that ends in a line feed", "5;a\nhello\r\n0\r\n\r\n"),
        ("an extension with a line feed", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("an extension with a carriage return", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("a quoted extension over two lines", "5;a=\"\r\nhello\"\r\n0\r\n\r\n"),
        ("a quoted line feed in an extension", "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n"),
        ("an end with a line feed", "5\r\nhello\r\n0\n\r\n"),
        ("an end with two line feeds", "5\r\nhello\r\n0\n\n"),
        ("an end with a line feed at last", "5\r\nhello\r\n0\r\nX: 1\r\n\n"),
        ("an end with a carriage return", "5\r\nhello\r\n0\r\r\n\r\n"),
        ("no size at the end", "5\r\nhello\r\n;a\r\n\r\n"),
        ("a negative end", "5\r\nhello\r\n-1\r\n\r\n"),
        ("a trailer that ends in a line feed", "5\r\nhello\r\n0\r\nX-A: 1\n\r\n"),
        ("a trailer with a space before the colon", "5\r\nhello\r\n0\r\nX-A : 1\r\n\r\n"),
        ("a folded trailer", "5\r\nhello\r\n0\r\nX-A: 1\r\n 2\r\n\r\n"),
        ("a trailer without a name", "5\r\nhello\r\n0\r\n: 1\r\n\r\n"),
        ("a trailer without a colon", "5\r\nhello\r\n0\r\nX-A\r\n\r\n"),
        ("a trailer with a NUL", "5\r\nhello\r\n0\r\nX-A: \0\r\n\r\n"),
        (
            "a trailer with a carriage return",
            "5\r\nhello\r\n0\r\nX-A: a\rX-Auth-User: evil\r\n\r\n",
        ),
        (
            "a request in the place of trailers",
            "5\r\nhello\r\n0\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
    ] {
        cases.push(post(name.to_owned(), chunks, broken()));
    }
    for (name, chunks, body) in [
        ("an extension", "5;a=b\r\nhello\r\n0\r\n\r\n", "hello"),
        ("an extension at the end", "5\r\nhello\r\n0;a=b\r\n\r\n", "hello"),
        ("a quoted extension", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", "hello"),
        ("zeros in front", "0005\r\nhello\r\n0000\r\n\r\n", "hello"),
        ("a size in capitals", "A\r\nhello hell\r\n0\r\n\r\n", "hello hell"),
        ("a chunk for each byte", "1\r\nh\r\n1\r\ni\r\n0\r\n\r\n", "hi"),
        ("data that looks like the end", "7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", "\r\n0\r\n\r\n"),
        ("nothing", "0\r\n\r\n", ""),
    ] {
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let expected = passes().carrying(body);
        cases.push(bytes(format!("{name} is sound"), head + chunks, expected));
    }
    cases
}
