//! The files of `[server.tls]`: read again when they change, refused as a whole, and checked before.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use super::{HOST, Scene, lay};
use crate::harness::actor::key_file;
use crate::harness::certificates::{Authority, Pair};
use crate::harness::keyward::field;
use crate::harness::setup::{replace, write};
use crate::harness::{Setup, Upstream, wait_for};

#[test]
fn a_new_certificate_is_served_and_no_connection_is_dropped() {
    let scene = Scene::plain();
    let kw = &scene.stage.kw;
    let mut open = scene.clients().connect(kw.address(), HOST);
    assert_eq!(open.ask(scene.request()).status(), 200);
    // Whichever of the two is written first: between them, they do not belong together.
    for (first, second) in [("server.pem", "server.key"), ("server.key", "server.pem")] {
        let next = scene.authority.server(&[HOST]);
        for name in [first, second] {
            let is_certificate = name == "server.pem";
            let text = if is_certificate { &next.certificate } else { &next.private_key };
            replace(&kw.path(name), text);
        }
        wait_for("the new certificate", || {
            let client = scene.clients().connect(kw.address(), HOST);
            (client.certificate() == next.der()).then_some(())
        });
        assert_eq!(open.ask(scene.request()).status(), 200);
    }
}

#[test]
fn a_broken_pair_keeps_the_old_one_and_is_said() {
    let scene = Scene::plain();
    let kw = &scene.stage.kw;
    let before = scene.clients().connect(kw.address(), HOST).certificate();
    let other = scene.authority.server(&[HOST]);
    for (name, text, expected) in [
        ("server.pem", "", "no certificate in this file"),
        ("server.pem", &other.certificate, "does not belong to the key in"),
        ("server.key", "", "no private key in this file"),
        ("server.key", &other.private_key[..80], "cut off or garbled"),
    ] {
        let good = fs::read_to_string(kw.path(name)).expect("our own file");
        write(&kw.path(name), text);
        kw.wait_for_event("certificate refused, the one before stays", |event| {
            field(event, "fault").as_str().is_some_and(|fault| fault.contains(expected))
        });
        assert!(scene.clients().connect(kw.address(), HOST).certificate() == before);
        scene.serves(&scene.clients());
        let reloaded = kw.count_events("reloaded");
        write(&kw.path(name), &good);
        kw.wait_for_another("reloaded", reloaded);
    }
    let base64 = other.private_key.lines().nth(1).expect("PEM has lines");
    assert!(!kw.stderr().contains(base64), "a private key was shown: {}", kw.stderr());
}

#[test]
fn a_broken_pair_keeps_no_key_from_being_disabled_but_new_settings_wait_for_it() {
    let mut scene = Scene::plain();
    write(&scene.stage.kw.path("server.pem"), "");
    scene.stage.kw.wait_for_event("certificate refused, the one before stays", |_| true);
    let disabled = scene.alice.clone().with("enabled = false");
    write(&scene.stage.kw.path("keys.toml"), &key_file(&[disabled]));
    let mut open = scene.clients().connect(scene.stage.kw.address(), HOST);
    wait_for("the refusal of the disabled key", || {
        (open.ask(scene.request()).code() == "key_disabled").then_some(())
    });
    // What is in force was not made for these: taking them over in part would serve what nobody wrote.
    scene.stage.kw.setup().set("server.tls", "min_version = \"1.3\"");
    let changed = scene.stage.kw.setup().config();
    write(&scene.stage.kw.path("keyward.toml"), &changed);
    scene.stage.kw.wait_for_event("reload refused", |event| {
        field(event, "fault").as_str().is_some_and(|fault| fault.contains("server.pem"))
    });
    scene.clients().connect(scene.stage.kw.address(), HOST);
}

/// About these nothing is odd.
const ROUTES: &str = "[[routes]]\npath = \"/{*rest}\"\nroles = [\"viewer\", \"robot\"]\n";

