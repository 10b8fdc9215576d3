//! Guarantee: the command line manages keys without ever losing one, or showing one but to who made it.

mod audit;
mod crowd;
mod durability;
mod home;
mod secrecy;
mod unused;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use home::{Home, Outcome};

/// Who is asked for a new key in most tests.
const ALICE: [&str; 8] =
    ["create", "--user", "alice", "--role", "manager", "--label", "billing export", "--json"];

#[test]
fn a_key_lives_from_its_making_to_its_deletion() {
    let home = Home::new();
    let made = home.keys(&ALICE).expect_json(0);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert_eq!(made["state"], "enabled");
    assert_eq!(made["start"].as_str().unwrap(), &key[..7]);

    let shown = home.keys_with_input(&["verify", "--json"], key).expect_json(0);
    assert_eq!([&shown["id"], &shown["user"], &shown["role"]], [id, "alice", "manager"]);

    // A beginning of the id is enough while no other id has it.
    let disabled =
        home.keys(&["disable", &id[..8], "--reason", "left on a train", "--json"]).expect_json(0);
    assert_eq!(disabled["state"], "disabled");
    assert_eq!(disabled["disabled_reason"], "left on a train");
    assert!(disabled["disabled_by"].as_str().unwrap().starts_with("cli:"));
    home.keys_with_input(&["verify"], key).expect(1, "disabled");

    assert_eq!(home.keys(&["enable", id, "--json"]).expect_json(0)["state"], "enabled");
    home.keys(&["delete", id]).expect(1, &format!("{id} is enabled; disable it first"));
    home.keys(&["delete", id, "--force"]).expect(0, "is deleted");
    home.keys_with_input(&["verify"], key).expect(1, "this key is not known here");
    assert_eq!(home.keys(&["list", "--json"]).expect_json(0), serde_json::json!([]));
}

#[test]
fn the_key_alone_is_on_standard_output() {
    let home = Home::new();
    let made = home.keys(&ALICE[..7]).expect(0, "it is not shown again");
    let key = made.stdout.strip_suffix('\n').unwrap();
    assert!(key.starts_with("kw_") && key.len() == 39 && !key.contains('\n'));
    home.keys_with_input(&["verify"], &format!("  {key}\r\n")).expect(0, "billing export");
}

#[test]
fn a_key_is_narrowed_when_it_is_made() {
    let home = Home::new();
    let scopes =
        ["--method", "GET", "--method", "PUT", "--path", "/a/{*rest}", "--cidr", "10.0.0.0/8"];
    let made = home.keys(&[&ALICE[..], &scopes].concat()).expect_json(0);
    let key = made["key"].as_str().unwrap();
    let expect = [
        ("allowed_methods", serde_json::json!(["GET", "PUT"])),
        ("allowed_paths", serde_json::json!(["/a/{*rest}"])),
        ("allowed_cidrs", serde_json::json!(["10.0.0.0/8"])),
    ];
    let listed = home.keys(&["list", "--json"]).expect_json(0)[0].clone();
    let verified = home.keys_with_input(&["verify", "--json"], key).expect_json(0);
    for shown in [made.clone(), listed, verified] {
        for (field, value) in &expect {
            assert_eq!(shown[field], *value);
        }
    }
    let shown = home.keys(&["show", "key_"]).expect(0, "GET, PUT");
    assert!(shown.stdout.contains("/a/{*rest}") && shown.stdout.contains("10.0.0.0/8"));
    for (option, value, told) in [
        ("--method", "get", "write GET"),
        ("--method", "CONNECT", "never forwarded"),
        ("--path", "/a/../b", "no path pattern"),
        ("--cidr", "10.0.0.1/8", "10.0.0.0/8 for the network"),
    ] {
        home.keys(&[&ALICE[..], &[option, value]].concat()).expect(2, told);
    }
}

