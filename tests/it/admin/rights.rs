//! Who may do what, by requests made by hand.

use serde_json::json;

use super::{Desk, expect, fields};
use crate::harness::Actor;

#[test]
fn without_a_role_that_manages_keys_there_is_no_access_and_the_level_is_told() {
    let desk = Desk::new();
    for line in [
        "GET /api/v1/keys",
        "POST /api/v1/keys",
        "GET /api/v1/keys/x",
        "DELETE /api/v1/keys/x",
        "POST /api/v1/keys/x/disable",
        "POST /api/v1/keys/x/enable",
        "GET /api/v1/me",
        "GET /api/v1/routes",
        "GET /api/v1/explain?method=GET&path=/",
    ] {
        let problem = expect(&desk.ask(&desk.viewer, line, None), 403, "forbidden");
        let detail = problem["detail"].as_str().expect("a text");
        assert!(
            detail.contains("admin = \"own\"") && detail.contains("admin = \"all\""),
            "{detail}"
        );
    }
}

#[test]
fn a_manager_knows_of_the_keys_of_their_own_user_alone() {
    let desk = Desk::new();
    let own = desk.create(&desk.manager, &json!({"role": "viewer", "label": "reading"}));
    let own = own["id"].as_str().expect("an id");
    let mut ids = desk.ids(&desk.manager, "/api/v1/keys");
    ids.sort();
    let mut expected = vec![desk.manager.id.clone(), own.to_owned()];
    expected.sort();
    assert_eq!(ids, expected);
    assert_eq!(desk.ids(&desk.manager, "/api/v1/keys?user=root"), [""; 0]);
    assert_eq!(desk.ids(&desk.manager, "/api/v1/keys?q=root"), [""; 0]);
    let theirs = [&desk.admin.id, &desk.viewer.id, "key_none", "%20"];
    for id in theirs {
        for line in [
            format!("GET /api/v1/keys/{id}"),
            format!("DELETE /api/v1/keys/{id}"),
            format!("DELETE /api/v1/keys/{id}?force=true"),
            format!("POST /api/v1/keys/{id}/disable"),
            format!("POST /api/v1/keys/{id}/enable"),
            format!("GET /api/v1/explain?key_id={id}&method=GET&path=/"),
        ] {
            expect(&desk.ask(&desk.manager, &line, None), 404, "not_found");
        }
    }
    assert_eq!(desk.ids(&desk.admin, "/api/v1/keys").len(), 4);
    expect(&desk.get(&desk.admin, &format!("/api/v1/keys/{own}")), 200, "");
    assert_eq!(desk.kw.get("/", &desk.viewer).status(), 200, "nothing was disabled");
}

#[test]
fn nobody_grants_more_than_they_have() {
    let desk = Desk::with(|setup| {
        setup.add(Actor::new("tess", "admin").with("expires_at = 2100-01-01T00:00:00Z"));
    });
    let tess = desk.other("tess");
    let check = |actor: &Actor, wish: serde_json::Value, refused: &[&str]| {
        let mut wish = wish;
        wish["label"] = json!(format!("a key {wish}"));
        let answer = desk.ask(actor, "POST /api/v1/keys", Some(&wish));
        if refused.is_empty() {
            expect(&answer, 201, "");
        } else {
            let problem = expect(&answer, 403, "forbidden");
            assert_eq!(fields(&problem), refused, "{wish}");
        }
    };
    let (admin, manager) = (&desk.admin, &desk.manager);
    check(manager, json!({"role": "manager"}), &[]);
    check(manager, json!({"role": "viewer", "user": "mara"}), &[]);
    check(manager, json!({"role": "admin"}), &["role"]);
    check(manager, json!({"role": "robot"}), &["role"]);
    check(manager, json!({"role": "viewer", "user": "root"}), &["user"]);
    check(manager, json!({"role": "admin", "user": "root"}), &["user", "role"]);
    check(admin, json!({"role": "admin", "user": "ruth"}), &[]);
    check(admin, json!({"role": "robot", "user": "ruth"}), &["role"]);
    check(&tess, json!({"role": "viewer"}), &["expires_at"]);
    check(&tess, json!({"role": "viewer", "expires_at": "2100-01-01T00:00:01Z"}), &["expires_at"]);
    check(&tess, json!({"role": "viewer", "expires_at": "2100-01-01T00:00:00Z"}), &[]);
    // To give back is to give.
    let lasting = desk.admin_key("tess");
    let path = format!("/api/v1/keys/{lasting}");
    expect(&desk.ask(&tess, &format!("POST {path}/disable"), None), 200, "");
    let problem = expect(&desk.ask(&tess, &format!("POST {path}/enable"), None), 403, "forbidden");
    assert_eq!(fields(&problem), ["expires_at"]);
    expect(&desk.ask(admin, &format!("POST {path}/enable"), None), 200, "");
}

impl Desk {
    /// A key without an end for `user`, made by the admin.
    fn admin_key(&self, user: &str) -> String {
        let wish = json!({"role": "viewer", "user": user, "label": "without an end"});
        self.create(&self.admin, &wish)["id"].as_str().expect("an id").to_owned()
    }
}

#[test]
fn the_last_who_manages_all_keys_stays_but_by_force() {
    let desk = Desk::new();
    let path = format!("/api/v1/keys/{}", desk.admin.id);
    expect(&desk.ask(&desk.admin, &format!("POST {path}/disable"), None), 409, "last_admin");
    expect(&desk.ask(&desk.admin, &format!("DELETE {path}"), None), 409, "still_enabled");
    // With another one, it is not the last.
    let wish = json!({"role": "admin", "user": "mara", "label": "the other one"});
    let acting = Desk::holder(&desk.create(&desk.admin, &wish));
    expect(&desk.ask(&desk.admin, &format!("POST {path}/disable"), None), 200, "");
    // A manager has no such force, though the key is one of their user's.
    let force = json!({"force": true});
    let last = format!("/api/v1/keys/{}", acting.id);
    let disable = format!("POST {last}/disable");
    expect(&desk.ask(&desk.manager, &disable, Some(&force)), 409, "last_admin");
    expect(&desk.ask(&desk.manager, &format!("DELETE {last}?force=true"), None), 409, "last_admin");
    expect(&desk.ask(&acting, &disable, Some(&force)), 200, "");
    expect(&desk.get(&acting, "/api/v1/me"), 401, "key_disabled");
}

#[test]
fn what_one_is_and_may_is_told() {
    let desk = Desk::new();
    let me = expect(&desk.get(&desk.manager, "/api/v1/me"), 200, "");
    assert_eq!(
        me,
        json!({"user": "mara", "role": "manager", "key_id": desk.manager.id, "admin": "own",
               "expires_at": null, "may_grant": ["author", "manager", "viewer"]})
    );
    let me = expect(&desk.get(&desk.admin, "/api/v1/me"), 200, "");
    assert_eq!(me["admin"], "all");
    assert_eq!(me["may_grant"], json!(["admin", "author", "manager", "viewer"]));
}
