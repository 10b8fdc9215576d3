//! TLS to clients: what is spoken, which certificate they are given, and what they may show themselves.

mod clients;
mod files;
mod redirect;

use std::io::ErrorKind;
use std::process::Command;

use rustls::ProtocolVersion;

use crate::harness::certificates::{Authority, Pair};
use crate::harness::keyward::get;
use crate::harness::setup::write;
use crate::harness::tls::TlsClients;
use crate::harness::{Actor, Setup, Stage, Upstream};

/// The host of [`get`].
const HOST: &str = "app.example";

/// A proxy with a certificate for [`HOST`] from an authority.
struct Scene {
    stage: Stage,
    authority: Authority,
    alice: Actor,
}

impl Scene {
    fn new(app: Upstream, prepare: impl FnOnce(&mut Setup, &Authority)) -> Self {
        let authority = Authority::new();
        let (stage, alice) = Stage::new(app, |setup| {
            lay(setup, "server", &authority.server(&[HOST]));
            setup.set("server.tls", "certificate = \"server.pem\"\nprivate_key = \"server.key\"");
            prepare(setup, &authority);
            setup.key("alice", "viewer")
        });
        Self { stage, authority, alice }
    }

    fn plain() -> Self {
        Self::new(Upstream::hello(), |_, _| {})
    }

    fn clients(&self) -> TlsClients {
        TlsClients::of(&self.authority)
    }

    fn request(&self) -> String {
        get("/", &self.alice.header())
    }

    /// A client of `clients` is served.
    #[track_caller]
    fn serves(&self, clients: &TlsClients) {
        let mut client = clients.connect(self.stage.kw.address(), HOST);
        assert_eq!(client.ask(self.request()).status(), 200);
    }
}

/// Writes a pair into the files NAME.pem and NAME.key.
fn lay(setup: &Setup, name: &str, pair: &Pair) {
    let folder = setup.folder.path();
    write(&folder.join(format!("{name}.pem")), &pair.certificate);
    write(&folder.join(format!("{name}.key")), &pair.private_key);
}

#[test]
fn both_versions_are_spoken() {
    let scene = Scene::plain();
    for (clients, version) in [
        (TlsClients::of_1_2(&scene.authority), ProtocolVersion::TLSv1_2),
        (TlsClients::of_1_3(&scene.authority), ProtocolVersion::TLSv1_3),
        (scene.clients(), ProtocolVersion::TLSv1_3),
    ] {
        let mut client = clients.connect(scene.stage.kw.address(), HOST);
        assert_eq!(client.version(), version);
        for _ in 0..3 {
            let answer = client.ask(scene.request());
            assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
        }
    }
}

#[test]
fn the_older_version_can_be_left_out() {
    let scene = Scene::new(Upstream::hello(), |setup, _| {
        setup.set("server.tls", "min_version = \"1.3\"");
    });
    let (address, old) = (scene.stage.kw.address(), TlsClients::of_1_2(&scene.authority));
    assert!(old.try_connect(address, HOST).is_err());
    scene.serves(&scene.clients());
}

#[test]
fn curl_is_served_in_each_version_of_http_and_tls() {
    let scene = Scene::plain();
    let folder = scene.stage.kw.folder();
    write(&folder.join("ca.pem"), &scene.authority.pem());
    let port = scene.stage.kw.address().port();
    for (version, shown) in [("--http1.1", "1.1"), ("--http2", "2")] {
        for tls in ["1.2", "1.3"] {
            let output = Command::new("curl")
                .args([version, "--silent", "--show-error", "--max-time", "60", "--cacert"])
                .arg(folder.join("ca.pem"))
                .args([format!("--tlsv{tls}"), "--tls-max".to_owned(), tls.to_owned()])
                .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")])
                .args(["--header", scene.alice.header().trim()])
                .args(["--write-out", " %{http_version}", &format!("https://{HOST}:{port}/")])
                .output()
                .expect("curl is installed by `make test`");
            let said = String::from_utf8_lossy(&output.stderr);
            let got = String::from_utf8_lossy(&output.stdout);
            assert_eq!(got, format!("hello {shown}"), "{version} {tls}: {said}");
        }
    }
}

