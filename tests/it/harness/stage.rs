//! A proxy and the upstream behind it, to look at both sides of one request together.

use serde_json::Value;

use super::{Keyward, Message, Setup, Upstream};

/// Both, for tables of requests.
pub(crate) struct Stage {
    /// The service.
    pub(crate) app: Upstream,
    /// The proxy in front of it.
    pub(crate) kw: Keyward,
}

impl Stage {
    /// Starts the proxy that `prepare` describes in front of `app`; gives back what `prepare` does.
    pub(crate) fn new<T>(app: Upstream, prepare: impl FnOnce(&mut Setup) -> T) -> (Self, T) {
        let mut setup = Setup::new(&app);
        let prepared = prepare(&mut setup);
        (Self { app, kw: setup.start() }, prepared)
    }

    /// `request` is answered with this status and code, in a well-formed problem document, and nothing
    /// reaches the upstream.
    #[track_caller]
    pub(crate) fn refuses(&self, request: impl AsRef<[u8]>, status: u16, code: &str) -> Message {
        let before = self.app.requests().len();
        let answer = self.kw.ask(&request);
        let shown = String::from_utf8_lossy(request.as_ref());
        let context = format!("{shown}\n{}{}", answer.head, answer.text());
        assert_eq!(answer.status(), status, "{context}");
        if !request.as_ref().starts_with(b"HEAD ") {
            assert_eq!(answer.code(), code, "{context}");
            check_problem(&answer, &context);
        }
        assert_eq!(self.app.requests().len(), before, "it reached the upstream: {context}");
        answer
    }

    /// `request` is answered with 200 by the upstream; gives back what that received.
    #[track_caller]
    pub(crate) fn passes(&self, request: impl AsRef<[u8]>) -> Message {
        let before = self.app.requests().len();
        let answer = self.kw.ask(&request);
        let shown = String::from_utf8_lossy(request.as_ref());
        let context = format!("{shown}\n{}{}", answer.head, answer.text());
        assert_eq!(answer.status(), 200, "{context}");
        assert_eq!(answer.fields("x-request-id").len(), 1, "{context}");
        let mut received = self.app.requests();
        assert_eq!(received.len(), before + 1, "{context}");
        received.remove(before)
    }
}

/// RFC 9457, and the fields that we add.
#[track_caller]
fn check_problem(answer: &Message, context: &str) {
    assert_eq!(answer.field("content-type"), Some("application/problem+json"), "{context}");
    let problem: Value = serde_json::from_slice(&answer.body).expect("a JSON document");
    for name in ["type", "title", "detail", "instance", "code", "request_id"] {
        assert!(problem[name].is_string(), "no `{name}`: {context}");
    }
    assert_eq!(problem["status"], answer.status(), "{context}");
    assert_eq!(answer.fields("x-request-id"), [&problem["request_id"]], "{context}");
}
