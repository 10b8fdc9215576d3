//! A key that is narrowed to methods, paths and addresses reaches nothing else, whichever HTTP it comes by, and
//! never more than its role does.

use serde_json::Value;

use crate::harness::keyward::get;
use crate::harness::setup::replace;
use crate::harness::{Actor, Http2, Message, Stage, Upstream, wait_for};

const ROUTES: &str = r#"
[[routes]]
path = "/health"
public = true
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/git/{*rest}"
roles = ["viewer"]
ambiguous_paths = "allow"
[[routes]]
path = "/orders/{*rest}"
roles = ["viewer"]
[[routes]]
path = "/invoices"
methods = ["GET"]
roles = ["viewer"]
"#;

/// One key for each kind of scope, and who has none.
struct People {
    reader: Actor,
    orders: Actor,
    office: Actor,
    here: Actor,
    whole: Actor,
}

fn stage_with(more: impl FnOnce(&mut crate::harness::Setup)) -> (Stage, People) {
    Stage::new(Upstream::hello(), |setup| {
        setup.routes(ROUTES);
        more(setup);
        let mut key = |user, lines| setup.add(Actor::new(user, "viewer").with(lines));
        People {
            reader: key("reader", "allowed_methods = [\"GET\"]"),
            orders: key(
                "orders",
                "allowed_paths = [\"/orders/{*rest}\", \"/git/{*rest}\", \"/admin\", \"/nothing\"]",
            ),
            office: key("office", "allowed_cidrs = [\"203.0.113.0/24\", \"2001:db8::/32\"]"),
            here: key("here", "allowed_cidrs = [\"127.0.0.1\"]"),
            whole: key("whole", ""),
        }
    })
}

fn stage() -> (Stage, People) {
    stage_with(|_| {})
}

fn request(method: &str, target: &str, actor: &Actor) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{}\r\n", actor.header())
}

#[track_caller]
fn check_refusal(answer: &Message, detail: &str) {
    let problem: Value = serde_json::from_slice(&answer.body).expect("a problem document");
    assert_eq!(problem["detail"], detail);
    let challenges = answer.fields("www-authenticate");
    assert!(challenges.iter().any(|text| text.contains("insufficient_scope")), "{challenges:?}");
}

const METHOD: &str = "This API key is not allowed to use this method.";
const PATH: &str = "This API key is not allowed to use this path.";
const ADDRESS: &str = "This API key is not allowed from this address.";

#[test]
fn what_is_in_scope_passes_and_all_else_is_refused_with_the_reason() {
    let (stage, People { reader, orders, office, here, whole }) = stage();
    for (method, target, actor) in [
        ("GET", "/orders/1", &reader),
        ("HEAD", "/orders/1", &reader),
        ("POST", "/orders", &orders),
        ("GET", "/orders/%31?x=/invoices", &orders),
        ("GET", "/invoices", &here),
        ("GET", "/git/a%2fb", &here),
        ("DELETE", "/orders/1", &whole),
    ] {
        let received = stage.passes(request(method, target, actor));
        assert_eq!(received.fields("x-auth-key-id"), [&actor.id]);
    }
    for (method, target, actor, detail) in [
        ("POST", "/orders/1", &reader, METHOD),
        ("OPTIONS", "/orders/1", &reader, METHOD),
        ("GET", "/invoices", &orders, PATH),
        // On a route that takes a path with two readings, the key does not.
        ("GET", "/git/a%2fb", &orders, PATH),
        ("GET", "/git/../invoices", &orders, PATH),
        ("GET", "/orders/1", &office, ADDRESS),
        // What there is beyond its scope, a key does not find out.
        ("GET", "/unknown", &orders, PATH),
        ("POST", "/invoices", &reader, METHOD),
        ("GET", "/unknown", &office, ADDRESS),
    ] {
        check_refusal(&stage.refuses(request(method, target, actor), 403, "forbidden"), detail);
    }
}

#[test]
fn scopes_give_nothing_that_the_role_does_not() {
    let (stage, people) = stage();
    let answer = stage.refuses(request("GET", "/admin", &people.orders), 403, "forbidden");
    assert!(answer.text().contains("The role of this API key"), "{}", answer.text());
    stage.refuses(request("GET", "/nothing", &people.orders), 404, "no_route");
}

#[test]
fn where_everybody_passes_a_key_out_of_its_scope_is_nobodys() {
    let (stage, People { reader, orders, office, here, .. }) = stage();
    for actor in [&reader, &here] {
        let received = stage.passes(request("GET", "/health", actor));
        assert_eq!(received.fields("x-auth-user"), [&actor.user]);
    }
    for (method, actor) in [("POST", &reader), ("GET", &orders), ("GET", &office)] {
        let received = stage.passes(request(method, "/health", actor));
        for name in ["x-auth-user", "x-auth-role", "x-auth-key-id", "x-api-key"] {
            assert_eq!(received.fields(name), [""; 0], "{name}");
        }
    }
}

