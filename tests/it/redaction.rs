//! No key appears in any sink, whatever is done with it; and nothing a client sends forges a log line.

use std::net::TcpListener;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use keyward::keys::format::{Prefix, generate};

use crate::harness::actor::basic;
use crate::harness::keyward::get;
use crate::harness::{Actor, Keyward, Setup, Stage, Upstream};

/// A key of ours whose text is known here, to be searched for everywhere.
struct Canary(String);

impl Canary {
    fn new() -> Self {
        let prefix = Prefix::new("kw").expect("the default prefix");
        Self(generate(&prefix).expect("the system has randomness").expose().clone())
    }

    /// What must be found nowhere: the secret part, plain and in every coding it may travel in.
    fn traces(&self) -> Vec<String> {
        let secret = self.0.trim_start_matches("kw_");
        // Base64 depends on where in its group of three bytes a text begins; the ends are cut off.
        let base64 = (0..3).map(|shift| {
            let text = BASE64_STANDARD.encode("x".repeat(shift) + secret);
            text[4..text.len() - 4].to_owned()
        });
        base64.chain([secret.to_owned(), secret.to_uppercase(), secret.to_lowercase()]).collect()
    }

    #[track_caller]
    fn assert_not_in(&self, sink: &str, text: &[u8]) {
        let text = String::from_utf8_lossy(text);
        for trace in self.traces() {
            let found = text.lines().find(|line| line.contains(&trace));
            assert!(found.is_none(), "the key is in {sink}: {found:?}");
        }
    }
}

const ROUTES: &str = r#"
[[routes]]
path = "/public/{*rest}"
public = true
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/only-get"
methods = ["GET"]
[[routes]]
path = "/app/{*rest}"
"#;

/// Lines that carry the key where the configuration looks for keys.
fn in_sources(key: &str) -> Vec<String> {
    vec![
        format!("X-Api-Key: {key}\r\n"),
        format!("Authorization: Bearer {key}\r\n"),
        format!("Authorization: {}\r\n", basic("user", key)),
        format!("Authorization: {}\r\n", basic(key, "")),
        format!("X-Api-Key: {key}\r\nX-Api-Key: {key}x\r\n"),
        format!("X-Api-Key: {key}\r\nAuthorization: Bearer another-key\r\n"),
        format!("Connection: x-api-key\r\nX-Api-Key: {key}\r\n"),
        format!("X-Api-Key: {key}\r\nAuthorization: Bearer {key}\r\n"),
    ]
}

/// Lines that carry the key where nobody looks for it.
fn elsewhere(key: &str) -> Vec<String> {
    [
        "Referer: https://page.example/?api_key=KEY\r\n",
        "User-Agent: curl/8 KEY\r\n",
        "Cookie: session=KEY\r\n",
        "X-Request-Id: KEY\r\n",
        "Forwarded: for=KEY\r\n",
        "X-Forwarded-For: KEY\r\n",
        "X-Auth-User: KEY\r\n",
        "Authorization: KEY\r\n",
        "Authorization: Digest KEY\r\n",
        "Proxy-Authorization: Bearer KEY\r\n",
        "X-KEY: 1\r\n",
        "Connection: KEY\r\n",
        "Transfer-Encoding: KEY\r\n",
        "Content-Length: KEY\r\n",
        "Expect: KEY\r\n",
        "Connection: upgrade\r\nUpgrade: KEY\r\n",
        "Host: KEY\r\n",
        "X-Api-Key: KEY\0\r\n",
        "X-Api-Key : KEY\r\n",
        "KEY\r\n",
    ]
    .iter()
    .map(|line| line.replace("KEY", key))
    .collect()
}

/// Request lines that carry the key.
fn request_lines(key: &str) -> Vec<String> {
    [
        "GET /app/x?api_key=KEY HTTP/1.1",
        "GET /app/x?anything=KEY HTTP/1.1",
        "GET /app/x?KEY HTTP/1.1",
        "GET /app/KEY/x HTTP/1.1",
        "GET /app/;key=KEY HTTP/1.1",
        "GET /app/../KEY HTTP/1.1",
        "GET /KEY HTTP/1.1",
        "GET /public/KEY HTTP/1.1",
        "GET /app/x?next=https%3A%2F%2Fa%2F%3Fapi_key%3DKEY HTTP/1.1",
        "GET http://user:KEY@a/app HTTP/1.1",
        "GET http://KEY/app HTTP/1.1",
        "CONNECT KEY:443 HTTP/1.1",
        "KEY /app HTTP/1.1",
        "GET /app KEY",
        "GET KEY HTTP/1.1",
        "KEY",
    ]
    .iter()
    .map(|line| line.replace("KEY", key))
    .collect()
}

