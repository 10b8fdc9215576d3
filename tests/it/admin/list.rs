//! Keys are listed page by page, filtered and searched.

use serde_json::json;

use super::{Desk, expect, fields};

#[test]
fn pages_show_every_key_once_while_others_come_and_go() {
    let desk = Desk::new();
    for number in 0..7 {
        desk.create(&desk.admin, &json!({"role": "viewer", "label": format!("number {number}")}));
    }
    let all = desk.ids(&desk.admin, "/api/v1/keys");
    assert_eq!(all.len(), 10);
    let (mut seen, mut target) = (Vec::new(), "/api/v1/keys?limit=3".to_owned());
    loop {
        let page = expect(&desk.get(&desk.admin, &target), 200, "");
        let keys = page["keys"].as_array().expect("a list");
        assert!(keys.len() <= 3);
        seen.extend(keys.iter().map(|key| key["id"].as_str().expect("an id").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        target = format!("/api/v1/keys?limit=3&cursor={cursor}");
        if seen.len() == 3 {
            // What was seen goes.
            let gone = format!("DELETE /api/v1/keys/{}?force=true", seen[2]);
            expect(&desk.ask(&desk.admin, &gone, None), 200, "");
        }
    }
    assert_eq!(seen, all);
}

#[test]
fn filters_and_search_narrow_the_list() {
    let desk = Desk::new();
    let made = desk.create(
        &desk.admin,
        &json!({"role": "author", "user": "kim", "label": "Nightly Übersicht & more"}),
    );
    let id = made["id"].as_str().expect("an id");
    for query in [
        "user=kim",
        "role=author",
        "label=Nightly%20%C3%9Cbersicht%20%26%20more",
        "q=nightly",
        "q=%C3%BCBERSICHT",
        "q=KIM",
        "q=autho&state=enabled",
        &format!("q={}", made["start"].as_str().expect("a beginning")),
        &format!("q={id}"),
    ] {
        assert_eq!(desk.ids(&desk.admin, &format!("/api/v1/keys?{query}")), [id], "{query}");
    }
    let disable = format!("POST /api/v1/keys/{id}/disable");
    expect(&desk.ask(&desk.admin, &disable, None), 200, "");
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys?state=disabled"), [id]);
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys?state=expired"), [""; 0]);
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys?user=kim&role=viewer"), [""; 0]);
    let page = expect(&desk.get(&desk.admin, "/api/v1/keys?limit=1&state=enabled"), 200, "");
    assert_eq!(page["total"], 3);
}

#[test]
fn what_cannot_be_asked_for_is_told_by_its_field() {
    let desk = Desk::new();
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=eA", "cursor"),
        ("state=on", "state"),
        ("usr=kim", "query"),
        ("user=a&user=b", "query"),
    ] {
        let answer = desk.get(&desk.admin, &format!("/api/v1/keys?{query}"));
        let problem = expect(&answer, 422, "invalid");
        assert_eq!(fields(&problem), [field], "{query}");
    }
}
