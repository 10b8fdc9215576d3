//! TLS to endpoints: who is trusted, what they are shown, and that nothing goes to anybody else.

mod files;
mod streams;

use std::io;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion, SupportedProtocolVersion};

use crate::harness::certificates::{Authority, Pair};
use crate::harness::keyward::field;
use crate::harness::setup::write;
use crate::harness::{Actor, Connection, DEADLINE, Keyward, Setup, TlsService, Upstream, wait_for};

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];
const CA: &str = "ca = \"ca.pem\"";

/// Answers every request with a short text.
fn hello(connection: &mut Connection) -> io::Result<()> {
    while let Some(_request) = connection.request()? {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
    }
    Ok(())
}

/// One whose certificate from `authority` is for `host`.
fn app(authority: &Authority, host: &str) -> Upstream {
    Upstream::tls(TlsService::new(&authority.server(&[host]), BOTH), hello)
}

/// What calls `app` by the name `host`.
fn url(app: &Upstream, host: &str) -> String {
    format!("https://{host}:{}", app.address().port())
}

/// Before `endpoint`, with `authority` in ca.pem, and with one worker, so that there is one pool.
fn prepare(endpoint: &str, authority: &Authority, tls: &str) -> (Setup, Actor) {
    let mut setup = Setup::with_endpoint("127.0.0.1:1".parse().expect("an address"));
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    setup.set("server.timeouts", "upstream_connect = \"1m\"");
    setup.endpoints(&[format!("\"{endpoint}\"")], "");
    write(&setup.folder.path().join("ca.pem"), &authority.pem());
    setup.set("upstreams.app.tls", tls);
    let alice = setup.key("alice", "viewer");
    (setup, alice)
}

fn start(endpoint: &str, authority: &Authority, tls: &str) -> (Keyward, Actor) {
    let (setup, alice) = prepare(endpoint, authority, tls);
    (setup.start(), alice)
}

/// Writes a pair into the files client.pem and client.key.
fn lay_client(setup: &Setup, pair: &Pair) {
    let folder = setup.folder.path();
    write(&folder.join("client.pem"), &pair.certificate);
    write(&folder.join("client.key"), &pair.private_key);
}

/// What is known of each session with a first request.
#[derive(Debug)]
struct Session {
    version: ProtocolVersion,
    kind: HandshakeKind,
    /// The name that was asked for.
    host: Option<String>,
    protocol: Option<Vec<u8>>,
    shows_certificate: bool,
}