#[test]
fn a_rotated_key_keeps_all_but_its_secret() {
    let home = Home::new();
    let made = home.keys(&[&ALICE[..], &["--method", "GET"]].concat()).expect_json(0);
    let (id, first) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let verify = |key: &str| home.keys_with_input(&["verify", "--json"], key);

    let rotated = home.keys(&["rotate", id, "--grace", "1h", "--json"]).expect_json(0);
    let second = rotated["key"].as_str().unwrap();
    assert_ne!(first, second);
    assert_eq!(rotated["start"].as_str().unwrap(), &second[..7]);
    for field in ["id", "label", "user", "role", "created_at", "allowed_methods", "state"] {
        assert_eq!(rotated[field], made[field], "{field}");
    }
    let until = rotated["previous_expires_at"].as_str().unwrap();
    home.keys(&["show", id]).expect(0, until);
    for key in [first, second] {
        assert_eq!(verify(key).expect_json(0)["id"], id);
    }

    // The key alone is on standard output, and what has ended is said beside it.
    let third = home.keys(&["rotate", id]).expect(0, "it is not shown again; the old one works");
    assert!(third.stderr.contains(&format!("would have worked until {until}, has ended")));
    let third = third.stdout.strip_suffix('\n').unwrap().to_owned();
    assert!(third.starts_with("kw_") && third.len() == 39);
    verify(first).expect(1, "this key is not known here");
    verify(second).expect(0, "enabled");

    home.keys(&["rotate", id, "--grace", "0"]).expect(0, "the old one has ended");
    for key in [first, second, &third] {
        verify(key).expect(1, "this key is not known here");
    }
    home.keys(&["rotate", id, "--grace", "soon"]).expect(2, "24h or 30m, or 0");
    home.keys(&["rotate", "nobody"]).expect(1, "no key has this id");
}

#[test]
fn what_is_known_of_a_key_can_be_changed() {
    let home = Home::new();
    let id = home.keys(&ALICE).expect_json(0)["id"].as_str().unwrap().to_owned();
    let update = |args: &[&str]| home.keys(&[&["update", &id, "--json"][..], args].concat());
    let changed = update(&[
        "--label",
        "shop",
        "--role",
        "viewer",
        "--expires",
        "90d",
        "--method",
        "GET",
        "--path",
        "/a",
        "--cidr",
        "::1",
    ])
    .expect_json(0);
    assert_eq!([&changed["label"], &changed["role"]], ["shop", "viewer"]);
    assert!(changed["expires_at"].is_string());
    assert_eq!(changed["allowed_methods"], serde_json::json!(["GET"]));
    assert_eq!(changed["allowed_cidrs"], serde_json::json!(["::1/128"]));
    let wider = update(&["--expires", "never", "--any-method", "--any-address"]).expect_json(0);
    assert_eq!(
        [&wider["expires_at"], &wider["label"]],
        [&serde_json::Value::Null, &changed["label"]]
    );
    for (field, expect) in [("allowed_methods", 0), ("allowed_paths", 1), ("allowed_cidrs", 0)] {
        assert_eq!(wider[field].as_array().unwrap().len(), expect, "{field}");
    }

    update(&[]).expect(2, "say what is to change");
    update(&["--role", "manger"]).expect(2, "did you mean `manager`?");
    update(&["--any-path", "--path", "/a"]).expect(2, "cannot be used with");
    home.keys(&ALICE).expect_json(0);
    update(&["--label", "billing export"]).expect(1, "has the same label");
}

#[test]
fn that_nobody_may_manage_keys_any_more_is_said() {
    let home = Home::new();
    let config = fs::read_to_string(home.config()).unwrap();
    let config = config.replace("[roles.admin]", "[roles.admin]\nadmin = \"all\"");
    fs::write(home.config(), config).unwrap();
    let create = ["create", "--user", "root", "--role", "admin", "--json", "--label"];
    let ids = ["one", "two"].map(|label| {
        let made = home.keys(&[&create[..], &[label]].concat()).expect_json(0);
        made["id"].as_str().unwrap().to_owned()
    });
    let said = home.keys(&["disable", &ids[0]]).expect(0, "is disabled").stderr;
    assert_eq!(said, "");
    home.keys(&["disable", &ids[1]]).expect(0, "no key is left that may manage everybody's keys");
}

#[test]
fn an_expired_key_is_told_from_an_enabled_one() {
    let home = Home::new();
    let key = home.keys(&ALICE).expect_json(0)["key"].as_str().unwrap().to_owned();
    let text = fs::read_to_string(home.store()).unwrap();
    home.write_store(&format!("{text}expires_at = 2001-01-01T00:00:00Z\n"));
    home.keys_with_input(&["verify"], &key).expect(1, "expired");
    home.keys(&["list"]).expect(0, "expired");
}

