//! A limit on everything a client can send, hold open or take its time over.

use std::process::Command;

use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Actor, Client, Setup, Stage, Upstream, wait_for};

fn stage(prepare: impl FnOnce(&mut Setup)) -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| {
        prepare(setup);
        setup.key("alice", "viewer")
    })
}

#[test]
fn a_head_above_its_limit_is_431() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.limits", "header_bytes = \"16KiB\"");
    });
    let with_value =
        |bytes: usize| get("/", &format!("X-Long: {}\r\n{}", "x".repeat(bytes), alice.header()));
    stage.passes(with_value(15 << 10));
    for bytes in [17 << 10, 64 << 10, 300 << 10] {
        stage.refuses(with_value(bytes), 431, "headers_too_large");
    }
    let target = format!("/{}", "x".repeat(17 << 10));
    stage.refuses(get(&target, &alice.header()), 431, "headers_too_large");
    stage.passes(with_value(1));
}

#[test]
fn more_fields_than_the_limit_are_431() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.limits", "headers = 20");
    });
    // Host and the key are two more.
    let with = |count: usize| get("/", &("X-Field: 1\r\n".repeat(count) + &alice.header()));
    stage.passes(with(18));
    stage.refuses(with(19), 431, "headers_too_large");
    stage.refuses(with(10_000), 431, "headers_too_large");
}

#[test]
fn a_hundred_fields_pass_by_default_and_no_more() {
    let (stage, alice) = stage(|_| {});
    let with = |count: usize| get("/", &("X-Field: 1\r\n".repeat(count) + &alice.header()));
    stage.passes(with(98));
    stage.refuses(with(99), 431, "headers_too_large");
}

#[test]
fn a_body_above_its_limit_is_413() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.limits", "body_bytes = 1000");
    });
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{}", alice.header());
    let by_length =
        |bytes: usize| format!("{head}Content-Length: {bytes}\r\n\r\n{}", "x".repeat(bytes));
    stage.passes(by_length(1000));
    stage.refuses(by_length(1001), 413, "body_too_large");
    // Refused before any of it is sent.
    let huge = format!("{head}Expect: 100-continue\r\nContent-Length: 9999999999\r\n\r\n");
    stage.refuses(huge, 413, "body_too_large");
}

#[test]
fn a_chunked_body_that_grows_above_the_limit_is_413() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.limits", "body_bytes = 1000");
    });
    let chunk = format!("64\r\n{}\r\n", "x".repeat(100));
    let head = format!(
        "POST / HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked\r\n\r\n",
        alice.header(),
    );
    let within = head.clone() + &chunk.repeat(10) + "0\r\n\r\n";
    assert_eq!(stage.passes(within).body.len(), 1000);
    let answer = stage.kw.ask(head + &chunk.repeat(10) + "1\r\nx\r\n0\r\n\r\n");
    assert_eq!((answer.status(), answer.code().as_str()), (413, "body_too_large"));
    // The upstream may have seen the beginning of the one that was cut off: only the answer is held.
    assert_eq!(stage.kw.ask(get("/after", &alice.header())).status(), 200);
}

/// The connection is closed, after a 408 or without a word.
#[track_caller]
fn check_cut(mut client: Client) {
    let said = String::from_utf8_lossy(&client.rest()).into_owned();
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    assert!(said.is_empty() || said.contains("\"request_timeout\""), "{said}");
}

#[test]
fn a_head_that_does_not_end_is_cut() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.timeouts", "request_header = \"300ms\"\nkeep_alive = \"300ms\"");
    });
    for part in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "] {
        let mut client = stage.kw.connect();
        client.send(part);
        check_cut(client);
    }
    let mut second = stage.kw.connect();
    second.send(get("/", &alice.header()) + "GET /second HT");
    assert_eq!(second.answer().status(), 200);
    // Part of a request, or still an idle connection: either way it does not stay.
    check_cut(second);
    assert_eq!(stage.app.targets(), ["/"]);
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.timeouts", "request_body_idle = \"300ms\"");
    });
    let mut client = stage.kw.connect();
    let key = alice.header();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n{key}\r\nhello"));
    let answer = client.answer();
    assert_eq!((answer.status(), answer.code().as_str()), (408, "request_timeout"));
    assert_eq!(client.rest(), b"");
    stage.kw.wait_for_record("the request that was cut", |record| record["status"] == 408);
}

#[test]
fn an_idle_connection_is_closed() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.timeouts", "keep_alive = \"300ms\"\nrequest_header = \"300ms\"");
    });
    let mut client = stage.kw.connect();
    client.send(get("/", &alice.header()));
    assert_eq!(client.answer().status(), 200);
    assert_eq!(client.rest(), b"");
    let mut silent = stage.kw.connect();
    assert_eq!(silent.rest(), b"");
}