/// Tells of each connection behind its first request, which it answers; then does as `hello`.
fn telling(service: TlsService) -> (Upstream, Receiver<Session>) {
    let (tell, told) = sync_channel(16);
    let app = Upstream::tls(service, move |connection| {
        if connection.request()?.is_some() {
            let session = connection.session();
            let told = Session {
                version: session.protocol_version().expect("it was agreed on"),
                kind: session.handshake_kind().expect("it is over"),
                host: session.server_name().map(str::to_owned),
                protocol: session.alpn_protocol().map(<[u8]>::to_vec),
                shows_certificate: session.peer_certificates().is_some(),
            };
            // The test may have seen enough.
            let _ = tell.try_send(told);
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
        hello(connection)
    });
    (app, told)
}

/// The next session that began.
#[track_caller]
fn next(told: &Receiver<Session>) -> Session {
    told.recv_timeout(DEADLINE).expect("a session")
}

#[test]
fn both_versions_are_spoken_and_connections_are_kept() {
    let authority = Authority::new();
    for (versions, version) in
        [(&[&TLS12], ProtocolVersion::TLSv1_2), (&[&TLS13], ProtocolVersion::TLSv1_3)]
    {
        let service = TlsService::new(&authority.server(&["localhost"]), versions);
        let (app, told) = telling(service);
        let (kw, alice) = start(&url(&app, "localhost"), &authority, CA);
        for _ in 0..3 {
            assert_eq!(kw.get("/", &alice).text(), "hello");
        }
        // A connection that is looked after while it is idle is as good: a ticket is no reason to close it.
        let until = Instant::now() + Duration::from_millis(500);
        wait_for("some looks at it", || {
            assert_eq!(kw.get("/", &alice).text(), "hello");
            (Instant::now() > until).then_some(())
        });
        assert_eq!(app.connections(), 1, "the connection is kept");
        let session = next(&told);
        assert_eq!((session.version, session.host.as_deref()), (version, Some("localhost")));
        assert_eq!(session.protocol.as_deref(), Some(&b"http/1.1"[..]));
        assert!(!session.shows_certificate);
        let record = kw.wait_for_record("a request", |record| record["status"] == 200);
        assert_eq!(record["endpoint"], format!("localhost:{}", app.address().port()));
    }
}

#[test]
fn a_session_is_resumed_on_the_next_connection() {
    let authority = Authority::new();
    for versions in [&[&TLS12], &[&TLS13]] {
        let service = TlsService::new(&authority.server(&["localhost"]), versions);
        let (app, told) = telling(service);
        let (mut setup, alice) = prepare(&url(&app, "localhost"), &authority, CA);
        setup.set("server.limits", "upstream_idle = 0");
        let kw = setup.start();
        for number in 0..3 {
            assert_eq!(kw.get("/", &alice).text(), "hello");
            let is_resumed = next(&told).kind == HandshakeKind::Resumed;
            assert_eq!(is_resumed, number > 0, "connection {number}");
        }
    }
}

#[test]
fn the_name_may_be_another_than_the_host_and_an_address() {
    let authority = Authority::new();
    for (host, certificate, lines, asked) in [
        ("127.0.0.1", "127.0.0.1", "", None),
        ("127.0.0.1", "app.internal", "server_name = \"app.internal\"", Some("app.internal")),
        ("localhost", "app.internal", "server_name = \"app.internal\"", Some("app.internal")),
        ("localhost", "10.1.2.3", "server_name = \"10.1.2.3\"", None),
    ] {
        let (app, told) = telling(TlsService::new(&authority.server(&[certificate]), BOTH));
        let (kw, alice) = start(&url(&app, host), &authority, &format!("{CA}\n{lines}"));
        assert_eq!(kw.get("/", &alice).text(), "hello", "{host} {lines}");
        assert_eq!(next(&told).host.as_deref(), asked, "{host} {lines}");
    }
}

#[test]
fn whoever_is_not_trusted_gets_nothing_and_the_log_says_why() {
    let (ours, other) = (Authority::new(), Authority::new());
    let service = |pair: &Pair| TlsService::new(pair, BOTH);
    let days = |from, to| service(&ours.server_in_days(from, to));
    for (service, lines, reason) in [
        (service(&other.server(&["localhost"])), "", "no authority that is trusted vouches"),
        (service(&ours.server(&["app.example"])), "", "is not for \"localhost\""),
        (service(&ours.server(&["localhost"])), "server_name = \"b\"", "is not for \"b\""),
        (days(-10, -1), "server_name = \"app.example\"", "has expired"),
        (days(1, 10), "server_name = \"app.example\"", "is not valid yet"),
    ] {
        let app = Upstream::tls(service, hello);
        let (kw, alice) = start(&url(&app, "localhost"), &ours, &format!("{CA}\n{lines}"));
        check_refused(&kw, &alice, &app, reason);
    }
}

#[test]
fn an_endpoint_in_clear_is_told_nothing() {
    let app = Upstream::scripted(|connection| {
        connection.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")?;
        connection.wait_for_close()
    });
    let (kw, alice) = start(&url(&app, "localhost"), &Authority::new(), CA);
    check_refused(&kw, &alice, &app, "it does not speak TLS");
}

#[test]
fn a_handshake_that_stalls_ends_in_time() {
    let app = Upstream::scripted(|connection| connection.wait_for_close());
    let (mut setup, alice) = prepare(&url(&app, "localhost"), &Authority::new(), CA);
    setup.replace("server.timeouts", "upstream_connect = \"300ms\"");
    let kw = setup.start();
    let answer = kw.get("/", &alice);
    assert_eq!((answer.status(), answer.code().as_str()), (504, "upstream_timeout"));
}

/// The client gets a refusal, the log the reason, and the endpoint no request.
#[track_caller]
fn check_refused(kw: &Keyward, alice: &Actor, app: &Upstream, reason: &str) {
    let answer = kw.get("/", alice);
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_connect"), "{reason}");
    let event = kw.wait_for_event("endpoint not reachable", |_| true);
    let error = field(&event, "error").as_str().expect("a reason");
    assert!(error.contains(reason), "{error} instead of {reason}");
    assert_eq!(field(&event, "endpoint"), format!("localhost:{}", app.address().port()).as_str());
    assert!(app.requests().is_empty() && app.bytes().is_empty());
}

#[test]
fn who_fails_its_handshakes_is_left_out() {
    let (ours, other) = (Authority::new(), Authority::new());
    let (bad, good) = (app(&other, "localhost"), app(&ours, "localhost"));
    let (mut setup, alice) = prepare("https://a", &ours, CA);
    let urls = [&bad, &good].map(|app| format!("\"{}\"", url(app, "localhost")));
    setup.endpoints(&urls, "ejection = { after = 2, back_off = \"1h\", max_back_off = \"1h\" }");
    let kw = setup.start();
    wait_for("the ejection", || {
        assert_eq!(
            kw.get("/", &alice).text(),
            "hello",
            "a request that was not sent is tried again"
        );
        (kw.count_events("endpoint is left out after failures in a row") == 1).then_some(())
    });
}

#[test]
fn a_certificate_of_ours_is_shown_to_who_asks() {
    let authority = Authority::new();
    let server = authority.server(&["localhost"]);
    let lines = format!("{CA}\ncertificate = \"client.pem\"\nprivate_key = \"client.key\"");
    for (version, refused) in [(&TLS12, "upstream_connect"), (&TLS13, "upstream_protocol")] {
        let service = || TlsService::for_clients_of(&authority, &server, &[version]);
        let (app, told) = telling(service());
        let (setup, alice) = prepare(&url(&app, "localhost"), &authority, &lines);
        lay_client(&setup, &authority.client("keyward", "urn:keyward"));
        let kw = setup.start();
        assert_eq!(kw.get("/", &alice).text(), "hello");
        assert!(next(&told).shows_certificate);
        // Without one: a client of TLS 1.3 hears of it only behind its handshake.
        let app = Upstream::tls(service(), hello);
        let (kw, alice) = start(&url(&app, "localhost"), &authority, CA);
        let answer = kw.get("/", &alice);
        assert_eq!((answer.status(), answer.code().as_str()), (502, refused), "{version:?}");
        assert!(app.requests().is_empty());
        let logged = wait_for("the reason", || {
            let stderr = kw.stderr();
            stderr.lines().find(|line| line.contains("endpoint\":\"localhost")).map(str::to_owned)
        });
        assert!(logged.contains("CertificateRequired") || logged.contains("Handshake"), "{logged}");
    }
}

#[test]
fn health_checks_are_made_over_tls_and_trust_nobody_else() {
    let authority = Authority::new();
    let checks = "health = { path = \"/up\", interval = \"10ms\", unhealthy_after = 1 }";
    for (issuer, message) in
        [(&authority, None), (&Authority::new(), Some("endpoint fails its health checks"))]
    {
        let app = app(issuer, "localhost");
        let (mut setup, _) = prepare("https://a", &authority, CA);
        setup.endpoints(&[format!("\"{}\"", url(&app, "localhost"))], checks);
        let kw = setup.start();
        match message {
            None => {
                let request = wait_for("a check", || app.requests().into_iter().next());
                assert_eq!(request.first_line, "GET /up HTTP/1.1");
                wait_for("more of them", || (app.requests().len() > 3).then_some(()));
                assert_eq!(kw.count_events("endpoint fails its health checks"), 0);
            }
            Some(message) => {
                let event = kw.wait_for_event(message, |_| true);
                let reason = field(&event, "reason").as_str().expect("a reason");
                assert!(reason.contains("no authority that is trusted"), "{reason}");
                assert!(app.requests().is_empty());
            }
        }
    }
}

#[test]
fn without_a_ca_the_system_says_whom_to_trust() {
    let authority = Authority::new();
    let app = app(&authority, "localhost");
    let (mut setup, alice) = prepare(&url(&app, "localhost"), &authority, "");
    let bundle = setup.folder.path().join("ca.pem");
    let bundle = bundle.to_str().expect("a path in UTF-8").to_owned();
    setup.env("SSL_CERT_FILE", &bundle).env("SSL_CERT_DIR", "");
    let kw = setup.start();
    assert_eq!(kw.get("/", &alice).text(), "hello");
}
