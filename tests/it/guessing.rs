//! Guessing: whoever shows too many keys that nobody has is told to wait, in memory that is bounded, and a good key is never
//! refused for it.
//!
//! Windows and bans are an hour here, so that no slow machine lets one end.

use std::thread;

use http::Request;
use serde_json::Value;

use crate::harness::keyward::{field, get};
use crate::harness::setup::write;
use crate::harness::{Actor, Client, Http2, Keyward, Message, Setup, Stage, Upstream};

const LIMIT: usize = 5;
const FAILURES: &str = "failures = { limit = 5, window = \"1h\", ban = \"1h\" }";
const BANNED: &str =
    "an address showed too many keys that nobody has; further ones are refused with 429";
const RELOADED: &str = "reloaded";

/// Alice, a viewer; clients are those that the peer names.
fn stage(prepare: impl FnOnce(&mut Setup)) -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| {
        setup.set("server", "trusted_proxies = [\"127.0.0.1\"]").set("auth", FAILURES);
        prepare(setup);
        setup.key("alice", "viewer")
    })
}

/// A request of `client` with `key`.
fn ask(client: &str, key: &str) -> String {
    get("/", &format!("X-Forwarded-For: {client}\r\nX-Api-Key: {key}\r\n"))
}

/// Has `client` guess until it is banned.
#[track_caller]
fn ban(stage: &Stage, client: &str) {
    for number in 0..LIMIT {
        stage.refuses(ask(client, &format!("a-guess-of-it-{number}")), 401, "invalid_key");
    }
    stage.refuses(ask(client, "a-guess-too-many"), 429, "too_many_failures");
}

#[test]
fn whoever_guesses_waits_and_a_good_key_passes_from_the_same_address() {
    let (stage, alice) = stage(|_| {});
    let client = "192.0.2.1";
    for number in 0..LIMIT {
        stage.passes(ask(client, &alice.key));
        stage.refuses(ask(client, &format!("a-guess-of-it-{number}")), 401, "invalid_key");
    }
    for number in 0..3 * LIMIT {
        let guess = ask(client, &format!("another-guess-{number}"));
        let answer = stage.refuses(guess, 429, "too_many_failures");
        let wait: u64 = answer.field("retry-after").and_then(|s| s.parse().ok()).expect("seconds");
        assert!((1..=3600).contains(&wait), "{wait}");
        assert!(answer.fields("www-authenticate").is_empty(), "{}", answer.head);
        stage.passes(ask(client, &alice.key));
    }
    // Others go their way: the address beside it, and who carries no key at all.
    stage.refuses(ask("192.0.2.2", "a-guess-of-others"), 401, "invalid_key");
    stage.refuses(get("/", &format!("X-Forwarded-For: {client}\r\n")), 401, "missing_key");
    let record = stage.kw.wait_for_record("a refusal", |record| record["status"] == 429);
    assert_eq!(record["code"], "too_many_failures");
    assert_eq!(record["client"], client);
}

#[test]
fn a_ban_is_told_once_and_without_a_key() {
    let (stage, _alice) = stage(|_| {});
    ban(&stage, "192.0.2.1");
    for number in 0..10 {
        stage.refuses(ask("192.0.2.1", &format!("guess-{number}")), 429, "too_many_failures");
    }
    let event = stage.kw.wait_for_event(BANNED, |_| true);
    assert_eq!(field(&event, "client"), "192.0.2.1");
    assert_eq!(field(&event, "ban"), "1h");
    // What is said later is behind whatever was said of the guesses.
    let before = stage.kw.count_events(RELOADED);
    stage.kw.signal("HUP");
    stage.kw.wait_for_another(RELOADED, before);
    assert_eq!(stage.kw.count_events(BANNED), 1);
    let said = stage.kw.stderr() + &stage.kw.stdout();
    assert!(!said.contains("guess-"), "{said}");
}

#[test]
fn a_subscriber_of_ipv6_is_one_and_its_neighbour_another() {
    let (stage, alice) = stage(|_| {});
    for number in 0..LIMIT {
        let guess = ask(&format!("2001:db8:0:1::{number}"), &format!("a-guess-of-it-{number}"));
        stage.refuses(guess, 401, "invalid_key");
    }
    let host = "2001:db8:0:1:ffff::1";
    stage.refuses(ask(host, "a-guess-too-many"), 429, "too_many_failures");
    stage.passes(ask(host, &alice.key));
    stage.refuses(ask("2001:db8:0:2::1", "a-guess-of-others"), 401, "invalid_key");
}

