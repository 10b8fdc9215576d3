//! The listener itself: where it is, whom it serves, when it is ready, and how it comes and goes.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use serde_json::json;

use super::{Desk, expect};
use crate::harness::certificates::Authority;
use crate::harness::setup::{replace, write};
use crate::harness::tls::TlsClients;
use crate::harness::{Client, Setup, Upstream, wait_for};

/// Where nothing listens, and where no connection of another test begins, as on 127.0.0.1.
fn free_address() -> SocketAddr {
    let unused = TcpListener::bind("127.0.0.2:0").and_then(|listener| listener.local_addr());
    unused.expect("loopback has free ports")
}

#[test]
fn it_is_off_unless_given_and_in_clear_on_loopback_alone() {
    let setup = Setup::new(&Upstream::hello());
    let kw = setup.start();
    assert_eq!(kw.count_events("managing keys"), 0);
    let mut setup = Setup::new(&Upstream::hello());
    setup.set("admin", "listen = \"0.0.0.0:0\"");
    let path = setup.folder.path().join("keyward.toml");
    write(&path, &setup.config());
    write(&setup.folder.path().join("keys.toml"), "keys = []\n");
    for command in ["check", "serve"] {
        let output = Command::new(env!("CARGO_BIN_EXE_keyward"))
            .arg("--config")
            .arg(&path)
            .arg(command)
            .output()
            .expect("the binary is built");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("keys would go there in clear"), "{said}");
    }
}

#[test]
fn over_tls_it_may_be_reached_by_others() {
    let authority = Authority::new();
    let pair = authority.server(&["keys.example.com"]);
    let desk = Desk::with(|setup| {
        let folder = setup.folder.path().to_owned();
        write(&folder.join("admin.pem"), &pair.certificate);
        write(&folder.join("admin.key"), &pair.private_key);
        setup.replace("admin", "listen = \"0.0.0.0:0\"\nhosts = [\"keys.example.com\"]");
        setup.set("admin.tls", "certificate = \"admin.pem\"\nprivate_key = \"admin.key\"");
    });
    let address = SocketAddr::from(([127, 0, 0, 1], desk.address.port()));
    let request = format!(
        "GET /api/v1/me HTTP/1.1\r\nHost: keys.example.com\r\nAuthorization: Bearer {}\r\n\r\n",
        desk.admin.key
    );
    let clients = TlsClients::of(&authority).offering(&["h2", "http/1.1"]);
    let mut client = clients.connect(address, "keys.example.com");
    assert_eq!(client.protocol(), Some(&b"http/1.1"[..]));
    expect(&client.ask(&request), 200, "");
    // In clear, nothing is said.
    let mut plain = Client::connect(address);
    plain.send(&request);
    assert!(!String::from_utf8_lossy(&plain.rest()).contains("HTTP/"));

    let renewed = authority.server(&["keys.example.com"]);
    let before = desk.kw.count_events("reloaded");
    replace(&desk.kw.path("admin.key"), &renewed.private_key);
    replace(&desk.kw.path("admin.pem"), &renewed.certificate);
    desk.kw.wait_for_another("reloaded", before);
    wait_for("the renewed certificate", || {
        let client = clients.connect(address, "keys.example.com");
        (client.certificate() == renewed.der()).then_some(())
    });

    // Without TLS, a process that others can reach serves nobody.
    let path = desk.kw.path("keyward.toml");
    let text = fs::read_to_string(&path).expect("it was written");
    let tls = "[admin.tls]\ncertificate = \"admin.pem\"\nprivate_key = \"admin.key\"\n";
    let text = text.replace(tls, "").replace("0.0.0.0:0\"\nhosts", "127.0.0.1:1\"\nhosts");
    replace(&path, &text);
    desk.kw.wait_for_event("changed, but takes effect at the next start only", |event| {
        event["setting"] == "[admin] listen"
    });
    let mut plain = Client::connect(address);
    plain.send(&request);
    assert!(!String::from_utf8_lossy(&plain.rest()).contains("HTTP/"));
}

