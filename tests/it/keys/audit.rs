//! Every change of a key is told, who made it and what it was, and never a key; tampering shows.

use std::fs;

use serde_json::{Value, json};

use super::ALICE;
use super::home::Home;

/// Where the log is unless the configuration says otherwise.
fn log(home: &Home) -> std::path::PathBuf {
    home.folder().join("keys.audit.jsonl")
}

/// The log, the oldest line first.
fn told(home: &Home) -> Vec<Value> {
    let listed = home.run(&["audit", "list", "--json", "--limit", "100000"]).expect_json(0);
    let mut lines = listed.as_array().unwrap().clone();
    lines.reverse();
    lines
}

/// Every key as the log tells it, and as it is.
pub(super) fn check_replay(home: &Home) {
    let mut keys: Vec<Value> = Vec::new();
    for line in told(home).into_iter().filter(|line| line["undone"] == false) {
        let Some(id) = line.get("key_id") else { continue };
        let place = keys.iter().position(|key| key["id"] == *id);
        assert_eq!(place.map(|place| &keys[place]), line.get("before"), "{line}");
        match (place, line.get("after")) {
            (Some(place), Some(after)) => keys[place] = after.clone(),
            (Some(place), None) => drop(keys.remove(place)),
            (None, after) => keys.push(after.unwrap().clone()),
        }
    }
    let mut listed = home.keys(&["list", "--json"]).expect_json(0);
    for key in listed.as_array_mut().unwrap() {
        key.as_object_mut().unwrap().remove("state");
    }
    assert_eq!(listed, json!(keys));
}

#[test]
fn every_change_is_told_and_nothing_else() {
    let home = Home::new();
    let id = home.keys(&ALICE).expect_json(0)["id"].as_str().unwrap().to_owned();
    let import = ["import", "--user", "bob", "--role", "viewer", "--label", "old"];
    home.keys_with_input(&import, "plain-key-number-one\nplain-key-number-two\n")
        .expect(0, "2 keys");
    home.keys(&["update", &id, "--label", "shop"]).expect(0, "is changed");
    home.keys(&["rotate", &id]).expect(0, "rotated");
    home.keys(&["disable", &id, "--reason", "left on a train"]).expect(0, "is disabled");
    home.keys(&["enable", &id]).expect(0, "is enabled");
    home.keys(&["delete", &id, "--force"]).expect(0, "is deleted");
    // Nothing of these is a change.
    home.keys(&["enable", "key_"]).expect(1, "2 ids begin with this");
    home.keys(&ALICE[..5]).expect(2, "required");
    home.keys_with_input(&[&import[..], &["--dry-run"]].concat(), "plain-key-number-three")
        .expect(0, "");

    let lines = told(&home);
    let actions: Vec<_> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        ["create", "import", "import", "update", "rotate", "disable", "enable", "delete"]
    );
    for (line, number) in lines.iter().zip(1..) {
        assert_eq!(line["sequence"], number);
        assert_eq!(line["actor"]["kind"], "cli");
        assert!(line["actor"]["user"].is_string() && line["time"].is_string(), "{line}");
    }
    assert_eq!([&lines[1]["change"], &lines[2]["change"]], [2, 2], "they came in together");
    let update = &lines[3];
    assert_eq!([&update["before"]["label"], &update["after"]["label"]], ["billing export", "shop"]);
    assert_eq!(lines[5]["reason"], "left on a train");
    assert_eq!(lines[7].get("after"), None);
    check_replay(&home);

    let of_one = home.run(&["audit", "list", "--key", &id, "--limit", "2"]).expect(0, "--before 7");
    assert!(
        of_one.stdout.contains("delete") && of_one.stdout.contains("enable"),
        "{}",
        of_one.stdout
    );
    assert_eq!(of_one.stdout.lines().count(), 3, "{}", of_one.stdout);
    let of_bob = home.run(&["audit", "list", "--user", "bob", "--json"]).expect_json(0);
    let numbers: Vec<_> = of_bob.as_array().unwrap().iter().map(|line| &line["sequence"]).collect();
    assert_eq!(numbers, [3, 2]);
    home.run(&["audit", "list"]).expect(0, "label: billing export → shop");
    home.run(&["audit", "verify"]).expect(0, "the chain holds: 8 lines, the last is number 8");
}

#[test]
fn no_key_and_no_hash_is_told() {
    let home = Home::new();
    let made = home.keys(&ALICE).expect_json(0);
    let (id, first) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let rotated = home.keys(&["rotate", id, "--json"]).expect_json(0);
    let import = ["import", "--user", "bob", "--role", "viewer", "--label", "old"];
    home.keys_with_input(&import, "hunter2-hunter2-hunter2").expect(0, "1 key");
    let text = fs::read_to_string(log(&home)).unwrap();
    let store = fs::read_to_string(home.store()).unwrap();
    let hashes = store.split('"').filter_map(|text| text.strip_prefix("sha256:"));
    let hashes: Vec<_> = hashes.collect();
    assert_eq!(hashes.len(), 3);
    let secrets = [first, rotated["key"].as_str().unwrap(), "hunter2-hunter2-hunter2"];
    for secret in secrets.into_iter().chain(hashes) {
        assert!(!text.contains(secret), "{secret}");
    }
}

