//! `keyward check`: what it says of what would be served and would change, where, and how it ends.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::actor::key_file;
use crate::harness::setup::write;
use crate::harness::{Actor, Setup, Upstream};

const ROUTES: &str = "[[routes]]\npath = \"/health\"\npublic = true\n\
                      [[routes]]\npath = \"/admin/{*rest}\"\nroles = [\"admin\"]\n\
                      [[routes]]\npath = \"/robots/{*rest}\"\nroles = [\"robot\"]\n\
                      [[routes]]\npath = \"/{*rest}\"\nmethods = [\"GET\"]\nroles = [\"viewer\"]\n";

/// A folder with `keyward.toml` and `keys.toml`, about which nothing is odd.
struct Folder(Setup);

impl Folder {
    fn new() -> Self {
        let mut setup = Setup::new(&Upstream::hello());
        setup.routes(ROUTES);
        setup.key("alice", "admin");
        setup.key("bob", "robot");
        let folder = Self(setup);
        folder.write("keyward.toml", &folder.0.config());
        folder.write("keys.toml", &key_file(&folder.0.actors));
        folder
    }

    fn write(&self, name: &str, text: &str) {
        write(&self.0.folder.path().join(name), text);
    }

    fn check(&self, arguments: &[&str]) -> Output {
        check_in(self.0.folder.path(), arguments)
    }

    /// Checks with `--json`, and reads what it prints.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.check(&[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_eq!(text(&output.stderr), "");
        serde_json::from_slice(&output.stdout).expect("a JSON document")
    }
}

/// Runs `keyward check` on the `keyward.toml` in `folder`, unless the arguments name another.
fn check_in(folder: &Path, arguments: &[&str]) -> Output {
    let config = match arguments.contains(&"--config") {
        true => &[][..],
        false => &["--config", "keyward.toml"],
    };
    Command::new(env!("CARGO_BIN_EXE_keyward"))
        .arg("check")
        .args(config)
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the binary is built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The lines of a table with one blank between their words.
fn lines(output: &Output) -> Vec<String> {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text(&output.stdout).lines().map(words).collect()
}

#[track_caller]
fn ends_with(output: &Output, code: i32) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{stdout}\n{stderr}");
}

#[test]
fn what_would_be_served_is_shown() {
    let folder = Folder::new();
    let output = folder.check(&["--strict"]);
    ends_with(&output, 0);
    assert_eq!(text(&output.stderr), "");
    let shown = lines(&output);
    for expected in [
        "listen 127.0.0.1:0",
        "keys keys.toml: 2 enabled, 0 disabled, 0 expired",
        "PATH METHODS WHO MAY PASS UPSTREAM",
        "ROLE INHERITS ENABLED KEYS DISABLED EXPIRED",
        "admin author, manager, viewer 1 0 0",
        "robot - 1 0 0",
    ] {
        assert!(shown.iter().any(|line| line == expected), "no {expected:?} in {shown:#?}");
    }
    for expected in [
        "/health all everybody (public) app → http://127.0.0.1:",
        "/admin/{*rest} all admin app → http://127.0.0.1:",
        "/{*rest} GET, HEAD viewer (inherited by admin, author, manager) app → http://",
    ] {
        assert!(shown.iter().any(|line| line.starts_with(expected)), "{expected:?}: {shown:#?}");
    }
    assert!(!text(&output.stdout).contains('\u{1b}'), "colour outside a terminal");
}

#[test]
fn what_a_route_may_be_upgraded_to_is_shown() {
    let folder = Folder::new();
    let upgrades = "\"/health\"\nupgrades = [\"websocket\", \"foo/2\"]";
    folder.write("keyward.toml", &folder.0.config().replace("\"/health\"", upgrades));
    let shown = lines(&folder.check(&[]));
    let expected = "/health all; upgrade to websocket or foo/2 everybody (public) app";
    assert!(shown.iter().any(|line| line.starts_with(expected)), "{expected:?}: {shown:#?}");
    assert_eq!(
        folder.json(&[])["routes"][0]["upgrades"],
        serde_json::json!(["websocket", "foo/2"])
    );
}

