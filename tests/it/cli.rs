//! The command line: what it prints where, and how it ends.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::actor::key_file;
use crate::harness::setup::write;
use crate::harness::{Actor, Setup, Upstream};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyward"))
        .args(arguments)
        .output()
        .expect("the binary is built")
}

fn run_on(command: &str, config: &Path) -> Output {
    run(&["--config", config.to_str().expect("a temporary path is text"), command])
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A folder with a configuration without faults, and a key.
fn prepared() -> Setup {
    let mut setup = Setup::new(&Upstream::hello());
    setup.routes(
        "[[routes]]\npath = \"/health\"\npublic = true\n\
         [[routes]]\npath = \"/admin/{*rest}\"\nroles = [\"admin\"]\n\
         [[routes]]\npath = \"/{*rest}\"\nmethods = [\"GET\"]\nroles = [\"viewer\"]\n",
    );
    let actor = setup.key("alice", "viewer");
    let folder = setup.folder.path();
    fs::create_dir(folder.join("logs")).expect("a new folder");
    write(&folder.join("keyward.toml"), &setup.config());
    write(&folder.join("keys.toml"), &key_file(&[actor]));
    setup
}

#[test]
fn help_and_version_are_asked_for_and_succeed() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["serve", "check", "keys", "demo", "completions", "man"] {
        assert!(stdout(&help).contains(command), "{}", stdout(&help));
    }
    let version = run(&["--version"]);
    assert_eq!(version.status.code(), Some(0));
    assert!(stdout(&version).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_is_2() {
    for arguments in [&["frobnicate"][..], &["serve", "--frobnicate"], &["keys"], &[]] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stdout(&output).is_empty(), "{arguments:?}");
        assert!(!stderr(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn check_shows_what_would_be_served() {
    let setup = prepared();
    let output = run_on("check", &setup.folder.path().join("keyward.toml"));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for expected in ["/health", "/admin/{*rest}", "/{*rest}", "public", "admin", "viewer"] {
        assert!(stdout(&output).contains(expected), "no {expected}: {}", stdout(&output));
    }
}

#[test]
fn every_fault_of_configuration_and_keys_is_said_at_once_and_is_2() {
    let setup = prepared();
    let config = setup.folder.path().join("keyward.toml");
    let faulty = setup
        .config()
        .replace("roles = [\"admin\"]", "roles = [\"emperor\"]")
        .replace("methods = [\"GET\"]", "method = [\"GET\"]")
        .replace("workers = 2", "workers = 0");
    write(&config, &faulty);
    for command in ["check", "serve"] {
        let output = run_on(command, &config);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = stderr(&output);
        for expected in ["keyward.toml:", "emperor", "methods", "workers", "^"] {
            assert!(said.contains(expected), "{command}: no {expected:?} in\n{said}");
        }
        assert!(!said.contains("listening"), "{said}");
    }
}

#[test]
fn faults_of_the_key_file_are_said_with_their_place() {
    let setup = prepared();
    let twin = setup.actors[0].entry().replace(&setup.actors[0].id, "key_twin");
    let stranger = Actor::new("bob", "emperor").entry();
    let keys = key_file(&setup.actors) + &twin + &stranger;
    write(&setup.folder.path().join("keys.toml"), &keys);
    for command in ["check", "serve"] {
        let output = run_on(command, &setup.folder.path().join("keyward.toml"));
        assert_eq!(output.status.code(), Some(2), "{command}");
        let said = stderr(&output);
        for expected in ["keys.toml:", "key_twin", &setup.actors[0].id, "emperor"] {
            assert!(said.contains(expected), "{command}: no {expected:?} in\n{said}");
        }
    }
}

#[test]
fn a_missing_configuration_is_2_and_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("nowhere.toml");
    for command in ["serve", "check"] {
        let output = run_on(command, &config);
        assert_eq!(output.status.code(), Some(2), "{command}");
        assert!(stderr(&output).contains("nowhere.toml"), "{}", stderr(&output));
    }
}

#[test]
fn an_address_in_use_ends_serve_with_the_address_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = taken.local_addr().expect("a bound listener has an address").to_string();
    let mut setup = prepared();
    setup.replace("server", &format!("listen = [\"{address}\"]"));
    let config = setup.folder.path().join("keyward.toml");
    write(&config, &setup.config());
    let output = run_on("serve", &config);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address), "{}", stderr(&output));
}

#[test]
fn completions_and_the_manual_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(stdout(&output).contains("keyward"), "{shell}");
    }
    let manual = run(&["man"]);
    assert_eq!(manual.status.code(), Some(0));
    assert!(stdout(&manual).contains(".TH keyward"), "{}", stdout(&manual));
}
