//! No page of another site makes a browser act here, whatever name it has; and what is not there says so.

use super::{Desk, expect};

fn ask(desk: &Desk, line: &str, host: &str, fields: &str) -> crate::harness::Message {
    let key = &desk.admin.key;
    desk.send(&format!(
        "{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\n{fields}\r\n"
    ))
}

#[test]
fn a_name_that_somebody_else_has_is_refused() {
    let desk = Desk::with(|setup| {
        setup.set("admin", "hosts = [\"keys.example.com\"]");
    });
    let port = desk.address.port();
    for host in [
        "localhost".to_owned(),
        format!("localhost:{port}"),
        "127.0.0.1".to_owned(),
        format!("127.0.0.1:{port}"),
        "[::1]:1".to_owned(),
        "Keys.Example.com:8443".to_owned(),
    ] {
        expect(&ask(&desk, "GET /api/v1/me", &host, ""), 200, "");
    }
    for host in [
        "evil.example",
        "evil.example:9901",
        "localhost.evil.example",
        "keys.example.com.evil.example",
        "192.0.2.7",
        "localhost@evil.example",
        "",
    ] {
        for line in ["GET /api/v1/me", "GET /", "GET /healthz", "POST /api/v1/keys"] {
            expect(&ask(&desk, line, host, ""), 421, "foreign_host");
        }
    }
    let foreign = ask(&desk, "GET http://evil.example/api/v1/me", "localhost", "");
    expect(&foreign, 421, "foreign_host");
    expect(&desk.send("GET /healthz HTTP/1.1\r\n\r\n"), 400, "bad_request");
    let two = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    expect(&desk.send(two), 400, "bad_request");
}

#[test]
fn a_page_of_another_site_is_refused() {
    let desk = Desk::new();
    for fields in [
        "",
        "Sec-Fetch-Site: same-origin\r\n",
        "Sec-Fetch-Site: none\r\n",
        "Origin: http://localhost\r\n",
        "Origin: https://localhost\r\n",
    ] {
        expect(&ask(&desk, "GET /api/v1/me", "localhost", fields), 200, "");
    }
    for fields in [
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
        "Sec-Fetch-Site: x\r\n",
        "Origin: http://evil.example\r\n",
        "Origin: http://localhost:1\r\n",
        "Origin: http://localhost.evil.example\r\n",
        "Origin: null\r\n",
        "Origin: file://localhost\r\n",
    ] {
        for line in ["GET /api/v1/me", "POST /api/v1/keys", "OPTIONS /api/v1/keys"] {
            expect(&ask(&desk, line, "localhost", fields), 403, "cross_site");
        }
    }
}

#[test]
fn what_is_not_there_says_so() {
    let desk = Desk::new();
    for target in ["/nothing", "/api", "/api/v1", "/api/v2/keys", "/api/v1/keys/", "/healthz/"] {
        expect(&desk.get(&desk.admin, target), 404, "not_found");
    }
    for (line, allow) in [
        ("PUT /api/v1/keys", "GET,HEAD,POST"),
        ("OPTIONS /api/v1/keys", "GET,HEAD,POST"),
        ("POST /api/v1/keys/key_a", "GET,HEAD,PATCH,DELETE"),
        ("GET /api/v1/keys/key_a/disable", "POST"),
        ("DELETE /healthz", "GET,HEAD"),
    ] {
        let answer = desk.ask(&desk.admin, line, None);
        expect(&answer, 405, "method_not_allowed");
        assert_eq!(answer.field("allow"), Some(allow), "{line}");
    }
    let head = desk.ask(&desk.admin, "HEAD /api/v1/me", None);
    assert_eq!((head.status(), head.body.len()), (200, 0));
}