/// What `keyward check` says of `pair`, with further arguments.
fn check(pair: &Pair, prepare: impl FnOnce(&mut Setup), arguments: &[&str]) -> Output {
    let mut setup = Setup::new(&Upstream::hello());
    lay(&setup, "server", pair);
    setup.set("server.tls", "certificate = \"server.pem\"\nprivate_key = \"server.key\"");
    setup.key("alice", "admin");
    setup.key("bob", "robot");
    setup.routes(ROUTES);
    prepare(&mut setup);
    let folder = setup.folder.path();
    write(&folder.join("keyward.toml"), &setup.config());
    write(&folder.join("keys.toml"), &key_file(&setup.actors));
    Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(["check", "--config", "keyward.toml"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary is built")
}

/// It succeeds and says no more than `expected`, if anything; or fails with that.
#[track_caller]
fn check_says(output: &Output, code: i32, expected: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    for expected in expected {
        assert!(said.contains(expected), "no {expected:?} in {said}");
    }
}

#[test]
fn a_pair_that_does_not_match_is_refused_before_anybody_is_served() {
    let authority = Authority::new();
    let mixed =
        Pair { private_key: authority.server(&[HOST]).private_key, ..authority.server(&[HOST]) };
    let expected = ["does not belong to the key in server.key", "server.pem", "made together"];
    check_says(&check(&mixed, |_| {}, &[]), 2, &expected);
    let base64 = mixed.private_key.lines().nth(1).expect("PEM has lines");
    let said = check(&mixed, |_| {}, &["--json"]);
    assert!(!String::from_utf8_lossy(&said.stderr).contains(base64));
}

#[test]
fn a_file_that_is_missing_encrypted_or_open_to_all_is_told() {
    let good = Authority::new().server(&[HOST]);
    let without = |name: &'static str| {
        move |setup: &mut Setup| fs::remove_file(setup.folder.path().join(name)).expect("a file")
    };
    let expected = ["the certificate cannot be read", "server.pem"];
    check_says(&check(&good, without("server.pem"), &[]), 2, &expected);
    let expected = ["the private key cannot be read", "server.key"];
    check_says(&check(&good, without("server.key"), &[]), 2, &expected);
    let sealed = good.private_key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let encrypted = Pair { private_key: sealed, ..good.clone() };
    check_says(&check(&encrypted, |_| {}, &[]), 2, &["is encrypted", "openssl pkey"]);
    let with_mode = |mode: u32| {
        move |setup: &mut Setup| {
            let key = setup.folder.path().join("server.key");
            fs::set_permissions(key, Permissions::from_mode(mode)).expect("our own file");
        }
    };
    check_says(&check(&good, with_mode(0o640), &["--strict"]), 0, &[]);
    check_says(&check(&good, with_mode(0o644), &[]), 0, &["may read the private key", "chmod 600"]);
    check_says(
        &check(&good, with_mode(0o602), &[]),
        2,
        &["may write the private key", "chmod 600"],
    );
}

#[test]
fn a_certificate_that_no_client_is_given_is_told() {
    let authority = Authority::new();
    let output = check(
        &authority.server(&[HOST]),
        |setup| {
            lay(setup, "nameless", &authority.client("nobody", "urn:x"));
            let pair = "{ certificate = \"nameless.pem\", private_key = \"nameless.key\" }";
            setup.set("server.tls", &format!("certificates = [{pair}]"));
        },
        &["--strict"],
    );
    check_says(&output, 1, &["names no host, so no client is given it", "nameless.pem"]);
}

#[test]
fn what_expires_is_told_and_served() {
    let authority = Authority::new();
    for (from, to, expected) in [
        (-40, -10, Some("the certificate expired at ")),
        (-60, 10, Some(" in 9 days")),
        (10, 90, Some("begins only at ")),
        (-60, 40, None),
    ] {
        let pair = authority.server_in_days(from, to);
        let output = check(&pair, |_| {}, &["--strict"]);
        check_says(&output, i32::from(expected.is_some()), expected.as_slice());
        check_says(&check(&pair, |_| {}, &[]), 0, expected.as_slice());
    }
}
