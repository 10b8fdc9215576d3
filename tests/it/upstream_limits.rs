//! How much may be asked of an upstream at once: what waits, what is shed, and that room is given back.

use std::sync::mpsc::SyncSender;

use crate::harness::keyward::get;
use crate::harness::{Actor, Client, Keyward, Setup, Upstream, wait, wait_for};

/// Answers to `/held…` when it is told to, to others at once.
fn holding() -> (SyncSender<()>, Upstream) {
    let (release, held) = wait::signal();
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            if request.target().starts_with("/held") {
                wait::wait(&held);
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    (release, app)
}

fn start(app: &Upstream, lines: &str) -> (Keyward, Actor) {
    let mut setup = Setup::new(app);
    // As long as a request may wait for a connection, however slow the machine is.
    setup.set("server.timeouts", "upstream_connect = \"5m\"");
    setup.set("upstreams.app", lines);
    let alice = setup.key("alice", "viewer");
    (setup.start(), alice)
}

fn ask(kw: &Keyward, target: &str, actor: &Actor) -> Client {
    let mut client = kw.connect();
    client.send(get(target, &actor.header()));
    client
}

#[track_caller]
fn check_overloaded(client: &mut Client) {
    let answer = client.answer();
    assert_eq!((answer.status(), answer.code().as_str()), (503, "overloaded"), "{}", answer.head);
    assert_eq!(answer.field("retry-after"), Some("1"));
}

fn arrived(app: &Upstream, target: &str) {
    wait_for(target, || app.targets().iter().any(|seen| seen == target).then_some(()));
}

#[test]
fn a_request_waits_for_a_connection_and_the_next_one_is_shed() {
    let (release, app) = holding();
    let (kw, alice) = start(&app, "max_connections = 1\nmax_pending = 1");
    let mut held = ask(&kw, "/held", &alice);
    arrived(&app, "/held");
    // Of these one waits, whichever comes first, and the others are refused.
    let mut others: Vec<Client> = (0..4).map(|_| ask(&kw, "/next", &alice)).collect();
    wait_for("the refusals", || {
        (kw.access_log().iter().filter(|record| record["code"] == "overloaded").count() == 3)
            .then_some(())
    });
    assert_eq!(app.targets(), ["/held"], "nothing gets past the limit");
    release.send(()).expect("the script waits");
    assert_eq!(held.answer().text(), "ok");
    let mut codes: Vec<String> = others
        .iter_mut()
        .map(Client::answer)
        .map(|answer| if answer.status() == 200 { answer.text() } else { answer.code() })
        .collect();
    codes.sort();
    assert_eq!(codes, ["ok", "overloaded", "overloaded", "overloaded"]);
    assert_eq!(app.targets(), ["/held", "/next"]);
}

#[test]
fn waiting_has_an_end() {
    let (release, app) = holding();
    let mut setup = Setup::new(&app);
    setup.set("server.timeouts", "upstream_connect = \"100ms\"");
    setup.set("upstreams.app", "max_connections = 1");
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    let mut held = ask(&kw, "/held", &alice);
    arrived(&app, "/held");
    check_overloaded(&mut ask(&kw, "/", &alice));
    release.send(()).expect("the script waits");
    assert_eq!(held.answer().text(), "ok");
    assert_eq!(kw.get("/", &alice).text(), "ok");
}

#[test]
fn many_requests_share_few_connections_and_none_is_forgotten() {
    let app = Upstream::named("app");
    let (kw, alice) = start(&app, "max_connections = 2\nmax_pending = 1000");
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                let mut client = kw.connect();
                for _ in 0..50 {
                    client.send(get("/", &alice.header()));
                    assert_eq!(client.answer().text(), "app");
                }
            });
        }
    });
    assert_eq!(app.requests().len(), 800);
}

#[test]
fn above_max_in_flight_requests_are_shed_until_one_ends() {
    let (release, app) = holding();
    let (kw, alice) = start(&app, "max_in_flight = 2");
    let mut held = [ask(&kw, "/held1", &alice), ask(&kw, "/held2", &alice)];
    arrived(&app, "/held1");
    arrived(&app, "/held2");
    for _ in 0..3 {
        check_overloaded(&mut ask(&kw, "/", &alice));
    }
    release.send(()).expect("the script waits");
    release.send(()).expect("the script waits");
    held.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "ok"));
    wait_for("room", || (kw.get("/", &alice).status() == 200).then_some(()));
    assert_eq!(app.requests().len(), 3);
}

#[test]
fn who_leaves_makes_room() {
    for lines in ["max_in_flight = 1", "max_connections = 1\nmax_pending = 0"] {
        let (release, app) = holding();
        let (kw, alice) = start(&app, lines);
        let held = ask(&kw, "/held", &alice);
        arrived(&app, "/held");
        check_overloaded(&mut ask(&kw, "/", &alice));
        held.reset();
        wait_for("room", || (kw.get("/", &alice).status() == 200).then_some(()));
        release.send(()).expect("the script waits");
    }
}
