//! Sessions: how one begins, what it is good for, and how it ends.

use super::super::{Desk, expect};
use super::{Visitor, cookie, hidden, post, sign_in};
use crate::harness::{Actor, wait_for};

fn where_to(answer: &crate::harness::Message) -> &str {
    assert_eq!(answer.status(), 303, "{}{}", answer.head, answer.text());
    answer.field("location").expect("a redirect says where to")
}

#[test]
fn who_has_not_signed_in_is_brought_to_the_gate_and_back() {
    let desk = Desk::new();
    assert_eq!(where_to(&desk.probe("/")), "/keys");
    assert_eq!(where_to(&desk.probe("/keys")), "/sign-in?next=%2Fkeys");
    let asked = desk.probe("/keys?q=a+b&state=enabled");
    let gate = where_to(&asked).to_owned();
    assert_eq!(gate, "/sign-in?next=%2Fkeys%3Fq%3Da%2Bb%26state%3Denabled");
    let next = hidden(&desk.probe(&gate).text(), "next").expect("the way back");
    assert_eq!(next.replace("&#38;", "&"), "/keys?q=a+b&state=enabled");
    let answer = sign_in(&desk, &desk.admin.key, "/keys?q=a+b", "");
    assert_eq!(where_to(&answer), "/keys?q=a+b");
    for next in ["//evil.example/", "https://evil.example/", "/\\evil.example", "/sign-out"] {
        assert_eq!(where_to(&sign_in(&desk, &desk.admin.key, next, "")), "/keys", "{next}");
    }
}

#[test]
fn a_session_is_a_cookie_that_no_script_and_no_other_site_has() {
    let desk = Desk::new();
    let answer = sign_in(&desk, &desk.admin.key, "", "");
    let set = answer.field("set-cookie").expect("a cookie").to_owned();
    let (pair, attributes) = set.split_once(';').expect("attributes");
    assert_eq!(attributes, " Path=/; HttpOnly; SameSite=Strict");
    let (name, value) = pair.split_once('=').expect("a name");
    assert_eq!((name, value.len()), ("keyward_session", 43), "256 bits");
    assert!(!answer.text().contains(&desk.admin.key));
    assert_ne!(cookie(&answer), cookie(&sign_in(&desk, &desk.admin.key, "", "")));
}

#[test]
fn only_keys_that_manage_keys_sign_in() {
    let desk = Desk::with(|setup| {
        setup.add(Actor::new("off", "admin").with("enabled = false"));
        setup.add(Actor::new("far", "admin").with("allowed_cidrs = [\"192.0.2.0/24\"]"));
    });
    let check = |key: &str, status: u16, said: &str| {
        let answer = sign_in(&desk, key, "/keys?q=x", "");
        assert_eq!(answer.status(), status, "{}{}", answer.head, answer.text());
        assert!(answer.text().contains(said), "{said:?} is not in {}", answer.text());
        assert!(answer.text().contains("value=\"/keys?q=x\""), "the way back is kept");
        assert!(key.is_empty() || !answer.text().contains(key), "the key is not");
        assert_eq!(answer.field("set-cookie"), None);
    };
    check("", 401, "Paste a key.");
    check("kw_no-such-key-at-all", 401, "No key here is like this.");
    check(&desk.other("off").key, 401, "The key was disabled.");
    check(&desk.other("far").key, 403, "other addresses");
    check(&desk.viewer.key, 403, "admin = &#34;own&#34;");
}

#[test]
fn a_session_given_by_somebody_else_is_not_signed_in_with() {
    let desk = Desk::new();
    let planted = "keyward_session=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let answer = sign_in(&desk, &desk.admin.key, "", &format!("Cookie: {planted}\r\n"));
    assert_ne!(cookie(&answer), planted);
    let planted = Visitor { desk: &desk, cookie: planted.to_owned() };
    assert_eq!(where_to(&planted.get("/keys")), "/sign-in?next=%2Fkeys&why=ended");
    // One that an attacker has opened ends with the victim's signing in, and is not theirs.
    let attacker = Visitor::new(&desk, &desk.manager);
    let answer = sign_in(&desk, &desk.admin.key, "", &format!("Cookie: {}\r\n", attacker.cookie));
    let victim = Visitor { desk: &desk, cookie: cookie(&answer) };
    assert_ne!(victim.cookie, attacker.cookie);
    assert!(victim.page("/keys").contains("root"));
    assert_eq!(attacker.get("/keys").status(), 303);
}