#[test]
fn what_a_client_says_of_itself_does_not_help_it() {
    let (stage, _alice) = stage(|setup| {
        setup.replace("server", "listen = [\"127.0.0.1:0\"]");
    });
    for number in 0..LIMIT {
        let guess = ask(&format!("192.0.2.{number}"), &format!("a-guess-of-it-{number}"));
        stage.refuses(guess, 401, "invalid_key");
    }
    stage.refuses(ask("192.0.2.99", "a-guess-too-many"), 429, "too_many_failures");
}

#[test]
fn keys_that_have_ended_are_no_guesses_but_a_guesser_is_not_told_of_them() {
    let mut ended = Vec::new();
    let (stage, _alice) = stage(|setup| {
        let off = Actor::new("off", "viewer").with("enabled = false");
        let old = Actor::new("old", "viewer").with("expires_at = 2026-01-01T00:00:00Z");
        ended = vec![setup.add(off), setup.add(old)];
    });
    let client = "192.0.2.1";
    for _ in 0..2 * LIMIT {
        stage.refuses(ask(client, &ended[0].key), 401, "key_disabled");
        stage.refuses(ask(client, &ended[1].key), 401, "key_expired");
        let two = format!("X-Forwarded-For: {client}\r\nX-Api-Key: one-key\r\nX-Api-Key: two\r\n");
        stage.refuses(get("/", &two), 400, "ambiguous_credentials");
    }
    ban(&stage, client);
    for Actor { key, .. } in &ended {
        stage.refuses(ask(client, key), 429, "too_many_failures");
    }
    stage.refuses(ask("192.0.2.2", &ended[0].key), 401, "key_disabled");
}

#[test]
fn a_public_route_stays_public_and_guesses_count_there() {
    let (stage, alice) = stage(|setup| {
        setup.routes(
            "[[routes]]\npath = \"/open\"\npublic = true\n[[routes]]\npath = \"/{*rest}\"\n",
        );
    });
    let client = "192.0.2.1";
    let open = |key: &str| ask(client, key).replace("GET / ", "GET /open ");
    for number in 0..2 * LIMIT {
        let received = stage.passes(open(&format!("a-guess-of-it-{number}")));
        assert_eq!(received.field("x-auth-user"), None);
    }
    stage.refuses(ask(client, "a-guess-too-many"), 429, "too_many_failures");
    let received = stage.passes(open(&alice.key));
    assert_eq!(received.field("x-auth-user"), Some("alice"));
}

#[test]
fn a_ban_outlives_reloads_and_another_setting_holds_at_once() {
    let (mut stage, alice) = stage(|_| {});
    ban(&stage, "192.0.2.1");
    let guess = |stage: &Stage, status, code: &str| {
        stage.refuses(ask("192.0.2.1", "a-guess-behind-it"), status, code);
        stage.passes(ask("192.0.2.1", &alice.key));
    };
    let set = |stage: &mut Stage, failures: &str| {
        let before = stage.kw.count_events(RELOADED);
        stage.kw.setup().replace("auth", failures);
        let text = stage.kw.setup().config();
        write(&stage.kw.path("keyward.toml"), &text);
        stage.kw.wait_for_another(RELOADED, before);
    };
    set(&mut stage, &format!("{FAILURES}\npreflight = \"forward\""));
    guess(&stage, 429, "too_many_failures");
    // More places, too: who is banned moves there.
    set(&mut stage, &FAILURES.replace("ban = \"1h\"", "ban = \"2h\", addresses = 200_000"));
    guess(&stage, 429, "too_many_failures");
    set(&mut stage, "failures = \"off\"");
    for _ in 0..2 * LIMIT {
        guess(&stage, 401, "invalid_key");
    }
    set(&mut stage, FAILURES);
    guess(&stage, 429, "too_many_failures");
}

#[test]
fn over_http2_it_is_the_same_and_grpc_hears_it_in_its_own_words() {
    let (stage, alice) = stage(|_| {});
    ban(&stage, "192.0.2.1");
    let h2 = Http2::connect(stage.kw.address());
    let asking = |key: &str| {
        let asking = Request::builder().uri("http://a/a.B/C").header("x-api-key", key);
        asking.header("x-forwarded-for", "192.0.2.1")
    };
    let answer = h2.send(asking("a-guess-over-http2")).read();
    assert_eq!(answer.status, 429);
    assert!(answer.headers.contains_key("retry-after"));
    let problem: Value = serde_json::from_str(&answer.text).expect("a problem document");
    assert_eq!(problem["code"], "too_many_failures");
    let call = |key: &str| asking(key).method("POST").header("content-type", "application/grpc");
    let answer = h2.send(call("a-guess-over-grpc")).read();
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(answer.headers["grpc-status"], "8", "RESOURCE_EXHAUSTED");
    let message = answer.headers["grpc-message"].to_str().expect("printable");
    assert!(message.starts_with("too_many_failures: "), "{message}");
    assert_eq!(h2.send(asking(&alice.key)).read().status, 200);
}