#[test]
fn nothing_of_a_scope_is_said_to_who_does_not_hold_the_key() {
    let (stage, People { office, .. }) = stage();
    stage.refuses(get("/orders/1", ""), 401, "missing_key");
    let guess = Actor::new("office", "viewer").with_key(&format!("{}x", office.key));
    stage.refuses(request("GET", "/orders/1", &guess), 401, "invalid_key");
}

#[test]
fn a_disabled_key_is_disabled_before_it_is_out_of_scope() {
    let lines = "enabled = false\nallowed_cidrs = [\"203.0.113.7\"]";
    let (stage, key) =
        Stage::new(Upstream::hello(), |setup| setup.add(Actor::new("gone", "viewer").with(lines)));
    stage.refuses(request("GET", "/", &key), 401, "key_disabled");
}

#[test]
fn the_address_is_the_clients_as_a_trusted_proxy_says_and_nobody_else() {
    let (direct, people) = stage();
    let forged = format!("X-Forwarded-For: 203.0.113.7\r\n{}", people.office.header());
    check_refusal(&direct.refuses(get("/orders/1", &forged), 403, "forbidden"), ADDRESS);

    let (behind, People { office, here, .. }) = stage_with(|setup| {
        setup.set("server", "trusted_proxies = [\"127.0.0.0/8\"]");
    });
    for client in ["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.9"] {
        let lines = format!("X-Forwarded-For: {client}\r\n{}", office.header());
        behind.passes(get("/orders/1", &lines));
        let lines = format!("X-Forwarded-For: {client}\r\n{}", here.header());
        check_refusal(&behind.refuses(get("/orders/1", &lines), 403, "forbidden"), ADDRESS);
    }
    for client in ["203.0.112.7", "203.0.113.7, 198.51.100.1"] {
        let lines = format!("X-Forwarded-For: {client}\r\n{}", office.header());
        check_refusal(&behind.refuses(get("/orders/1", &lines), 403, "forbidden"), ADDRESS);
    }
}

#[test]
fn over_http2_it_is_the_same() {
    let (stage, People { reader, orders, office, here, .. }) = stage();
    let connection = Http2::connect(stage.kw.address());
    let ask = |method, path: &str, actor: &Actor| {
        let request = http::Request::builder().method(method);
        let request = request.uri(format!("http://a{path}")).header("x-api-key", &actor.key);
        connection.send(request).read()
    };
    for (method, path, actor) in
        [("GET", "/orders/1", &reader), ("POST", "/orders", &orders), ("GET", "/invoices", &here)]
    {
        assert_eq!(ask(method, path, actor).status, 200, "{method} {path}");
    }
    let before = stage.app.requests().len();
    for (method, path, actor, detail) in [
        ("POST", "/orders", &reader, METHOD),
        ("GET", "/invoices", &orders, PATH),
        ("GET", "/orders/1", &office, ADDRESS),
    ] {
        let answer = ask(method, path, actor);
        assert_eq!(answer.status, 403);
        assert!(answer.text.contains(detail), "{}", answer.text);
        assert!(answer.headers.contains_key("www-authenticate"));
    }
    assert_eq!(stage.app.requests().len(), before);
}

#[test]
fn a_preflight_carries_no_key_and_has_no_scope() {
    let (stage, _people) = stage_with(|setup| {
        setup.set("auth", "preflight = \"forward\"");
    });
    let preflight = "OPTIONS /orders/1 HTTP/1.1\r\nHost: a\r\nOrigin: https://page.example\r\n\
                     Access-Control-Request-Method: POST\r\n\r\n";
    stage.passes(preflight);
}

#[test]
fn a_scope_is_in_force_when_the_file_is_saved_and_seen_in_the_log() {
    let (stage, People { whole, .. }) = stage();
    stage.passes(request("GET", "/orders/1", &whole));
    let narrowed = whole.clone().with("allowed_paths = [\"/invoices\"]");
    replace(&stage.kw.folder().join("keys.toml"), &narrowed.entry());
    wait_for("the scope to be in force", || {
        (stage.kw.ask(request("GET", "/orders/1", &whole)).status() == 403).then_some(())
    });
    stage.passes(request("GET", "/invoices", &whole));
    let record = wait_for("the refusal in the log", || {
        stage.kw.access_log().into_iter().find(|record| record["code"] == "forbidden")
    });
    assert_eq!([&record["key_id"], &record["path"]], [&whole.id, "/orders/1"]);
}