#[test]
fn a_session_that_was_signed_out_is_over() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let token = visitor.token();
    let answer = visitor.post("/sign-out", &[("token", &token)]);
    assert_eq!(where_to(&answer), "/sign-in?why=out");
    let set = answer.field("set-cookie").expect("the cookie is taken back");
    assert_eq!(set, "keyward_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0");
    assert!(desk.probe("/sign-in?why=out").text().contains("You have signed out."));
    assert_eq!(where_to(&visitor.get("/keys")), "/sign-in?next=%2Fkeys&why=ended");
    assert_eq!(visitor.post("/sign-out", &[("token", &token)]).status(), 401);
}

#[test]
fn a_session_ends_when_nothing_is_done_in_it() {
    let desk = Desk::with(|setup| {
        setup.set("admin", "session_idle = \"1s\"");
    });
    let visitor = Visitor::new(&desk, &desk.admin);
    let token = visitor.token();
    // Every look would keep it open, so another one looks whether the time is over.
    let started = std::time::Instant::now();
    wait_for("more than a second", || (started.elapsed().as_millis() > 1_100).then_some(()));
    let answer =
        visitor.post("/keys/new", &[("token", &token), ("once", "1"), ("label", "a <b> label")]);
    assert_eq!(answer.status(), 401);
    let page = answer.text();
    assert!(page.contains("Your session has ended."), "{page}");
    // What was typed comes back, without what belongs to the session that is over.
    let next = hidden(&page, "next").expect("the way back").replace("&#38;", "&");
    assert_eq!(next, "/keys/new?label=a+%3Cb%3E+label");
    let again = Visitor::new(&desk, &desk.admin);
    assert!(again.page(&next).contains("value=\"a &#60;b&#62; label\""));
}

#[test]
fn a_session_ends_with_its_key() {
    let desk = Desk::with(|setup| {
        setup.key("ruth", "admin");
    });
    let ruth = desk.other("ruth");
    let visitor = Visitor::new(&desk, &ruth);
    visitor.page("/keys");
    expect(
        &desk.ask(&desk.admin, &format!("POST /api/v1/keys/{}/disable", ruth.id), None),
        200,
        "",
    );
    let answer = visitor.get("/keys");
    assert_eq!(answer.status(), 403);
    assert!(answer.text().contains("The key was disabled."), "{}", answer.text());
    expect(&desk.ask(&desk.admin, &format!("POST /api/v1/keys/{}/enable", ruth.id), None), 200, "");
    assert_eq!(visitor.get("/keys").status(), 303, "it does not come back with its key");
}

#[test]
fn whoever_guesses_at_the_gate_has_to_wait() {
    let desk = Desk::new();
    let refused = (0..200).find_map(|number| {
        let answer = sign_in(&desk, &format!("kw_a-guess-{number}"), "", "");
        (answer.status() == 429).then_some(answer)
    });
    let refused = refused.expect("200 guesses do not come within a minute's allowance");
    assert!(refused.text().contains("Too many keys from this address"), "{}", refused.text());
    // The API has the same count, and the page of the gate is still shown.
    assert_eq!(desk.get(&desk.viewer, "/api/v1/me").status(), 429);
    assert_eq!(desk.probe("/sign-in").status(), 200);
}

#[test]
fn sessions_do_not_let_anybody_into_the_api() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    expect(&visitor.get("/api/v1/keys"), 401, "missing_key");
    let answer = post(&desk, "/api/v1/keys", &format!("Cookie: {}\r\n", visitor.cookie), &[]);
    expect(&answer, 401, "missing_key");
}
