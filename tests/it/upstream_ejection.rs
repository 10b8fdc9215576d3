//! Endpoints that fail are left out, requests are tried on others, and who works again gets requests again.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::harness::keyward::get;
use crate::harness::setup::replace;
use crate::harness::{Actor, Keyward, Setup, Upstream, wait_for};

const LEFT_OUT: &str = "endpoint is left out after failures in a row";
const IS_BACK: &str = "endpoint is back";

/// Who is left out comes back in no test.
const FOREVER: &str = "ejection = { back_off = \"1h\" }";

/// One worker in front of endpoints at `urls`.
fn one_worker(urls: &[String], lines: &str) -> (Keyward, Actor) {
    let unused = "127.0.0.1:1".parse().expect("an address");
    let mut setup = Setup::with_endpoint(unused);
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    let quoted: Vec<String> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    setup.endpoints(&quoted, lines);
    let alice = setup.key("alice", "author");
    (setup.start(), alice)
}

/// Where nothing listens, nor will: the other tests use 127.0.0.1.
fn nowhere() -> String {
    let unused = TcpListener::bind("127.0.34.1:0").and_then(|listener| listener.local_addr());
    format!("http://{}", unused.expect("loopback has free ports"))
}

/// Resets every connection behind the request's head.
fn resets() -> Upstream {
    Upstream::scripted(|connection| {
        connection.head()?;
        connection.reset()
    })
}

/// Answers with 200 while `works`, and resets the connection otherwise.
fn working(works: &Arc<AtomicBool>) -> Upstream {
    let works = Arc::clone(works);
    Upstream::scripted(move |connection| {
        while let Some(_request) = connection.request()? {
            if !works.load(Ordering::SeqCst) {
                return connection.reset();
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworks")?;
        }
        Ok(())
    })
}

fn post(actor: &Actor) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{}Content-Length: 3\r\n\r\nabc", actor.header())
}

#[test]
fn what_was_refused_is_tried_elsewhere_whatever_it_is() {
    let app = Upstream::named("here");
    let (kw, alice) = one_worker(&[nowhere(), app.url()], FOREVER);
    for _ in 0..10 {
        assert_eq!(kw.get("/", &alice).text(), "here");
        assert_eq!(kw.ask(post(&alice)).text(), "here");
    }
    kw.wait_for_event(LEFT_OUT, |event| event["upstream"] == "app");
    assert_eq!(kw.count_events("endpoint not reachable"), 5, "left out, it is not asked");
}

#[test]
fn what_may_be_done_twice_is_tried_elsewhere() {
    let (broken, app) = (resets(), Upstream::named("here"));
    let (kw, alice) = one_worker(&[broken.url(), app.url()], "ejection.after = 0");
    for _ in 0..10 {
        assert_eq!(kw.get("/", &alice).text(), "here");
    }
    let answers: Vec<u16> = (0..4).map(|_| kw.ask(post(&alice)).status()).collect();
    assert_eq!(answers.iter().filter(|&&status| status == 502).count(), 2, "{answers:?}");
    assert_eq!(broken.requests().len(), 7, "five GETs, two POSTs");
}

#[test]
fn an_answer_that_is_none_is_tried_elsewhere() {
    for answer in ["", "hello\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Le"] {
        let broken = Upstream::scripted(move |connection| {
            connection.request()?;
            connection.send(answer)
        });
        let app = Upstream::named("here");
        let (kw, alice) = one_worker(&[broken.url(), app.url()], "");
        for _ in 0..4 {
            assert_eq!(kw.get("/", &alice).text(), "here", "{answer:?}");
        }
    }
}

#[test]
fn retries_have_an_end_and_a_budget() {
    for (retries, expected) in [
        ("budget_min = 1000", 3),
        ("budget_min = 1000, attempts = 2", 2),
        ("budget_min = 1000, attempts = 10", 4),
        ("budget_percent = 0, budget_min = 0", 1),
    ] {
        let broken = [resets(), resets(), resets(), resets()];
        let lines = format!("ejection.after = 0\nretries = {{ {retries} }}");
        let (kw, alice) = one_worker(&broken.each_ref().map(Upstream::url), &lines);
        for count in 1..4 {
            let answer = kw.get("/", &alice);
            assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_protocol"));
            let sent: usize = broken.iter().map(|app| app.requests().len()).sum();
            assert_eq!(sent, count * expected, "{retries}");
        }
    }
}

