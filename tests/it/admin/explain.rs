//! What would happen to a request is what happens; and who may pass where.

use serde_json::{Value, json};

use super::{Desk, expect, fields};
use crate::harness::Actor;
use crate::harness::keyward::get;

const ROUTES: &str = r#"
[[routes]]
path = "/open"
public = true
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/read/{id}"
methods = ["GET"]
roles = ["viewer"]
[[routes]]
path = "/any"
"#;

fn desk() -> Desk {
    Desk::with(|setup| {
        setup.routes(ROUTES);
        setup.add(Actor::new("off", "viewer").with("enabled = false"));
        setup.add(Actor::new("old", "viewer").with("expires_at = 2020-01-01T00:00:00Z"));
    })
}

#[test]
fn what_is_explained_is_what_happens() {
    let desk = desk();
    let (off, old) = (desk.other("off"), desk.other("old"));
    let people = [Some(&desk.admin), Some(&desk.viewer), Some(&off), Some(&old), None];
    let paths =
        ["/open", "/admin", "/admin/x", "/read/1", "/read/", "/any", "/none", "/a/../b", "/a%2fb"];
    for person in people {
        for path in paths {
            for method in ["GET", "HEAD", "POST"] {
                let header = person.map(Actor::header).unwrap_or_default();
                let request = get(path, &header).replacen("GET", method, 1);
                let request = request.replacen("Host:", "Content-Length: 0\r\nHost:", 1);
                let status = desk.kw.ask(request).status();
                let key = person.map_or(String::new(), |person| format!("key_id={}&", person.id));
                let path = path.replace('%', "%25");
                let target = format!("/api/v1/explain?{key}method={method}&path={path}");
                let answer = desk.get(&desk.admin, &target);
                let told = expect(&answer, 200, &answer.code());
                let expected = if status == 200 { Value::Null } else { json!(status) };
                assert_eq!(told["status"], expected, "{target}: {told}");
                assert_eq!(told["allowed"], status == 200, "{target}: {told}");
                let steps = told["steps"].as_array().expect("a list");
                assert!(!steps.is_empty(), "{told}");
                let fails = steps.iter().any(|step| step["ok"] == false);
                let needs_no_key = told["route"] == "/open";
                assert!(fails || status == 200, "it says why: {told}");
                assert!(!fails || status != 200 || needs_no_key, "{told}");
            }
        }
    }
}

#[test]
fn a_key_that_is_narrowed_is_explained_for_an_address() {
    let desk = Desk::with(|setup| {
        setup.add(Actor::new("finn", "viewer").with("allowed_cidrs = [\"192.0.2.0/24\"]"));
    });
    let id = desk.other("finn").id;
    let tell = |address: &str| {
        let target = format!("/api/v1/explain?key_id={id}&method=GET&path=/{address}");
        let answer = desk.get(&desk.admin, &target);
        let told = expect(&answer, 200, &answer.code());
        let steps = told["steps"].as_array().expect("a list").clone();
        (told["allowed"].clone(), steps.iter().any(|step| step["step"] == "scope"))
    };
    assert_eq!(tell("&address=192.0.2.7"), (json!(true), false));
    assert_eq!(tell("&address=198.51.100.1"), (json!(false), true));
    assert_eq!(tell(""), (json!(false), true));
}

#[test]
fn what_cannot_be_explained_is_told() {
    let desk = desk();
    for (query, field) in [
        ("method=GET", "query"),
        ("path=/", "query"),
        ("method=GET&path=/&x=1", "query"),
        ("method=G%20T&path=/", "method"),
        ("method=GET&path=x", "path"),
        ("method=GET&path=/%00", "path"),
        ("method=GET&path=/&address=here", "address"),
    ] {
        let answer = desk.get(&desk.admin, &format!("/api/v1/explain?{query}"));
        let problem = expect(&answer, 422, "invalid");
        assert_eq!(fields(&problem), [field], "{query}");
    }
}

#[test]
fn routes_are_listed_with_who_may_pass() {
    let desk = desk();
    let all = expect(&desk.get(&desk.admin, "/api/v1/routes"), 200, "");
    let paths = |listed: &Value| -> Vec<String> {
        let routes = listed["routes"].as_array().expect("a list").iter();
        routes.map(|route| route["path"].as_str().expect("a path").to_owned()).collect()
    };
    assert_eq!(paths(&all), ["/open", "/admin/{*rest}", "/read/{id}", "/any"]);
    assert_eq!(
        all["routes"][2]["rules"][0],
        json!({"methods": ["GET"], "public": false, "roles": ["admin", "author", "manager", "viewer"],
               "client_subject": [], "limits": null, "upstream": "app"})
    );
    let own = expect(&desk.get(&desk.manager, "/api/v1/routes"), 200, "");
    assert_eq!(paths(&own), ["/open", "/read/{id}", "/any"]);
}
