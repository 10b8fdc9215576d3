//! The access log: one record a request, with what became of it, whatever became of it.

use std::fs;

use serde_json::Value;

use crate::harness::keyward::get;
use crate::harness::{Actor, Stage, Upstream, wait_for};

fn stage() -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| {
        setup.routes(
            "[[routes]]\npath = \"/orders/{id}\"\nroles = [\"viewer\"]\n\
             [[routes]]\npath = \"/public\"\npublic = true\n",
        );
        setup.key("alice", "viewer")
    })
}

#[test]
fn a_record_says_who_did_what_and_what_became_of_it() {
    let (stage, alice) = stage();
    let key = alice.header();
    let body =
        format!("POST /orders/7?a=b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n{key}\r\nbody");
    let answer = stage.kw.ask(body);
    let record = stage.kw.wait_for_record("the request", |_| true);
    for (name, value) in [
        ("method", "POST"),
        ("user", "alice"),
        ("role", "viewer"),
        ("key_id", &alice.id),
        ("route", "/orders/{id}"),
        ("endpoint", &stage.app.address().to_string()),
        ("request_id", answer.field("x-request-id").expect("every answer has one")),
    ] {
        assert_eq!(record[name], value, "{name} in {record}");
    }
    assert_eq!(record["status"], 200);
    assert_eq!(record["client"].as_str().map(|client| client.starts_with("127.0.0.1")), Some(true));
    assert!(record["path"].as_str().is_some_and(|path| path.starts_with("/orders/7")), "{record}");
    assert_eq!(record["bytes_in"], 4, "{record}");
    assert_eq!(record["bytes_out"], 5, "{record}");
    for name in ["duration_ms", "upstream_ms"] {
        assert!(record[name].is_number(), "{name} in {record}");
    }
    assert!(record["time"].is_string(), "{record}");
}

#[test]
fn every_request_has_one_record_also_the_ones_that_fail_early() {
    let (stage, alice) = stage();
    let key = alice.header();
    let mut expected = Vec::new();
    for (request, status, code) in [
        (get("/orders/1", &key), 200, ""),
        (get("/public", ""), 200, ""),
        (get("/orders/1", ""), 401, "missing_key"),
        (get("/orders/1", "X-Api-Key: unknown-key\r\n"), 401, "invalid_key"),
        (get("/unknown", &key), 404, "no_route"),
        (get("/orders/../x", &key), 400, "ambiguous_path"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad_request"),
        ("GET / HTTP/1.1\r\nno colon\r\n\r\n".to_owned(), 400, "bad_request"),
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), 400, "bad_request"),
        (get("/", &format!("X-Long: {}\r\n", "x".repeat(64 << 10))), 431, "headers_too_large"),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 501, "method_not_supported"),
    ] {
        assert_eq!(stage.kw.ask(&request).status(), status, "{request}");
        expected.push((status, code.to_owned()));
    }
    let found = wait_for("all records", || {
        let records = stage.kw.access_log();
        if records.len() < expected.len() { None } else { Some(records) }
    });
    let outcome = |record: &Value| {
        let status = record["status"].as_u64().unwrap_or_default() as u16;
        (status, record["code"].as_str().unwrap_or_default().to_owned())
    };
    let mut outcomes: Vec<_> = found.iter().map(outcome).collect();
    outcomes.sort();
    expected.sort();
    assert_eq!(outcomes, expected);
}

#[test]
fn records_are_complete_after_an_orderly_end() {
    let (stage, alice) = stage();
    let mut client = stage.kw.connect();
    for _ in 0..1000 {
        client.send(get("/orders/1", &alice.header()));
        assert_eq!(client.answer().status(), 200);
    }
    stage.kw.signal("TERM");
    assert!(stage.kw.wait_for_exit().success());
    assert_eq!(stage.kw.access_log().len(), 1000);
}

#[test]
fn sigusr1_opens_the_file_anew_so_that_it_can_be_rotated() {
    let (stage, alice) = stage();
    stage.kw.get("/orders/1", &alice);
    stage.kw.wait_for_record("the first request", |record| record["path"] == "/orders/1");
    fs::rename(stage.kw.path("logs/access.log"), stage.kw.path("logs/access.log.1"))
        .expect("our own files");
    stage.kw.signal("USR1");
    wait_for("the new file", || fs::metadata(stage.kw.path("logs/access.log")).ok());
    stage.kw.get("/orders/2", &alice);
    stage.kw.wait_for_record("the second request", |record| record["path"] == "/orders/2");
    let old = fs::read_to_string(stage.kw.path("logs/access.log.1")).expect("it was renamed");
    assert_eq!(old.lines().count(), 1, "{old}");
}

#[test]
fn the_access_log_can_go_to_standard_output() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.replace("log", "access = \"stdout\"\nformat = \"json\"");
        setup.key("alice", "viewer")
    });
    stage.kw.get("/orders/1", &alice);
    wait_for("the record on standard output", || {
        stage.kw.stdout().contains("\"/orders/1\"").then_some(())
    });
}
