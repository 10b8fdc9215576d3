//! A key is made: shown once, good at once, and made once however often one asks.

use std::fs;
use std::process::Command;
use std::thread;

use serde_json::{Value, json};

use super::{Desk, expect, fields};
use crate::harness::setup::write;

#[test]
fn a_new_key_is_shown_once_and_good_when_the_answer_is_there() {
    let desk = Desk::new();
    let wish = json!({"role": "viewer", "user": "kim", "label": "billing export",
                      "expires_at": "2100-01-01T00:00:00.7Z"});
    let answer = desk.ask(&desk.admin, "POST /api/v1/keys", Some(&wish));
    let made = expect(&answer, 201, "");
    let holder = Desk::holder(&made);
    assert_eq!(desk.kw.get("/", &holder).status(), 200, "it is in force");
    assert_eq!(made["effective"], true);
    assert!(made["generation"].as_u64() > Some(1), "{made}");
    assert!(holder.key.starts_with("kw_") && holder.key.len() == 39, "{made}");
    assert_eq!(made["start"].as_str(), Some(&holder.key[..7]));
    assert_eq!(made["expires_at"], "2100-01-01T00:00:00Z");
    assert_eq!(answer.field("location"), Some(&*format!("/api/v1/keys/{}", holder.id)));

    let shown = desk.get(&desk.admin, &format!("/api/v1/keys/{}", holder.id));
    assert_eq!(shown.field("etag"), answer.field("etag"));
    let mut shown = expect(&shown, 200, "");
    assert!(!shown.to_string().contains(&holder.key));
    for name in ["key", "effective", "generation"] {
        shown[name] = made[name].clone();
    }
    let fields = shown.as_object_mut().expect("an object");
    for name in ["last_used", "previous_last_used", "requests", "in_flight", "limits"] {
        assert!(fields.remove(name).is_some(), "no `{name}`");
    }
    assert_eq!(shown, made, "it is the same but for the secret");
    let stored = fs::read_to_string(desk.kw.path("keys.toml")).expect("it was written");
    assert!(stored.contains(&holder.id) && !stored.contains(&holder.key));
}

