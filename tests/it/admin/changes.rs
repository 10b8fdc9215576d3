//! Keys are disabled, enabled and deleted: in force with the answer, and never over somebody else's change.

use serde_json::json;

use super::{Desk, expect};

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
        assert_eq!(disabled["disabled_by"], format!("api:root:{}", desk.admin.id));
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
    assert_eq!([&event["what"], &event["key_id"]], [&json!("made"), &made["id"]]);
    assert_eq!([&event["by"], &event["by_key_id"]], [&json!("mara"), &json!(desk.manager.id)]);
}
