//! Which of several endpoints gets a request.

use std::sync::Arc;

use crate::harness::keyward::get;
use crate::harness::{Actor, Keyward, Setup, Upstream, wait, wait_for};

/// One worker in front of `endpoints`, which `lists` writes into the file.
fn one_worker(
    endpoints: &[&Upstream],
    lists: impl Fn(&Upstream) -> String,
    lines: &str,
) -> (Keyward, Actor) {
    let mut setup = Setup::new(endpoints[0]);
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    let listed: Vec<String> = endpoints.iter().map(|endpoint| lists(endpoint)).collect();
    setup.endpoints(&listed, lines);
    let alice = setup.key("alice", "viewer");
    (setup.start(), alice)
}

fn quoted(endpoint: &Upstream) -> String {
    format!("\"{}\"", endpoint.url())
}

#[test]
fn a_weight_of_three_takes_three_times_as_much() {
    let (light, heavy) = (Upstream::named("light"), Upstream::named("heavy"));
    let heavy_url = heavy.url();
    let lists = |endpoint: &Upstream| match endpoint.url() == heavy_url {
        true => format!("{{ url = \"{heavy_url}\", weight = 3 }}"),
        false => quoted(endpoint),
    };
    let (kw, alice) = one_worker(&[&light, &heavy], lists, "");
    let answers: Vec<String> = (0..40).map(|_| kw.get("/", &alice).text()).collect();
    assert_eq!(answers.iter().filter(|answer| *answer == "heavy").count(), 30, "{answers:?}");
    assert_eq!(light.requests().len(), 10);
}

#[test]
fn a_user_always_meets_the_same_endpoint_and_users_are_spread() {
    let apps = ["a", "b", "c"].map(Upstream::named);
    let mut setup = Setup::new(&apps[0]);
    setup.endpoints(&apps.each_ref().map(quoted), "balance = \"hash_user\"");
    setup
        .routes("[[routes]]\npath = \"/public\"\npublic = true\n[[routes]]\npath = \"/{*rest}\"\n");
    let users: Vec<Actor> = (0..20).map(|n| setup.key(&format!("user{n}"), "viewer")).collect();
    let kw = setup.start();
    let mut met = std::collections::BTreeSet::new();
    for user in &users {
        let answers: Vec<String> = (0..4).map(|_| kw.get("/", user).text()).collect();
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
        met.insert(answers[0].clone());
    }
    assert_eq!(met.len(), 3, "twenty users leave none of three endpoints alone");
    let anonymous: Vec<String> = (0..6).map(|_| kw.ask(get("/public", "")).text()).collect();
    assert!(anonymous.iter().all(|answer| *answer == anonymous[0]), "{anonymous:?}");
}

#[test]
fn who_has_less_to_do_gets_the_next_request() {
    let (release, held) = wait::signal();
    let held = Arc::new(held);
    let app = || {
        let held = Arc::clone(&held);
        Upstream::scripted(move |connection| {
            while let Some(request) = connection.request()? {
                if request.target() == "/slow" {
                    wait::wait(&held);
                }
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
            }
            Ok(())
        })
    };
    let apps = [app(), app()];
    let (kw, alice) = one_worker(&[&apps[0], &apps[1]], quoted, "balance = \"least_request\"");
    let mut slow = kw.connect();
    slow.send(get("/slow", &alice.header()));
    let busy = wait_for("the slow request", || {
        apps.iter().position(|app| app.targets().contains(&"/slow".to_owned()))
    });
    for _ in 0..20 {
        assert_eq!(kw.get("/", &alice).text(), "ok");
    }
    assert_eq!(apps[busy].targets(), ["/slow"]);
    assert_eq!(apps[1 - busy].targets().len(), 20);
    release.send(()).expect("the script waits");
    assert_eq!(slow.answer().text(), "ok");
}