#[test]
fn what_is_no_key_is_told_by_its_fields() {
    let desk = Desk::new();
    let check = |wish: Value, status: u16, code: &str, expected: &[&str]| {
        let answer = desk.ask(&desk.admin, "POST /api/v1/keys", Some(&wish));
        let problem = expect(&answer, status, code);
        assert_eq!(fields(&problem), expected, "{wish}: {problem}");
    };
    check(json!({}), 422, "invalid", &["body"]);
    check(json!([]), 422, "invalid", &["body"]);
    check(json!({"role": 1, "label": "abc"}), 422, "invalid", &["role"]);
    check(json!({"role": "viewer", "label": "abc", "admin": true}), 422, "invalid", &["admin"]);
    check(
        json!({"role": "a b", "user": "a b", "label": "\n", "expires_at": "soon"}),
        422,
        "invalid",
        &["user", "role", "label", "expires_at"],
    );
    check(json!({"role": "viewer", "label": "ab"}), 422, "invalid", &["label"]);
    check(json!({"role": "vewer", "label": "abc"}), 422, "invalid", &["role"]);
    let past = json!({"role": "viewer", "label": "abc", "expires_at": "2020-01-01T00:00:00Z"});
    check(past, 422, "invalid", &["expires_at"]);
    let taken = json!({"role": "viewer", "user": "vera", "label": "of vera"});
    check(taken, 409, "label_taken", &[]);

    let post = |fields: &str, body: &str| {
        let key = &desk.admin.key;
        desk.send(&format!(
            "POST /api/v1/keys HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n{fields}\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let is_json = "Content-Type: application/json\r\n";
    expect(&post(is_json, "{"), 400, "bad_request");
    expect(&post(is_json, "{} {}"), 422, "invalid");
    expect(&post(is_json, ""), 400, "bad_request");
    expect(&post("", "{}"), 415, "unsupported_media_type");
    expect(&post("Content-Type: text/plain\r\n", "{}"), 415, "unsupported_media_type");
    let large = format!("{{\"label\": \"{}\"}}", "x".repeat(64 * 1024));
    expect(&post(is_json, &large), 413, "body_too_large");
    let label = desk.create(&desk.admin, &json!({"role": "viewer", "label": "<b>\"it's\"</b>"}));
    assert_eq!(label["label"], "<b>\"it's\"</b>");
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys").len(), 4, "nothing else was made");
}

#[test]
fn a_request_that_comes_again_makes_no_second_key() {
    let desk = Desk::new();
    let wish = json!({"role": "viewer", "label": "of a script"});
    let named = |actor, name: &str, wish: &Value| {
        let field = format!("Idempotency-Key: {name}\r\n");
        desk.ask_with(actor, "POST /api/v1/keys", &field, Some(wish))
    };
    let first = named(&desk.admin, "one", &wish);
    let again = named(&desk.admin, "one", &wish);
    expect(&first, 201, "");
    assert_eq!(first.body, again.body, "the secret too");
    assert_eq!(first.field("location"), again.field("location"));
    let other = json!({"role": "viewer", "label": "of another script"});
    expect(&named(&desk.admin, "one", &other), 422, "idempotency_key_reused");
    // Nobody else's requests have that name, and what was refused is forgotten.
    expect(&named(&desk.manager, "one", &other), 201, "");
    expect(&named(&desk.admin, "two", &wish), 409, "label_taken");
    expect(&named(&desk.admin, "two", &json!({"role": "viewer", "label": "third"})), 201, "");
    expect(&named(&desk.admin, "", &wish), 400, "bad_request");
    expect(&named(&desk.admin, &"x".repeat(256), &wish), 400, "bad_request");
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys").len(), 6);
}

#[test]
fn a_store_that_cannot_be_written_is_told_and_the_proxy_goes_on() {
    let desk = Desk::new();
    let path = desk.kw.path("keys.toml");
    let before = fs::read_to_string(&path).expect("it was written");
    write(&path, &(before.clone() + "[[keys]]\nid = 1\n"));
    let wish = json!({"role": "viewer", "label": "never made"});
    let answer = desk.ask(&desk.admin, "POST /api/v1/keys", Some(&wish));
    expect(&answer, 503, "store_unusable");
    assert!(answer.field("retry-after").is_some());
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
    write(&path, &before);
    desk.create(&desk.admin, &wish);
}

#[test]
fn what_is_stored_and_not_in_force_is_told() {
    let desk = Desk::new();
    let path = desk.kw.path("keyward.toml");
    let before = fs::read_to_string(&path).expect("it was written");
    write(&path, &(before.clone() + "\n[nonsense]\n"));
    let made = desk.create(&desk.admin, &json!({"role": "viewer", "label": "too early"}));
    assert_eq!(made["effective"], false, "{made}");
    assert!(made["why"].as_str().is_some_and(|why| why.contains("faults")), "{made}");
    assert_eq!(desk.kw.get("/", &Desk::holder(&made)).status(), 401);
    write(&path, &before);
    let next = desk.create(&desk.admin, &json!({"role": "viewer", "label": "in time"}));
    assert_eq!(next["effective"], true);
    assert_eq!(desk.kw.get("/", &Desk::holder(&made)).status(), 200);
}

#[test]
fn nothing_is_lost_when_many_make_keys_at_once() {
    const THREADS: usize = 8;
    const EACH: usize = 6;
    let desk = Desk::new();
    let config = desk.kw.path("keyward.toml");
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (desk, config) = (&desk, &config);
            scope.spawn(move || {
                for number in 0..EACH {
                    let label = format!("key {number} of {thread}");
                    if thread % 2 == 0 {
                        let wish = json!({"role": "viewer", "label": label});
                        let made = desk.create(&desk.admin, &wish);
                        let status = desk.kw.get("/", &Desk::holder(&made)).status();
                        assert_eq!(status, 200, "in force with the answer");
                    } else {
                        let output = Command::new(env!("CARGO_BIN_EXE_keyward"))
                            .arg("--config")
                            .arg(config)
                            .args([
                                "keys", "create", "--user", "cli", "--role", "viewer", "--label",
                            ])
                            .arg(&label)
                            .output()
                            .expect("the binary is built");
                        assert!(output.status.success(), "{output:?}");
                    }
                }
            });
        }
    });
    let stored = fs::read_to_string(desk.kw.path("keys.toml")).expect("it was written");
    assert_eq!(stored.matches("[[keys]]").count(), 3 + THREADS * EACH);
    desk.create(&desk.admin, &json!({"role": "viewer", "label": "the last"}));
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys?limit=200").len(), 4 + THREADS * EACH);
}
