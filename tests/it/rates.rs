//! How many requests a key, or an address, may send: as many pass as may, to the last one, over all workers and
//! protocols, and clients are told.
//!
//! Rates are so slow that nothing comes back while a test runs, however long that takes.

use std::fs;
use std::thread;

use http::Request;
use jiff::Timestamp;
use serde_json::Value;

use crate::harness::actor::key_file;
use crate::harness::keyward::get;
use crate::harness::setup::replace;
use crate::harness::{Actor, Http2, Keyward, Message, Setup, Stage, Upstream, wait_for};

const RELOADED: &str = "reloaded";

fn with_key(lines: &str) -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| setup.add(Actor::new("alice", "viewer").with(lines)))
}

fn with_routes(routes: &str) -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| {
        setup.routes(routes);
        setup.key("alice", "viewer")
    })
}

/// How many of `requests` pass, one after another, each on a connection of its own; the others are refused as they must
/// be.
#[track_caller]
fn passing(kw: &Keyward, requests: usize, request: impl Fn() -> String) -> usize {
    let answers: Vec<_> = (0..requests).map(|_| kw.ask(request())).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status() != 200).collect();
    for answer in &refused {
        assert_eq!((answer.status(), answer.code().as_str()), (429, "rate_limited"));
    }
    requests - refused.len()
}

fn number(answer: &Message, name: &str) -> u64 {
    let value = answer.field(name).unwrap_or_else(|| panic!("no {name}: {}", answer.head));
    value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
}

#[test]
fn a_burst_passes_and_not_one_more() {
    let (stage, alice) = with_key("rate = \"1/h\"\nburst = 3");
    let request = get("/", &alice.header());
    for left in ["2", "1", "0"] {
        let answer = stage.kw.ask(&request);
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.field("ratelimit-policy"), Some(r#""rate";q=3;w=10800"#));
        let standing = answer.field("ratelimit").expect("what is left");
        assert!(standing.starts_with(&format!("\"rate\";r={left};t=")), "{standing}");
    }
    for _ in 0..3 {
        let refused = stage.refuses(&request, 429, "rate_limited");
        let wait = number(&refused, "retry-after");
        assert!((1..=3600).contains(&wait), "{wait}");
        let standing = format!("\"rate\";r=0;t={wait}");
        assert_eq!(refused.field("ratelimit"), Some(&*standing));
        assert_eq!(refused.field("ratelimit-policy"), Some(r#""rate";q=3;w=10800"#));
        // What is refused by a limit leaves the connection as it was.
        assert_eq!(refused.field("connection"), None);
    }
}

#[test]
fn what_is_used_comes_back() {
    let (stage, alice) = with_key("rate = \"60/m\"");
    let request = get("/", &alice.header());
    // Within the second, or later if the machine is slow.
    wait_for("a refusal", || (stage.kw.ask(&request).status() == 429).then_some(()));
    wait_for("the next", || (stage.kw.ask(&request).status() == 200).then_some(()));
}

#[test]
fn all_workers_share_a_limit_to_the_last_request() {
    let (stage, alice) = with_key("rate = \"1/h\"\nburst = 50");
    let request = get("/", &alice.header());
    let ask_all = || {
        let mut client = stage.kw.connect();
        let ask = |_| {
            client.send(&request);
            client.answer().status()
        };
        (0..20).map(ask).filter(|&status| status == 200).count()
    };
    let passed: usize = thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(ask_all)).collect();
        clients.into_iter().map(|client| client.join().expect("it was answered")).sum()
    });
    assert_eq!((passed, stage.app.requests().len()), (50, 50));
}