#[test]
fn wrong_usage_and_configuration_end_in_2_and_failures_in_1() {
    let home = Home::new();
    home.keys(&ALICE).expect_json(0);
    let create = |user, role, label, more: &[&str]| {
        let args = ["create", "--user", user, "--role", role, "--label", label];
        home.keys(&[&args, more].concat())
    };
    create("alice", "manager", "billing export", &[]).expect(1, "has the same label");
    create("alice", "manger", "other", &[]).expect(2, "did you mean `manager`?");
    create("al ice", "manager", "other", &[]).expect(2, "printable ASCII characters");
    create("alice", "manager", "other", &["--expires", "soon"]).expect(2, "such as 90d");
    create("alice", "manager", "other", &["--expires", "0s"]).expect(2, "not in the future");
    home.keys(&["show", "key_"]).expect(0, "billing export");
    home.keys(&["show", "nobody"]).expect(1, "no key has this id");
    home.keys_with_input(&["verify"], " \n").expect(2, "no key");
    home.keys(&["destroy"]).expect(2, "unrecognized subcommand");

    fs::write(home.config(), "relm = \"x\"\n").unwrap();
    home.keys(&["list"]).expect(2, "realm");
    fs::remove_file(home.config()).unwrap();
    home.keys(&["list"]).expect(2, "keyward.toml");
}

#[test]
fn comments_and_order_outlive_every_change() {
    let home = Home::new();
    let entry = |id: &str, digit: &str| {
        let hash = digit.repeat(64);
        format!(
            "[[keys]] # {id}\nid = \"{id}\"\nuser = 'alice'  # of sales\nhash = \"sha256:{hash}\"\n\
             role = \"viewer\"\nlabel = \"{id}\"\n"
        )
    };
    let (a, b) = (entry("key_a", "a"), entry("key_b", "b"));
    let text = format!("# Ours.\n\n{a}\n# Bob's:\n{b}enabled = true # yes\n# The end.\n");
    home.write_store(&text);

    home.keys(&ALICE).expect_json(0);
    let grown = fs::read_to_string(home.store()).unwrap();
    assert!(grown.starts_with(&text), "{grown}");

    home.keys(&["disable", "key_b"]).expect(0, "is disabled");
    home.keys(&["enable", "key_b"]).expect(0, "is enabled");
    assert_eq!(fs::read_to_string(home.store()).unwrap(), grown);

    home.keys(&["delete", "key_b", "--force"]).expect(0, "is deleted");
    let shrunk = fs::read_to_string(home.store()).unwrap();
    assert!(shrunk.starts_with(&format!("# Ours.\n\n{a}")), "{shrunk}");
    assert!(!shrunk.contains("Bob") && shrunk.contains("# The end."), "{shrunk}");
}

#[test]
fn a_file_that_every_user_may_write_is_refused() {
    let home = Home::new();
    home.keys(&ALICE).expect_json(0);
    fs::set_permissions(home.store(), Permissions::from_mode(0o666)).unwrap();
    for args in [&["list"][..], &ALICE, &["disable", "key_"]] {
        let remedy = format!("chmod 600 {}", home.store().display());
        home.keys(args).expect(2, &remedy);
    }
}

#[test]
fn every_fault_of_the_file_is_told_before_anything_is_changed() {
    let home = Home::new();
    let text = "[[keys]]\nid = \"key_a\"\nrole = \"veiwer\"\nlable = \"x\"\n";
    home.write_store(text);
    let told = home.keys(&ALICE).expect(2, "keys.toml:1:1");
    for part in ["unknown field `lable`", "did you mean `label`?", "this key has no `hash`"] {
        assert!(told.stderr.contains(part), "{part} in {}", told.stderr);
    }
    assert_eq!(fs::read_to_string(home.store()).unwrap(), text);
}

