//! What keys are used for is told by key; what a change closes, by the answer to the change.

use std::io;

use serde_json::{Value, json};

use super::{Desk, expect};
use crate::harness::keyward::get;
use crate::harness::{Actor, Client, Connection, Message, Setup, Upstream, wait_for};

const ROUTES: &str = "[[routes]]\npath = \"/{*rest}\"\n[[routes]]\npath = \"/events\"\n";

/// `/events` begins an answer that does not end; everything else is answered.
fn app(connection: &mut Connection) -> io::Result<()> {
    while let Some(request) = connection.request()? {
        match request.target() {
            "/events" => {
                connection
                    .send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
                return connection.wait_for_close();
            }
            "/gone" => connection.send("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n")?,
            _ => connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?,
        }
    }
    Ok(())
}

fn desk(prepare: impl FnOnce(&mut Setup)) -> (Desk, Upstream) {
    let app = Upstream::unrecorded(app);
    let desk = Desk::with(|setup| {
        setup.endpoints(&[format!("\"{}\"", app.url())], "");
        setup.routes(ROUTES);
        prepare(setup);
    });
    (desk, app)
}

/// A stream that is open.
struct Open(Client, Message);

impl Open {
    fn by(desk: &Desk, actor: &Actor) -> Self {
        let mut client = desk.kw.connect();
        client.send(get("/events", &actor.header()));
        let mut head = client.answer_head();
        assert_eq!(head.status(), 200, "{}", head.head);
        assert_eq!(client.chunk(&mut head).unwrap().unwrap(), b"first");
        Self(client, head)
    }

    /// It was broken off, so that nobody takes it for whole.
    fn check_broken(mut self) {
        self.0.chunk(&mut self.1).expect_err("no end of the stream");
    }
}

fn usage(desk: &Desk, actor: &Actor, of: &Actor) -> Value {
    expect(&desk.get(actor, &format!("/api/v1/keys/{}/usage", of.id)), 200, "")
}

#[test]
fn what_a_key_is_used_for_is_told_as_it_is_now() {
    let (desk, _app) = desk(|_| {});
    let unused = usage(&desk, &desk.admin, &desk.viewer);
    assert_eq!((&unused["last_used"], &unused["in_flight"]), (&json!(null), &json!(0)));
    for target in ["/", "/gone", "/a"] {
        desk.kw.get(target, &desk.viewer);
    }
    let open = Open::by(&desk, &desk.viewer);
    // An answer is at the client before it counts as ended.
    let used = wait_for("the requests to have ended", || {
        let used = usage(&desk, &desk.admin, &desk.viewer);
        (used["last_24_hours"]["requests"] == 3).then_some(used)
    });
    let by_status = json!({"none": 0, "1xx": 0, "2xx": 2, "3xx": 0, "4xx": 1, "5xx": 0});
    assert_eq!(used["requests"], by_status);
    assert_eq!([&used["in_flight"], &used["bytes_out"]], [&json!(1), &json!(10)]);
    assert_eq!(
        [&used["last_used"]["address"], &used["last_used"]["route"]],
        [&json!("127.0.0.1"), &json!("/events")]
    );
    assert_eq!(used["last_24_hours"]["clients"], json!([{"address": "127.0.0.1", "requests": 3}]));
    assert_eq!(used["last_24_hours"]["routes"], json!([{"route": "/{*rest}", "requests": 3}]));
    assert_eq!(used["last_24_hours"]["others"], json!({"clients": 0, "routes": 0}));
    let hourly = used["hourly"].as_array().expect("a list");
    let sum = hourly.iter().map(|count| count.as_u64().expect("a count")).sum::<u64>();
    assert_eq!((hourly.len(), sum), (24, 3));
    let shown = desk.get(&desk.admin, &format!("/api/v1/keys/{}", desk.viewer.id));
    let shown = expect(&shown, 200, "");
    for name in ["last_used", "previous_last_used", "requests", "in_flight"] {
        assert_eq!(shown[name], used[name], "{name}");
    }
    open.0.reset();
    wait_for("the end of the stream", || {
        let used = usage(&desk, &desk.admin, &desk.viewer);
        (used["in_flight"] == 0 && used["last_24_hours"]["requests"] == 4).then_some(())
    });
}

#[test]
fn nobody_is_told_what_the_keys_of_others_are_used_for() {
    let (desk, _app) = desk(|_| {});
    let path = format!("/api/v1/keys/{}/usage", desk.viewer.id);
    expect(&desk.get(&desk.manager, &path), 404, "not_found");
    expect(&desk.get(&desk.viewer, &path), 403, "forbidden");
    expect(&desk.probe(&path), 401, "missing_key");
    usage(&desk, &desk.manager, &desk.manager);
}

#[test]
fn the_answer_to_a_change_tells_what_it_closed() {
    let (desk, _app) = desk(|_| {});
    let path = format!("/api/v1/keys/{}", desk.viewer.id);
    let ask = |line: &str, body: Value| expect(&desk.ask(&desk.admin, line, Some(&body)), 200, "");
    desk.kw.get("/", &desk.viewer);
    let bystander = Open::by(&desk, &desk.manager);
    // Again and again: each change tells of what it closed, not of what others before it did.
    for round in 1..=8 {
        let streams = [(); 3].map(|()| Open::by(&desk, &desk.viewer));
        let disabled = ask(&format!("POST {path}/disable"), json!({}));
        let closed = &disabled["closed"];
        assert_eq!([&closed["streams"], &closed["is_whole"]], [&json!(3), &json!(true)]);
        assert!(closed["took_ms"].as_f64().is_some_and(|took| took > 0.0), "{disabled}");
        assert_eq!(disabled["last_24_hours"]["requests"], 1 + 3 * round, "{disabled}");
        streams.into_iter().for_each(Open::check_broken);
        let enabled = ask(&format!("POST {path}/enable"), json!({}));
        assert_eq!(enabled["closed"]["streams"], 0);
    }
    let gone = |force: &str| {
        let stream = Open::by(&desk, &desk.viewer);
        let gone = ask(&format!("DELETE {path}{force}"), json!({}));
        stream.check_broken();
        gone
    };
    let gone = gone("?force=true");
    assert_eq!(
        [&gone["closed"]["streams"], &gone["last_24_hours"]["requests"]],
        [&json!(1), &json!(26)]
    );
    let own = format!("POST /api/v1/keys/{}/disable", desk.manager.id);
    let disabled = ask(&own, json!({}));
    assert_eq!(disabled["closed"]["streams"], 1, "it had been open all the while: {disabled}");
    bystander.check_broken();
}