#[test]
fn over_http2_it_is_the_same_limit() {
    let (stage, alice) = with_key("rate = \"1/h\"\nburst = 2");
    stage.passes(get("/", &alice.header()));
    let client = Http2::connect(stage.kw.address());
    let ask = || {
        let uri = format!("http://{}/", stage.kw.address());
        client.send(Request::get(uri).header("x-api-key", &alice.key)).read()
    };
    let passed = ask();
    assert_eq!(passed.status, 200);
    assert!(passed.headers["ratelimit"].to_str().expect("text").starts_with("\"rate\";r=0;t="));
    let refused = ask();
    assert_eq!(refused.status, 429);
    let problem: Value = serde_json::from_str(&refused.text).expect("a problem");
    assert_eq!(problem["code"], "rate_limited");
    assert!(refused.headers.contains_key("retry-after"));
    stage.refuses(get("/", &alice.header()), 429, "rate_limited");
}

#[test]
fn a_role_limits_each_of_its_keys_unless_the_key_says_otherwise() {
    let (stage, [alice, bob, carol]) = Stage::new(Upstream::hello(), |setup| {
        setup.set("roles.guest", "limits = { rate = \"1/h\", burst = 2, daily = 5 }");
        let carol = Actor::new("carol", "guest").with("rate = \"1/h\"\nburst = 9\ndaily = 4");
        [setup.key("alice", "guest"), setup.key("bob", "guest"), setup.add(carol)]
    });
    let passing = |actor: &Actor| passing(&stage.kw, 6, || get("/", &actor.header()));
    assert_eq!([passing(&alice), passing(&bob), passing(&carol)], [2, 2, 4]);
}

#[test]
fn a_route_limits_each_key_there() {
    let (stage, [alice, bob]) = Stage::new(Upstream::hello(), |setup| {
        setup.routes(
            "[[routes]]\npath = \"/{*rest}\"\n[[routes]]\npath = \"/search\"\nmethods = [\"GET\"]\n\
             limits = { rate = \"1/h\", burst = 2 }\n",
        );
        [setup.key("alice", "viewer"), setup.key("bob", "viewer")]
    });
    let passing = |target, actor: &Actor| passing(&stage.kw, 4, || get(target, &actor.header()));
    assert_eq!([passing("/search", &alice), passing("/search", &bob)], [2, 2]);
    assert_eq!(passing("/other", &alice), 4);
    let answer = stage.kw.get("/other", &alice);
    assert_eq!((answer.field("ratelimit"), answer.field("ratelimit-policy")), (None, None));
    let answer = stage.kw.get("/search", &alice);
    assert_eq!(answer.field("ratelimit-policy"), Some(r#""route-rate";q=2;w=7200"#));
}

#[test]
fn what_the_route_refuses_uses_nothing_of_the_keys() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.routes(
            "[[routes]]\npath = \"/{*rest}\"\n[[routes]]\npath = \"/one\"\n\
             limits = { rate = \"1/h\" }\n[[routes]]\npath = \"/admin\"\nroles = [\"admin\"]\n",
        );
        setup.add(Actor::new("alice", "viewer").with("rate = \"1/h\"\nburst = 3\ndaily = 3"))
    });
    let passing = |target| passing(&stage.kw, 5, || get(target, &alice.header()));
    assert_eq!(passing("/one"), 1);
    // Whoever may not pass uses nothing either.
    for _ in 0..5 {
        stage.refuses(get("/admin", &alice.header()), 403, "forbidden");
        stage.refuses(get("/", "X-Api-Key: nobody-has-this\r\n"), 401, "invalid_key");
    }
    assert_eq!(passing("/"), 2);
}

#[test]
fn without_a_key_each_address_is_limited() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.set("server", "trusted_proxies = [\"127.0.0.0/8\"]");
        setup.routes(
            "[[routes]]\npath = \"/{*rest}\"\npublic = true\nlimits = { rate = \"1/h\", burst = 2 }\n",
        );
        setup.key("alice", "viewer")
    });
    let passing = |client: &str, key: &str| {
        passing(&stage.kw, 3, || get("/", &format!("X-Forwarded-For: {client}\r\n{key}")))
    };
    assert_eq!([passing("203.0.113.7", ""), passing("203.0.113.8", "")], [2, 2]);
    // What a host of IPv6 gets is one address.
    assert_eq!([passing("2001:db8::1", ""), passing("2001:db8::ffff:2", "")], [2, 0]);
    assert_eq!(passing("2001:db8:0:1::1", ""), 2);
    // A key is its own, wherever it is used.
    let key = alice.header();
    assert_eq!([passing("203.0.113.7", &key), passing("203.0.113.9", &key)], [2, 0]);
    // One that is not good is none.
    assert_eq!(passing("203.0.113.7", "X-Api-Key: nobody-has-this\r\n"), 0);
}

