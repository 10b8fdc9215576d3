//! Client certificates: asked for, verified, and required by routes beside the key.

use super::{HOST, Scene};
use crate::harness::certificates::Authority;
use crate::harness::keyward::get;
use crate::harness::setup::write;
use crate::harness::tls::TlsClients;
use crate::harness::{Upstream, wait_for};

const ROUTES: &str = "[[routes]]\npath = \"/billing\"\nclient_subject = [\"billing\"]\n\
                      [[routes]]\npath = \"/jobs\"\nclient_subject = [\"urn:jobs\", \"urn:cron\"]\n\
                      [[routes]]\npath = \"/open\"\npublic = true\nclient_subject = [\"billing\"]\n\
                      [[routes]]\npath = \"/{*rest}\"\n";

/// A proxy that trusts `people` for clients.
fn scene(people: &Authority, more: &str) -> Scene {
    Scene::new(Upstream::hello(), |setup, _| {
        write(&setup.folder.path().join("people.pem"), &people.pem());
        setup.set("server.tls", &format!("client_ca = \"people.pem\"\n{more}"));
        setup.set("auth", "preflight = \"forward\"");
        setup.routes(ROUTES);
    })
}

/// Whether the proxy serves a client at all. One of TLS 1.3 hears of a refusal behind its own handshake.
fn is_served(scene: &Scene, clients: &TlsClients) -> bool {
    let client = clients.try_connect(scene.stage.kw.address(), HOST);
    let answer = client.and_then(|mut client| client.try_ask(scene.request()));
    answer.is_ok_and(|answer| answer.status() == 200)
}

#[test]
fn a_certificate_is_required_where_an_authority_is_named() {
    let people = Authority::new();
    let scene = scene(&people, "");
    assert!(!is_served(&scene, &scene.clients()));
    assert!(!is_served(&scene, &TlsClients::of_1_2(&scene.authority)));
    let stranger = scene.authority.client("billing", "urn:x");
    assert!(!is_served(&scene, &TlsClients::showing(&scene.authority, &stranger)));
    let known = people.client("billing", "urn:x");
    assert!(is_served(&scene, &TlsClients::showing(&scene.authority, &known)));
}

#[test]
fn where_it_is_optional_a_bad_one_is_refused_all_the_same() {
    let people = Authority::new();
    let scene = scene(&people, "client_certificates = \"optional\"");
    assert!(is_served(&scene, &scene.clients()));
    let stranger = scene.authority.client("billing", "urn:x");
    assert!(!is_served(&scene, &TlsClients::showing(&scene.authority, &stranger)));
    let mut nobody = scene.clients().connect(scene.stage.kw.address(), HOST);
    assert_eq!(nobody.ask(get("/billing", &scene.alice.header())).code(), "forbidden");
}

#[test]
fn a_route_asks_for_a_name_beside_the_key() {
    let people = Authority::new();
    let scene = scene(&people, "");
    let key = scene.alice.header();
    let preflight = "OPTIONS /billing HTTP/1.1\r\nHost: a\r\nOrigin: https://b.example\r\n\
                     Access-Control-Request-Method: GET\r\n\r\n";
    for (pair, request, status, code) in [
        (people.client("billing", "urn:x"), get("/billing", &key), 200, ""),
        (people.client("billing", "urn:x"), get("/billing", ""), 401, "missing_key"),
        (people.client("billing", "urn:x"), get("/open", ""), 200, ""),
        (people.client("billing", "urn:x"), get("/jobs", &key), 403, "forbidden"),
        (people.client("billing", "urn:x"), preflight.to_owned(), 200, ""),
        (people.client("Billing", "urn:cron"), get("/billing", &key), 403, "forbidden"),
        (people.client("Billing", "urn:cron"), get("/open", &key), 403, "forbidden"),
        (people.client("Billing", "urn:cron"), preflight.to_owned(), 401, "missing_key"),
        (people.client("Billing", "urn:cron"), get("/jobs", &key), 200, ""),
        (people.client("Billing", "urn:cron"), get("/other", &key), 200, ""),
        // What two parsers could read as another path is refused where not everybody may pass.
        (people.client("billing", "urn:x"), get("/billing;x", &key), 400, "ambiguous_path"),
    ] {
        let clients = TlsClients::showing(&scene.authority, &pair);
        let answer = clients.connect(scene.stage.kw.address(), HOST).ask(&request);
        assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{request}");
        if code == "forbidden" {
            assert!(answer.text().contains("client certificate"), "{}", answer.text());
        }
    }
}

#[test]
fn a_session_does_not_outlive_the_trust_in_its_certificate() {
    let people = Authority::new();
    let scene = scene(&people, "");
    let known = TlsClients::showing(&scene.authority, &people.client("billing", "urn:x"));
    for _ in 0..3 {
        let mut client = known.connect(scene.stage.kw.address(), HOST);
        assert!(!client.is_resumed());
        assert_eq!(client.ask(scene.request()).status(), 200);
    }
    let others = Authority::new();
    write(&scene.stage.kw.path("people.pem"), &others.pem());
    let newcomer = TlsClients::showing(&scene.authority, &others.client("billing", "urn:x"));
    wait_for("the new authority", || is_served(&scene, &newcomer).then_some(()));
    assert!(!is_served(&scene, &known));
}

#[test]
fn nobody_can_begin_without_a_certificate_and_go_on_when_one_is_required() {
    let people = Authority::new();
    let mut scene = Scene::plain();
    let clients = scene.clients();
    scene.serves(&clients);
    write(&scene.stage.kw.path("people.pem"), &people.pem());
    let setup = scene.stage.kw.setup();
    setup.set("server.tls", "client_ca = \"people.pem\"");
    let changed = setup.config();
    write(&scene.stage.kw.path("keyward.toml"), &changed);
    wait_for("the end of anonymous clients", || (!is_served(&scene, &clients)).then_some(()));
    let known = TlsClients::showing(&scene.authority, &people.client("billing", "urn:x"));
    assert!(is_served(&scene, &known));
}
