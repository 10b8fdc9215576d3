//! `keyward doctor` finds a key that is where none should be, says at what line and by which request, and finds none
//! where there is none; it touches nothing that is not its own.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use keyward::keys::format::{Prefix, generate};
use serde_json::Value;

use crate::harness::actor::{basic, key_file};
use crate::harness::setup::write;
use crate::harness::{Actor, Setup, Upstream, wait_for};
use crate::services::{nginx, python};

const ROUTES: &str = r#"
[[routes]]
path = "/public/{*rest}"
public = true
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/orders/{id}"
methods = ["POST"]
[[routes]]
path = "/socket"
"#;

/// The configuration of `setup` and the keys of `actors`, in its folder.
fn files(setup: &Setup, actors: &[Actor]) -> PathBuf {
    let folder = setup.folder.path();
    fs::create_dir_all(folder.join("logs")).expect("a new folder");
    write(&folder.join("keys.toml"), &key_file(actors));
    let config = folder.join("keyward.toml");
    write(&config, &setup.config());
    config
}

fn doctor(config: &Path, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_keyward"))
        .arg("--config")
        .arg(config)
        .arg("doctor")
        .args(more)
        .output()
        .expect("the binary is built")
}

/// What it tells as JSON, and its exit code.
#[track_caller]
fn told(config: &Path, more: &[&str]) -> (Value, Option<i32>) {
    let output = doctor(config, &[&["--json"], more].concat());
    let told = serde_json::from_slice(&output.stdout);
    let told = told.unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    (told, output.status.code())
}

/// Every file below `folder`, with what it holds.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("it can be listed").path();
        match path.is_dir() {
            true => found.extend(contents(&path)),
            false => drop(found.insert(path.clone(), fs::read(path).expect("a file"))),
        }
    }
    found
}

fn words(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(Value::as_str).collect()
}

#[test]
fn no_key_leaks_on_any_way_and_nothing_else_is_touched() {
    let upstream = Upstream::hello();
    for http2 in ["false", "true"] {
        let mut setup = Setup::new(&upstream);
        // Only HTTP/1 changes to another protocol.
        let upgrades = if http2 == "true" { "" } else { "upgrades = [\"websocket\"]\n" };
        setup.routes(&(ROUTES.to_owned() + upgrades)).set("admin", "listen = \"127.0.0.1:9901\"");
        setup.set("server", "trusted_proxies = [\"10.0.0.0/8\"]");
        setup.set("upstreams.app", &format!("http2 = {http2}"));
        setup.set("metrics", "per_key = true");
        let config = files(&setup, &[Actor::new("alice", "viewer")]);
        let before = contents(setup.folder.path());

        let (told, code) = told(&config, &[]);
        assert_eq!((&told["leaks"], code), (&Value::Array(Vec::new()), Some(0)), "{told:#}");
        for status in ["200", "400", "401", "403", "404", "408", "413", "431", "502", "504", "none"]
        {
            assert!(told["answers"][status].as_u64() > Some(0), "no {status}: {told:#}");
        }
        let sinks = [
            "access log",
            "answers of the admin listener",
            "answers to clients",
            "audit log",
            "metrics",
            "standard error",
            "the service",
            "usage",
        ];
        for sink in sinks {
            assert!(told["sinks"][sink].as_u64() > Some(0), "no {sink}: {told:#}");
        }
        let passed = words(&told["passed"]);
        assert!(passed.contains(&"key in the query"), "{told:#}");
        assert!(!passed.contains(&"x-api-key"), "{told:#}");
        assert!(before == contents(setup.folder.path()), "a file was changed or made");
    }
    assert_eq!(upstream.connections(), 0, "the service was asked");
}

#[test]
fn a_key_that_is_not_hidden_is_told_to_go_on() {
    let mut setup = Setup::new(&Upstream::hello());
    setup.set("auth", "hide_credentials = false");
    let (told, code) = told(&files(&setup, &[]), &[]);
    let passed = words(&told["passed"]);
    for source in ["x-api-key", "authorization: Bearer", "authorization: Basic"] {
        assert!(passed.contains(&source), "{told:#}");
    }
    assert_eq!(code, Some(0), "that is what the configuration says: {told:#}");
}

