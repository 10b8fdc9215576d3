//! Who gets in: the rows of the contract's table about keys, and where a request may carry one.

use crate::harness::actor::basic;
use crate::harness::keyward::get;
use crate::harness::{Actor, Message, Stage, Upstream};

const MISSING: [&str; 2] = ["Bearer realm=\"test\"", "ApiKey realm=\"test\", header=\"x-api-key\""];

/// Alice, a viewer, in front of a service where every path takes any key.
fn stage() -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| setup.key("alice", "viewer"))
}

#[track_caller]
fn check_identity(received: &Message, actor: &Actor) {
    assert_eq!(received.fields("x-auth-user"), [&actor.user], "{}", received.head);
    assert_eq!(received.fields("x-auth-role"), [&actor.role], "{}", received.head);
    assert_eq!(received.fields("x-auth-key-id"), [&actor.id], "{}", received.head);
}

#[track_caller]
fn check_anonymous(received: &Message) {
    for (name, _) in &received.fields {
        assert!(!name.to_lowercase().starts_with("x-auth"), "{}", received.head);
    }
}

/// The answer refuses the key it was given, in the one form that tells nothing more.
#[track_caller]
fn check_invalid_token(answer: &Message) {
    let told = MISSING.map(|challenge| format!("{challenge}, error=\"invalid_token\""));
    assert_eq!(answer.fields("www-authenticate"), told);
}

#[test]
fn a_valid_key_passes_and_tells_the_upstream_who_called() {
    let (stage, alice) = stage();
    check_identity(&stage.passes(get("/orders", &alice.header())), &alice);
}