#[test]
fn tampering_and_a_cut_off_end_end_in_1() {
    let home = Home::new();
    home.run(&["audit", "verify"]).expect(1, "it begins with the first change of a key");
    home.run(&["audit", "list"]).expect(0, "no change is told");
    for label in ["a", "b", "c"] {
        home.keys(&["create", "--user", "alice", "--role", "viewer", "--label", label])
            .expect(0, "made");
    }
    let verified = home.run(&["audit", "verify", "--json"]).expect_json(0);
    let head = verified["head"].as_str().unwrap();
    assert_eq!([&verified["ok"], &verified["store_matches"]], [true, true]);
    home.run(&["audit", "verify", "--head", head]).expect(0, "the noted head is line 3");
    home.run(&["audit", "verify", "--head", "abc"]).expect(2, "64 hexadecimal digits");

    let whole = fs::read_to_string(log(&home)).unwrap();
    let file = log(&home).to_str().unwrap().to_owned();
    let copy = home.folder().join("copy.jsonl");
    fs::write(&copy, whole.replacen("alice", "mallory", 1)).unwrap();
    let edited = home.run(&["audit", "verify", "--file", copy.to_str().unwrap()]);
    edited.expect(1, "copy.jsonl:1: number 1 was edited: its hash does not fit");

    let two: String = whole.split_inclusive('\n').take(2).collect();
    fs::write(&file, two).unwrap();
    home.run(&["audit", "verify"]).expect(0, "the key file is not as the last line says");
    let cut = home.run(&["audit", "verify", "--head", head, "--json"]).expect_json(1);
    assert_eq!([&cut["ok"], &cut["head_found"], &cut["store_matches"]], [false; 3]);
    home.run(&["audit", "verify", "--head", head]).expect(1, "its end was cut off");
    // The next change tells that something happened in between.
    let id = told(&home)[0]["key_id"].as_str().unwrap().to_owned();
    home.keys(&["disable", &id]).expect(0, "is disabled");
    assert_eq!(told(&home)[2]["action"], "edited");
}

#[test]
fn a_hash_can_be_checked_by_other_means() {
    let home = Home::new();
    home.keys(&ALICE).expect_json(0);
    let line = fs::read_to_string(log(&home)).unwrap();
    let (body, hash) = line.split_once(",\"hash\":\"").unwrap();
    let digest = <sha2::Sha256 as sha2::Digest>::digest(format!("{body}}}"));
    assert_eq!(hash, format!("{}\"}}\n", crate::harness::actor::hex(&digest)));
}

#[test]
fn a_change_that_fails_is_told_as_not_made() {
    let home = Home::new();
    home.keys(&ALICE).expect_json(0);
    let before = fs::read_to_string(home.store()).unwrap();
    // Where the new content would be written.
    fs::create_dir(home.folder().join(".keys.toml.tmp")).unwrap();
    home.keys(&["disable", "key_"]).expect(1, "cannot write");
    assert_eq!(fs::read_to_string(home.store()).unwrap(), before);
    fs::remove_dir(home.folder().join(".keys.toml.tmp")).unwrap();
    home.run(&["audit", "list"]).expect(0, "disable (not made)");
    check_replay(&home);
    home.keys(&["disable", "key_"]).expect(0, "is disabled");
    check_replay(&home);
    home.run(&["audit", "verify"]).expect(0, "4 lines");
}

#[test]
fn without_its_log_nothing_is_changed() {
    let home = Home::new();
    home.keys(&ALICE).expect_json(0);
    let before = fs::read_to_string(home.store()).unwrap();
    let config = fs::read_to_string(home.config()).unwrap();
    let config = format!("{config}[audit]\nfile = \"missing/audit.jsonl\"\n");
    fs::write(home.config(), config).unwrap();
    let told = home.keys(&["disable", "key_"]).expect(1, "missing/audit.jsonl");
    assert!(told.stderr.contains("cannot open the audit log"), "{}", told.stderr);
    let told = home.keys(&["create", "--user", "a", "--role", "viewer", "--label", "l"]);
    assert_eq!(told.expect(1, "cannot open the audit log").stdout, "");
    assert_eq!(fs::read_to_string(home.store()).unwrap(), before);

    fs::create_dir(home.folder().join("missing")).unwrap();
    home.keys(&["disable", "key_"]).expect(0, "is disabled");
    let lines = home.run(&["audit", "list", "--json"]).expect_json(0);
    assert_eq!([&lines[1]["action"], &lines[0]["action"]], ["begin", "disable"]);
}
