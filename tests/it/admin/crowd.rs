//! Many who make keys at once, over the API and by the command line, make all of them.

use std::collections::BTreeSet;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use super::Desk;
use crate::harness::wait_for;

/// Who make keys at the same time in either way, each one key after another.
const MAKERS: usize = 4;
/// What each of them makes.
const KEYS: usize = 50;

/// `keyward ARGS` on the files of the proxy.
fn keyward(desk: &Desk, args: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    command.arg("--config").arg(desk.kw.path("keyward.toml")).args(args).arg("--json");
    let output = command.output().expect("the binary is built");
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn keys_made_over_the_api_and_by_the_command_line_at_once_are_all_kept() {
    let desk = &Desk::new();
    let over_api = |label: &str| {
        let wish = json!({"user": "api", "role": "viewer", "label": label});
        desk.create(&desk.admin, &wish)
    };
    let by_command = |label: &str| {
        let create = ["keys", "create", "--user", "cli", "--role", "viewer", "--label", label];
        keyward(desk, &create)
    };
    let ways: [&(dyn Fn(&str) -> Value + Sync); 2] = [&over_api, &by_command];
    let made: Vec<Value> = thread::scope(|scope| {
        let makers: Vec<_> = (0..2 * MAKERS)
            .map(|maker| {
                let label = move |key| format!("maker {maker}, key {key}");
                let make = ways[maker % 2];
                scope.spawn(move || (0..KEYS).map(|key| make(&label(key))).collect::<Vec<_>>())
            })
            .collect();
        makers.into_iter().flat_map(|maker| maker.join().expect("its keys are made")).collect()
    });
    let id = |key: &Value| key["id"].as_str().expect("an id").to_owned();
    let made: BTreeSet<_> = made.iter().map(id).collect();
    assert_eq!(made.len(), 2 * MAKERS * KEYS);

    let listed = keyward(desk, &["keys", "list"]);
    let listed: BTreeSet<_> = listed.as_array().expect("a list").iter().map(id).collect();
    let known = [&desk.admin, &desk.manager, &desk.viewer].map(|actor| actor.id.clone());
    assert_eq!(listed, made.union(&known.into()).cloned().collect());
    for user in ["api", "cli"] {
        wait_for("every key to be in force", || {
            let ids = desk.ids(&desk.admin, &format!("/api/v1/keys?user={user}&limit=200"));
            (ids.len() == MAKERS * KEYS && ids.iter().all(|id| made.contains(id))).then_some(())
        });
    }
    let verified = keyward(desk, &["audit", "verify"]);
    assert_eq!((&verified["ok"], &verified["store_matches"]), (&json!(true), &json!(true)));
    // The file was there before its log.
    assert_eq!(verified["lines"], 1 + made.len());
}
