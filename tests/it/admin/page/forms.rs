//! What is done on the page is done as over the API, by the same rights; and what cannot be done is said beside its field.

use super::super::{Desk, expect};
use super::{Visitor, hidden, secret};
use crate::harness::Actor;

fn with_key(user: &str, key: &str) -> Actor {
    Actor::new(user, "viewer").with_key(key)
}

#[test]
fn a_key_is_made_shown_once_used_disabled_and_enabled() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let made = visitor.submit(
        "/keys/new",
        &[
            ("label", "billing export"),
            ("user", "bob"),
            ("role", "viewer"),
            ("methods", "GET, HEAD"),
            ("expires", "90d"),
        ],
    );
    let page = made.text();
    assert_eq!(made.status(), 200, "{page}");
    assert!(page.contains("“billing export” of bob"), "{page}");
    let bob = with_key("bob", &secret(&page));
    assert_eq!(desk.kw.get("/", &bob).status(), 200);
    let id = desk.ids(&desk.admin, "/api/v1/keys?user=bob").pop().expect("it is there");
    let key = format!("/keys/{id}");
    let shown = visitor.page(&key);
    for text in ["billing export", "GET HEAD", "created", "root ("] {
        assert!(shown.contains(text), "{text}: {shown}");
    }
    let answer = visitor.submit(&format!("{key}/disable"), &[("reason", "left the firm")]);
    assert_eq!(
        answer.field("location"),
        Some(format!("{key}?done=disabled").as_str()),
        "{}",
        answer.text()
    );
    let refused = desk.kw.get("/", &bob);
    assert_eq!((refused.status(), refused.code()), (401, "key_disabled".to_owned()));
    let shown = visitor.page(&format!("{key}?done=disabled"));
    assert!(shown.contains("by page:root: left the firm"), "{shown}");
    let answer = visitor.submit_to(&key, &format!("{key}/enable"), &[]);
    assert_eq!(answer.status(), 303, "{}", answer.text());
    assert_eq!(desk.kw.get("/", &bob).status(), 200);
}

#[test]
fn a_form_that_is_sent_again_makes_no_second_key() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let page = visitor.page("/keys/new");
    let (token, once) = (hidden(&page, "token"), hidden(&page, "once"));
    let (token, once) = (token.expect("a token"), once.expect("a name"));
    let fields = [("token", &*token), ("once", &*once), ("label", "nightly"), ("role", "viewer")];
    assert_eq!(visitor.post("/keys/new", &fields).status(), 200);
    let again = visitor.post("/keys/new", &fields);
    assert_eq!(again.status(), 409, "{}", again.text());
    assert!(again.text().contains("was sent before"), "{}", again.text());
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys?label=nightly").len(), 1);
    // Nor is a form that has no name sent at all.
    assert_eq!(
        visitor.post("/keys/new", &[fields[0], ("label", "other"), fields[3]]).status(),
        409
    );
}

#[test]
fn what_is_wrong_stands_beside_its_field_and_what_was_typed_is_kept() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let check = |fields: &[(&str, &str)], status: u16, said: &[&str]| {
        let answer = visitor.submit("/keys/new", fields);
        let page = answer.text();
        assert_eq!(answer.status(), status, "{page}");
        for said in said {
            assert!(page.contains(said), "{said:?} is not in {page}");
        }
        for (name, value) in
            fields.iter().filter(|(name, value)| *name != "role" && !value.is_empty())
        {
            let kept = format!("id=\"{name}\" name=\"{name}\" type=\"text\" value=\"{value}\"");
            assert!(page.contains(&kept), "{kept:?} is not in {page}");
        }
    };
    let role = ("role", "viewer");
    check(&[("label", "x"), role], 422, &["id=\"label-error\">Must say what the key is for"]);
    check(
        &[
            ("label", "export"),
            ("expires", "yesterday"),
            ("paths", "nowhere"),
            ("methods", "GET"),
            ("addresses", "300.0.0.1"),
            role,
        ],
        422,
        &[
            "id=\"expires-error\"",
            "id=\"paths-error\"",
            "id=\"addresses-error\"",
            "<details class=\"field\" open",
        ],
    );
    check(&[("label", "export"), ("user", "a b c\u{7f}"), role], 422, &["id=\"user-error\""]);
    check(&[("label", "export"), ("role", "nobody")], 422, &["role"]);
    assert_eq!(visitor.submit("/keys/new", &[("label", "export"), role]).status(), 200);
    check(&[("label", "export"), role], 409, &["id=\"label-error\">", "the same label"]);
    check(
        &[("label", "one"), ("expires", "2020-01-01"), role],
        422,
        &["id=\"expires-error\">Is not in the future."],
    );
}

#[test]
fn who_manages_their_own_keys_has_no_others_here_either() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.manager);
    let list = visitor.page("/keys");
    assert!(
        list.contains("Your keys") && !list.contains("vera") && !list.contains("root"),
        "{list}"
    );
    assert!(!visitor.page("/keys?user=vera").contains("vera</td>"));
    let token = visitor.token();
    for what in ["", "/disable", "/rotate", "/delete", "/enable"] {
        let target = format!("/keys/{}{what}", desk.viewer.id);
        assert_eq!(visitor.get(&target).status(), 404, "{target}");
        if !what.is_empty() {
            let fields = [
                ("token", &*token),
                ("once", "1"),
                ("revision", "0123456789abcdef0123456789abcdef"),
            ];
            assert_eq!(visitor.post(&target, &fields).status(), 404, "{target}");
        }
    }
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
    // By hand: another's user is not taken, a higher role is refused.
    let page = visitor.page("/keys/new");
    assert!(!page.contains("<option>admin"), "{page}");
    let made =
        visitor.submit("/keys/new", &[("label", "mine"), ("role", "viewer"), ("user", "vera")]);
    assert!(made.text().contains("“mine” of mara"), "{}", made.text());
    let refused = visitor.submit("/keys/new", &[("label", "more"), ("role", "admin")]);
    assert_eq!(refused.status(), 403, "{}", refused.text());
    assert!(refused.text().contains("nobody grants more than they have"));
}

