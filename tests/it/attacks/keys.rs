//! Keys: two that differ, in one place or in two, are none, and none is ever forwarded.
//!
//! Never here: whether a key is good.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::case::{Case, KEY, ROOT_KEY, ask, parts, passes, passes_as, refused};

/// Every place that `key` may be in, as a field; the query is another.
fn places(key: &str) -> [(&'static str, String); 5] {
    let basic = |text: String| format!("Authorization: Basic {}", BASE64_STANDARD.encode(text));
    [
        ("X-Api-Key", format!("X-Api-Key: {key}")),
        ("Bearer", format!("Authorization: Bearer {key}")),
        ("bearer, in lower case", format!("authorization: bearer  {key}")),
        ("a password", basic(format!("alice:{key}"))),
        ("a user", basic(format!("{key}:"))),
    ]
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let two = || refused(&[400], "ambiguous_credentials");
    for (first, line) in places(KEY) {
        cases.push(parts(
            format!("{first}, once"),
            ask("GET", "/x").lines(&[&line]),
            passes().without("authorization"),
        ));
        cases.push(parts(
            format!("{first}, twice"),
            ask("GET", "/x").lines(&[&line, &line]),
            passes().without("authorization"),
        ));
        for (second, other) in places(ROOT_KEY) {
            let request = ask("GET", "/x").lines(&[&line, &other]);
            cases.push(parts(format!("{first}, and {second} with another"), request, two()));
            let public = ask("GET", "/public/x").lines(&[&other, &line]);
            cases.push(parts(format!("{second}, and {first} with another, public"), public, two()));
        }
        let query = ask("GET", &format!("/x?api_key={ROOT_KEY}")).lines(&[&line]);
        cases.push(parts(format!("{first}, and another in the query"), query, two()));
        let wrong = ask("GET", "/x").lines(&[&line, "X-Api-Key: it-nobody-0000"]);
        cases.push(parts(format!("{first}, and one of nobody"), wrong, two()));
        let admin = ask("GET", "/admin/x").lines(&[&line, &format!("X-Api-Key: {ROOT_KEY}")]);
        cases.push(parts(format!("{first}, and an admin's where it helps"), admin, two()));
    }
    for (name, query) in [
        ("twice", format!("api_key={KEY}&api_key={ROOT_KEY}")),
        ("twice, encoded", format!("api_key={KEY}&%61pi_key={ROOT_KEY}")),
        ("twice, with a plus", format!("api_key={KEY}&api_key={KEY}+")),
    ] {
        cases.push(parts(
            format!("in the query {name}"),
            ask("GET", &format!("/x?{query}")),
            two(),
        ));
    }
    let query = ask("GET", &format!("/x?a=b&api_key={KEY}&c"));
    cases.push(parts("in the query once", query, passes().with("GET /x?a=b&c HTTP/1.1\r\n")));
    for (name, value) in [
        ("a list", format!("{KEY}, {ROOT_KEY}")),
        ("a list of the same", format!("{KEY},{KEY}")),
        ("with a space inside", format!("{KEY} {ROOT_KEY}")),
        ("a part of it", KEY[..KEY.len() - 1].to_owned()),
        ("with one more", format!("{KEY}x")),
        ("in capitals", KEY.to_uppercase()),
        ("quoted", format!("\"{KEY}\"")),
        ("Bearer in the wrong field", format!("Bearer {KEY}")),
        ("percent-encoded", KEY.replace('-', "%2d")),
        ("a guess", "admin".to_owned()),
        ("NoSQL", "{\"$ne\":null}".to_owned()),
        ("SQL", "' OR '1'='1".to_owned()),
        ("a path", "../../keys.toml".to_owned()),
        (
            "the digest's form",
            "sha256:0000000000000000000000000000000000000000000000000000000000000000".to_owned(),
        ),
    ] {
        let request = ask("GET", "/x").field("X-Api-Key", value);
        cases.push(parts(format!("a key that is {name}"), request, refused(&[401], "invalid_key")));
    }
    for line in [
        "X-Api-Key:",
        "Authorization: Bearer",
        "Authorization: Basic",
        "Authorization: Basic Og==",
        "Authorization: Digest x",
        "Authorization:",
    ] {
        let request = ask("GET", "/x").lines(&[line]);
        cases.push(parts(format!("{line:?} is no key"), request, refused(&[401], "missing_key")));
    }
    for name in ["X_Api_Key", "X.Api.Key", "Api-Key", "X-Api-Key2", "Cookie", "Proxy-Authorization"]
    {
        let request = ask("GET", "/x").field(name, KEY);
        cases.push(parts(format!("a key in {name}"), request, refused(&[401], "missing_key")));
    }
    let public = ask("GET", "/public/x").field("Authorization", "Digest evil");
    cases.push(parts(
        "something else where a key could be",
        public,
        passes_as(None).without("authorization"),
    ));
    cases
}
