//! Bodies that are requests themselves (CL.0, 0.CL): whoever refuses a request before its body has come must not read the
//! body as the next. CVE-2019-20372, CVE-2025-4366.
//!
//! Never here: bodies whose end is not told in one way.

use super::case::{Case, Expected, KEY, Then, ask, bytes, inner, parts, passes, refused};

pub(super) fn cases() -> Vec<Case> {
    let inner = inner();
    let length = inner.len();
    let chunked = format!("{length:x}\r\n{inner}\r\n0\r\n\r\n");
    let by_length = format!("Content-Length: {length}\r\n\r\n{inner}");
    let by_chunks = format!("Transfer-Encoding: chunked\r\n\r\n{chunked}");
    let framings = [("by length", &by_length), ("in chunks", &by_chunks)];
    let mut cases = Vec::new();
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH", "PROPFIND"] {
        for (how, framed) in framings {
            let mut add = |what: &str, head: String, expected: Expected| {
                let expected =
                    if method == "HEAD" { Expected { code: "", ..expected } } else { expected };
                cases.push(bytes(format!("{what}, {method} {how}"), head + framed, expected));
            };
            let head = |target: &str, lines: &str| {
                format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}")
            };
            let key = format!("X-Api-Key: {KEY}\r\n");
            let missing = || refused(&[401], "missing_key").then(Then::Any);
            add("without a key", head("/x", ""), missing());
            add(
                "not allowed",
                head("/admin/x", &key),
                refused(&[403], "forbidden").then(Then::Any),
            );
            add("forwarded", head("/x", &key), passes().carrying(&inner));
            add(
                "it expects a word, without a key",
                head("/x", "Expect: 100-continue\r\n"),
                missing(),
            );
        }
    }
    for (how, framed) in framings {
        let mut add = |what: &str, lines: &str, target: &str, expected: Expected| {
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\n{lines}");
            cases.push(bytes(format!("{what}, {how}"), head + framed, expected));
        };
        let key = format!("X-Api-Key: {KEY}\r\n");
        let any = |expected: Expected| expected.then(Then::Any);
        add(
            "a wrong key",
            "X-Api-Key: it-nobody-0000\r\n",
            "/x",
            any(refused(&[401], "invalid_key")),
        );
        add("an ambiguous path", &key, "/x/../y", any(refused(&[400], "ambiguous_path")));
        add(
            "two keys",
            &format!("{key}X-Api-Key: it-nobody-0000\r\n"),
            "/x",
            any(refused(&[400], "ambiguous_credentials")),
        );
        add("it expects something unknown", &format!("{key}Expect: evil\r\n"), "/x", passes());
        add(
            "it expects a word twice",
            &format!("{key}Expect: 100-continue\r\nExpect: 100-continue\r\n"),
            "/x",
            passes(),
        );
        add(
            "it expects a word, forwarded",
            &format!("{key}Expect: 100-continue\r\n"),
            "/x",
            passes(),
        );
        add(
            "it expects a word and closes",
            &format!("{key}Expect: 100-continue\r\nConnection: close\r\n"),
            "/x",
            passes().then(Then::Closed),
        );
        add(
            "it closes, without a key",
            "Connection: close\r\n",
            "/x",
            refused(&[401], "missing_key").then(Then::Closed),
        );
    }
    // The length tells less than there is: what is behind is a request of its own, and none of alice's.
    let behind = "GET /else-where HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    for (name, lines) in [
        ("no length", ""),
        ("a length of nothing", "Content-Length: 0\r\n"),
        ("chunks of nothing", "Transfer-Encoding: chunked\r\n"),
    ] {
        let end = if name.starts_with("chunks") { "0\r\n\r\n" } else { "" };
        let wire =
            format!("GET /admin/x HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n{lines}\r\n{end}");
        cases.push(bytes(
            format!("refused, with {name}"),
            wire.clone(),
            refused(&[403], "forbidden"),
        ));
        let wire = format!(
            "GET /x HTTP/1.0\r\nHost: a\r\nX-Api-Key: {KEY}\r\n{}\r\n{behind}",
            lines.replace("Transfer-Encoding: chunked\r\n", "")
        );
        cases.push(bytes(
            format!("HTTP/1.0 with {name}, and more behind"),
            wire,
            passes().then(Then::Closed),
        ));
    }
    for method in ["GET", "POST", "DELETE"] {
        let request = ask(method, "/x").key().body(&inner);
        cases.push(parts(
            format!("{method} of a body that is a request, in both protocols"),
            request,
            passes().carrying(&inner),
        ));
        let request = ask(method, "/admin/x").key().body(&inner);
        let expected = refused(&[403], "forbidden").then(Then::Any);
        cases.push(parts(
            format!("{method}, refused, of a body that is a request"),
            request,
            expected,
        ));
    }
    cases
}