#[test]
fn a_host_is_given_its_certificate() {
    let authority = Authority::new();
    let pairs = [
        authority.server(&["default.example"]),
        authority.server(&["a.example", "*.a.example"]),
        authority.server(&["b.example", "x.a.example"]),
    ];
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        for (name, pair) in ["0", "1", "2"].iter().zip(&pairs) {
            lay(setup, name, pair);
        }
        setup.set(
            "server.tls",
            "certificate = \"0.pem\"\nprivate_key = \"0.key\"\n\
             certificates = [{ certificate = \"1.pem\", private_key = \"1.key\" },\n\
             { certificate = \"2.pem\", private_key = \"2.key\" }]",
        );
        setup.key("alice", "viewer")
    });
    let clients = TlsClients::of(&authority);
    for (host, expected) in [
        ("default.example", &pairs[0]),
        ("a.example", &pairs[1]),
        ("www.a.example", &pairs[1]),
        ("WWW.A.example", &pairs[1]),
        ("b.example", &pairs[2]),
        ("x.a.example", &pairs[2]),
    ] {
        let mut client = clients.connect(stage.kw.address(), host);
        assert!(client.certificate() == expected.der(), "the wrong certificate for {host}");
        assert_eq!(client.ask(get("/", &alice.header())).status(), 200);
    }
    let unasked = clients.clone().without_sni().connect(stage.kw.address(), "default.example");
    assert!(unasked.certificate() == pairs[0].der());
    // A wildcard is for one label; whoever asks for more gets the default, and refuses it.
    for host in ["y.x.a.example", "c.example"] {
        assert!(clients.try_connect(stage.kw.address(), host).is_err(), "{host}");
    }
}

#[test]
fn of_two_certificates_for_a_host_one_is_shown_that_the_client_can_verify() {
    let authority = Authority::new();
    let (ecdsa, rsa) = (authority.server(&[HOST]), authority.server_with_rsa(&[HOST]));
    let (stage, _alice) = Stage::new(Upstream::hello(), |setup| {
        lay(setup, "ecdsa", &ecdsa);
        lay(setup, "rsa", &rsa);
        setup.set(
            "server.tls",
            "certificate = \"ecdsa.pem\"\nprivate_key = \"ecdsa.key\"\n\
             certificates = [{ certificate = \"rsa.pem\", private_key = \"rsa.key\" }]",
        );
        setup.key("alice", "viewer")
    });
    for (clients, expected) in
        [(TlsClients::of(&authority), ecdsa), (TlsClients::of_rsa(&authority), rsa)]
    {
        let client = clients.connect(stage.kw.address(), HOST);
        assert!(client.certificate() == expected.der());
    }
}

#[test]
fn only_what_is_spoken_is_agreed_on() {
    let scene = Scene::plain();
    let address = scene.stage.kw.address();
    for (offered, agreed) in [
        (&["http/1.1"][..], Some("http/1.1")),
        (&["h3", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let mut client = scene.clients().offering(offered).connect(address, HOST);
        assert_eq!(client.protocol(), agreed.map(str::as_bytes));
        assert_eq!(client.ask(scene.request()).status(), 200);
    }
    // RFC 7301, section 3.2: rather no connection than one on which another protocol is spoken.
    assert!(scene.clients().offering(&["h3"]).try_connect(address, HOST).is_err());
}

#[test]
fn a_session_is_resumed_on_every_worker_and_behind_a_reload() {
    let scene = Scene::plain();
    for clients in [TlsClients::of_1_2(&scene.authority), TlsClients::of_1_3(&scene.authority)] {
        // Those that stay open are spread over the workers.
        let mut open = Vec::new();
        for round in 0..2 {
            for number in 0..4 {
                let mut client = clients.connect(scene.stage.kw.address(), HOST);
                assert_eq!(client.is_resumed(), round + number > 0, "connection {number}");
                assert_eq!(client.ask(scene.request()).status(), 200);
                open.push(client);
            }
            let before = scene.stage.kw.count_events("reloaded");
            scene.stage.kw.signal("HUP");
            scene.stage.kw.wait_for_another("reloaded", before);
        }
    }
}

#[test]
fn the_upstream_learns_that_it_was_https() {
    let scene = Scene::plain();
    scene.serves(&scene.clients());
    let received = scene.stage.app.only_request();
    assert_eq!(received.fields("x-forwarded-proto"), ["https"]);
    let forwarded = format!("for=127.0.0.1;host=\"{HOST}\";proto=https");
    assert_eq!(received.fields("forwarded"), [&forwarded]);
}

#[test]
fn a_small_answer_is_one_record() {
    let scene = Scene::plain();
    // In version 1.3 what belongs to the handshake looks like data, too.
    let clients = TlsClients::of_1_2(&scene.authority);
    let mut client = clients.connect(scene.stage.kw.address(), HOST);
    for _ in 0..3 {
        client.records();
        assert_eq!(client.ask(get("/", "")).code(), "missing_key");
        assert_eq!(client.records(), 1);
    }
}

#[test]
fn large_bodies_pass_both_ways() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", request.body.len());
            connection.send(head.into_bytes())?;
            connection.send(&request.body)?;
        }
        Ok(())
    });
    let scene = Scene::new(app, |_, _| {});
    let body: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    let key = scene.alice.header();
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: {}\r\n\r\n", body.len());
    let mut client = scene.clients().connect(scene.stage.kw.address(), HOST);
    for _ in 0..2 {
        let answer = client.ask([head.as_bytes(), &body].concat());
        assert_eq!(answer.status(), 200);
        assert!(answer.body == body, "{} bytes came back", answer.body.len());
    }
}