#[test]
fn keys_come_in_as_lines_and_as_csv() {
    let home = Home::new();
    let digest = format!("sha256:{}", "d".repeat(64));
    let lines = format!("plain-key-number-one\n\n{digest}\n");
    let import = ["import", "--user", "bob", "--role", "viewer", "--label", "old", "--json"];

    let dry = home.keys_with_input(&[&import[..], &["--dry-run"]].concat(), &lines).expect_json(0);
    assert_eq!(dry.as_array().unwrap().len(), 2);
    assert!(!home.store().exists());

    let real = home.keys_with_input(&import, &lines).expect_json(0);
    assert_eq!([&real[0]["line"], &real[1]["line"]], [1, 3]);
    assert_eq!([&real[0]["label"], &real[1]["label"]], ["old 1", "old 3"]);
    home.keys_with_input(&["verify"], "plain-key-number-one").expect(0, "bob");

    let csv = home.folder().join("keys.csv");
    let text = "label,key,user,role\n\"a, b\",plain-key-number-two,carol,admin\n";
    fs::write(&csv, text).unwrap();
    home.keys(&["import", csv.to_str().unwrap()]).expect(0, "1 key imported");
    let shown = home.keys_with_input(&["verify", "--json"], "plain-key-number-two").expect_json(0);
    assert_eq!([&shown["user"], &shown["role"], &shown["label"]], ["carol", "admin", "a, b"]);
}

#[test]
fn one_bad_line_keeps_all_others_out() {
    let home = Home::new();
    home.keys_with_input(
        &["import", "--user", "bob", "--role", "viewer", "--label", "old"],
        "plain-key-number-one\n",
    )
    .expect(0, "1 key imported");
    let before = fs::read_to_string(home.store()).unwrap();
    let text = "key,label,role\nplain-key-number-two,a,viewer\nplain-key-number-one,b,viewer\n\
                plain-key-number-three,c,veiwer\n";
    let told = home.keys_with_input(&["import", "--user", "bob"], text).expect(1, "nothing was");
    assert!(told.stderr.contains("line 3: the same key is stored already"), "{}", told.stderr);
    assert!(told.stderr.contains("line 4: ") && told.stderr.contains("`viewer`"));
    assert_eq!(fs::read_to_string(home.store()).unwrap(), before);
}

#[test]
fn the_example_files_load_and_open_no_door() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/keyward.toml");
    let keys = |args: &[&str], input| Outcome::of(&config, args, input);
    let listed = keys(&["list", "--json"], "").expect_json(0);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|key| key["state"] == "disabled"));
    for (key, id) in [
        ("kw_ExampleKeyThatOpensNoDoorAtAll0PjSYI", "key_example_full"),
        ("example-key-made-elsewhere", "key_example_short"),
        ("another-example-key", "key_example_disabled"),
    ] {
        assert_eq!(keys(&["verify", "--json"], key).expect_json(1)["id"], id);
    }
}

#[test]
fn completions_and_manual_pages_are_made_from_the_same_arguments() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        home.run(&["completions", shell]).expect(0, "dry-run");
    }
    home.run(&["man"]).expect(0, "authenticating reverse proxy");
    let pages = home.folder().join("man");
    fs::create_dir(&pages).unwrap();
    home.run(&["man", "--dir", pages.to_str().unwrap()]).expect(0, "");
    assert!(pages.join("keyward-keys-create.1").exists());
}

#[test]
fn a_keys_requests_are_limited_when_it_is_made_or_later() {
    let home = Home::new();
    let limits = ["--rate", "100/s", "--burst", "200", "--concurrent", "16"];
    let made = home.keys(&[&ALICE[..], &limits].concat()).expect_json(0);
    let id = made["id"].as_str().unwrap();
    let own = |key: &serde_json::Value| {
        ["rate", "burst", "concurrent", "daily"].map(|name| key[name].to_string())
    };
    assert_eq!(own(&made), ["\"100/s\"", "200", "16", "null"]);
    home.keys(&["show", id]).expect(0, "100/s, 200 at once, 16 in flight");
    let update = |args: &[&str]| home.keys(&[&["update", id, "--json"][..], args].concat());
    let changed = update(&["--rate", "none", "--daily", "5"]).expect_json(0);
    assert_eq!(own(&changed), ["null", "null", "16", "5"]);
    let changed = update(&["--concurrent", "none"]).expect_json(0);
    assert_eq!(own(&changed), ["null", "null", "null", "5"]);
    update(&["--burst", "5"]).expect(1, "a burst goes with a rate");
    update(&["--rate", "fast"]).expect(2, "write a number from 1 to 1000000 and a unit");
    update(&["--daily", "0"]).expect(2, "write a number from 1 to 1000000000000, or none");
    home.keys(&[&ALICE[..], &["--burst", "5"]].concat()).expect(2, "--rate");
}
