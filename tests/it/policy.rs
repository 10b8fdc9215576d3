//! Who may do what: methods, inheritance, which route wins, and paths that could be read in two ways.

use crate::harness::keyward::get;
use crate::harness::{Actor, Stage, Upstream};

const ROUTES: &str = r#"
[[routes]]
path = "/health"
public = true
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/admin/help"
roles = ["viewer"]
[[routes]]
path = "/orders/{id}"
methods = ["GET"]
roles = ["viewer"]
[[routes]]
path = "/orders/{id}"
methods = ["PUT", "DELETE"]
roles = ["author"]
[[routes]]
path = "/any"
[[routes]]
path = "/git/{*rest}"
ambiguous_paths = "allow"
[[routes]]
path = "/files/{*rest}"
methods = ["GET", "HEAD"]
roles = ["viewer", "robot"]
"#;

struct People {
    viewer: Actor,
    author: Actor,
    manager: Actor,
    admin: Actor,
    robot: Actor,
}

fn stage() -> (Stage, People) {
    Stage::new(Upstream::hello(), |setup| {
        setup.routes(ROUTES);
        People {
            viewer: setup.key("alice", "viewer"),
            author: setup.key("arthur", "author"),
            manager: setup.key("mary", "manager"),
            admin: setup.key("root", "admin"),
            robot: setup.key("r2d2", "robot"),
        }
    })
}

fn request(method: &str, target: &str, actor: &Actor) -> String {
    format!("{method} {target} HTTP/1.1\r\nHost: app.example\r\n{}\r\n", actor.header())
}

#[test]
fn a_role_passes_where_a_role_it_inherits_from_does() {
    let (stage, people) = stage();
    let People { viewer, author, manager, admin, robot } = &people;
    for (method, target, passing, refused) in [
        ("GET", "/orders/1", vec![viewer, author, manager, admin], vec![robot]),
        ("PUT", "/orders/1", vec![author, manager, admin], vec![viewer, robot]),
        ("GET", "/admin/users", vec![admin], vec![viewer, author, manager, robot]),
        ("GET", "/any", vec![viewer, author, manager, admin, robot], vec![]),
        ("GET", "/files/a/b", vec![viewer, author, robot], vec![]),
    ] {
        for actor in passing {
            let received = stage.passes(request(method, target, actor));
            assert_eq!(received.fields("x-auth-role"), [&actor.role]);
        }
        for actor in refused {
            stage.refuses(request(method, target, actor), 403, "forbidden");
        }
    }
}

#[test]
fn a_method_that_no_entry_of_the_path_names_is_refused() {
    let (stage, people) = stage();
    for method in ["GET", "HEAD", "PUT", "DELETE"] {
        stage.passes(request(method, "/orders/1", &people.admin));
    }
    for method in ["POST", "PATCH", "OPTIONS", "get", "PROPFIND", "X-ODD"] {
        stage.refuses(request(method, "/orders/1", &people.admin), 403, "forbidden");
        let without = format!("{method} /orders/1 HTTP/1.1\r\nHost: a\r\n\r\n");
        stage.refuses(without, 401, "missing_key");
    }
    for method in ["POST", "PATCH", "OPTIONS", "PROPFIND"] {
        stage.passes(request(method, "/any", &people.viewer));
    }
}

#[test]
fn get_covers_head() {
    let (stage, people) = stage();
    assert_eq!(stage.passes(request("HEAD", "/orders/7", &people.viewer)).method(), "HEAD");
    stage.refuses(request("HEAD", "/orders/7", &people.robot), 403, "forbidden");
}

#[test]
fn the_most_specific_path_wins() {
    let (stage, people) = stage();
    stage.passes(request("GET", "/admin/help", &people.viewer));
    stage.refuses(request("GET", "/admin/help/", &people.viewer), 403, "forbidden");
    stage.refuses(request("GET", "/admin/helper", &people.viewer), 403, "forbidden");
}

#[test]
fn a_rest_pattern_covers_its_own_stem() {
    let (stage, people) = stage();
    for target in ["/admin", "/admin/", "/admin/a", "/admin/a/b?c=d", "/%61dmin", "/admin?x"] {
        stage.refuses(request("GET", target, &people.viewer), 403, "forbidden");
        let received = stage.passes(request("GET", target, &people.admin));
        assert_eq!(received.target(), target);
    }
    stage.refuses(request("GET", "/administrator", &people.admin), 404, "no_route");
}

#[test]
fn a_path_is_matched_by_case_and_whole() {
    let (stage, people) = stage();
    for target in
        ["/Admin", "/ANY", "/any/", "/any/more", "/orders", "/orders/1/2", "/", "/health/x"]
    {
        stage.refuses(request("GET", target, &people.admin), 404, "no_route");
        stage.refuses(get(target, ""), 401, "missing_key");
    }
}