#[test]
fn who_works_again_gets_requests_again() {
    let works = Arc::new(AtomicBool::new(false));
    let (flapping, app) = (working(&works), Upstream::named("here"));
    let lines = "slow_start = \"10ms\"\nejection = { after = 2, back_off = \"10ms\", max_back_off = \"20ms\" }";
    let (kw, alice) = one_worker(&[flapping.url(), app.url()], lines);
    wait_for("the ejection", || {
        assert_eq!(kw.get("/", &alice).text(), "here");
        (kw.count_events(LEFT_OUT) > 2).then_some(())
    });
    assert_eq!(kw.count_events(IS_BACK), 0);
    works.store(true, Ordering::SeqCst);
    wait_for("its requests", || (kw.get("/", &alice).text() == "works").then_some(()));
    kw.wait_for_event(IS_BACK, |_| true);
    let answers: Vec<String> = (0..20).map(|_| kw.get("/", &alice).text()).collect();
    wait_for("its whole share", || {
        let answers = [(); 10].map(|()| kw.get("/", &alice).text());
        (answers.iter().filter(|answer| *answer == "works").count() == 5).then_some(())
    });
    assert!(answers.iter().all(|answer| answer == "works" || answer == "here"), "{answers:?}");
}

#[test]
fn when_all_are_left_out_they_are_tried_all_the_same() {
    let works = Arc::new(AtomicBool::new(false));
    let apps = [working(&works), working(&works)];
    let lines = "ejection = { after = 1, back_off = \"1h\" }";
    let (kw, alice) = one_worker(&apps.each_ref().map(Upstream::url), lines);
    assert_eq!(kw.get("/", &alice).code(), "upstream_protocol");
    assert_eq!(kw.count_events(LEFT_OUT), 2);
    works.store(true, Ordering::SeqCst);
    for _ in 0..4 {
        assert_eq!(kw.get("/", &alice).text(), "works");
    }
    assert_eq!(kw.count_events(IS_BACK), 1, "who served is back, the other one may rest");
}

#[test]
fn when_all_are_left_out_requests_are_refused_where_that_is_wanted() {
    let app = resets();
    let lines = "when_none_is_up = \"refuse\"\nejection = { after = 1, back_off = \"1h\" }";
    let (kw, alice) = one_worker(&[app.url()], lines);
    assert_eq!(kw.get("/", &alice).code(), "upstream_protocol");
    let answer = kw.get("/", &alice);
    assert_eq!((answer.status(), answer.code().as_str()), (503, "no_endpoint"));
    assert_eq!(answer.field("retry-after"), Some("5"));
    assert_eq!(app.requests().len(), 1);
    let record = kw.wait_for_record("the refusal", |record| record["status"] == 503);
    assert_eq!((&record["code"], record["endpoint"].is_null()), (&"no_endpoint".into(), true));
}

#[test]
fn a_reload_forgets_nothing_of_an_endpoint() {
    let (broken, app) = (resets(), Upstream::named("here"));
    let lines = "ejection = { after = 1, back_off = \"1h\", max_back_off = \"1h\" }";
    let (mut kw, alice) = one_worker(&[broken.url(), app.url()], lines);
    let ask = |kw: &Keyward| {
        for _ in 0..4 {
            assert_eq!(kw.get("/", &alice).text(), "here");
        }
    };
    ask(&kw);
    assert_eq!(broken.requests().len(), 1);
    let before = kw.count_events("reloaded");
    kw.setup().set("server.limits", "headers = 50");
    let text = kw.setup().config();
    replace(&kw.path("keyward.toml"), &text);
    kw.wait_for_another("reloaded", before);
    ask(&kw);
    assert_eq!(broken.requests().len(), 1);
}

#[test]
fn one_of_three_killed_and_revived_under_load_costs_no_request() {
    let apps = [Upstream::named("a"), Upstream::named("b")];
    let mortal = Upstream::named_at("mortal", "127.0.33.1:0");
    let address = mortal.address().to_string();
    let mut setup = Setup::new(&mortal);
    let urls = [apps[0].url(), apps[1].url(), mortal.url()].map(|url| format!("\"{url}\""));
    let lines =
        "slow_start = \"50ms\"\nejection = { back_off = \"20ms\", max_back_off = \"100ms\" }";
    setup.endpoints(&urls, lines);
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = || {
            let mut client = kw.connect();
            while !is_over.load(Ordering::Relaxed) {
                client.send(get("/", &alice.header()));
                let answer = client.answer();
                let is_right = ["a", "b", "mortal"].contains(&answer.text().as_str());
                assert!(answer.status() == 200 && is_right, "{}{}", answer.head, answer.text());
            }
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
        let course = || {
            wait_for("its part of the load", || (mortal.requests().len() > 50).then_some(()));
            drop(mortal);
            kw.wait_for_event(LEFT_OUT, |event| event["endpoint"] == address.as_str());
            let revived = Upstream::named_at("mortal", &address);
            wait_for("the load to come back", || (revived.requests().len() > 50).then_some(()));
        };
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(course));
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().for_each(|client| client.join().expect("no request fails"));
        ended.expect("the endpoint was left out, and came back");
    });
}
