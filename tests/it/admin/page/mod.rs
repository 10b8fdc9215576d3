//! The web page: what it shows, to whom, and what nobody makes it do.

mod attacks;
mod forms;
mod limits;
mod person;
mod sessions;

use std::fmt::Write as _;

use super::Desk;
use crate::harness::{Actor, Message};

/// A browser's part in it, as far as a test needs one: a cookie, and the way forms are sent.
struct Visitor<'a> {
    desk: &'a Desk,
    cookie: String,
}

impl<'a> Visitor<'a> {
    /// Who has signed in as `actor`.
    #[track_caller]
    fn new(desk: &'a Desk, actor: &Actor) -> Self {
        let answer = sign_in(desk, &actor.key, "/keys", "");
        assert_eq!(answer.status(), 303, "{}{}", answer.head, answer.text());
        Self { desk, cookie: cookie(&answer) }
    }

    fn get(&self, target: &str) -> Message {
        let Self { desk, cookie } = self;
        desk.send(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nCookie: {cookie}\r\n\r\n"))
    }

    /// The page at `target`, which must be there.
    #[track_caller]
    fn page(&self, target: &str) -> String {
        let answer = self.get(target);
        assert_eq!(answer.status(), 200, "{target}: {}{}", answer.head, answer.text());
        let text = answer.text();
        assert_eq!(answer.fields("cache-control"), ["no-store"], "{target}");
        assert_eq!(answer.fields("content-type"), ["text/html; charset=utf-8"], "{target}");
        text
    }

    /// Sends a form as it stands.
    fn post(&self, target: &str, fields: &[(&str, &str)]) -> Message {
        post(self.desk, target, &format!("Cookie: {}\r\n", self.cookie), fields)
    }

    /// Fills in the form on the page at `target`, and sends it to `action`.
    #[track_caller]
    fn submit_to(&self, target: &str, action: &str, fields: &[(&str, &str)]) -> Message {
        let page = self.page(target);
        let hidden: Vec<_> = ["token", "once", "revision"]
            .into_iter()
            .filter_map(|name| Some((name, hidden(&page, name)?)))
            .collect();
        let mut all: Vec<_> = hidden.iter().map(|(name, value)| (*name, value.as_str())).collect();
        all.extend(fields);
        self.post(action, &all)
    }

    /// The same, where the form is sent to its own page.
    #[track_caller]
    fn submit(&self, target: &str, fields: &[(&str, &str)]) -> Message {
        self.submit_to(target, target, fields)
    }

    /// The token that forms of the session carry.
    #[track_caller]
    fn token(&self) -> String {
        hidden(&self.page("/keys"), "token").expect("every page has the form to sign out")
    }
}

/// Sends a form with further `headers`, lines with their ends.
fn post(desk: &Desk, target: &str, headers: &str, fields: &[(&str, &str)]) -> Message {
    let body = encode(fields);
    let length = body.len();
    desk.send(&format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {length}\r\n{headers}\r\n{body}"
    ))
}

fn sign_in(desk: &Desk, key: &str, next: &str, headers: &str) -> Message {
    post(desk, "/sign-in", headers, &[("key", key), ("next", next)])
}

/// What the browser sends from here on.
#[track_caller]
fn cookie(answer: &Message) -> String {
    let cookie = answer.field("set-cookie").expect("an answer with a cookie");
    cookie.split(';').next().expect("a cookie").to_owned()
}

fn encode(fields: &[(&str, &str)]) -> String {
    let escape = |text: &str| {
        text.bytes().fold(String::new(), |mut text, byte| {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                    text.push(char::from(byte));
                }
                byte => write!(text, "%{byte:02X}").expect("memory takes everything"),
            }
            text
        })
    };
    let fields = fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value)));
    fields.collect::<Vec<_>>().join("&")
}

/// What a hidden field of a page says.
fn hidden(page: &str, name: &str) -> Option<String> {
    let (_, rest) = page.split_once(&format!("name=\"{name}\" value=\""))?;
    Some(rest.split('"').next()?.to_owned())
}

/// The new secret on a page that shows one.
#[track_caller]
fn secret(page: &str) -> String {
    let (_, rest) = page.split_once("id=\"secret\"").expect("a page with a secret");
    let (_, rest) = rest.split_once('>').expect("a whole tag");
    rest.split('<').next().expect("a text").to_owned()
}