#[test]
fn it_says_truly_whether_requests_should_come() {
    let desk = Desk::with(|setup| {
        setup.set("upstreams.app", "health = { path = \"/up\", interval = \"20ms\", unhealthy_after = 1, healthy_after = 1 }");
    });
    assert_eq!(desk.probe("/healthz").text(), "ok\n");
    wait_for("it to be ready", || (desk.probe("/readyz").status() == 200).then_some(()));
    let path = desk.kw.path("keyward.toml");
    let text = fs::read_to_string(&path).expect("it was written");
    replace(&path, &(text.clone() + "\n[nonsense]\n"));
    let refused = wait_for("it to be not ready", || {
        let answer = desk.probe("/readyz");
        (answer.status() == 503).then_some(answer)
    });
    let reason = expect(&refused, 503, "");
    let said = reason["reasons"][0].as_str().expect("a reason");
    assert!(said.contains("refused") && said.contains("generation 1"), "{reason}");
    assert_eq!(reason["ready"], false);
    assert_eq!(desk.probe("/healthz").status(), 200, "it runs all the same");
    replace(&path, &text);
    wait_for("it to be ready again", || (desk.probe("/readyz").status() == 200).then_some(()));
}

#[test]
fn an_upstream_without_an_endpoint_is_a_reason_not_to_be_ready() {
    let nobody = free_address();
    let mut setup = Setup::with_endpoint(nobody);
    setup.set("admin", "listen = \"127.0.0.1:0\"");
    let health = "health = { path = \"/up\", interval = \"20ms\", unhealthy_after = 1 }";
    setup.set("upstreams.app", health);
    let kw = setup.start();
    let address = kw.admin_address();
    let answer = wait_for("it to be not ready", || {
        let mut client = Client::connect(address);
        client.send("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = client.answer();
        (answer.status() == 503).then_some(answer)
    });
    let reasons = expect(&answer, 503, "");
    assert_eq!(reasons["reasons"], json!(["no endpoint of the upstream \"app\" is up"]));
}

#[test]
fn while_the_process_ends_it_says_so_and_changes_nothing() {
    let (app, held_back) = Upstream::holding("/held", "ok");
    let mut setup = Setup::new(&app);
    setup.set("admin", "listen = \"127.0.0.1:0\"");
    let admin = setup.key("root", "admin");
    let kw = setup.start();
    let address = kw.admin_address();
    let mut held = kw.connect();
    held.send(crate::harness::keyward::get("/held", &admin.header()));
    held_back.wait();
    kw.signal("TERM");
    let ask = |request: &str| {
        let mut client = Client::connect(address);
        client.send(request);
        client.answer()
    };
    let ready = wait_for("the end to be told", || {
        let answer = ask("GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        (answer.status() == 503).then_some(answer)
    });
    assert!(ready.text().contains("about to end"), "{}", ready.text());
    let body = "{\"role\": \"viewer\", \"label\": \"too late\"}";
    let create = format!(
        "POST /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        admin.key,
        body.len()
    );
    expect(&ask(&create), 503, "ending");
    held_back.let_go();
    assert_eq!(held.answer().text(), "ok");
    assert_eq!(kw.wait_for_exit().code(), Some(0));
    TcpStream::connect(address).expect_err("it is closed, too");
}

#[test]
fn a_new_process_takes_it_over() {
    let desk = Desk::with(|setup| {
        setup.replace("server", &format!("listen = [\"{}\"]\nworkers = 2", free_address()));
        setup.replace("admin", &format!("listen = \"{}\"", free_address()));
    });
    let before = desk.kw.pid();
    for number in 0..2 {
        desk.kw.take_over();
        let wish = json!({"role": "viewer", "label": format!("made by process {number}")});
        let made = desk.create(&desk.admin, &wish);
        assert_eq!(made["effective"], true, "{made}");
        assert_eq!(desk.kw.get("/", &Desk::holder(&made)).status(), 200);
    }
    assert_ne!(desk.kw.pid(), before);
    assert_eq!(desk.kw.wait_for_exit().code(), Some(0));
}

#[test]
fn who_says_nothing_is_cut_and_others_are_served() {
    let desk = Desk::new();
    // More than one address may have: the rest are closed at once.
    let silent: Vec<_> = (0..80).map(|_| Client::connect(desk.address)).collect();
    let mut closed = 0;
    for mut client in silent {
        let rest = client.rest();
        assert!(!String::from_utf8_lossy(&rest).contains(" 200 "));
        closed += 1;
    }
    assert_eq!(closed, 80, "none is kept for ever");
    assert_eq!(desk.probe("/healthz").status(), 200);
}
