//! Which keys are used, and when one was last, is told by what the proxy has kept.

use std::fs;

use serde_json::{Value, json};

use super::home::{Home, Outcome};
use crate::harness::{Actor, Setup, Upstream, wait_for};

/// An entry of the key file that was made at `created`.
fn made(user: &str, created: &str, more: &str) -> Actor {
    Actor::new(user, "viewer").with(&format!("created_at = {created}\n{more}"))
}

/// A line of the usage file.
fn used(id: &str, at: &str) -> String {
    let last = json!({"at": at, "client": "192.0.2.7", "route": "/orders/{*rest}"});
    let usage = json!({"requests": [0, 0, 1, 0, 0, 0], "bytes_in": 0, "bytes_out": 9, "last": last,
                       "last_of_previous": null, "hours": {}});
    format!("{}\n", json!({"key": id, "usage": usage}))
}

#[test]
fn keys_that_nobody_uses_are_listed_the_longest_unused_first() {
    let home = Home::new();
    let keys = [
        made("young", "2099-01-01T00:00:00Z", ""),
        made("never", "2020-06-01T00:00:00Z", ""),
        made("lately", "2020-01-01T00:00:00Z", ""),
        made("once", "2020-01-01T00:00:00Z", ""),
        made("off", "2020-01-01T00:00:00Z", "enabled = false"),
        made("over", "2020-01-01T00:00:00Z", "expires_at = 2020-02-01T00:00:00Z"),
        Actor::new("foreign", "viewer"),
    ];
    home.write_store(&keys.iter().map(Actor::entry).collect::<String>());
    let [_, never, lately, once, .., foreign] = &keys;
    let uses = [
        (lately, "2099-01-01T00:00:00Z"),
        (once, "2021-01-01T00:00:00Z"),
        (lately, "2020-02-01T00:00:00Z"),
    ];
    let lines: String = uses.iter().map(|(key, at)| used(&key.id, at)).collect();
    fs::write(home.folder().join("keys.usage.jsonl"), lines).unwrap();
    let listed = home.keys(&["unused", "--days", "90", "--json"]).expect_json(0);
    let listed = listed.as_array().expect("a list");
    let ids: Vec<_> = listed.iter().map(|key| key["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, [&foreign.id, &never.id, &once.id]);
    assert_eq!(listed[1]["last_used"], json!(null));
    assert_eq!(
        listed[2]["last_used"],
        json!({
            "at": "2021-01-01T00:00:00Z", "address": "192.0.2.7", "route": "/orders/{*rest}"
        })
    );
    let Outcome { stdout, .. } = home.keys(&["unused"]).expect(0, &once.id);
    assert!(stdout.contains("2021-01-01T00:00:00Z") && !stdout.contains(&lately.id), "{stdout}");
    home.keys(&["unused", "--days", "36500"]).expect(0, &foreign.id);
    home.keys(&["show", &once.id])
        .expect(0, "2021-01-01T00:00:00Z from 192.0.2.7 on /orders/{*rest}");
    home.keys(&["show", &never.id]).expect(0, "never");
    home.keys(&["unused", "--days", "x"]).expect(2, "--days");
    fs::write(home.folder().join("keys.usage.jsonl"), "").unwrap();
    home.write_store(&keys[0].entry());
    home.keys(&["unused"]).expect(0, "no enabled key has gone unused for 90 days");
}

#[test]
fn what_is_not_kept_is_not_told() {
    let home = Home::new();
    let config = fs::read_to_string(home.config()).unwrap();
    fs::write(home.config(), config.replace("[keys]", "[keys]\nusage = \"off\"")).unwrap();
    let key = Actor::new("vera", "viewer");
    home.write_store(&key.entry());
    home.keys(&["unused"]).expect(1, "[keys] usage is \"off\"");
    let shown = home.keys(&["show", &key.id, "--json"]).expect_json(0);
    assert_eq!(shown["last_used"], json!(null));
    let Outcome { stdout, .. } = home.keys(&["show", &key.id]).expect(0, &key.id);
    assert!(!stdout.contains("last used"), "{stdout}");
}

#[test]
fn a_use_through_the_proxy_is_shown_as_soon_as_it_is_kept() {
    let app = Upstream::hello();
    let mut setup = Setup::new(&app);
    setup.set("keys", "usage_interval = \"1s\"");
    let key = setup.key("vera", "viewer");
    let unused = setup.key("ursa", "viewer");
    let kw = setup.start();
    let config = kw.path("keyward.toml");
    let keys = |args: &[&str]| Outcome::of(&config, args, "");
    let rotated = keys(&["rotate", "--grace", "1h", &key.id, "--json"]).expect_json(0);
    let second = key.clone().with_key(rotated["key"].as_str().expect("a key"));
    wait_for("the new secret in force", || (kw.get("/", &second).status() == 200).then_some(()));
    let show = || keys(&["show", &key.id, "--json"]).expect_json(0);
    let shown = wait_for("the use", || Some(show()).filter(|shown| shown["last_used"].is_object()));
    assert_eq!(shown["last_used"]["address"], "127.0.0.1");
    assert_eq!(shown["previous_last_used"], json!(null));
    keys(&["show", &key.id]).expect(0, "old secret used   never");
    assert_eq!(kw.get("/", &key).status(), 200);
    let used = |shown: &Value| shown["previous_last_used"].is_object();
    wait_for("the use of the old secret", || Some(show()).filter(used));
    let listed = keys(&["unused", "--json"]).expect_json(0);
    assert_eq!((listed.as_array().map(Vec::len), &listed[0]["id"]), (Some(1), &json!(unused.id)));
}