#[test]
fn a_key_that_is_narrowed_does_no_more_here_than_over_the_api() {
    let desk = Desk::with(|setup| {
        setup.add(Actor::new("rita", "admin").with("allowed_methods = [\"GET\"]"));
        setup.add(Actor::new("nora", "admin").with("allowed_methods = [\"GET\", \"POST\"]"));
    });
    let rita = Visitor::new(&desk, &desk.other("rita"));
    rita.page("/keys");
    rita.page(&format!("/keys/{}", desk.viewer.id));
    assert_eq!(rita.get("/keys/new").status(), 403);
    let fields = [("token", &*rita.token()), ("once", "1"), ("label", "mine"), ("role", "viewer")];
    assert_eq!(rita.post("/keys/new", &fields).status(), 403);
    assert_eq!(rita.post(&format!("/keys/{}/disable", desk.viewer.id), &fields).status(), 403);
    // A form that deletes is a POST, but what it does is not.
    let nora = Visitor::new(&desk, &desk.other("nora"));
    let key = format!("/keys/{}", desk.viewer.id);
    assert_eq!(nora.submit(&format!("{key}/disable"), &[]).status(), 303);
    assert_eq!(nora.post(&format!("{key}/delete"), &[("token", &nora.token())]).status(), 403);
    expect(&desk.get(&desk.admin, &format!("/api/v1{key}")), 200, "");
}

#[test]
fn of_two_who_change_one_key_at_once_the_second_is_told() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let disable = format!("/keys/{}/disable", desk.viewer.id);
    let page = visitor.page(&disable);
    let (token, revision) = (hidden(&page, "token"), hidden(&page, "revision"));
    let (token, revision) = (token.expect("a token"), revision.expect("a revision"));
    let edit = serde_json::json!({ "label": "another label" });
    let patch = format!("PATCH /api/v1/keys/{}", desk.viewer.id);
    expect(&desk.ask(&desk.admin, &patch, Some(&edit)), 200, "");
    let fields = [("token", &*token), ("revision", &*revision), ("reason", "left the firm")];
    let answer = visitor.post(&disable, &fields);
    assert_eq!(answer.status(), 412, "{}", answer.text());
    for text in
        ["was changed since you opened this page", "value=\"left the firm\"", "another label"]
    {
        assert!(answer.text().contains(text), "{text}: {}", answer.text());
    }
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
    let again = hidden(&answer.text(), "revision").expect("what it is now");
    let fields = [("token", &*token), ("revision", &*again), ("reason", "left the firm")];
    assert_eq!(visitor.post(&disable, &fields).status(), 303);
}

#[test]
fn the_last_key_that_manages_all_goes_only_when_that_is_meant() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let disable = format!("/keys/{}/disable", desk.admin.id);
    let refused = visitor.submit(&disable, &[("force", "")].map(|_| ("reason", "holiday")));
    assert_eq!(refused.status(), 409, "{}", refused.text());
    assert!(refused.text().contains("name=\"force\" value=\"yes\""), "{}", refused.text());
    assert_eq!(visitor.submit(&disable, &[("force", "yes")]).status(), 303);
    assert_eq!(visitor.get("/keys").status(), 403);
}

#[test]
fn a_rotated_key_has_two_secrets_for_a_while() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let rotate = format!("/keys/{}/rotate", desk.viewer.id);
    let wrong = visitor.submit(&rotate, &[("grace", "soon")]);
    assert_eq!(wrong.status(), 422, "{}", wrong.text());
    assert!(wrong.text().contains("value=\"soon\""));
    let answer = visitor.submit(&rotate, &[("grace", "24h")]);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let new = with_key("vera", &secret(&answer.text()));
    assert_eq!(desk.kw.get("/", &new).status(), 200);
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200);
    let page = visitor.page(&format!("/keys/{}", desk.viewer.id));
    assert!(
        page.contains("The old secret works for another 24 hours")
            || page.contains("another 23 hours"),
        "{page}"
    );
    let answer = visitor.submit(&rotate, &[("grace", "0")]);
    assert!(answer.text().contains("works no longer"), "{}", answer.text());
    assert_eq!(desk.kw.get("/", &new).status(), 401);
}

#[test]
fn a_store_that_cannot_be_written_is_told_and_nothing_is_half_done() {
    let desk = Desk::new();
    let visitor = Visitor::new(&desk, &desk.admin);
    let store = desk.kw.path("keys.toml");
    let text = std::fs::read_to_string(&store).expect("the key file");
    // What the loader refuses, so does the store: nothing is written over what somebody is just editing.
    let broken = format!("{text}\n[[keys]]\nid = ");
    crate::harness::setup::write(&store, &broken);
    let fields = [("label", "nightly"), ("role", "viewer")];
    let answer = visitor.submit("/keys/new", &fields);
    assert_eq!(answer.status(), 503, "{}", answer.text());
    assert!(answer.text().contains("nothing was changed"), "{}", answer.text());
    assert!(answer.text().contains("value=\"nightly\""), "{}", answer.text());
    assert_eq!(std::fs::read_to_string(&store).expect("the key file"), broken);
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200, "the proxy goes on");
    crate::harness::setup::write(&store, &text);
    assert_eq!(visitor.submit("/keys/new", &fields).status(), 200);
}