/// Every request of this test: each line in each place, with and without a key that opens the door.
fn requests(key: &str, alice: &Actor) -> Vec<String> {
    let sources = in_sources(key);
    let mut requests = Vec::new();
    for target in ["/app/x", "/public/x", "/admin/x", "/nothing/x", "/app//x", "/only-get"] {
        for method in ["GET", "POST", "TRACE"] {
            let lines = sources.iter().cloned().chain(elsewhere(key));
            for line in lines {
                let head = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n");
                requests.push(format!("{head}{line}Content-Length: 0\r\n\r\n"));
            }
        }
    }
    for line in elsewhere(key) {
        requests.push(get("/app/x", &(alice.header() + &line)));
    }
    for line in request_lines(key) {
        requests.push(format!("{line}\r\nHost: a\r\n\r\n"));
        requests.push(format!("{line}\r\nHost: a\r\n{}\r\n", alice.header()));
        requests.push(format!("{line}\r\nHost: a\r\n{}\r\n", sources[0]));
    }
    // Heads and bodies that break or are too large behind the key.
    let key_line = &sources[0];
    let long = "x".repeat(40 << 10);
    requests.push(get("/app/x", &format!("{key_line}X-Long: {long}\r\n")));
    requests.push(get("/app/x", &(key_line.clone() + &"X-Field: 1\r\n".repeat(200))));
    let head = format!("POST /app/x HTTP/1.1\r\nHost: a\r\n{key_line}");
    requests.push(format!("{head}Content-Length: 99999\r\n\r\n{key}"));
    requests.push(format!("{head}Transfer-Encoding: chunked\r\n\r\n{key}\r\n"));
    let trailer = format!("0\r\n{key_line}\r\n");
    requests
        .push(format!("{head}Transfer-Encoding: chunked\r\nTrailer: X-Api-Key\r\n\r\n{trailer}"));
    requests
}

fn prepare(setup: &mut Setup, canaries: &[(&Canary, &str, &str)]) -> Actor {
    setup.routes(ROUTES);
    setup.set("server.limits", "body_bytes = 1000");
    setup.set("server.timeouts", "request_header = \"300ms\"\nrequest_body_idle = \"300ms\"");
    setup.set("server.timeouts", "upstream_response = \"300ms\"");
    setup.env("KEYWARD_LOG", "trace").env("RUST_BACKTRACE", "1");
    for (canary, role, more) in canaries {
        setup.add(Actor::new("carol", role).with_key(&canary.0).with(more));
    }
    setup.key("alice", "viewer")
}

/// Sends everything, and searches every answer.
fn send_all(kw: &Keyward, canary: &Canary, alice: &Actor) {
    for request in requests(&canary.0, alice) {
        let mut client = kw.connect();
        // A proxy that closes early has answered early.
        let _ = client.try_send(&request);
        client.socket().shutdown(std::net::Shutdown::Write).ok();
        canary.assert_not_in("an answer", &client.rest());
    }
    // A slow head, and a client that leaves.
    let mut client = kw.connect();
    client.send(format!("GET /app/x HTTP/1.1\r\nX-Api-Key: {}\r\n", canary.0));
    canary.assert_not_in("the answer to a slow head", &client.rest());
    let mut client = kw.connect();
    client.send(get("/app/x", &format!("X-Api-Key: {}\r\n", canary.0)));
    drop(client);
}

/// Ends the process, so that everything is written, and searches its sinks.
#[track_caller]
fn search(kw: &Keyward, canaries: &[Canary]) {
    kw.signal("TERM");
    kw.wait_for_exit();
    let log = std::fs::read(kw.path("logs/access.log")).expect("the access log was made");
    let is_masked = String::from_utf8_lossy(&log).contains("[redacted]");
    assert!(is_masked, "the access log has recorded requests with a key in their target");
    for canary in canaries {
        canary.assert_not_in("standard output", kw.stdout().as_bytes());
        canary.assert_not_in("standard error", kw.stderr().as_bytes());
        canary.assert_not_in("the access log", &log);
    }
}

