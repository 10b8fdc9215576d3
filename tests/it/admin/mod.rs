//! The admin listener: who may do what with keys there, and what nobody may.

mod browsers;
mod changes;
mod create;
mod crowd;
mod document;
mod explain;
mod limits;
mod list;
mod listener;
mod page;
mod rights;
mod secrecy;
mod sign_in;
mod usage;

use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::{Actor, Client, Keyward, Message, Setup, Upstream};

/// A proxy with an admin listener, and people of every kind.
struct Desk {
    kw: Keyward,
    _app: Upstream,
    address: SocketAddr,
    admin: Actor,
    manager: Actor,
    viewer: Actor,
    /// Further people.
    others: Vec<Actor>,
}

impl Desk {
    fn new() -> Self {
        Self::with(|_| {})
    }

    /// The same on what `prepare` makes of the configuration.
    fn with(prepare: impl FnOnce(&mut Setup)) -> Self {
        let app = Upstream::hello();
        let mut setup = Setup::new(&app);
        setup.set("admin", "listen = \"127.0.0.1:0\"");
        let admin = setup.key("root", "admin");
        let manager = setup.key("mara", "manager");
        let viewer = setup.key("vera", "viewer");
        prepare(&mut setup);
        let others = setup.actors[3..].to_vec();
        let kw = setup.start();
        let address = kw.admin_address();
        Self { kw, _app: app, address, admin, manager, viewer, others }
    }

    /// Sends a request as it stands.
    fn send(&self, request: &str) -> Message {
        let mut client = Client::connect(self.address);
        client.send(request);
        client.answer_to(request.split(' ').next().unwrap_or_default())
    }

    /// `LINE` is a method and a target; `fields` are lines with their ends.
    fn ask_with(&self, actor: &Actor, line: &str, fields: &str, body: Option<&Value>) -> Message {
        let body = body.map(Value::to_string);
        let content = body.as_ref().map_or(String::new(), |body| {
            format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
        });
        self.send(&format!(
            "{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{content}{fields}\r\n{}",
            actor.key,
            body.unwrap_or_default()
        ))
    }

    fn ask(&self, actor: &Actor, line: &str, body: Option<&Value>) -> Message {
        self.ask_with(actor, line, "", body)
    }

    /// GETs `target` without a key.
    fn probe(&self, target: &str) -> Message {
        self.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
    }

    fn get(&self, actor: &Actor, target: &str) -> Message {
        self.ask(actor, &format!("GET {target}"), None)
    }

    /// One of the further people.
    fn other(&self, user: &str) -> Actor {
        self.others.iter().find(|actor| actor.user == user).expect("they were added").clone()
    }

    /// Makes a key, which must succeed.
    #[track_caller]
    fn create(&self, actor: &Actor, wish: &Value) -> Value {
        let made = self.ask(actor, "POST /api/v1/keys", Some(wish));
        expect(&made, 201, "")
    }

    /// The ids on a page.
    #[track_caller]
    fn ids(&self, actor: &Actor, target: &str) -> Vec<String> {
        let page = expect(&self.get(actor, target), 200, "");
        let keys = page["keys"].as_array().expect("a list").iter();
        keys.map(|key| key["id"].as_str().expect("an id").to_owned()).collect()
    }

    /// The same key as an actor of the proxy.
    fn holder(made: &Value) -> Actor {
        let text = |name: &str| made[name].as_str().expect("a text").to_owned();
        let mut actor = Actor::new(&text("user"), &text("role")).with_key(&text("key"));
        actor.id = text("id");
        actor
    }
}

/// Checks status and code, and what every answer has; gives back the body.
#[track_caller]
fn expect(answer: &Message, status: u16, code: &str) -> Value {
    let context = format!("{}{}", answer.head, answer.text());
    assert_eq!(answer.status(), status, "{context}");
    assert_eq!(answer.code(), code, "{context}");
    assert_eq!(answer.fields("x-request-id").len(), 1, "{context}");
    for (name, value) in [
        ("cache-control", "no-store"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answer.fields(name), [value], "{name}: {context}");
    }
    assert_eq!(answer.field("access-control-allow-origin"), None, "{context}");
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    if status >= 400 && body.get("ready").is_none() {
        assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{context}");
        for name in ["type", "title", "detail", "instance", "request_id"] {
            assert!(body[name].is_string(), "no `{name}`: {context}");
        }
    }
    body
}

/// The fields that a problem names.
fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().map(|error| error["field"].as_str().expect("a name")).collect()
}
