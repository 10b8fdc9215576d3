//! Plain HTTP answered with a redirect to https, and nothing else.

use crate::harness::keyward::{Keyward, field, get};
use crate::harness::{Client, Message, Upstream};

use super::Scene;

fn scene() -> Scene {
    Scene::new(Upstream::hello(), |setup, _| {
        setup.set("server.redirect", "listen = [\"127.0.0.1:0\"]");
        setup.set("auth", "key_sources = [{ header = \"x-api-key\" }, { query = \"api_key\" }]");
    })
}

fn connect(kw: &Keyward) -> Client {
    let event = kw.wait_for_event("redirecting to https", |_| true);
    let address = field(&event, "address").as_str().expect("an address");
    Client::connect(address.parse().expect("an address"))
}

fn ask(kw: &Keyward, request: &str) -> Message {
    let mut client = connect(kw);
    client.send(request);
    let answer = client.answer_to(request.split(' ').next().unwrap_or_default());
    assert_eq!(client.rest(), b"", "the connection is closed behind the answer");
    answer
}

#[test]
fn the_same_is_to_be_asked_for_by_https() {
    let scene = scene();
    let key = scene.alice.header();
    for (request, location) in [
        (get("/a%2Fb?x=1&y=%20", &key), "https://app.example/a%2Fb?x=1&y=%20"),
        ("HEAD / HTTP/1.1\r\nHost: b.example:80\r\n\r\n".to_owned(), "https://b.example/"),
        (
            "POST /x HTTP/1.1\r\nHost: b.example\r\nContent-Length: 4\r\n\r\nbody".to_owned(),
            "https://b.example/x",
        ),
    ] {
        let answer = ask(&scene.stage.kw, &request);
        assert_eq!((answer.status(), answer.field("location")), (308, Some(location)), "{request}");
    }
    assert_eq!(scene.stage.app.connections(), 0);
    scene.serves(&scene.clients());
}

#[test]
fn who_does_not_say_where_to_is_refused() {
    let scene = scene();
    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: me@a\r\n\r\n",
        "nonsense\r\n\r\n",
    ] {
        let answer = ask(&scene.stage.kw, request);
        assert_eq!((answer.status(), answer.code().as_str()), (400, "bad_request"), "{request}");
        assert_eq!(answer.field("location"), None);
    }
    assert_eq!(scene.stage.app.connections(), 0);
}

#[test]
fn no_key_of_a_redirected_request_is_logged() {
    let scene = scene();
    let (kw, key) = (&scene.stage.kw, &scene.alice.key);
    for request in [
        get("/secret", &scene.alice.header()),
        get(&format!("/secret?api_key={key}"), ""),
        get("/secret", &format!("Authorization: Bearer {key}\r\n")),
        get("/secret", &format!("Cookie: key={key}\r\n")),
    ] {
        assert_eq!(ask(kw, &request).status(), 308, "{request}");
    }
    kw.wait_for_record("the last redirect", |record| record["status"] == 308);
    let records = kw.access_log();
    assert!(records.iter().all(|record| record["code"] == "https_only"), "{records:?}");
    for log in [kw.stdout(), kw.stderr(), records.iter().map(ToString::to_string).collect()] {
        assert!(!log.contains(key), "{log}");
    }
}