#[test]
fn a_canary_key_appears_in_no_sink_whatever_is_done_with_it() {
    let canaries = [Canary::new(), Canary::new(), Canary::new(), Canary::new(), Canary::new()];
    let [viewer, admin, disabled, expired, _unknown] = &canaries;
    let keys = [
        (viewer, "viewer", ""),
        (admin, "admin", ""),
        (disabled, "viewer", "enabled = false"),
        (expired, "viewer", "expires_at = 2020-01-01T00:00:00Z"),
    ];
    // An upstream that answers well, one that breaks, one that says nothing, and none at all.
    let working = Upstream::hello();
    let broken = Upstream::answering("broken\r\n\r\n");
    let silent = Upstream::scripted(|connection| {
        connection.request()?;
        connection.wait_for_close()
    });
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let missing = unused.expect("loopback has free ports");
    for endpoint in [working.address(), broken.address(), missing] {
        let mut setup = Setup::with_endpoint(endpoint);
        let alice = prepare(&mut setup, &keys);
        let kw = setup.start();
        for canary in &canaries {
            send_all(&kw, canary, &alice);
        }
        search(&kw, &canaries);
    }
    let mut setup = Setup::with_endpoint(silent.address());
    prepare(&mut setup, &keys);
    let kw = setup.start();
    let target = format!("/app/x?api_key={}", viewer.0);
    for line in in_sources(&viewer.0) {
        viewer.assert_not_in("the answer of a silent upstream", &kw.ask(get(&target, &line)).body);
    }
    search(&kw, &canaries);
}

#[test]
fn a_key_in_any_source_is_hidden_from_the_upstream() {
    let canary = Canary::new();
    let (stage, _) = Stage::new(Upstream::hello(), |setup| {
        setup.set(
            "auth",
            "key_sources = [{ header = \"x-api-key\" }, { header = \"authorization\", scheme = \"Bearer\" }, \
             { header = \"authorization\", scheme = \"Basic\" }, { query = \"api_key\" }]",
        );
        prepare(setup, &[(&canary, "admin", "")])
    });
    let key = &canary.0;
    for target in ["/app/x", "/public/x", "/admin/x"] {
        for line in in_sources(key) {
            stage.kw.ask(get(target, &line));
        }
        for query in [format!("api_key={key}"), format!("a=b&api_key={key}&api_key={key}")] {
            assert_eq!(stage.kw.ask(get(&format!("{target}?{query}"), "")).status(), 200);
        }
        let trailers = format!(
            "POST {target} HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\nTrailer: x-api-key, authorization\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\nX-Api-Key: {key}\r\nAuthorization: Bearer {key}\r\n\r\n",
        );
        assert_eq!(stage.kw.ask(trailers).status(), 200);
    }
    assert!(!stage.app.requests().is_empty());
    canary.assert_not_in("the upstream's requests", &stage.app.bytes());
}

#[test]
fn nothing_a_client_sends_forges_or_breaks_a_log_line() {
    for format in ["json", "text"] {
        let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
            setup.replace("log", &format!("access = \"logs/access.log\"\nformat = \"{format}\""));
            setup.key("alice", "viewer")
        });
        let targets = [
            "/a%0d%0a{\"status\":200}",
            "/a?b=%0d%0aforged",
            "/a?b=%1b[31mred",
            "/a?b=\"quoted\"\\",
            "/a?b={},}]",
            "/a?b=caf\u{e9}\u{202e}",
            "/a\u{1b}[31m",
            "/a\tb",
            "/plain",
        ];
        let mut sent = 0;
        for target in targets {
            for lines in ["User-Agent: a\"b\\c\r\n", "X-Request-Id: a\"b\r\n"] {
                stage.kw.ask(get(target, &(alice.header() + lines)));
                sent += 1;
            }
        }
        stage.kw.signal("TERM");
        stage.kw.wait_for_exit();
        let log = std::fs::read(stage.kw.path("logs/access.log")).expect("the access log was made");
        let text = String::from_utf8(log).expect("the access log is UTF-8");
        assert_eq!(text.lines().count(), sent, "{text}");
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        assert!(!text.contains('\u{202e}'), "{text:?}");
        if format == "json" {
            assert_eq!(stage.kw.access_log().len(), sent);
        }
    }
}