#[test]
fn one_address_holds_so_many_connections_and_no_more() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.limits", "connections_per_client = 4");
    });
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = stage.kw.connect();
        client.send(get("/", &alice.header()));
        assert_eq!(client.answer().status(), 200);
        held.push(client);
    }
    assert_eq!(stage.kw.connect().rest(), b"", "one more is closed at once");
    for client in &mut held {
        client.send(get("/", &alice.header()));
        assert_eq!(client.answer().status(), 200, "those that are there stay");
    }
    held.pop();
    wait_for("the place of the one that left", || {
        let mut client = stage.kw.connect();
        client.try_send(get("/", &alice.header())).ok()?;
        client.try_answer_head().ok().filter(|answer| answer.status() == 200)
    });
}

#[test]
fn at_the_limit_of_connections_the_next_waits_for_a_place() {
    let (stage, alice) = stage(|setup| {
        setup.set("server.limits", "connections = 4");
    });
    let mut held = Vec::new();
    for _ in 0..4 {
        let mut client = stage.kw.connect();
        client.send(get("/held", &alice.header()));
        assert_eq!(client.answer().status(), 200);
        held.push(client);
    }
    let mut waiting: Vec<_> = (0..4).map(|_| stage.kw.connect()).collect();
    for client in &mut waiting {
        client.send(get("/waiting", &alice.header()));
    }
    for client in &mut held {
        client.send(get("/held", &alice.header()));
        assert_eq!(client.answer().status(), 200);
    }
    assert!(!stage.app.targets().contains(&"/waiting".to_owned()), "{:?}", stage.app.targets());
    drop(held);
    for client in &mut waiting {
        assert_eq!(client.answer().status(), 200);
    }
}

#[test]
fn running_out_of_file_descriptors_is_survived() {
    let (stage, alice) = stage(|setup| {
        // Its files are counted.
        setup.set("server", "core_dumps = true");
    });
    let mut before = stage.kw.connect();
    before.send(get("/", &alice.header()));
    assert_eq!(before.answer().status(), 200);
    let pid = stage.kw.pid().to_string();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("our own child").count();
    let limit = format!("--nofile={0}:{0}", open + 10);
    let status = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
    assert!(status.expect("util-linux is there").success());
    let many: Vec<_> = (0..100).map(|_| stage.kw.connect()).collect();
    before.send(get("/", &alice.header()));
    assert_eq!(before.answer().status(), 200, "connections that are there are served on");
    drop(many);
    wait_for("service after the shortage", || {
        let mut client = stage.kw.connect();
        client.try_send(get("/", &alice.header())).ok()?;
        client.try_answer_head().ok().filter(|answer| answer.status() == 200)
    });
}

#[test]
fn a_slow_client_slows_nobody_else() {
    let (stage, alice) = stage(|_| {});
    let mut slow = Vec::new();
    for part in ["", "GET / HT", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n"] {
        for _ in 0..20 {
            let mut client = stage.kw.connect();
            client.send(part);
            slow.push(client);
        }
    }
    for _ in 0..20 {
        stage.passes(get("/", &alice.header()));
    }
    drop(slow);
}

#[test]
fn an_endpoint_that_falls_silent_within_its_answer_is_cut_off() {
    let app = Upstream::scripted(|connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")?;
        connection.wait_for_close()
    });
    let (stage, alice) = Stage::new(app, |setup| {
        setup.set("server.timeouts", "upstream_body_idle = \"300ms\"");
        setup.key("alice", "viewer")
    });
    let mut client = stage.kw.connect();
    client.send(get("/", &alice.header()));
    assert_eq!(client.answer_head().status(), 200);
    assert!(client.skip(9).is_err(), "what broke off does not look whole");
    let record = stage.kw.wait_for_record("the request", |record| record["path"] == "/");
    assert_eq!(record["code"], "upstream_timeout");
}

#[test]
fn a_client_that_takes_nothing_of_its_answer_is_cut_off() {
    let (closed, is_closed) = signal();
    let app = Upstream::unrecorded(move |connection| {
        connection.head()?;
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        while connection.send(&chunk).is_ok() {}
        closed.send(()).expect("the test waits");
        Ok(())
    });
    let (stage, alice) = Stage::new(app, |setup| {
        setup.set("server.timeouts", "response_body_idle = \"300ms\"");
        setup.key("alice", "viewer")
    });
    let mut client = stage.kw.connect();
    client.send(get("/", &alice.header()));
    assert_eq!(client.answer_head().status(), 200);
    wait(&is_closed);
    let record = stage.kw.wait_for_record("the request", |record| record["path"] == "/");
    assert_eq!((&record["status"], &record["code"]), (&200.into(), &"client_stalled".into()));
}