#[test]
fn keys_in_files_are_found_by_line_and_by_name() {
    let make = || generate(&Prefix::new("kw").expect("the default")).expect("randomness");
    let (own, stray) = (make().expose().clone(), make().expose().clone());
    let mistyped = format!("{}x", &own[..own.len() - 1]);
    let mut setup = Setup::new(&Upstream::hello());
    let alice = setup.add(Actor::new("alice", "viewer").with_key(&own).with("start = \"kw_1234\""));
    let bob = setup.add(Actor::new("bob", "viewer").with("enabled = false"));
    let config = files(&setup, &[alice.clone(), bob.clone()]);
    let folder = setup.folder.path();
    let (access, other) = (folder.join("logs/access.log"), folder.join("other.log"));
    fs::write(&access, format!("fine\nGET /?api_key={own}&b=c\n")).expect("a file");
    let lines = [
        format!("Authorization: {}", basic("x", &bob.key)),
        format!("nothing {mistyped} kw_1234 {}", alice.id),
        format!("\"{stray}\""),
        format!("/path/{}?k={}", bob.key, own),
    ];
    fs::write(&other, lines.join("\n")).expect("a file");

    let also = ["--also-read", other.to_str().expect("text")];
    let (found, code) = told(&config, &also);
    assert_eq!(code, Some(1), "{found:#}");
    let leaks = found["leaks"].as_array().expect("a list").iter().map(|leak| {
        let name = leak["sink"].as_str().expect("text").rsplit('/').next().expect("a name");
        let (key, line) = (&leak["key"], leak["line"].as_u64().expect("a number"));
        let text = |name: &str| key[name].as_str().unwrap_or_default().to_owned();
        (name.to_owned(), line, text("user"), text("state"))
    });
    let expect = |name: &str, line, user: &str, state: &str| {
        (name.to_owned(), line, user.to_owned(), state.to_owned())
    };
    assert_eq!(
        leaks.collect::<Vec<_>>(),
        [
            expect("access.log", 2, "alice", "enabled"),
            expect("other.log", 1, "bob", "disabled"),
            expect("other.log", 3, "", "unknown"),
            expect("other.log", 4, "bob", "disabled"),
            expect("other.log", 4, "alice", "enabled"),
        ]
    );
    let output = doctor(&config, &also);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&format!("keyward keys rotate {}", alice.id)), "{text}");
    for shown in [text.into_owned(), found.to_string()] {
        for key in [&own, &stray, &bob.key] {
            assert!(!shown.contains(&key[4..]), "{shown}");
        }
    }
    let missing = doctor(&config, &["--also-read", "/nonexistent"]);
    assert_eq!(missing.status.code(), Some(2));
}

/// nginx in front of `door`, with an access log of `format`; ends when dropped.
struct Front {
    child: Child,
    address: SocketAddr,
    folder: tempfile::TempDir,
}

impl Front {
    fn start(door: SocketAddr, format: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let address = free.expect("loopback has free ports");
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
             events {{}}\n\
             http {{\n\
               map $uri $plain {{ \"~^(?<is_plain>/keyward-doctor-[0-9A-Za-z]+)$\" $is_plain; default -; }}\n\
               log_format it '{format}'; access_log access.log it;\n\
               client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
               uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
               server {{ listen {address}; location / {{ proxy_pass http://{door}; }} }}\n\
             }}\n",
        );
        fs::write(folder.path().join("nginx.conf"), config).expect("a new file");
        let child = Command::new("nginx")
            .args(["-e", "stderr", "-c", "nginx.conf", "-p"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`make test` installs nginx");
        wait_for("nginx", || TcpStream::connect(address).ok());
        Self { child, address, folder }
    }

    fn log(&self) -> String {
        self.folder.path().join("access.log").to_str().expect("text").to_owned()
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_server_in_front_that_logs_the_query_is_found_and_none_that_does_not() {
    let kw = Setup::new(&Upstream::hello()).start();
    let config = kw.path("keyward.toml");
    let ask = |format: &str| {
        let front = Front::start(kw.address(), format);
        let url = format!("http://{}", front.address);
        let (told, code) = told(&config, &["--through", &url, "--also-read", &front.log()]);
        (told, code, fs::read_to_string(front.log()).expect("it logs"))
    };

    let (found, code, _) = ask("$status $plain");
    assert_eq!((&found["leaks"], code), (&Value::Array(Vec::new()), Some(0)), "{found:#}");
    assert_eq!(words(&found["unheard"]), [""; 0]);

    let (found, code, log) = ask("$status $request");
    assert_eq!(code, Some(1), "{found:#}");
    let leaks = found["leaks"].as_array().expect("a list");
    let by = |what: &str| {
        let is_it = |leak: &&Value| leak["request"].as_str().is_some_and(|r| r.starts_with(what));
        leaks.iter().find(is_it).unwrap_or_else(|| panic!("no {what}: {found:#}"))
    };
    let leak = by("key in the query, ?anything=");
    let line = leak["line"].as_u64().expect("a number") as usize;
    let line = log.lines().nth(line - 1).expect("it is there");
    assert!(line.contains("?anything=kw_"), "{line}");
    let shown = leak["text"].as_str().expect("text");
    assert!(shown.contains("?anything=[key]") && !shown.contains("kw_"), "{shown}");
    // What it does not log is none.
    assert!(!found["leaks"].to_string().contains("key in Referer"), "{found:#}");

    let (found, ..) = ask("$status");
    assert_eq!(words(&found["unheard"]).len(), 1, "a file that tells nothing: {found:#}");
    let nobody = doctor(&config, &["--through", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("nothing answers"));
    assert_eq!(doctor(&config, &["--through", "ftp://a"]).status.code(), Some(2));
}

#[test]
fn it_finds_out_whether_a_service_folds_names() {
    let check = |address: SocketAddr, path: &str, expect: [Option<&str>; 3]| {
        let setup = Setup::with_endpoint(address);
        let (told, code) = told(&files(&setup, &[]), &["--probe-upstream", path]);
        let folding = &told["folding"][0];
        let found = ["underscore", "dot", "seen_by"].map(|name| folding[name].as_str());
        assert_eq!((found, code), (expect, Some(0)), "{told:#}");
    };
    let application = python();
    check(
        application.address,
        "/",
        [Some("folds"), Some("does_not_fold"), Some("X-Keyward-Probe")],
    );
    let files = nginx(&[("a.txt", b"a")]);
    let neither = [Some("does_not_fold"), Some("does_not_fold"), Some("If-None-Match")];
    check(files.address, "/a.txt", neither);
    let silent = Upstream::hello();
    check(silent.address(), "/", [Some("cannot_tell"), Some("cannot_tell"), None]);
}
