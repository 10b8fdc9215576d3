//! Fields that name others as those of one connection: a proxy that removes ours with them, or behind setting them, tells
//! the upstream nothing. CVE-2022-31813, CVE-2021-32813. In HTTP/2 there are none (RFC 9113 §8.2.2).
//!
//! Never here: upgrades.

use super::case::{
    Case, Expected, OverHttp2, Parts, Then, ask, get, parts, passes, passes_as, refused,
};

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |name: String, request: Parts, expected: Expected| {
        cases.push(parts(name, request, expected).over_http2(OverHttp2::Malformed));
    };
    for name in [
        "x-auth-user",
        "X-AUTH-USER",
        "x_auth_user",
        "x.auth.user",
        "x-auth-role",
        "x-auth-key-id",
        "x-forwarded-for",
        "x-forwarded-proto",
        "forwarded",
        "x-request-id",
        "host",
        "via",
    ] {
        add(format!("it names {name}"), get("/x").field("Connection", name), passes());
        let closing = get("/x").field("Connection", format!("close , {name}"));
        // `close` is obeyed.
        let expected = passes().then(Then::Closed);
        add(format!("it names close and {name}"), closing, expected);
    }
    for name in ["x-api-key", "authorization"] {
        let request = get("/x").field("Connection", name);
        add(format!("it names the key's field {name}"), request, passes());
    }
    for (name, lines) in [
        ("it names a spoof", &["Connection: x-auth-user", "X-Auth-User: evil"][..]),
        ("it names a spoof behind it", &["X-Auth-User: evil", "Connection: x-auth-user"]),
        ("it names an alias", &["Connection: x_auth_user", "X_Auth_User: evil"]),
        ("several lines", &["Connection: x-a", "Connection: x-b", "X-A: evil", "X-B: evil"]),
        ("a list with holes", &["Connection: ,, x-a ,,x-b,", "X-A: evil", "X-B: evil"]),
        ("in capitals", &["CONNECTION: X-EVIL", "x-evil: 1"]),
        ("keep-alive as a field", &["Connection: keep-alive", "Keep-Alive: evil"]),
        ("Proxy-Connection", &["Proxy-Connection: evil"]),
        ("TE that is not trailers", &["TE: evil", "Connection: TE"]),
        ("TE trailers among others", &["TE: trailers, evil;q=0.5", "Connection: TE"]),
        ("names that are none", &["Connection: a b, (, x@y, \"x\", =", "X-A: 1"]),
        (
            "a very long list",
            &["Connection: x-a,x-a,x-a,x-a,x-a,x-a,x-a,x-a,x-a,x-a,x-a,x-a,x-evil", "X-Evil: 1"],
        ),
        ("it names itself", &["Connection: connection, te, upgrade-insecure-requests"]),
    ] {
        add(name.to_owned(), get("/x").lines(lines), passes());
    }
    for (name, value) in [
        ("no UTF-8", &b"\xff\xfe, x-evil"[..]),
        ("no UTF-8 in a name", b"x-\xff, x-evil"),
        ("only commas", b",,,,,"),
        ("nothing", b""),
    ] {
        let request = get("/x").field("Connection", value).field("X-Evil", "1");
        let request =
            if value.contains(&b'v') { request } else { get("/x").field("Connection", value) };
        add(format!("its value is {name}"), request, passes());
    }
    let post = ask("POST", "/x").key().field("Connection", "content-length").body("hello");
    add("it names content-length".to_owned(), post, passes().with("content-length: 5"));
    let post = ask("POST", "/x")
        .key()
        .field("Connection", "transfer-encoding")
        .body("hello")
        .trailer("X-A", "1");
    add("it names transfer-encoding".to_owned(), post, passes());
    let public = ask("GET", "/public/x").lines(&["Connection: x-auth-user, x-auth-role"]);
    add("public, it names ours".to_owned(), public, passes_as(None));
    let without_key = ask("GET", "/x").lines(&["Connection: x-auth-user"]);
    let expected = refused(&[401], "missing_key");
    add("without a key, it names ours".to_owned(), without_key, expected);
    // What is meant for the next proxy alone; HTTP/2 knows it, too.
    let request = get("/x").field("Proxy-Authorization", "evil");
    cases.push(parts("Proxy-Authorization", request, passes()));
    cases
}
