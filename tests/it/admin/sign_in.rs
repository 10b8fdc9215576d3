//! Who signs in, how, and how often one may fail.

use super::{Desk, expect};
use crate::harness::Actor;
use crate::harness::actor::basic;

fn me(desk: &Desk, fields: &str) -> crate::harness::Message {
    desk.send(&format!("GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))
}

#[test]
fn the_key_of_somebody_who_manages_keys_signs_them_in() {
    let desk = Desk::with(|setup| {
        setup.add(Actor::new("off", "admin").with("enabled = false"));
        setup.add(Actor::new("old", "admin").with("expires_at = 2020-01-01T00:00:00Z"));
    });
    let (admin, manager) = (&desk.admin.key, &desk.manager.key);
    let answer = me(&desk, "");
    expect(&answer, 401, "missing_key");
    assert_eq!(answer.fields("www-authenticate"), ["Bearer realm=\"test\""]);
    for fields in [
        format!("Authorization: Bearer {admin}\r\n"),
        format!("authorization: bearer {admin}\r\n"),
        format!("X-Api-Key: {admin}\r\n"),
        format!("Authorization: Bearer {admin}\r\nX-Api-Key: {admin}\r\n"),
    ] {
        expect(&me(&desk, &fields), 200, "");
    }
    // Browsers send what a page made them remember, so Basic is no way in.
    let fields = format!("Authorization: {}\r\n", basic("any", admin));
    expect(&me(&desk, &fields), 401, "missing_key");
    expect(&me(&desk, &format!("Cookie: key={admin}\r\n")), 401, "missing_key");
    let query = format!("GET /api/v1/me?api_key={admin} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(&desk.send(&query), 401, "missing_key");
    let two = format!("Authorization: Bearer {admin}\r\nX-Api-Key: {manager}\r\n");
    expect(&me(&desk, &two), 400, "ambiguous_credentials");
    expect(&desk.get(&desk.other("off"), "/api/v1/me"), 401, "key_disabled");
    expect(&desk.get(&desk.other("old"), "/api/v1/me"), 401, "key_expired");
    let answer = me(&desk, "Authorization: Bearer kw_not-a-key-of-anybody\r\n");
    expect(&answer, 401, "invalid_key");
    let challenge = "Bearer realm=\"test\", error=\"invalid_token\"";
    assert_eq!(answer.fields("www-authenticate"), [challenge]);
}

#[test]
fn a_key_that_was_disabled_is_out_at_once() {
    let desk = Desk::with(|setup| {
        setup.key("ruth", "admin");
    });
    let ruth = desk.other("ruth");
    let disable = format!("POST /api/v1/keys/{}/disable", ruth.id);
    expect(&desk.get(&ruth, "/api/v1/me"), 200, "");
    expect(&desk.ask(&desk.admin, &disable, None), 200, "");
    expect(&desk.get(&ruth, "/api/v1/me"), 401, "key_disabled");
    let enable = disable.replace("/disable", "/enable");
    expect(&desk.ask(&ruth, &enable, None), 401, "key_disabled");
}

#[test]
fn whoever_guesses_has_to_wait() {
    let desk = Desk::new();
    let mut refused = None;
    for number in 0..200 {
        let answer = me(&desk, &format!("Authorization: Bearer kw_a-guess-{number}\r\n"));
        if answer.status() == 429 {
            expect(&answer, 429, "too_many_failures");
            refused = Some(answer);
            break;
        }
        expect(&answer, 401, "invalid_key");
    }
    let refused = refused.expect("200 guesses do not come within a minute's allowance");
    let wait: u64 = refused.field("retry-after").and_then(|s| s.parse().ok()).expect("seconds");
    assert!((1..=10).contains(&wait), "{wait}");
    // Whether a guess is right is not told, either.
    let answer = desk.get(&desk.admin, "/api/v1/me");
    assert!(matches!(answer.status(), 200 | 429), "200 if a slow machine has waited");
    // Who carries no key guesses nothing, and the proxy itself does not know of it.
    expect(&me(&desk, ""), 401, "missing_key");
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
}
