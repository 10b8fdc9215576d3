//! Keys are disabled, enabled and deleted: in force with the answer, and never over somebody else's change.

use serde_json::json;

use super::{Desk, expect};
use crate::harness::Actor;

#[test]
fn a_change_is_in_force_when_the_answer_is_there() {
    let desk = Desk::new();
    let path = format!("/api/v1/keys/{}", desk.viewer.id);
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
    for round in 0..5 {
        let reason = json!({"reason": format!("found in a wiki, {round}")});
        let disabled = desk.ask(&desk.admin, &format!("POST {path}/disable"), Some(&reason));
        assert_eq!(desk.kw.get("/", &desk.viewer).code(), "key_disabled");
        let disabled = expect(&disabled, 200, "");
        assert_eq!(
            [&disabled["state"], &disabled["effective"]],
            [&json!("disabled"), &json!(true)]
        );
        assert_eq!(disabled["disabled_reason"], reason["reason"]);
        assert_eq!(disabled["disabled_by"], "api:root");
        assert!(disabled["disabled_at"].is_string());
        let enabled = desk.ask(&desk.admin, &format!("POST {path}/enable"), Some(&json!({})));
        assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
        let enabled = expect(&enabled, 200, "");
        assert_eq!([&enabled["state"], &enabled["disabled_at"]], [&json!("enabled"), &json!(null)]);
    }
    expect(&desk.ask(&desk.admin, &format!("DELETE {path}"), None), 409, "still_enabled");
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
    expect(&desk.ask(&desk.admin, &format!("POST {path}/disable"), None), 200, "");
    let gone = expect(&desk.ask(&desk.admin, &format!("DELETE {path}"), None), 200, "");
    assert_eq!([&gone["id"], &gone["effective"]], [&json!(desk.viewer.id), &json!(true)]);
    assert_eq!(desk.kw.get("/", &desk.viewer).code(), "invalid_key");
    expect(&desk.get(&desk.admin, &path), 404, "not_found");
    let forced = format!("DELETE /api/v1/keys/{}?force=true", desk.manager.id);
    expect(&desk.ask(&desk.admin, &forced, None), 200, "");
    expect(&desk.get(&desk.manager, "/api/v1/me"), 401, "invalid_key");
}

#[test]
fn the_second_of_two_who_change_one_key_is_told() {
    let desk = Desk::new();
    let path = format!("/api/v1/keys/{}", desk.viewer.id);
    let seen = desk.get(&desk.admin, &path);
    let etag = seen.field("etag").expect("a tag").to_owned();
    let change = |action: &str, etag: &str| {
        desk.ask_with(
            &desk.admin,
            &format!("POST {path}/{action}"),
            &format!("If-Match: {etag}\r\n"),
            None,
        )
    };
    let first = change("disable", &etag);
    expect(&first, 200, "");
    let after = first.field("etag").expect("a tag").to_owned();
    assert_ne!(after, etag);
    expect(&change("enable", &etag), 412, "changed");
    expect(
        &desk.ask_with(
            &desk.admin,
            &format!("DELETE {path}"),
            &format!("If-Match: {etag}\r\n"),
            None,
        ),
        412,
        "changed",
    );
    expect(&change("enable", "W/\"x\""), 400, "bad_request");
    expect(&change("enable", "nonsense"), 400, "bad_request");
    assert_eq!(desk.kw.get("/", &desk.viewer).code(), "key_disabled");
    expect(&change("enable", &after), 200, "");
    expect(&change("disable", "*"), 200, "");
    expect(&change("disable", "\"other\""), 412, "changed");
}

#[test]
fn bodies_and_parameters_that_are_not_understood_change_nothing() {
    let desk = Desk::new();
    let path = format!("/api/v1/keys/{}", desk.viewer.id);
    let disable = format!("POST {path}/disable");
    for (line, body) in [
        (disable.clone(), json!({"resaon": "x"})),
        (disable.clone(), json!({"reason": 1})),
        (disable.clone(), json!({"reason": "a\u{7}b"})),
        (disable.clone(), json!({"reason": "x".repeat(256)})),
        (disable, json!({"force": "yes"})),
        (format!("POST {path}/enable"), json!({"force": true})),
    ] {
        expect(&desk.ask(&desk.admin, &line, Some(&body)), 422, "invalid");
    }
    for line in [format!("DELETE {path}?force=yes"), format!("DELETE {path}?forc=true")] {
        expect(&desk.ask(&desk.admin, &line, None), 422, "invalid");
    }
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
}