#[test]
fn the_json_has_stable_names() {
    let folder = Folder::new();
    let plan = folder.json(&[]);
    let names: Vec<_> = plan.as_object().expect("an object").keys().map(String::as_str).collect();
    let expected = [
        "admin",
        "admin_tls",
        "config",
        "keys",
        "listen",
        "redirect",
        "roles",
        "routes",
        "tls",
        "upstreams",
        "warnings",
    ];
    assert_eq!(names, expected);
    assert_eq!(plan["warnings"], serde_json::json!([]));
    assert_eq!(
        plan["keys"],
        serde_json::json!({"store": "keys.toml", "enabled": 2, "disabled": 0, "expired": 0})
    );
    assert_eq!(
        plan["routes"][3],
        serde_json::json!({
            "path": "/{*rest}", "methods": ["GET", "HEAD"], "access": "roles", "roles": ["viewer"],
            "inherited_by": ["admin", "author", "manager"], "upstream": "app",
            "ambiguous_paths": "refuse", "client_subject": [],
            "upgrades": [],
        })
    );
    assert_eq!(
        plan["roles"][0],
        serde_json::json!({
            "name": "admin", "inherits": ["author", "manager", "viewer"], "admin": "all",
            "keys": {"enabled": 1, "disabled": 0, "expired": 0},
        })
    );
}

#[test]
fn where_keys_are_managed_is_told() {
    let mut folder = Folder::new();
    folder.0.set("admin", "listen = \"127.0.0.1:9901\"");
    folder.write("keyward.toml", &folder.0.config());
    let output = folder.check(&[]);
    assert!(lines(&output).contains(&"admin 127.0.0.1:9901".to_owned()), "{:?}", lines(&output));
    let plan = folder.json(&[]);
    assert_eq!(
        [&plan["admin"], &plan["admin_tls"]],
        [&"127.0.0.1:9901".into(), &Value::from(false)]
    );
}

