//! Which server is meant, and what is to be done: `Host`, targets in other forms, and methods by which a proxy would open
//! connections or show what it sends. RFC 9112 §3.2, GHSA-4xpc-pv4p-pm3w, GHSA-3ccp-42pg-hgv6.
//!
//! Never here: paths.

use super::case::{
    Case, Expected, KEY, OverHttp2, Then, ask, bytes, get, inner, malformed, parts, passes, refused,
};

/// `Host`: one, and one that is a host.
pub(super) fn hosts() -> Vec<Case> {
    let mut cases = Vec::new();
    for host in [
        "",
        " ",
        "a/b",
        "/",
        "a@b",
        "evil@app.example",
        "a, b",
        "a,b",
        "a b",
        "a?b",
        "a#b",
        "a\\b",
        "a:b",
        "a:",
        "a:-1",
        "a:80:80",
        "a:123456",
        ":80",
        ":",
        "[::1",
        "::1]",
        "[::1]x",
        "[]",
        "http://a",
        "//a",
        "a/../b",
        "a;b|c",
        "a\"b",
        "a<b>",
        "a`b",
        "a^b",
        "\u{e9}",
        "a%",
        "a%zz",
        "a\tb",
        "{a}",
    ] {
        let known = match host {
            // A port may be left out behind its colon (RFC 3986 §3.2.3).
            "a:" => passes().with("host: a:\r\n"),
            _ => malformed(),
        };
        let case = parts(format!("the host {host:?}"), get("/x").host(host), known);
        cases.push(if host == "a:" { case } else { case.over_http2(OverHttp2::Malformed) });
    }
    for host in [
        "a",
        "APP.example",
        "app.example:8080",
        "127.0.0.1",
        "[::1]",
        "[::1]:80",
        "a_b",
        "a.",
        "xn--e9j.example",
        "a-b.c-d",
    ] {
        let expected = passes().with(format!("host: {host}\r\n"));
        cases.push(parts(format!("{host} is a host"), get("/x").host(host), expected));
    }
    for (name, lines) in [
        ("none", ""),
        ("two", "Host: a\r\nHost: b\r\n"),
        ("two that are the same", "Host: a\r\nHost: a\r\n"),
        ("one that is empty, and one", "Host:\r\nHost: a\r\n"),
        ("two, far from each other", "Host: a\r\nX-A: 1\r\nhost: evil\r\n"),
        ("a folded one", "Host: a\r\n .evil\r\n"),
        ("one with a space before the colon", "Host : a\r\n"),
        ("one with a NUL", "Host: a\0.evil\r\n"),
        ("one with a line feed", "Host: a\nX-Auth-User: evil\r\n"),
        ("an alias of upper case alone", "HOST: a\r\nHost: a\r\n"),
    ] {
        let wire = format!("GET /x HTTP/1.1\r\n{lines}X-Api-Key: {KEY}\r\n\r\n{}", inner());
        cases.push(bytes(format!("hosts: {name}"), wire, malformed()));
        let public = format!("GET /public/x HTTP/1.1\r\n{lines}\r\n{}", inner());
        cases.push(bytes(format!("hosts, public: {name}"), public, malformed()));
    }
    // In HTTP/2 a host beside `:authority` is another one.
    let second = get("/x").field("Host", "evil");
    cases.push(parts("a second host", second, malformed()).over_http2(OverHttp2::Malformed));
    cases
}

