//! An orderly end: nothing new is taken, what runs may finish until a deadline, nothing is left unsaid.

use std::net::TcpStream;

use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Setup, Stage, Upstream, wait_for};

/// Sends one request that the upstream holds, ends the proxy with the signal `name`, and lets the request finish.
#[track_caller]
fn check_drain(name: &str) {
    let (app, held_back) = Upstream::halting("/held", "idle");
    let (stage, alice) = Stage::new(app, |setup| setup.key("alice", "viewer"));
    let mut idle = stage.kw.connect();
    idle.send(get("/idle", &alice.header()));
    assert_eq!(idle.answer().text(), "idle");
    let mut held = stage.kw.connect();
    held.send(get("/held", &alice.header()));
    held_back.wait();
    stage.kw.signal(name);
    assert_eq!(idle.rest(), b"", "an idle connection is closed");
    wait_for("the listener to close", || TcpStream::connect(stage.kw.address()).err());
    held_back.let_go();
    assert_eq!(held.answer().text(), "first-then");
    assert_eq!(held.rest(), b"", "a connection is closed after its last answer");
    assert_eq!(stage.kw.wait_for_exit().code(), Some(0));
    let mut paths: Vec<_> =
        stage.kw.access_log().iter().map(|record| record["path"].to_string()).collect();
    // Each worker hands over its records in its own time.
    paths.sort();
    assert_eq!(paths, ["\"/held\"", "\"/idle\""], "the log is complete");
}

#[test]
fn sigterm_lets_requests_finish_and_takes_no_more() {
    check_drain("TERM");
}

#[test]
fn sigint_lets_requests_finish_and_takes_no_more() {
    check_drain("INT");
}

#[test]
fn what_does_not_finish_before_the_deadline_is_cut_and_logged() {
    let (began, has_begun) = signal();
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        began.send(()).expect("the test waits");
        connection.wait_for_close()
    });
    let (stage, alice) = Stage::new(app, |setup| {
        setup.set("server.timeouts", "shutdown = \"300ms\"");
        setup.key("alice", "viewer")
    });
    let mut client = stage.kw.connect();
    client.send(get("/held", &alice.header()));
    wait(&has_begun);
    stage.kw.signal("TERM");
    let said = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(!said.contains(" 200 "), "{said}");
    stage.kw.wait_for_exit();
    let records = stage.kw.access_log();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["path"], "/held");
}

#[test]
fn an_idle_proxy_ends_at_once() {
    let setup = Setup::new(&Upstream::hello());
    let kw = setup.start();
    let _silent = kw.connect();
    kw.signal("TERM");
    assert_eq!(kw.wait_for_exit().code(), Some(0));
}

#[test]
fn a_request_that_comes_just_after_the_signal_is_answered_and_is_the_last() {
    let (app, held_back) = Upstream::holding("/held", "ok");
    let (stage, alice) = Stage::new(app, |setup| setup.key("alice", "viewer"));
    let mut used = stage.kw.connect();
    used.send(get("/first", &alice.header()));
    assert_eq!(used.answer().text(), "ok");
    let mut fresh = stage.kw.connect();
    let mut held = stage.kw.connect();
    held.send(get("/held", &alice.header()));
    held_back.wait();
    stage.kw.signal("TERM");
    stage.kw.wait_for_event("stopping: no new connections, requests in flight end", |_| true);
    for client in [&mut used, &mut fresh] {
        // Its worker may hear of the end a moment later.
        wait_for("the last answer", || {
            client.send(get("/late", &alice.header()));
            let answer = client.answer();
            assert_eq!(answer.text(), "ok");
            (answer.field("connection") == Some("close")).then_some(())
        });
        assert_eq!(client.rest(), b"");
    }
    held_back.let_go();
    assert_eq!(held.answer().field("connection"), Some("close"));
    assert_eq!(stage.kw.wait_for_exit().code(), Some(0));
}

#[test]
fn a_connection_whose_answer_began_before_the_signal_takes_one_more_request() {
    let (app, held_back) = Upstream::halting("/held", "next");
    let (stage, alice) = Stage::new(app, |setup| {
        setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
        setup.key("alice", "viewer")
    });
    let mut idle = stage.kw.connect();
    let mut client = stage.kw.connect();
    client.send(get("/held", &alice.header()));
    held_back.wait();
    // Its head is with the client, and says nothing of an end.
    let head = client.answer_head();
    assert_eq!(head.field("connection"), None);
    stage.kw.signal("TERM");
    assert_eq!(idle.rest(), b"", "the worker drains");
    held_back.let_go();
    client.skip(10).expect("the answer is whole");
    client.send(get("/next", &alice.header()));
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.field("connection")), ("next", Some("close")));
    assert_eq!(client.rest(), b"");
    assert_eq!(stage.kw.wait_for_exit().code(), Some(0));
}
