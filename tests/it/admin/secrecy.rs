//! A key that goes over the admin listener is in the one answer that shows it, and in nothing else.

use std::fs;

use serde_json::json;

use super::{Desk, expect};

#[test]
fn no_key_is_in_a_log_a_file_or_another_answer() {
    let desk = Desk::new();
    let made = desk.create(&desk.admin, &json!({"role": "viewer", "label": "the canary"}));
    let holder = Desk::holder(&made);
    let canary = &holder.key;
    let guess = "hunter2-hunter2-hunter2";
    let mut said = Vec::new();
    for secret in [canary.as_str(), guess, &desk.admin.key] {
        for line in [
            format!("GET /api/v1/keys/{secret}"),
            format!("DELETE /api/v1/keys/{secret}"),
            format!("POST /api/v1/keys/{secret}/disable"),
            format!("GET /api/v1/keys?q={secret}"),
            format!("GET /api/v1/keys?{secret}=1"),
            format!("GET /api/v1/explain?key_id={secret}&method=GET&path=/"),
            format!("GET /{secret}"),
        ] {
            said.push((secret, line.clone(), desk.ask(&desk.admin, &line, None)));
        }
        let header =
            format!("GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {secret}\r\n\r\n");
        said.push((secret, "its own".to_owned(), desk.send(&header)));
    }
    for (secret, line, answer) in said {
        // Of parameters it is told that one is unknown, to whoever sent it.
        if !line.contains("=1") {
            assert!(!answer.text().contains(secret), "{line}: {}", answer.text());
        }
    }
    expect(&desk.get(&holder, "/api/v1/me"), 403, "forbidden");
    let disable = format!("POST /api/v1/keys/{}/disable", holder.id);
    expect(&desk.ask(&desk.admin, &disable, Some(&json!({"reason": "over"}))), 200, "");
    desk.kw.wait_for_event("key changed over the admin API", |event| event["what"] == "disable");
    let keys = fs::read_to_string(desk.kw.path("keys.toml")).expect("it was written");
    for (what, text) in [("events", desk.kw.stderr()), ("output", desk.kw.stdout()), ("keys", keys)]
    {
        for secret in [canary.as_str(), guess, &desk.admin.key] {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    }
}