#[test]
fn an_end_is_told_from_a_cut() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            match request.target() {
                "/whole" => connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody")?,
                _ => {
                    connection
                        .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbo")?;
                    return Ok(());
                }
            }
        }
        Ok(())
    });
    let scene = Scene::new(app, |setup, _| {
        setup.set("server.timeouts", "keep_alive = \"300ms\"");
    });
    let address = scene.stage.kw.address();
    let close = format!("{}Connection: close\r\n", scene.alice.header());
    let mut closing = scene.clients().connect(address, HOST);
    assert_eq!(closing.ask(get("/whole", &close)).text(), "body");
    assert_eq!(closing.rest().expect("close_notify, as asked for"), b"");
    let mut idle = scene.clients().connect(address, HOST);
    assert_eq!(idle.ask(get("/whole", &scene.alice.header())).text(), "body");
    assert_eq!(idle.rest().expect("close_notify after the idle time"), b"");
    let mut cut = scene.clients().connect(address, HOST);
    cut.send(get("/cut", &scene.alice.header()));
    let kind = cut.rest().expect_err("no close_notify for half an answer").kind();
    assert!(matches!(kind, ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{kind:?}");
}

#[test]
fn what_is_malformed_is_answered() {
    let scene = Scene::plain();
    let mut client = scene.clients().connect(scene.stage.kw.address(), HOST);
    let answer = client.ask("GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n");
    assert_eq!((answer.status(), answer.code().as_str()), (400, "bad_request"));
    assert_eq!(client.rest().expect("close_notify"), b"");
}

#[test]
fn http_in_clear_is_told_so_and_its_key_is_in_no_log() {
    let scene = Scene::plain();
    let answer = scene.stage.refuses(scene.request(), 400, "bad_request");
    assert!(answer.text().contains("https"), "{}", answer.text());
    let kw = &scene.stage.kw;
    kw.wait_for_record("the refusal", |record| record["status"] == 400);
    for log in [kw.stdout(), kw.stderr(), kw.access_log().iter().map(ToString::to_string).collect()]
    {
        assert!(!log.contains(&scene.alice.key), "{log}");
    }
}

#[test]
fn a_handshake_that_stalls_is_cut() {
    let scene = Scene::new(Upstream::hello(), |setup, _| {
        setup.set("server.timeouts", "tls_handshake = \"300ms\"");
    });
    // Nothing, half a record's head, and the head of a record that does not come.
    for part in [&[][..], &[22, 3], &[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3]] {
        let mut client = scene.stage.kw.connect();
        client.send(part);
        assert_eq!(client.rest(), b"");
    }
    scene.serves(&scene.clients());
}

#[test]
fn what_is_no_handshake_ends_the_connection_alone() {
    let scene = Scene::plain();
    for bytes in [&[0; 64][..], &[22, 3, 1, 255, 255, 0], &[23, 3, 3, 0, 1, 0], &[0x80, 0x2e, 1]] {
        let mut client = scene.stage.kw.connect();
        client.send(bytes);
        client.half_close();
        // An alert, or nothing.
        assert!(client.rest().len() <= 7);
    }
    scene.serves(&scene.clients());
}

#[test]
fn a_stalled_handshake_does_not_hold_up_the_end() {
    let scene = Scene::new(Upstream::hello(), |setup, _| {
        setup.set("server.timeouts", "tls_handshake = \"5m\"");
    });
    let mut stalled = scene.stage.kw.connect();
    stalled.send([22, 3]);
    scene.serves(&scene.clients());
    scene.stage.kw.signal("TERM");
    assert!(scene.stage.kw.wait_for_exit().success());
    assert_eq!(scene.stage.kw.count_events("stopped"), 1, "{}", scene.stage.kw.stderr());
}