/// An answer without what differs between any two: its date and its request's id.
fn comparable(answer: &Message) -> String {
    let id = answer.field("x-request-id").expect("every answer has one").to_owned();
    let head = answer.head.lines().filter(|line| !line.to_lowercase().starts_with("date:"));
    let head: Vec<_> = head.collect();
    format!("{}\n{}", head.join("\n"), answer.text()).replace(&id, "ID")
}

#[test]
fn no_answer_tells_what_is_wrong_with_a_key() {
    let (stage, alice) = stage(|_| {});
    let long = "x".repeat(257);
    let mistyped = format!("{}x", alice.key);
    let keys = [
        "nobody-has-this-key",
        "kw_0123456789abcdefghijABCDEFGHIJ000000",
        "kw_0123456789abcdefghijABCDEFGHIJ00000",
        "kw_",
        "short",
        "x",
        "with space inside",
        "caf\u{e9}-caf\u{e9}-caf\u{e9}",
        &mistyped,
        &alice.key[1..],
        &long,
    ];
    // Within the limit, each from an address of its own; and beyond it, all from one.
    let answers = keys.iter().enumerate().map(|(number, key)| {
        comparable(&stage.refuses(ask(&format!("192.0.2.{number}"), key), 401, "invalid_key"))
    });
    let answers: Vec<_> = answers.collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    assert!(answers[0].contains("ID"), "{}", answers[0]);
    ban(&stage, "198.51.100.1");
    let answers = keys.iter().map(|key| {
        let answer = stage.refuses(ask("198.51.100.1", key), 429, "too_many_failures");
        let wait = answer.field("retry-after").expect("how long").to_owned();
        comparable(&answer).replace(&wait, "WAIT")
    });
    let answers: Vec<_> = answers.collect();
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
}

/// What a page says of one series.
fn sample(kw: &Keyward, series: &str) -> u64 {
    let mut scrape = Client::connect(kw.admin_address());
    scrape.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let page = scrape.answer().text();
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{page}"))
}

#[test]
fn many_guesses_from_many_addresses_take_the_memory_that_was_given_and_no_good_key_is_refused() {
    const ADDRESSES: usize = 3000;
    const GUESSERS: usize = 3;
    const PLACES: usize = 1024;
    let app = Upstream::unrecorded(|connection| {
        while connection.request()?.is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let mut setup = Setup::new(&app);
    setup.set("server", "trusted_proxies = [\"127.0.0.1\"]");
    setup.set(
        "auth",
        &format!("failures = {{ limit = 1, window = \"1h\", ban = \"1h\", addresses = {PLACES} }}"),
    );
    setup.replace("log", "access = \"off\"").set("admin", "listen = \"127.0.0.1:0\"");
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    thread::scope(|scope| {
        for guesser in 0..GUESSERS {
            let (kw, alice) = (&kw, &alice);
            scope.spawn(move || {
                let mut client = kw.connect();
                for number in (guesser..ADDRESSES).step_by(GUESSERS) {
                    let address = format!("10.0.{}.{}", number / 256, number % 256);
                    // At once: nothing is waited for in between.
                    let guess = ask(&address, &format!("a-guess-{number}"));
                    client.send([guess.as_str(), &guess, &ask(&address, &alice.key)].concat());
                    let statuses = [(); 3].map(|()| client.answer().status());
                    assert!(matches!(statuses, [401, 401 | 429, 200]), "{address}: {statuses:?}");
                }
            });
        }
    });
    let [counted, refused] = ["counted", "banned"].map(|outcome| {
        let series = format!("keyward_failed_attempts_total{{outcome=\"{outcome}\"}}");
        usize::try_from(sample(&kw, &series)).expect("a count")
    });
    assert_eq!(counted + refused, 2 * ADDRESSES);
    // A place that another has taken in between is rare.
    assert!(refused > ADDRESSES * 9 / 10, "{refused} of {ADDRESSES}");
    // All places are taken, and there are no more.
    let banned = sample(&kw, "keyward_addresses_banned");
    assert!((PLACES as u64 * 9 / 10..=PLACES as u64).contains(&banned), "{banned}");
}
