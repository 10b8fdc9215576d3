//! A key that is rotated while the proxy runs: nobody is locked out within the grace, and nobody gets in behind it.

use std::process::Command;

use serde_json::Value;

use crate::harness::keyward::get;
use crate::harness::{Actor, Keyward, Setup, Upstream, wait_for};

/// Rotates the key of `actor` by the command line; who has the new one.
fn rotate(kw: &Keyward, actor: &Actor, grace: &str) -> Actor {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.arg("--config").arg(kw.path("keyward.toml")).args(["keys", "rotate", &actor.id]);
    let output = command.args(["--grace", grace, "--json"]).output().expect("the binary is built");
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    actor.clone().with_key(made["key"].as_str().expect("a key"))
}

fn status(kw: &Keyward, actor: &Actor) -> u16 {
    kw.ask(get("/", &actor.header())).status()
}

#[test]
fn both_secrets_are_one_key_until_the_grace_ends() {
    let app = Upstream::hello();
    let mut setup = Setup::new(&app);
    setup.allow_guesses();
    let old = setup.add(Actor::new("alice", "viewer").with("allowed_methods = [\"GET\"]"));
    let other = setup.key("bob", "viewer");
    let kw = setup.start();

    let new = rotate(&kw, &old, "1h");
    wait_for("the new key to be in force", || (status(&kw, &new) == 200).then_some(()));
    for actor in [&old, &new] {
        assert_eq!(status(&kw, actor), 200);
        let received = app.requests().pop().expect("it was forwarded");
        assert_eq!(received.fields("x-auth-key-id"), [&old.id]);
        // What the key is narrowed to, both are.
        let post = format!("POST / HTTP/1.1\r\nHost: a\r\n{}\r\n", actor.header());
        assert_eq!(kw.ask(post).status(), 403);
    }

    let newest = rotate(&kw, &new, "0");
    wait_for("the newest key to be in force", || (status(&kw, &newest) == 200).then_some(()));
    for actor in [&old, &new] {
        let answer = kw.ask(get("/", &actor.header()));
        assert_eq!((answer.status(), &*answer.code()), (401, "invalid_key"));
    }
    assert_eq!(status(&kw, &other), 200);
}

#[test]
fn a_secret_whose_grace_is_over_is_told_as_expired() {
    let app = Upstream::hello();
    let mut setup = Setup::new(&app);
    let old = Actor::new("alice", "viewer");
    let previous = |end: &str| {
        let hash = old.entry();
        let hash = hash.lines().find_map(|line| line.strip_prefix("hash = ")).expect("a hash");
        format!("previous_hash = {hash}\nprevious_expires_at = {end}")
    };
    let gone = setup.add(Actor::new("alice", "viewer").with(&previous("2001-01-01T00:00:00Z")));
    let kw = setup.start();
    assert_eq!(status(&kw, &gone), 200);
    let answer = kw.ask(get("/", &old.header()));
    assert_eq!((answer.status(), &*answer.code()), (401, "key_expired"));
}