#[test]
fn a_rotation_closes_what_the_old_secret_holds_open_and_tells_its_last_use() {
    let (desk, _app) = desk(|_| {});
    let path = format!("/api/v1/keys/{}", desk.viewer.id);
    let rotate = |grace: &str| {
        let rotated =
            desk.ask(&desk.admin, &format!("POST {path}/rotate"), Some(&json!({"grace": grace})));
        let rotated = expect(&rotated, 200, "");
        let holder = desk.viewer.clone().with_key(rotated["key"].as_str().expect("a key"));
        (holder, rotated)
    };
    let stream = Open::by(&desk, &desk.viewer);
    let (second, rotated) = rotate("1h");
    assert_eq!(rotated["closed"]["streams"], 0, "it is taken for an hour: {rotated}");
    let used = usage(&desk, &desk.admin, &desk.viewer);
    assert_eq!(used["previous_last_used"], json!(null));
    desk.kw.get("/gone", &desk.viewer);
    let used = usage(&desk, &desk.admin, &desk.viewer);
    assert_eq!(used["previous_last_used"], used["last_used"]);
    assert_eq!(used["previous_last_used"]["address"], "127.0.0.1");
    desk.kw.get("/", &second);
    let later = usage(&desk, &desk.admin, &desk.viewer);
    assert_eq!(later["previous_last_used"], used["previous_last_used"]);
    assert_ne!(later["last_used"], used["last_used"]);
    let (_, rotated) = rotate("0s");
    assert_eq!(rotated["closed"]["streams"], 1, "{rotated}");
    stream.check_broken();
    let made = json!({"role": "viewer", "label": "reading"});
    assert!(desk.create(&desk.admin, &made).get("last_24_hours").is_none());
}

#[test]
fn the_list_tells_when_keys_were_used_and_finds_those_that_were_not() {
    let (desk, _app) = desk(|setup| {
        setup.add(Actor::new("old", "viewer").with("created_at = 2020-01-01T00:00:00Z"));
    });
    let list =
        |query: &str| expect(&desk.get(&desk.admin, &format!("/api/v1/keys{query}")), 200, "");
    desk.kw.get("/", &desk.viewer);
    // Shown as reported; asking for one key has everything reported.
    let listed = wait_for("the use in the list", || {
        usage(&desk, &desk.admin, &desk.viewer);
        let page = list("?user=vera");
        (page["keys"][0]["hourly"][23] == 1 || page["keys"][0]["hourly"][22] == 1).then_some(page)
    });
    assert_eq!(listed["keys"][0]["last_used"]["route"], "/{*rest}");
    let made = desk.create(&desk.admin, &json!({"role": "viewer", "label": "reading"}));
    // Used before, or made just now; the others were never used, and made before anybody knows.
    let unused = desk.ids(&desk.admin, "/api/v1/keys?unused_days=1");
    let named = |id: &Value| unused.iter().any(|unused| id == unused);
    assert!(!named(&json!(desk.viewer.id)) && !named(&made["id"]), "{unused:?}");
    assert_eq!((unused.len(), list("?unused_days=1")["total"].as_u64()), (3, Some(3)));
    let old = desk.other("old").id;
    assert!(named(&json!(old)), "{unused:?}");
    assert!(!desk.ids(&desk.admin, "/api/v1/keys?unused_days=36500").contains(&old));
    // What is open is in use.
    let _open = Open::by(&desk, &desk.other("old"));
    usage(&desk, &desk.admin, &desk.other("old"));
    assert!(!desk.ids(&desk.admin, "/api/v1/keys?unused_days=0").contains(&old));
    expect(&desk.get(&desk.admin, "/api/v1/keys?unused_days=x"), 422, "invalid");
}

#[test]
fn metrics_are_there_without_a_key_and_name_none() {
    let (desk, _app) = desk(|_| {});
    desk.kw.get("/gone", &desk.viewer);
    wait_for("the request to be counted", || {
        let page = desk.probe("/metrics");
        assert_eq!(page.status(), 200, "{}", page.head);
        assert_eq!(page.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
        let text = page.text();
        assert!(!text.contains(&desk.viewer.id) && !text.contains(&desk.viewer.key), "{text}");
        text.contains("keyward_requests_total{route=\"/{*rest}\",status=\"4xx\"} 1\n").then_some(())
    });
}

#[test]
fn metrics_name_keys_where_that_is_asked_for() {
    let (desk, _app) = desk(|setup| {
        setup.set("metrics", "per_key = true");
    });
    desk.kw.get("/gone", &desk.viewer);
    let (id, key) = (&desk.viewer.id, &desk.viewer.key);
    let sample = format!("keyward_key_requests_total{{key_id=\"{id}\",status=\"4xx\"}} 1\n");
    wait_for("the request to be counted", || {
        let text = desk.probe("/metrics").text();
        assert!(!text.contains(key), "{text}");
        text.contains(&sample).then_some(())
    });
}