#[test]
fn every_change_is_an_event_that_says_who_did_it() {
    let desk = Desk::new();
    let made = desk.create(&desk.manager, &json!({"role": "viewer", "label": "to be seen"}));
    let event = desk.kw.wait_for_event("key changed over the admin API", |_| true);
    assert_eq!([&event["what"], &event["key_id"]], [&json!("create"), &made["id"]]);
    assert_eq!([&event["by"], &event["by_key_id"]], [&json!("mara"), &json!(desk.manager.id)]);
}

#[test]
fn a_rotated_key_has_another_secret_and_the_old_one_as_long_as_is_said() {
    let desk = Desk::new();
    let path = format!("POST /api/v1/keys/{}/rotate", desk.viewer.id);
    let answer = desk.ask(&desk.admin, &path, None);
    let rotated = expect(&answer, 200, "");
    let first = Desk::holder(&rotated);
    assert_eq!([&rotated["id"], &rotated["effective"]], [&json!(desk.viewer.id), &json!(true)]);
    assert!(rotated["previous_expires_at"].is_string(), "{rotated}");
    for holder in [&desk.viewer, &first] {
        assert_eq!(desk.kw.get("/", holder).status(), 200, "both are taken for a day");
    }
    let ends = desk.ask(&desk.admin, &path, Some(&json!({"grace": "0s"})));
    let second = Desk::holder(&expect(&ends, 200, ""));
    for (holder, status) in [(&desk.viewer, 401), (&first, 401), (&second, 200)] {
        assert_eq!(desk.kw.get("/", holder).status(), status);
    }
    for grace in [json!("soon"), json!("999999999y"), json!(1)] {
        let answer = desk.ask(&desk.admin, &path, Some(&json!({"grace": grace})));
        expect(&answer, 422, "invalid");
    }
    // One that comes again does not end the secret that is in use.
    let named = |name: &str| {
        let fields = format!("Idempotency-Key: {name}\r\n");
        desk.ask_with(&desk.admin, &path, &fields, Some(&json!({"grace": "1h"})))
    };
    let (once, again) = (named("one"), named("one"));
    assert_eq!(once.body, again.body);
    assert_eq!(desk.kw.get("/", &second).status(), 200);
    // Whoever rotates a key holds it: that takes the right to give it.
    let wide = desk.create(&desk.admin, &json!({"role": "admin", "user": "mara", "label": "wide"}));
    let wide = format!("POST /api/v1/keys/{}/rotate", wide["id"].as_str().expect("an id"));
    expect(&desk.ask(&desk.manager, &wide, None), 403, "forbidden");
    expect(&desk.ask(&desk.manager, &path, None), 404, "not_found");
}

#[test]
fn what_is_known_of_a_key_is_changed_as_far_as_it_could_be_given() {
    let desk = Desk::new();
    let patch =
        |actor, id: &str, body| desk.ask(actor, &format!("PATCH /api/v1/keys/{id}"), Some(&body));
    let id = &desk.viewer.id;
    let changed = patch(
        &desk.admin,
        id,
        json!({"label": " nightly ", "expires_at": "2100-01-01T00:00:00Z", "allowed_methods": ["GET"],
               "allowed_paths": ["/a/{*rest}"], "allowed_cidrs": ["127.0.0.0/8"], "role": "author"}),
    );
    let changed = expect(&changed, 200, "");
    assert_eq!([&changed["label"], &changed["role"]], [&json!("nightly"), &json!("author")]);
    assert_eq!(changed["allowed_cidrs"], json!(["127.0.0.0/8"]));
    assert_eq!(desk.kw.get("/a/b", &desk.viewer).status(), 200);
    assert_eq!(desk.kw.get("/b", &desk.viewer).code(), "forbidden");
    // Null takes away; what is left out stays.
    let wide = expect(
        &patch(&desk.admin, id, json!({"allowed_paths": null, "expires_at": null})),
        200,
        "",
    );
    assert_eq!([&wide["allowed_paths"], &wide["expires_at"]], [&json!([]), &json!(null)]);
    assert_eq!(wide["allowed_methods"], json!(["GET"]));
    assert_eq!(desk.kw.get("/b", &desk.viewer).status(), 200);
    for (body, field) in [
        (json!({"label": "x"}), "label"),
        (json!({"role": "nobody"}), "role"),
        (json!({"expires_at": "2020-01-01T00:00:00Z"}), "expires_at"),
        (json!({"allowed_methods": ["get"]}), "allowed_methods"),
        (json!({"allowed_paths": ["a"]}), "allowed_paths"),
        (json!({"allowed_cidrs": ["10.0.0.1/8"]}), "allowed_cidrs"),
        (json!({"user": "mallory"}), "user"),
        (json!({"enabled": false}), "enabled"),
    ] {
        let problem = expect(&patch(&desk.admin, id, body), 422, "invalid");
        assert_eq!(super::fields(&problem), [field]);
    }
    // Nobody makes themselves wider, or the last admin less.
    let own = desk.manager.id.clone();
    expect(&patch(&desk.manager, &own, json!({"label": "renamed"})), 200, "");
    expect(&patch(&desk.manager, &own, json!({"role": "admin"})), 403, "forbidden");
    expect(&patch(&desk.manager, id, json!({"label": "renamed"})), 404, "not_found");
    expect(&patch(&desk.admin, &desk.admin.id, json!({"role": "viewer"})), 409, "last_admin");
}