#[test]
fn a_path_with_two_readings_is_refused_with_and_without_a_key() {
    let (stage, people) = stage();
    for target in [
        "/files/../admin",
        "/files/./x",
        "/files/..",
        "/files/%2e%2e/admin",
        "/files/%2E./admin",
        "/files/.%2e/admin",
        "/files/..;/admin",
        "/files/..%2fadmin",
        "/files/..%5cadmin",
        "/files\\..\\admin",
        "/files/%5c..%5cadmin",
        "/files/a%2Fb",
        "//admin",
        "/files//x",
        "/files/x//",
        "/files/%00",
        "/files/x%00.png",
        "/files/%0d%0aX-Auth-User:%20root",
        "/files/%7f",
        "/files/%",
        "/files/%4",
        "/files/%zz",
        "/files/%252e%252e/admin",
        "/files/%c0%ae%c0%ae/admin",
        "/files/%ff",
        "/health/../admin",
        "/health;/../admin",
        "/admin;x=1",
        "/admin;x=1/users",
        "/files/a;b",
        "/unknown/..",
    ] {
        stage.refuses(request("GET", target, &people.admin), 400, "ambiguous_path");
        stage.refuses(get(target, ""), 400, "ambiguous_path");
    }
}

#[test]
fn an_odd_path_with_one_reading_passes_byte_for_byte() {
    let (stage, people) = stage();
    for target in [
        "/files/a%20b",
        "/files/caf%C3%A9",
        "/files/.hidden",
        "/files/...",
        "/files/a..b",
        "/files/%7Euser/~user",
        "/files/100%25",
        "/files/a:b@c!$&'()*+,=",
        "/files/x?a=../..&b=//&c=%2f%00;d",
        "/files/x?",
        "/files/x?a=%zz&=?/?",
        "/files/",
    ] {
        let received = stage.passes(request("GET", target, &people.viewer));
        assert_eq!(received.target(), target);
    }
}

#[test]
fn a_route_may_allow_paths_with_two_readings() {
    let (stage, people) = stage();
    for target in ["/git/a%2Fb", "/git/a;b", "/git/a%5Cb", "/git/a//b"] {
        let received = stage.passes(request("GET", target, &people.viewer));
        assert_eq!(received.target(), target);
    }
    stage.refuses(request("GET", "/files/a%2Fb", &people.viewer), 400, "ambiguous_path");
}

#[test]
fn connect_and_trace_are_refused_and_nothing_is_dialled() {
    let (stage, people) = stage();
    let before = stage.app.connections();
    let key = people.admin.header();
    let own = stage.app.address();
    for head in [
        "TRACE /any HTTP/1.1\r\nHost: a\r\n".to_owned(),
        "TRACE /health HTTP/1.1\r\nHost: a\r\n".to_owned(),
        "CONNECT app.example:443 HTTP/1.1\r\nHost: app.example:443\r\n".to_owned(),
        format!("CONNECT {own} HTTP/1.1\r\nHost: {own}\r\n"),
    ] {
        for lines in ["", &key] {
            stage.refuses(format!("{head}{lines}\r\n"), 501, "method_not_supported");
        }
    }
    assert_eq!(stage.app.connections(), before);
}

#[test]
fn an_absolute_target_is_taken_by_its_path_and_never_dialled() {
    let (stage, people) = stage();
    let elsewhere = Upstream::hello();
    let target = format!("http://{}/orders/1?a=b", elsewhere.address());
    let lines = format!("Host: {}\r\n{}", elsewhere.address(), people.viewer.header());
    let received = stage.passes(format!("GET {target} HTTP/1.1\r\n{lines}\r\n"));
    assert_eq!(received.target(), "/orders/1?a=b");
    for path in ["/admin/users", "/admin"] {
        let target = format!("http://{}{path}", elsewhere.address());
        stage.refuses(format!("GET {target} HTTP/1.1\r\n{lines}\r\n"), 403, "forbidden");
    }
    let empty = format!("http://{}", elsewhere.address());
    stage.refuses(format!("GET {empty} HTTP/1.1\r\n{lines}\r\n"), 404, "no_route");
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn only_the_request_line_decides_and_no_header_that_claims_another_target() {
    let (stage, people) = stage();
    for line in [
        "X-Forwarded-Uri: /health",
        "X-Original-URL: /health",
        "X-Rewrite-Url: /health",
        "X-Forwarded-Prefix: /health/",
        "X-HTTP-Method-Override: GET",
        "X-Forwarded-Method: GET",
    ] {
        let lines = format!("{line}\r\n{}", people.viewer.header());
        stage.refuses(get("/admin/users", &lines), 403, "forbidden");
        let post =
            format!("POST /orders/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n{lines}\r\n");
        stage.refuses(post, 403, "forbidden");
    }
}

#[test]
fn an_asterisk_target_belongs_to_no_route() {
    let (stage, people) = stage();
    let answer = stage.kw.ask(request("OPTIONS", "*", &people.admin));
    assert!(matches!(answer.status(), 400 | 404), "{}", answer.head);
    assert_eq!(stage.app.requests().len(), 0);
}
