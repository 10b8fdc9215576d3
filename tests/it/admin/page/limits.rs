//! How many requests a key may send, on the page.

use serde_json::json;

use super::{Desk, Visitor, secret};
use crate::harness::Actor;
use crate::harness::keyward::get;

#[test]
fn limits_are_asked_for_shown_and_changed() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let create = |more: &[(&str, &str)]| {
        let wanted = [("label", "limited"), ("user", "kim"), ("role", "viewer"), ("daily", "1000")];
        visitor.submit("/keys/new", &[&wanted, more].concat())
    };
    let refused = create(&[("rate", "fast"), ("burst", "many")]).text();
    for message in ["Is no rate: write a number", "Must be a number from 1 to 1000000."] {
        assert!(refused.contains(message), "{refused}");
    }
    let made = create(&[("rate", "1/h"), ("burst", "2")]);
    let holder = Actor::new("kim", "viewer").with_key(&secret(&made.text()));
    let statuses = [(); 3].map(|()| desk.kw.ask(get("/", &holder.header())).status());
    assert_eq!(statuses, [200, 200, 429]);

    let [id] = &desk.ids(&desk.admin, "/api/v1/keys?user=kim")[..] else { panic!("one key") };
    let path = format!("/keys/{id}");
    let page = visitor.page(&path);
    assert!(page.contains("1/h, 2 at once, 1000 a day"), "{page}");
    // If the day has not just ended.
    assert!(page.contains("2 of 1,000") || page.contains("0 of 1,000"), "{page}");

    let edit = format!("{path}/edit");
    let form = visitor.page(&edit);
    assert!(form.contains("name=\"rate\" type=\"text\" value=\"1/h\""), "{form}");
    let saved = visitor.submit(&edit, &[("rate", ""), ("burst", ""), ("concurrent", "4")]);
    assert_eq!(saved.status(), 303, "{}", saved.text());
    let shown =
        super::super::expect(&desk.get(&desk.admin, &format!("/api/v1/keys/{id}")), 200, "");
    let own = ["rate", "burst", "concurrent", "daily"].map(|name| shown[name].clone());
    assert_eq!(own, [json!(null), json!(null), json!(4), json!(1000)]);
    assert_eq!(desk.kw.ask(get("/", &holder.header())).status(), 200, "it is in force");
}
