//! Upstreams that are missing, silent or broken, and connections to them that are used again.

use std::net::TcpListener;

use crate::harness::keyward::get;
use crate::harness::{Actor, Message, Setup, Stage, Upstream};

fn stage(app: Upstream) -> (Stage, Actor) {
    Stage::new(app, |setup| setup.key("alice", "viewer"))
}

#[track_caller]
fn check(answer: &Message, status: u16, code: &str) {
    assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{}", answer.head);
    assert_eq!(answer.fields("x-request-id").len(), 1, "{}", answer.head);
}

#[test]
fn an_upstream_that_is_not_there_is_502_at_once() {
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let mut setup = Setup::with_endpoint(unused.expect("loopback has free ports"));
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    for _ in 0..3 {
        check(&kw.get("/", &alice), 502, "upstream_connect");
    }
    assert_eq!(kw.ask(get("/", "")).status(), 401, "who may pass is decided before");
    let record = kw.wait_for_record("the failure", |record| record["status"] == 502);
    assert_eq!(record["code"], "upstream_connect");
}

#[test]
fn an_upstream_that_says_nothing_is_504() {
    let app = Upstream::scripted(|connection| {
        connection.request()?;
        connection.wait_for_close()
    });
    let (stage, alice) = Stage::new(app, |setup| {
        setup.set("server.timeouts", "upstream_response = \"500ms\"");
        setup.key("alice", "viewer")
    });
    check(&stage.kw.get("/", &alice), 504, "upstream_timeout");
}

#[test]
fn an_upstream_that_speaks_no_http_is_502() {
    for answer in [
        "",
        "hello\r\n\r\n",
        "HTTP/1.1\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nX-Odd: a\0b\r\nContent-Length: 0\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let (stage, alice) = stage(Upstream::scripted(move |connection| {
            connection.request()?;
            connection.send(answer)
        }));
        let answered = stage.kw.get("/", &alice);
        assert_eq!(answered.code(), "upstream_protocol", "{answer:?}");
        check(&answered, 502, "upstream_protocol");
    }
}

#[test]
fn an_upstream_that_resets_the_connection_is_502() {
    let (stage, alice) = stage(Upstream::scripted(|connection| {
        connection.request()?;
        connection.reset()
    }));
    check(&stage.kw.get("/", &alice), 502, "upstream_protocol");
}

#[test]
fn an_answer_of_the_upstream_is_its_own_whatever_its_status() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            let status = request.target().trim_start_matches('/');
            connection.send(format!(
                "HTTP/1.1 {status} Theirs\r\nWWW-Authenticate: Theirs\r\nContent-Length: 6\r\n\r\ntheirs",
            ))?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    for status in [
        200, 201, 299, 300, 302, 400, 401, 403, 404, 405, 408, 411, 413, 414, 417, 418, 426, 429,
        431, 451, 499, 500, 501, 502, 503, 504, 511, 599,
    ] {
        client.send(get(&format!("/{status}"), &alice.header()));
        let answer = client.answer();
        assert_eq!(
            (answer.status(), answer.text().as_str()),
            (status, "theirs"),
            "{}",
            answer.head
        );
        assert_eq!(answer.fields("www-authenticate"), ["Theirs"], "{}", answer.head);
        assert_eq!(answer.fields("x-request-id").len(), 1, "{}", answer.head);
        let record = stage.kw.wait_for_record("the request", |record| {
            record["path"].as_str() == Some(&format!("/{status}"))
        });
        assert_eq!(record["status"], status, "{record}");
        assert!(record["code"].is_null(), "the code is for our own answers: {record}");
    }
}

/// Answers the first request on its first connection, and closes that on the second without an answer.
fn dies_on_the_second_request() -> Upstream {
    Upstream::scripted(|connection| {
        let mut count = 0;
        while let Some(_request) = connection.request()? {
            count += 1;
            if connection.index == 0 && count == 2 {
                return connection.reset();
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    })
}

fn one_worker(app: Upstream) -> (Stage, Actor) {
    let mut setup = Setup::new(&app);
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    let alice = setup.key("alice", "viewer");
    (Stage { app, kw: setup.start() }, alice)
}

#[test]
fn a_get_on_a_connection_that_died_is_sent_again() {
    let (stage, alice) = one_worker(dies_on_the_second_request());
    assert_eq!(stage.kw.get("/first", &alice).text(), "ok");
    assert_eq!(stage.kw.get("/second", &alice).text(), "ok");
    assert_eq!(stage.app.targets(), ["/first", "/second", "/second"]);
}

#[test]
fn a_post_whose_bytes_may_have_gone_out_is_not_sent_again() {
    let (stage, alice) = one_worker(dies_on_the_second_request());
    assert_eq!(stage.kw.get("/first", &alice).text(), "ok");
    let key = alice.header();
    let post = format!("POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n{key}\r\n100");
    check(&stage.kw.ask(post), 502, "upstream_protocol");
    assert_eq!(stage.app.targets(), ["/first", "/pay"]);
    assert_eq!(stage.kw.get("/third", &alice).text(), "ok");
}

#[test]
fn sending_again_has_an_end() {
    let (stage, alice) = one_worker(Upstream::scripted(|connection| {
        connection.request()?;
        connection.reset()
    }));
    check(&stage.kw.get("/", &alice), 502, "upstream_protocol");
    assert!(stage.app.requests().len() <= 3, "{:?}", stage.app.targets());
}

#[test]
fn a_connection_closed_while_it_was_idle_harms_nobody() {
    let (stage, alice) = one_worker(Upstream::scripted(|connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    }));
    for _ in 0..50 {
        assert_eq!(stage.kw.get("/", &alice).text(), "ok");
    }
}

#[test]
fn requests_of_all_clients_share_the_connections_to_the_upstream() {
    let (stage, alice) = one_worker(Upstream::hello());
    for _ in 0..20 {
        assert_eq!(stage.kw.get("/", &alice).text(), "hello");
    }
    assert_eq!(stage.app.connections(), 1);
}

#[test]
fn a_connection_that_the_upstream_wants_closed_is_not_used_again() {
    for answer in [
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ] {
        let (stage, alice) = one_worker(Upstream::answering(answer));
        for _ in 0..3 {
            assert_eq!(stage.kw.get("/", &alice).text(), "ok");
        }
        assert_eq!(stage.app.connections(), 3, "{answer}");
    }
}

#[test]
fn bytes_behind_an_answer_never_become_an_answer() {
    let (stage, alice) = one_worker(Upstream::scripted(|connection| {
        while let Some(_request) = connection.request()? {
            connection.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\
                 HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            )?;
        }
        Ok(())
    }));
    for _ in 0..5 {
        assert_eq!(stage.kw.get("/", &alice).text(), "ok");
    }
}

#[test]
fn each_route_goes_to_its_upstream() {
    let other = Upstream::answering("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother");
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.set("upstreams.other", &format!("endpoints = [\"{}\"]", other.url()));
        setup.routes(
            "[[routes]]\npath = \"/other/{*rest}\"\nupstream = \"other\"\n\
             [[routes]]\npath = \"/{*rest}\"\nupstream = \"app\"\n",
        );
        setup.key("alice", "viewer")
    });
    assert_eq!(stage.kw.get("/other/x", &alice).text(), "other");
    assert_eq!(stage.kw.get("/x", &alice).text(), "hello");
    assert_eq!(other.targets(), ["/other/x"]);
    assert_eq!(stage.app.targets(), ["/x"]);
}