#[test]
fn a_request_without_a_key_is_told_how_to_carry_one() {
    let (stage, _alice) = stage();
    for lines in [
        "",
        "X-Api-Key:\r\n",
        "Authorization:\r\n",
        "Authorization: Bearer\r\n",
        "Authorization: Basic ***\r\n",
        "Authorization: Digest username=\"alice\"\r\n",
        "Cookie: key=value\r\n",
    ] {
        let answer = stage.refuses(get("/", lines), 401, "missing_key");
        assert_eq!(answer.fields("www-authenticate"), MISSING, "{lines}");
    }
    stage.refuses("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 401, "missing_key");
}

#[test]
fn every_key_that_is_not_ours_gets_the_same_answer() {
    let (stage, alice) = stage();
    let mut bodies = Vec::new();
    for key in [
        "nobody-has-this-key",
        "short",
        &alice.key[..alice.key.len() - 1],
        &format!("{}x", alice.key),
        &alice.key.to_uppercase(),
        "kw_0123456789abcdefghijABCDEFGHIJ000000",
        "kw_",
        &"x".repeat(257),
        "caf\u{e9}-caf\u{e9}-caf\u{e9}",
    ] {
        let answer = stage.refuses(get("/", &format!("X-Api-Key: {key}\r\n")), 401, "invalid_key");
        check_invalid_token(&answer);
        let mut problem: serde_json::Value =
            serde_json::from_slice(&answer.body).expect("refuses() has read it");
        for name in ["request_id", "instance"] {
            problem[name].take();
        }
        bodies.push(problem);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
}

#[test]
fn bearer_takes_the_key_whatever_the_case_of_the_scheme() {
    let (stage, alice) = stage();
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let line = format!("Authorization: {scheme} {}\r\n", alice.key);
        check_identity(&stage.passes(get("/", &line)), &alice);
    }
    let answer =
        stage.refuses(get("/", "Authorization: Bearer unknown-key\r\n"), 401, "invalid_key");
    check_invalid_token(&answer);
}

#[test]
fn basic_takes_the_key_as_password_or_as_user_name_without_one() {
    let (stage, alice) = stage();
    for value in [
        basic("anybody", &alice.key),
        basic("", &alice.key),
        basic(&alice.key, ""),
        basic("anybody", &alice.key).replace("Basic", "bAsIC"),
    ] {
        let line = format!("Authorization: {value}\r\n");
        check_identity(&stage.passes(get("/", &line)), &alice);
    }
    for value in [basic(&alice.key, "password"), basic("alice", "unknown-key")] {
        let line = format!("Authorization: {value}\r\n");
        stage.refuses(get("/", &line), 401, "invalid_key");
    }
}

#[test]
fn two_different_keys_are_ambiguous_wherever_they_stand() {
    let (stage, alice) = stage();
    let key = &alice.key;
    for lines in [
        format!("X-Api-Key: {key}\r\nX-Api-Key: another-key\r\n"),
        format!("X-Api-Key: another-key\r\nX-Api-Key: {key}\r\n"),
        format!("X-Api-Key: {key}\r\nAuthorization: Bearer another-key\r\n"),
        format!("Authorization: Bearer {key}\r\nAuthorization: Bearer another-key\r\n"),
        format!("Authorization: Bearer {key}\r\nAuthorization: {}\r\n", basic("a", "another-key")),
        format!("X-Api-Key: another-key\r\nAuthorization: {}\r\n", basic("a", key)),
    ] {
        stage.refuses(get("/", &lines), 400, "ambiguous_credentials");
    }
}

#[test]
fn one_key_in_two_sources_is_one_key_and_both_are_hidden() {
    let (stage, alice) = stage();
    let bearer = format!("Authorization: Bearer {}\r\n", alice.key);
    let received = stage.passes(get("/", &(alice.header() + &bearer)));
    check_identity(&received, &alice);
    assert!(!received.head.contains(&alice.key), "{}", received.head);
    assert_eq!(received.field("authorization"), None);
    assert_eq!(received.field("x-api-key"), None);
}

#[test]
fn a_disabled_and_an_expired_key_are_told_apart_from_an_unknown_one() {
    let (stage, (disabled, expired, fresh)) = Stage::new(Upstream::hello(), |setup| {
        (
            setup.add(Actor::new("dora", "viewer").with("enabled = false")),
            setup.add(Actor::new("emil", "viewer").with("expires_at = 2020-01-01T00:00:00Z")),
            setup.add(Actor::new("fritz", "viewer").with("expires_at = 2100-01-01T00:00:00Z")),
        )
    });
    for (actor, code) in [(&disabled, "key_disabled"), (&expired, "key_expired")] {
        let answer = stage.refuses(get("/", &actor.header()), 401, code);
        check_invalid_token(&answer);
    }
    check_identity(&stage.passes(get("/", &fresh.header())), &fresh);
}

#[test]
fn a_role_that_is_not_allowed_is_forbidden() {
    let (stage, (viewer, admin)) = Stage::new(Upstream::hello(), |setup| {
        setup.routes("[[routes]]\npath = \"/{*rest}\"\nroles = [\"admin\"]\n");
        (setup.key("alice", "viewer"), setup.key("root", "admin"))
    });
    let answer = stage.refuses(get("/", &viewer.header()), 403, "forbidden");
    let challenges = answer.fields("www-authenticate");
    assert_eq!(challenges, ["Bearer realm=\"test\", error=\"insufficient_scope\""]);
    check_identity(&stage.passes(get("/", &admin.header())), &admin);
}

#[test]
fn a_path_without_a_route_is_disclosed_to_holders_of_a_key_only() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.routes("[[routes]]\npath = \"/known\"\n");
        setup.key("alice", "viewer")
    });
    stage.passes(get("/known", &alice.header()));
    stage.refuses(get("/unknown", &alice.header()), 404, "no_route");
    stage.refuses(get("/unknown", ""), 401, "missing_key");
    stage.refuses(get("/known", ""), 401, "missing_key");
    stage.refuses(get("/unknown", "X-Api-Key: unknown-key\r\n"), 401, "invalid_key");
}

