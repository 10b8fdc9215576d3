//! The files of `[upstreams.NAME.tls]`: read again when they change, and checked before.

use std::fs;
use std::process::{Command, Output};

use super::{CA, app, lay_client, prepare, start, url};
use crate::harness::Setup;
use crate::harness::actor::key_file;
use crate::harness::certificates::{Authority, Pair};
use crate::harness::setup::{replace, write};

const PAIR: &str = "certificate = \"client.pem\"\nprivate_key = \"client.key\"";

#[test]
fn another_ca_takes_effect_and_old_connections_are_not_used_again() {
    let (ours, other) = (Authority::new(), Authority::new());
    let app = app(&ours, "localhost");
    let (kw, alice) = start(&url(&app, "localhost"), &ours, CA);
    assert_eq!(kw.get("/", &alice).text(), "hello");
    let before = kw.count_events("reloaded");
    replace(&kw.path("ca.pem"), &other.pem());
    kw.wait_for_another("reloaded", before);
    assert_eq!(kw.get("/", &alice).code(), "upstream_connect", "whom nobody trusts any more");
    let before = kw.count_events("reloaded");
    replace(&kw.path("ca.pem"), &[other.pem(), ours.pem()].concat());
    kw.wait_for_another("reloaded", before);
    assert_eq!(kw.get("/", &alice).text(), "hello");
}

#[test]
fn a_reload_without_a_change_closes_nothing() {
    let authority = Authority::new();
    let app = app(&authority, "localhost");
    let (kw, alice) = start(&url(&app, "localhost"), &authority, CA);
    assert_eq!(kw.get("/", &alice).text(), "hello");
    let before = kw.count_events("reloaded");
    kw.signal("HUP");
    kw.wait_for_another("reloaded", before);
    assert_eq!(kw.get("/", &alice).text(), "hello");
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_broken_file_keeps_the_old_one_and_holds_up_nothing_else() {
    let authority = Authority::new();
    let app = app(&authority, "localhost");
    let (mut kw, alice) = start(&url(&app, "localhost"), &authority, CA);
    write(&kw.path("ca.pem"), "");
    kw.wait_for_event("certificate refused, the one before stays", |_| true);
    assert_eq!(kw.get("/", &alice).text(), "hello");
    let disabled = alice.clone().with("enabled = false");
    let before = kw.count_events("reloaded");
    write(&kw.path("keys.toml"), &key_file(&[disabled]));
    kw.wait_for_another("reloaded", before);
    assert_eq!(kw.get("/", &alice).code(), "key_disabled");
    // What is in force was not made for these.
    kw.setup().set("upstreams.app.tls", "server_name = \"localhost\"");
    let changed = kw.setup().config();
    write(&kw.path("keyward.toml"), &changed);
    kw.wait_for_event("reload refused", |_| true);
}

/// What `keyward check` says with these lines in `[upstreams.app.tls]`, once `prepare` had the files.
fn check(lines: &str, lay: impl FnOnce(&mut Setup, &Authority)) -> Output {
    let authority = Authority::new();
    let (mut setup, _) = prepare("https://localhost", &authority, lines);
    setup.key("bob", "robot");
    setup.routes("[[routes]]\npath = \"/{*rest}\"\nroles = [\"viewer\", \"robot\"]\n");
    lay_client(&setup, &authority.client("keyward", "urn:keyward"));
    lay(&mut setup, &authority);
    let folder = setup.folder.path();
    write(&folder.join("keyward.toml"), &setup.config());
    write(&folder.join("keys.toml"), &key_file(&setup.actors));
    Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["check", "--config", "keyward.toml"])
        .envs(setup.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(folder)
        .output()
        .expect("the binary is built")
}

#[track_caller]
fn check_says(output: &Output, code: i32, expected: &[&str]) {
    let said = [&output.stderr[..], &output.stdout[..]].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for expected in expected {
        assert!(said.contains(expected), "no {expected:?} in {said}");
    }
}

#[test]
fn files_that_cannot_be_used_are_told_before_anybody_is_served() {
    let both = format!("{CA}\n{PAIR}");
    let without = |name: &'static str| {
        move |setup: &mut Setup, _: &Authority| {
            fs::remove_file(setup.folder.path().join(name)).expect("a file");
        }
    };
    let with = |name: &'static str, text: String| {
        move |setup: &mut Setup, _: &Authority| write(&setup.folder.path().join(name), &text)
    };
    check_says(&check(&both, |_, _| {}), 0, &["https://localhost:443"]);
    let section = "see [upstreams.app.tls] in the configuration";
    for (name, what) in
        [("ca.pem", "certificate"), ("client.pem", "certificate"), ("client.key", "private key")]
    {
        let expected = [name, &format!("the {what} cannot be read"), section];
        check_says(&check(&both, without(name)), 2, &expected);
        let expected = [name, &format!("there is no {what} in this file")];
        check_says(&check(&both, with(name, "nothing".to_owned())), 2, &expected);
    }
    let mixed = |setup: &mut Setup, authority: &Authority| {
        let one = authority.client("keyward", "urn:keyward");
        let other = authority.client("keyward", "urn:keyward");
        lay_client(setup, &Pair { private_key: other.private_key, ..one });
    };
    check_says(
        &check(&both, mixed),
        2,
        &["client.pem", "does not belong to the key in client.key"],
    );
    let expired = |setup: &mut Setup, authority: &Authority| {
        lay_client(setup, &authority.server_in_days(-10, -1));
    };
    check_says(&check(&both, expired), 0, &["client.pem", "the certificate expired at"]);
}

#[test]
fn a_system_that_trusts_nobody_is_told() {
    let empty = |setup: &mut Setup, _: &Authority| {
        let path = setup.folder.path().join("empty.pem");
        write(&path, "");
        setup.env("SSL_CERT_FILE", path.to_str().expect("a path in UTF-8"));
        setup.env("SSL_CERT_DIR", "");
    };
    check_says(&check("", empty), 2, &["keyward.toml", "this system trusts no authority", "ca = "]);
    check_says(&check(CA, empty), 0, &[]);
}
