//! How many requests a key may send is set, shown and explained; and nobody gives a key more than their own has.

use serde_json::{Value, json};

use super::{Desk, expect, fields};
use crate::harness::Actor;

/// A desk whose guests may send 9 requests a day, and with a manager whose own key is limited.
fn desk() -> Desk {
    Desk::with(|setup| {
        setup.set("roles.guest", "inherits = [\"viewer\"]\nlimits = { daily = 9 }");
        setup.set("roles.chief", "inherits = [\"guest\"]\nadmin = \"all\"");
        setup.set("roles.host", "inherits = [\"guest\"]\nadmin = \"own\"");
        setup.routes(
            "[[routes]]\npath = \"/{*rest}\"\n[[routes]]\npath = \"/search\"\npublic = true\n\
             limits = { rate = \"30/m\" }\n",
        );
        setup.key("cleo", "chief");
        let limits = "rate = \"10/s\"\nburst = 20\nconcurrent = 4\ndaily = 100";
        setup.add(Actor::new("hank", "host").with(limits));
    })
}

#[test]
fn limits_are_set_changed_and_taken_away() {
    let desk = desk();
    let cleo = desk.other("cleo");
    let wish = json!({"role": "guest", "user": "kim", "label": "limited", "rate": "1/h", "burst": 2,
                      "concurrent": 3});
    let made = desk.create(&cleo, &wish);
    let own = |key: &Value| ["rate", "burst", "concurrent", "daily"].map(|name| key[name].clone());
    assert_eq!(own(&made), [json!("1/h"), json!(2), json!(3), Value::Null]);
    let holder = Desk::holder(&made);
    let path = format!("/api/v1/keys/{}", holder.id);
    let statuses = [(); 3].map(|()| desk.kw.get("/", &holder).status());
    assert_eq!(statuses, [200, 200, 429]);

    // What holds is its role's, too; and what was used is told, if the day has not just ended.
    let shown = expect(&desk.get(&cleo, &path), 200, "");
    let mut limits = shown["limits"].clone();
    let today = limits["today"].take();
    assert!(today == 2 || today == 0, "{shown}");
    assert_eq!(
        limits,
        json!({"rate": "1/h", "burst": 2, "concurrent": 3, "daily": 9, "today": null})
    );

    let patch = |body: Value| desk.ask(&cleo, &format!("PATCH {path}"), Some(&body));
    let changed = expect(&patch(json!({"rate": null, "daily": 5})), 200, "");
    assert_eq!(own(&changed), [Value::Null, Value::Null, json!(3), json!(5)]);
    assert_eq!(desk.kw.get("/", &holder).status(), 200, "it is in force");
    for (body, field) in [
        (json!({"rate": "fast"}), "rate"),
        (json!({"burst": 5}), "burst"),
        (json!({"concurrent": 0}), "concurrent"),
        (json!({"daily": 1_000_000_000_001_u64}), "daily"),
    ] {
        let problem = expect(&patch(body.clone()), 422, "invalid");
        assert_eq!(fields(&problem), [field], "{body}: {problem}");
    }
    let told = expect(&desk.get(&cleo, "/api/v1/audit"), 200, "");
    let last = &told["entries"][0];
    assert_eq!((&last["before"]["rate"], &last["after"]["rate"]), (&json!("1/h"), &Value::Null));
    assert_eq!((&last["before"]["daily"], &last["after"]["daily"]), (&Value::Null, &json!(5)));
}

#[test]
fn nobody_gives_a_key_more_requests_than_their_own() {
    let desk = desk();
    let hank = desk.other("hank");
    let ask = |limits: Value| {
        let mut wish = json!({"role": "viewer", "label": format!("a key {limits}")});
        wish.as_object_mut().expect("an object").extend(limits.as_object().expect("one").clone());
        desk.ask(&hank, "POST /api/v1/keys", Some(&wish))
    };
    let refused = |limits: Value| -> Vec<String> {
        let problem = expect(&ask(limits), 403, "forbidden");
        fields(&problem).into_iter().map(str::to_owned).collect()
    };
    assert_eq!(refused(json!({})), ["rate", "concurrent", "daily"]);
    assert_eq!(
        refused(json!({"rate": "11/s", "burst": 21, "concurrent": 5, "daily": 101})),
        ["rate", "burst", "concurrent", "daily"]
    );
    let narrow = json!({"rate": "600/m", "burst": 20, "concurrent": 4, "daily": 100});
    let made = expect(&ask(narrow), 201, "");
    let path = format!("/api/v1/keys/{}", made["id"].as_str().expect("an id"));
    let patch = |body: Value| desk.ask(&hank, &format!("PATCH {path}"), Some(&body));
    expect(&patch(json!({"daily": null})), 403, "forbidden");
    expect(&patch(json!({"daily": 50, "label": "narrower"})), 200, "");
    // A role's limits are as good as the key's own.
    let guest = json!({"role": "guest", "label": "a guest", "rate": "1/s", "concurrent": 1});
    expect(&desk.ask(&hank, "POST /api/v1/keys", Some(&guest)), 201, "");
}

#[test]
fn what_would_hold_is_explained() {
    let desk = desk();
    let hank = desk.other("hank");
    let limits = |query: &str| -> Vec<String> {
        let target = format!("/api/v1/explain?method=GET&{query}");
        let told = expect(&desk.get(&desk.admin, &target), 200, "");
        let steps = told["steps"].as_array().expect("a list").iter();
        let steps = steps.filter(|step| step["step"] == "limits");
        steps.map(|step| step["detail"].as_str().expect("a text").to_owned()).collect()
    };
    let of_key = "the key may send 10/s, 20 at once, 4 in flight, 100 a day";
    let of_route = |who: &str| format!("each {who} may send 30/m, 1 at once on this route");
    assert_eq!(limits(&format!("path=/&key_id={}", hank.id)), [of_key]);
    assert_eq!(limits(&format!("path=/search&key_id={}", hank.id)), [of_key, &of_route("key")]);
    assert_eq!(limits("path=/search"), [of_route("address")]);
    assert_eq!(limits(&format!("path=/&key_id={}", desk.viewer.id)), [""; 0]);
    let routes = expect(&desk.get(&desk.admin, "/api/v1/routes"), 200, "");
    assert_eq!(routes["routes"][1]["rules"][0]["limits"], "30/m, 1 at once");
}