#[test]
fn a_public_route_resolves_a_valid_key_and_takes_anything_else_as_anonymous() {
    let (stage, (alice, dora)) = Stage::new(Upstream::hello(), |setup| {
        setup.routes("[[routes]]\npath = \"/{*rest}\"\npublic = true\n");
        let dora = setup.add(Actor::new("dora", "viewer").with("enabled = false"));
        (setup.key("alice", "viewer"), dora)
    });
    let received = stage.passes(get("/", &alice.header()));
    check_identity(&received, &alice);
    assert!(!received.head.contains(&alice.key), "{}", received.head);
    let two = alice.header() + "X-Api-Key: unknown-key\r\n";
    stage.refuses(get("/", &two), 400, "ambiguous_credentials");
    for lines in ["", &dora.header(), "X-Api-Key: unknown-key\r\n", "Authorization: Bearer xyz\r\n"]
    {
        let received = stage.passes(get("/", lines));
        check_anonymous(&received);
        assert_eq!(received.field("x-api-key"), None, "{lines}");
        assert_eq!(received.field("authorization"), None, "{lines}");
    }
}

#[test]
fn key_sources_are_what_the_configuration_says() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        let sources = r#"key_sources = [
            { header = "x-token" },
            { header = "authorization", scheme = "Token" },
            { query = "api_key" },
        ]"#;
        setup.set("auth", sources);
        setup.key("alice", "viewer")
    });
    let key = &alice.key;
    check_identity(&stage.passes(get("/", &format!("X-Token: {key}\r\n"))), &alice);
    check_identity(&stage.passes(get("/", &format!("Authorization: token {key}\r\n"))), &alice);
    for (sent, received) in [
        (format!("/a?api_key={key}"), "/a"),
        (format!("/a?x=%41&api_key={key}&&y"), "/a?x=%41&&y"),
        (format!("/a?api_key={key}&x=1"), "/a?x=1"),
        (format!("/a?x=1&api_key={key}"), "/a?x=1"),
    ] {
        let request = stage.passes(get(&sent, ""));
        check_identity(&request, &alice);
        assert_eq!(request.target(), received);
    }
    let answer = stage.refuses(get("/", &alice.header()), 401, "missing_key");
    let challenges = answer.fields("www-authenticate");
    assert!(challenges.contains(&"ApiKey realm=\"test\", header=\"x-token\""), "{challenges:?}");
    let twice = get(&format!("/a?api_key={key}"), "X-Token: another-key\r\n");
    stage.refuses(twice, 400, "ambiguous_credentials");
}

#[test]
fn credentials_reach_the_upstream_only_if_the_configuration_says_so() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.set("auth", "hide_credentials = false");
        setup.key("alice", "viewer")
    });
    let received = stage.passes(get("/", &alice.header()));
    assert_eq!(received.fields("x-api-key"), [&alice.key]);
    check_identity(&received, &alice);
}

const PREFLIGHT: &str = "OPTIONS /orders HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\n\
                         Access-Control-Request-Method: GET\r\n\r\n";

#[test]
fn a_preflight_is_refused_by_default() {
    let (stage, _alice) = stage();
    stage.refuses(PREFLIGHT, 401, "missing_key");
}

#[test]
fn a_preflight_passes_as_anonymous_where_the_configuration_says_so() {
    let (stage, _alice) = Stage::new(Upstream::hello(), |setup| {
        setup.set("auth", "preflight = \"forward\"");
        setup.routes("[[routes]]\npath = \"/orders\"\nmethods = [\"GET\"]\nroles = [\"viewer\"]\n");
        setup.key("alice", "viewer")
    });
    check_anonymous(&stage.passes(PREFLIGHT));
    let plain = "OPTIONS /orders HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\n\r\n";
    stage.refuses(plain, 401, "missing_key");
    let other = PREFLIGHT.replace("OPTIONS", "GET");
    stage.refuses(other, 401, "missing_key");
}