#[test]
fn a_request_is_in_flight_until_its_answer_has_ended() {
    let (app, held) = Upstream::halting("/slow", "hello");
    let (stage, alice) =
        Stage::new(app, |setup| setup.add(Actor::new("alice", "viewer").with("concurrent = 1")));
    let (slow, quick) = (get("/slow", &alice.header()), get("/", &alice.header()));
    let mut client = stage.kw.connect();
    client.send(&slow);
    let answer = client.answer_head();
    assert_eq!(answer.field("ratelimit"), Some("\"concurrent\";r=0"));
    assert_eq!(
        answer.field("ratelimit-policy"),
        Some(r#""concurrent";q=1;qu="concurrent-requests""#)
    );
    held.wait();
    let refused = stage.kw.ask(&quick);
    assert_eq!((refused.status(), refused.code().as_str()), (429, "rate_limited"));
    assert_eq!(refused.field("retry-after"), Some("1"));
    held.let_go();
    wait_for("room", || (stage.kw.ask(&quick).status() == 200).then_some(()));
    // A client that leaves gives its place back, too. The one before ends just behind its answer.
    let client = wait_for("room", || {
        let mut client = stage.kw.connect();
        client.send(&slow);
        (client.answer_head().status() == 200).then_some(client)
    });
    held.wait();
    assert_eq!(stage.kw.ask(&quick).status(), 429);
    client.reset();
    wait_for("room", || (stage.kw.ask(&quick).status() == 200).then_some(()));
    held.let_go();
}

/// The day of UTC.
fn today() -> i64 {
    Timestamp::now().as_second() / (24 * 60 * 60)
}

#[test]
fn a_days_quota_ends_at_midnight_and_outlives_a_restart() {
    let app = Upstream::hello();
    let mut setup = Setup::new(&app);
    let lines = "daily = 4\nallowed_methods = [\"GET\"]";
    let alice = setup.add(Actor::new("alice", "viewer").with(lines));
    let day = today();
    let mut kw = setup.start();
    let request = || get("/", &alice.header());
    let mut counts = vec![passing(&kw, 2, request)];
    let answer = kw.ask(request());
    counts.push(usize::from(answer.status() == 200));
    assert_eq!(answer.field("ratelimit-policy"), Some(r#""daily";q=4;w=86400"#));
    // What is refused by policy is a use of the key, but does not count against its quota.
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\n{}\r\n", alice.header());
    assert_eq!(kw.ask(post).status(), 403);
    kw.signal("TERM");
    kw.wait_for_exit();
    kw = crate::usage::restart(kw);
    counts.push(passing(&kw, 5, request));
    // Those were refused as too many, and count no more after another restart.
    kw.signal("TERM");
    kw.wait_for_exit();
    let folder = kw.folder().to_owned();
    let keys = fs::read_to_string(folder.join("keys.toml")).expect("our own file");
    fs::write(folder.join("keys.toml"), keys.replace("daily = 4", "daily = 6"))
        .expect("our own file");
    kw = crate::usage::restart(kw);
    counts.push(passing(&kw, 5, request));
    if today() == day {
        assert_eq!(counts, [2, 1, 1, 2]);
        let refused = kw.ask(request());
        let wait = number(&refused, "retry-after");
        assert!((1..=86_400).contains(&wait), "{wait}");
    }
}

#[test]
fn what_is_used_stays_used_over_reloads_and_a_rotation() {
    let (stage, alice) = with_key("rate = \"1/h\"\nburst = 4");
    let kw = &stage.kw;
    let ask = |actor: &Actor| kw.get("/", actor).status();
    let reload = |actors: &[Actor]| {
        let before = kw.count_events(RELOADED);
        replace(&kw.path("keys.toml"), &key_file(actors));
        kw.wait_for_another(RELOADED, before);
    };
    assert_eq!(ask(&alice), 200);
    // Another entry is made of the key, and another generation of all.
    let newcomer = Actor::new("bob", "viewer");
    reload(&[alice.clone(), newcomer.clone()]);
    assert_eq!(ask(&alice), 200);
    reload(&[alice.clone().with("rate = \"1/h\"\nburst = 4\nenabled = false"), newcomer.clone()]);
    assert_eq!(ask(&alice), 401);
    reload(&[alice.clone(), newcomer.clone()]);
    assert_eq!(ask(&alice), 200);
    let entry = alice.entry();
    let hash = entry.lines().find_map(|line| line.strip_prefix("hash = ")).expect("a hash");
    let later = "2100-01-01T00:00:00Z";
    let rotated = alice.clone().with_key("it-another-secret-of-alice").with(&format!(
        "rate = \"1/h\"\nburst = 4\nprevious_hash = {hash}\nprevious_expires_at = {later}"
    ));
    reload(&[rotated.clone(), newcomer.clone()]);
    // Both secrets are one key.
    assert_eq!([ask(&rotated), ask(&alice), ask(&rotated)], [200, 429, 429]);
    // Wider limits hold from the next request on, and what was used counts.
    reload(&[alice.clone().with("rate = \"1/h\"\nburst = 6"), newcomer]);
    assert_eq!([ask(&alice), ask(&alice), ask(&alice)], [200, 200, 429]);
}

#[test]
fn an_upstreams_own_fields_pass_where_nothing_is_limited_here() {
    let answer = "HTTP/1.1 200 OK\r\nRateLimit: \"theirs\";r=7\r\nRateLimit-Policy: \"theirs\";q=9\r\n\
                  Content-Length: 0\r\n\r\n";
    let (stage, [alice, bob]) = Stage::new(Upstream::answering(answer), |setup| {
        let bob = Actor::new("bob", "viewer").with("daily = 1000");
        [setup.key("alice", "viewer"), setup.add(bob)]
    });
    let theirs = stage.kw.get("/", &alice);
    assert_eq!(theirs.fields("ratelimit"), ["\"theirs\";r=7"]);
    assert_eq!(theirs.fields("ratelimit-policy"), ["\"theirs\";q=9"]);
    let ours = stage.kw.get("/", &bob);
    assert_eq!(ours.fields("ratelimit-policy"), [r#""daily";q=1000;w=86400"#]);
    let [standing] = &ours.fields("ratelimit")[..] else { panic!("{}", ours.head) };
    assert!(standing.starts_with("\"daily\";r="), "{standing}");
}

#[test]
fn a_preflight_takes_from_the_limit_of_its_address() {
    let (stage, _) = Stage::new(Upstream::hello(), |setup| {
        setup.set("auth", "preflight = \"forward\"");
        setup.routes("[[routes]]\npath = \"/{*rest}\"\nlimits = { rate = \"1/h\", burst = 2 }\n");
        setup.key("alice", "viewer")
    });
    let preflight = || {
        "OPTIONS / HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\nAccess-Control-Request-Method: GET\r\n\r\n"
            .to_owned()
    };
    assert_eq!(passing(&stage.kw, 4, preflight), 2);
}

#[test]
fn refusals_are_logged_and_measured() {
    let (stage, alice) = with_routes(
        "[[routes]]\npath = \"/{*rest}\"\nlimits = { rate = \"1/h\", concurrent = 5 }\n",
    );
    stage.passes(get("/", &alice.header()));
    stage.refuses(get("/", &alice.header()), 429, "rate_limited");
    let record = stage.kw.wait_for_record("the refusal", |record| record["status"] == 429);
    assert_eq!(record["code"], "rate_limited");
    assert_eq!((&record["user"], &record["route"]), (&"alice".into(), &"/{*rest}".into()));
}