#[test]
fn a_key_that_is_narrowed_gives_nothing_wider_and_is_narrowed_here_too() {
    let desk = Desk::with(|setup| {
        let local = "allowed_cidrs = [\"127.0.0.0/8\"]";
        setup.add(Actor::new("lena", "admin").with(local));
        setup.add(Actor::new("rita", "admin").with("allowed_methods = [\"GET\"]"));
        setup.add(Actor::new("finn", "admin").with("allowed_cidrs = [\"192.0.2.0/24\"]"));
    });
    let (lena, rita, finn) = (desk.other("lena"), desk.other("rita"), desk.other("finn"));
    let wish = |cidrs| json!({"role": "viewer", "label": "narrow", "allowed_cidrs": cidrs});
    let refused = desk.ask(&lena, "POST /api/v1/keys", Some(&wish(json!(null))));
    assert_eq!(super::fields(&expect(&refused, 403, "forbidden")), ["scopes"]);
    let refused = desk.ask(&lena, "POST /api/v1/keys", Some(&wish(json!(["0.0.0.0/0"]))));
    assert_eq!(super::fields(&expect(&refused, 403, "forbidden")), ["scopes"]);
    let made = desk.create(&lena, &wish(json!(["127.0.0.1"])));
    assert_eq!(desk.kw.get("/", &Desk::holder(&made)).status(), 200);
    expect(&desk.get(&rita, "/api/v1/keys"), 200, "");
    let made = desk.ask(&rita, "POST /api/v1/keys", Some(&wish(json!(["127.0.0.1"]))));
    expect(&made, 403, "forbidden");
    let elsewhere = expect(&desk.get(&finn, "/api/v1/me"), 403, "forbidden");
    assert!(elsewhere["detail"].as_str().is_some_and(|text| text.contains("addresses")));
}

#[test]
fn what_was_done_is_told_to_who_may_know() {
    let desk = Desk::new();
    let made = desk.create(&desk.manager, &json!({"role": "viewer", "label": "told of"}));
    let reason = json!({"reason": "leaked"});
    let disable = format!("POST /api/v1/keys/{}/disable", desk.viewer.id);
    expect(&desk.ask(&desk.admin, &disable, Some(&reason)), 200, "");
    let told = |actor, query: &str| {
        let page = expect(&desk.get(actor, &format!("/api/v1/audit{query}")), 200, "");
        let entries = page["entries"].as_array().expect("a list").iter();
        let seen = entries.filter(|entry| entry["key_id"].is_string());
        let seen: Vec<_> =
            seen.map(|entry| entry["action"].as_str().expect("a word").to_owned()).collect();
        (seen, page)
    };
    let (seen, page) = told(&desk.admin, "");
    assert_eq!(seen, ["disable", "create"]);
    let actor =
        json!({"kind": "api", "user": "root", "key_id": desk.admin.id, "address": "127.0.0.1"});
    assert_eq!(page["entries"][0]["actor"], actor);
    assert_eq!(page["entries"][0]["reason"], "leaked");
    assert!(!page.to_string().contains(made["key"].as_str().expect("a key")));
    assert_eq!(told(&desk.manager, "").0, ["create"]);
    assert_eq!(told(&desk.manager, &format!("?key_id={}", desk.viewer.id)).0, [""; 0]);
    assert_eq!(told(&desk.admin, &format!("?key_id={}", desk.viewer.id)).0, ["disable"]);
    let (first, page) = told(&desk.admin, "?limit=1");
    let cursor = page["next_cursor"].as_str().expect("there is more");
    assert_eq!(first, ["disable"]);
    assert_eq!(told(&desk.admin, &format!("?limit=1&cursor={cursor}")).0, ["create"]);
    for query in ["?limit=0", "?cursor=x", "?key_id=a%20b", "?x=1"] {
        expect(&desk.get(&desk.admin, &format!("/api/v1/audit{query}")), 422, "invalid");
    }
}