#[test]
fn warnings_fail_only_a_strict_check() {
    let folder = Folder::new();
    let exact = folder.0.config().replace("\"/admin/{*rest}\"", "\"/admin\"");
    folder.write("keyward.toml", &exact);
    folder.write("keys.toml", &key_file(&folder.0.actors[..1]));
    let output = folder.check(&[]);
    ends_with(&output, 0);
    let said = text(&output.stderr);
    for expected in [
        "warning: /admin/ falls to /{*rest}",
        "write \"/admin/{*rest}\"",
        "warning: nobody can pass /robots/{*rest} (all): no enabled key is of the role robot",
        "warning: nobody holds the role robot",
        "--> keyward.toml",
    ] {
        assert!(said.contains(expected), "no {expected:?} in\n{said}");
    }
    ends_with(&folder.check(&["--strict"]), 1);
    ends_with(&folder.check(&["--strict", "--json"]), 1);
    let codes: Vec<Value> = folder.json(&[])["warnings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|warning| warning["code"].clone())
        .collect();
    assert_eq!(codes, ["wider_with_slash", "route_without_key", "role_without_key"]);
}

#[test]
fn what_the_configuration_itself_warns_of_counts_too() {
    let mut folder = Folder::new();
    folder.0.set("auth", "hide_credentials = false");
    folder.write("keyward.toml", &folder.0.config());
    ends_with(&folder.check(&[]), 0);
    ends_with(&folder.check(&["--strict"]), 1);
    let warnings = &folder.json(&[])["warnings"];
    assert_eq!(warnings[0]["code"], "configuration");
    let message = warnings[0]["message"].as_str().expect("a text");
    assert!(message.starts_with("keyward.toml:"), "{message}");
}

#[test]
fn faults_of_both_files_are_said_at_once() {
    let folder = Folder::new();
    folder.write("keyward.toml", &folder.0.config().replace("workers = 2", "workers = 0"));
    let stranger = Actor::new("carol", "emperor").entry();
    folder.write("keys.toml", &(key_file(&folder.0.actors) + &stranger));
    for arguments in [&[][..], &["--json"], &["--strict"]] {
        let output = folder.check(arguments);
        ends_with(&output, 2);
        assert_eq!(text(&output.stdout), "");
        let said = text(&output.stderr);
        for expected in ["keyward.toml:", "workers = 0", "keys.toml:", "emperor", "^"] {
            assert!(said.contains(expected), "no {expected:?} in\n{said}");
        }
    }
}

#[test]
fn keys_are_not_held_against_roles_that_are_at_fault() {
    let folder = Folder::new();
    folder.write("keyward.toml", &folder.0.config().replace("[roles.robot]", "[rolls.robot]"));
    let output = folder.check(&[]);
    ends_with(&output, 2);
    let said = text(&output.stderr);
    assert!(said.contains("rolls") && !said.contains("keys.toml"), "{said}");
}

#[test]
fn a_diff_shows_what_a_reload_would_change() {
    let folder = Folder::new();
    let [alice, bob] = &folder.0.actors[..] else { panic!("two actors") };
    let new = folder
        .0
        .config()
        .replace("realm = \"test\"", "realm = \"new\"")
        .replace("keys.toml", "new-keys.toml")
        .replace("workers = 2", "workers = 3")
        .replace("\"/health\"", "\"/healthz\"");
    folder.write("new.toml", &new);
    let disabled = bob.clone().with("enabled = false");
    let carol = Actor::new("carol", "viewer");
    folder.write("new-keys.toml", &key_file(&[alice.clone(), disabled, carol.clone()]));

    let arguments = ["--config", "new.toml", "--diff", "keyward.toml"];
    let output = folder.check(&arguments);
    ends_with(&output, 0);
    let shown = lines(&output);
    for expected in [
        "~ setting realm test → new",
        "~ setting [server] workers 2 → 3 (needs a restart)",
        "~ setting [keys] store keys.toml → new-keys.toml",
        "- route /health (all) who may pass: everybody (public); upgrades: none; upstream: app; ambiguous_paths: refuse; limits: none",
        "+ route /healthz (all) who may pass: everybody (public); upgrades: none; upstream: app; ambiguous_paths: refuse; limits: none",
        &format!("~ key {} state: enabled → disabled", bob.id),
        // It lies beside the store.
        "~ setting [keys] usage keys.usage.jsonl → new-keys.usage.jsonl (needs a restart)",
        "9 changes; 2 of them at the next start only, the others by a reload.",
    ] {
        assert!(shown.iter().any(|line| line == expected), "no {expected:?} in {shown:#?}");
    }
    let added = format!("+ key {} user: carol; role: viewer;", carol.id);
    assert!(shown.iter().any(|line| line.starts_with(&added)), "no {added:?} in {shown:#?}");
    assert!(!text(&output.stdout).contains("sha256:"), "a digest is shown");

    let json = folder.json(&arguments);
    assert_eq!((&json["from"], &json["to"]), (&"keyward.toml".into(), &"new.toml".into()));
    let changes = json["changes"].as_array().expect("a list");
    assert_eq!(changes.len(), 9);
    let workers = changes.iter().find(|change| change["name"] == "[server] workers");
    assert_eq!(
        workers,
        Some(&serde_json::json!({
            "change": "changed", "what": "setting", "name": "[server] workers",
            "fields": [{"field": "value", "from": "2", "to": "3"}], "needs_restart": true,
        }))
    );
}

#[test]
fn a_diff_with_itself_is_empty_and_with_a_broken_file_is_2() {
    let folder = Folder::new();
    let output = folder.check(&["--diff", "keyward.toml"]);
    ends_with(&output, 0);
    assert_eq!(text(&output.stdout), "A reload would change nothing.\n");

    folder.write("broken.toml", &folder.0.config().replace("workers = 2", "workers = 0"));
    for arguments in [
        ["--diff", "broken.toml", "--config", "keyward.toml"],
        ["--config", "broken.toml", "--diff", "keyward.toml"],
    ] {
        let output = folder.check(&arguments);
        ends_with(&output, 2);
        assert!(text(&output.stderr).contains("broken.toml:"), "{}", text(&output.stderr));
    }
}

#[test]
fn the_examples_pass_and_their_keys_let_nobody_in() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let output = check_in(&examples, &["--json"]);
    ends_with(&output, 0);
    let plan: Value = serde_json::from_slice(&output.stdout).expect("a JSON document");
    assert_eq!(plan["routes"].as_array().map(Vec::len), Some(4));
    assert_eq!(plan["keys"]["enabled"], 0);
    let warnings = plan["warnings"].as_array().expect("a list");
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert_eq!(warnings[0]["code"], "no_key");
}
