//! `keyward init` gives what serves at once, shows the first key once, and writes over nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::harness::setup::write;
use crate::harness::{Actor, Client, Setup, Upstream};

/// `keyward ARGS`, run in `folder`.
fn keyward(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyward"));
    let command = command.args(args).current_dir(folder).stdin(Stdio::null());
    command.env("USER", "carol").output().expect("the binary is built")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}

#[test]
fn the_first_key_opens_what_init_made() {
    let app = Upstream::hello();
    let setup = Setup::new(&app);
    let folder = setup.folder.path().to_owned();
    let endpoint = format!("http://{}", app.address());
    let output = keyward(&folder, &["init", "--dir", ".", "--upstream", &endpoint]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let key = text(&output.stdout).strip_suffix('\n').expect("the key alone").to_owned();
    assert!(key.starts_with("kw_") && key.len() == 39, "{key}");
    let told = text(&output.stderr);
    assert!(told.contains("for carol (admin, \"first admin key\")"), "{told}");
    assert!(!told.contains(&key));
    // The next command that it names finds nothing to say against it.
    let next = told.lines().find(|line| line.ends_with(" check")).expect("a next command");
    let words: Vec<_> = next.split_whitespace().skip(1).collect();
    let checked = keyward(&folder, &[&words[..], &["--strict"]].concat());
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");

    let config = fs::read_to_string(folder.join("keyward.toml")).expect("it was made");
    let config = config.replace("127.0.0.1:8080", "127.0.0.1:0").replace(":9901", ":0");
    write(&folder.join("keyward.toml"), &config);
    let mode = fs::metadata(folder.join("keys.toml")).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kw = setup.start_on("keyward.toml");
    let carol = Actor::new("carol", "admin").with_key(&key);
    for method in ["GET", "DELETE"] {
        let request = format!("{method} / HTTP/1.1\r\nHost: a\r\n{}\r\n", carol.header());
        assert_eq!(kw.ask(request).status(), 200);
    }
    let received = app.requests().remove(0);
    assert_eq!(received.fields("x-auth-user"), ["carol"]);
    assert_eq!(received.fields("x-auth-role"), ["admin"]);
    assert_eq!(kw.ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n").status(), 401);
    // And manages keys.
    let mut client = Client::connect(kw.admin_address());
    let bearer = format!("Authorization: Bearer {key}\r\n");
    client.send(format!("GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\n{bearer}\r\n"));
    let me: Value = serde_json::from_slice(&client.answer().body).expect("JSON");
    assert_eq!([&me["user"], &me["admin"]], ["carol", "all"]);
}

#[test]
fn the_usual_place_needs_no_option_and_is_made() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let output = keyward(folder.path(), &["init", "--user", "root@example.com", "--json"]);
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!([&made["user"], &made["role"]], ["root@example.com", "admin"]);
    let told = text(&output.stderr);
    assert!(told.ends_with("\n    keyward check\n    keyward serve\n"), "{told}");
    let listed = keyward(folder.path(), &["keys", "list", "--json"]);
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(listed[0]["id"], made["id"]);
    let audit = keyward(folder.path(), &["audit", "verify"]);
    assert!(text(&audit.stdout).contains("the chain holds: 1 line,"), "{audit:?}");
}

#[test]
fn nothing_is_written_over() {
    for name in ["keyward.toml", "keys.toml", "keys.audit.jsonl"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join(name), "ours").expect("it takes files");
        let output = keyward(folder.path(), &["init", "--dir", "."]);
        assert_eq!((output.status.code(), &*output.stdout), (Some(1), &b""[..]), "{output:?}");
        assert!(text(&output.stderr).contains(&format!("{name} is there already")), "{output:?}");
        let names = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(names, 1, "nothing is made beside it");
        assert_eq!(fs::read(folder.path().join(name)).expect("it is there"), b"ours");
    }
}

#[test]
fn an_upstream_that_is_none_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for wrong in ["127.0.0.1", "ftp://a", "\"]\n[admin"] {
        let output = keyward(folder.path(), &["init", "--upstream", wrong]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }
}