/// Methods that ask for more than an answer.
pub(super) fn methods() -> Vec<Case> {
    let refusal = || refused(&[501], "method_not_supported");
    let mut cases = Vec::new();
    for target in ["/x", "/public/x", "/admin/x"] {
        for (who, request) in
            [("nobody", ask("TRACE", target)), ("alice", ask("TRACE", target).key())]
        {
            cases.push(parts(format!("TRACE {target} of {who}"), request, refusal()));
        }
        let forwards = ask("TRACE", target).key().field("Max-Forwards", "0");
        cases.push(parts(format!("TRACE {target}, for the first proxy"), forwards, refusal()));
    }
    for target in ["app.example:443", "127.0.0.1:22", "[::1]:80", "evil.example:443"] {
        for (who, key) in [("nobody", String::new()), ("alice", format!("X-Api-Key: {KEY}\r\n"))] {
            let wire = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{key}\r\n");
            cases.push(bytes(format!("CONNECT {target} of {who}"), wire, refusal()));
        }
        let wire = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nX-Api-Key: {KEY}\r\nContent-Length: 0\r\n\r\n"
        );
        cases.push(bytes(format!("CONNECT {target} with a length"), wire, refusal()));
        let body = inner();
        let wire = format!(
            "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nX-Api-Key: {KEY}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        cases.push(bytes(
            format!("CONNECT {target} with a request as its body"),
            wire,
            refusal().then(Then::Any),
        ));
    }
    for method in [
        "get", "Get", "GET1", "X-EVIL", "PROPFIND", "PURGE", "DEBUG", "TRACK", "trace", "connect",
        "COPY", "PATCH",
    ] {
        let read = ask(method, "/read/x").key();
        cases.push(parts(
            format!("{method} where only GET may"),
            read,
            refused(&[403], "forbidden"),
        ));
    }
    for method in ["get", "trace", "PURGE", "SEARCH", "M-SEARCH", "X!#$%&'*+.^_`|~1"] {
        let other = ask(method, "/x").key();
        cases.push(parts(
            format!("{method} where all may"),
            other,
            passes().with(format!("{method} /x ")),
        ));
    }
    cases
}

/// Whoever names another server gets what ours has, or nothing.
pub(super) fn elsewhere() -> Vec<Case> {
    let with_key = |target: &str, host: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nX-Api-Key: {KEY}\r\n\r\n")
    };
    let mut cases = Vec::new();
    let mut add = |name: &str, target: &str, host: &str, expected: Expected| {
        cases.push(bytes(format!("{name}: {target}"), with_key(target, host), expected));
    };
    let forbidden = || refused(&[403], "forbidden");
    let taken = || passes().with("GET /x HTTP/1.1\r\n");
    add("absolute", "http://app.example/x", "app.example", taken());
    add("another scheme", "https://app.example/x", "app.example", taken());
    add(
        "another server than Host's",
        "http://other.example/x",
        "app.example",
        taken().with("host: other.example\r\n"),
    );
    add("another server's admin", "http://other.example/admin/x", "app.example", forbidden());
    add("the metadata service", "http://169.254.169.254/x", "169.254.169.254", taken());
    add("a port of ours", "http://127.0.0.1:22/x", "127.0.0.1:22", taken());
    add("an address of IPv6", "http://[::1]:80/x", "[::1]", taken());
    add("an absolute admin", "http://app.example/admin/x", "app.example", forbidden());
    add(
        "an absolute bypass",
        "http://app.example/public/../admin/x",
        "app.example",
        refused(&[400], "ambiguous_path"),
    );
    add(
        "an absolute double slash",
        "http://app.example//admin/x",
        "app.example",
        refused(&[400], "ambiguous_path"),
    );
    for (name, target) in [
        ("a user", "http://evil@app.example/x"),
        ("a user and a password", "http://evil:evil@app.example/x"),
        ("no server", "http:///x"),
        ("a fragment", "http://app.example/x#y"),
        ("a port that is none", "http://app.example:evil/x"),
        ("a port of many digits", "http://app.example:999999/x"),
        ("no slashes", "http:/x"),
        ("a space", "http://app.example /x"),
        ("a bracket", "http://[::1/x"),
    ] {
        add(name, target, "app.example", malformed());
    }
    add("two malformed hosts", "http://app.example/x", "evil/x", malformed());
    add("files", "file:///x", "app.example", malformed());
    // Nothing is dialled, so it does not matter how.
    add("other schemes", "ftp://app.example/x", "app.example", taken());
    let no_path = || refused(&[400], "ambiguous_path");
    for (name, target) in [
        ("a name alone", "app.example"),
        ("a name and a port", "app.example:80"),
        ("nothing but a scheme", "http:"),
        ("a word", "x"),
        ("no path before a query", "http://app.example?x"),
    ] {
        add(name, target, "app.example", no_path());
    }
    let asterisk = format!("OPTIONS * HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n\r\n");
    cases.push(bytes(
        "OPTIONS *",
        asterisk,
        Expected { statuses: &[400, 404], ..refused(&[400], "ambiguous_path") },
    ));
    let asterisk = format!("GET * HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n\r\n");
    cases.push(bytes("GET *", asterisk, refused(&[400], "ambiguous_path")));
    for host in ["other.example", "127.0.0.1:22", "169.254.169.254", "localhost"] {
        let request = get("/x").host(host);
        cases.push(parts(
            format!("Host names {host}"),
            request,
            passes().with(format!("host: {host}\r\n")),
        ));
    }
    cases
}
