//! Where endpoints may be, and what they are told about it: names, Unix sockets, `Host`.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::thread;

use crate::harness::keyward::get;
use crate::harness::{Actor, Keyward, Setup, Upstream, wait_for};

/// Answers every request on the socket at `path` with the number of its connection.
fn serve_unix(path: &Path) {
    let listener = UnixListener::bind(path).expect("a new socket");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = BufReader::new(stream.expect("a connection"));
            thread::spawn(move || {
                let mut length = 0;
                loop {
                    let mut line = String::new();
                    if stream.read_line(&mut line).unwrap_or(0) == 0 {
                        return;
                    }
                    if let Some(value) = line.strip_prefix("content-length: ") {
                        length = value.trim().parse().expect("a length");
                    }
                    if line == "\r\n" {
                        let mut body = vec![0; std::mem::take(&mut length)];
                        stream.read_exact(&mut body).expect("the body");
                        let body = format!("{number} {}", String::from_utf8_lossy(&body));
                        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}", body.len());
                        let answer = format!("{head}\r\n\r\n{body}");
                        // The proxy may leave whenever it wants.
                        let _ = stream.get_mut().write_all(answer.as_bytes());
                    }
                }
            });
        }
    });
}

fn start(endpoints: &[String], lines: &str) -> (Keyward, Actor) {
    let unused = "127.0.0.1:1".parse().expect("an address");
    let mut setup = Setup::with_endpoint(unused);
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    let endpoints: Vec<String> = endpoints.iter().map(|url| format!("\"{url}\"")).collect();
    setup.endpoints(&endpoints, lines);
    let alice = setup.key("alice", "author");
    (setup.start(), alice)
}

#[test]
fn a_unix_socket_is_an_endpoint_like_any_other() {
    let (kw, alice) = start(&["unix:app.sock".to_owned()], "");
    assert_eq!(kw.get("/", &alice).code(), "upstream_connect", "nobody listens yet");
    let path = kw.path("app.sock");
    serve_unix(&path);
    for _ in 0..3 {
        assert_eq!(kw.get("/", &alice).text(), "0 ", "the connection is kept");
    }
    let key = alice.header();
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 3\r\n\r\nabc");
    assert_eq!(kw.ask(post).text(), "0 abc");
    let record = kw.wait_for_record("a request", |record| record["status"] == 200);
    assert_eq!(record["endpoint"], format!("unix:{}", path.display()));
}

#[test]
fn the_health_of_a_unix_socket_is_checked() {
    let lines = "health = { path = \"/up\", interval = \"10ms\", unhealthy_after = 1 }";
    let (kw, _) = start(&["unix:app.sock".to_owned()], lines);
    kw.wait_for_event("endpoint fails its health checks", |_| true);
    serve_unix(&kw.path("app.sock"));
    kw.wait_for_event("endpoint passes its health checks", |_| true);
}

#[test]
fn a_name_is_an_address() {
    let app = Upstream::named("app");
    let port = app.address().port();
    let (kw, alice) = start(&[format!("http://localhost:{port}")], "");
    for _ in 0..3 {
        assert_eq!(kw.get("/", &alice).text(), "app");
    }
    let record = kw.wait_for_record("a request", |record| record["status"] == 200);
    assert_eq!(record["endpoint"], format!("localhost:{port}"));
}

#[test]
fn host_is_kept_or_said_anew() {
    for (lines, expected) in [
        ("", "client.example"),
        ("host = \"keep\"", "client.example"),
        ("host = \"app.example:81\"", "app.example:81"),
        ("host = \"endpoint\"", ""),
    ] {
        let app = Upstream::hello();
        let (kw, alice) = start(&[app.url()], lines);
        let head = format!("GET / HTTP/1.1\r\nHost: client.example\r\n{}\r\n", alice.header());
        assert_eq!(kw.ask(head).status(), 200);
        let request = app.only_request();
        let own = app.address().to_string();
        let expected = if expected.is_empty() { own.as_str() } else { expected };
        assert_eq!(request.fields("host"), [expected], "{lines}");
        assert_eq!(request.fields("x-forwarded-host"), ["client.example"], "{lines}");
    }
}

#[test]
fn each_endpoint_is_told_its_own_host_also_by_a_retry() {
    let broken = Upstream::scripted(|connection| {
        connection.request()?;
        connection.reset()
    });
    let app = Upstream::hello();
    let (kw, alice) = start(&[broken.url(), app.url()], "host = \"endpoint\"");
    wait_for("a retry", || {
        assert_eq!(kw.ask(get("/", &alice.header())).text(), "hello");
        (!broken.requests().is_empty()).then_some(())
    });
    for app in [&broken, &app] {
        for request in app.requests() {
            assert_eq!(request.fields("host"), [app.address().to_string()]);
        }
    }
}

#[test]
fn a_check_says_the_host_that_requests_say() {
    let app = Upstream::named("app");
    let lines = "host = \"app.example\"\nhealth = { path = \"/up\", interval = \"10ms\" }";
    let (_kw, _) = start(&[app.url()], lines);
    let check = wait_for("a check", || app.requests().into_iter().next());
    assert_eq!(check.fields("host"), ["app.example"]);
}
