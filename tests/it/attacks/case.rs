//! A case: what is sent, what the client must get, and what the upstream may have seen.
//!
//! Never here: how it is sent, or how it is judged.

use std::fmt::Write as _;

/// A viewer's key. Keys are chosen here, so that payloads can have them in them.
pub(super) const KEY: &str = "it-alice-5f0c9c31e7a24b7c8d6a";
/// Who may do everything.
pub(super) const ROOT_KEY: &str = "it-root-92b1f0e47c3d4d1f9a55";
/// A request that must never be read as one. Whatever is `evil` may not be in the head of a request upstream.
pub(super) fn inner() -> String {
    format!("GET /evil HTTP/1.1\r\nHost: a\r\nX-Api-Key: {KEY}\r\n\r\n")
}

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) request: Request,
    pub(super) expected: Expected,
    pub(super) over_http2: OverHttp2,
}

#[derive(Clone, Debug)]
pub(super) enum Request {
    /// Bytes of HTTP/1.1, which HTTP/2 has no form for.
    Bytes(Vec<u8>),
    /// What both have a form for.
    Parts(Parts),
}

/// A request as its parts.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    pub(super) method: String,
    pub(super) target: String,
    pub(super) host: String,
    pub(super) fields: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Vec<(String, Vec<u8>)>,
}

#[derive(Clone, Debug)]
pub(super) struct Expected {
    pub(super) statuses: &'static [u16],
    /// Of the problem document; empty for an answer of the upstream.
    pub(super) code: &'static str,
    pub(super) then: Then,
    pub(super) upstream: MaySee,
}

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// The next request on it is answered.
    Kept,
    Closed,
    /// Either, but nothing else.
    Any,
}

#[derive(Clone, Debug)]
pub(super) enum MaySee {
    Nothing,
    /// Exactly one clean request, as `user`: `with` these texts in its head, `without` those, and with this body.
    One {
        user: Option<&'static str>,
        with: Vec<String>,
        without: Vec<String>,
        body: Option<String>,
    },
    /// Nothing, or the clean beginning of a request that never ends.
    Beginning,
}

/// What differs if it comes over HTTP/2.
#[derive(Clone, Debug)]
pub(super) enum OverHttp2 {
    /// Nothing does; there is no form for bytes.
    Same,
    /// It is malformed there: the stream is reset, or answered with 400, and nothing reaches the upstream.
    Malformed,
    /// It has another outcome there.
    Other(Expected),
    /// It means nothing there.
    Nothing,
}

/// A case from bytes.
pub(super) fn bytes(name: impl Into<String>, wire: impl Into<Vec<u8>>, expected: Expected) -> Case {
    let request = Request::Bytes(wire.into());
    Case { name: name.into(), request, expected, over_http2: OverHttp2::Nothing }
}

/// A case from parts.
pub(super) fn parts(name: impl Into<String>, request: Parts, expected: Expected) -> Case {
    let request = Request::Parts(request);
    Case { name: name.into(), request, expected, over_http2: OverHttp2::Same }
}

impl Case {
    pub(super) fn over_http2(mut self, over_http2: OverHttp2) -> Self {
        self.over_http2 = over_http2;
        self
    }
}

/// A problem document, and nothing reaches the upstream.
pub(super) fn refused(statuses: &'static [u16], code: &'static str) -> Expected {
    Expected { statuses, code, then: Then::Kept, upstream: MaySee::Nothing }
}

/// What cannot be read: 400 and close.
pub(super) fn malformed() -> Expected {
    refused(&[400], "bad_request").then(Then::Closed)
}

/// It is forwarded as alice's.
pub(super) fn passes() -> Expected {
    passes_as(Some("alice"))
}

/// It is forwarded as `user`'s, or as nobody's.
pub(super) fn passes_as(user: Option<&'static str>) -> Expected {
    let upstream = MaySee::One { user, with: Vec::new(), without: Vec::new(), body: None };
    Expected { statuses: &[200], code: "", then: Then::Kept, upstream }
}

impl Expected {
    pub(super) fn then(mut self, then: Then) -> Self {
        self.then = then;
        self
    }

    /// The head upstream has `text` in it.
    pub(super) fn with(mut self, text: impl Into<String>) -> Self {
        if let MaySee::One { with, .. } = &mut self.upstream {
            with.push(text.into());
        }
        self
    }

    /// The head upstream has no `text` in it, in any case.
    pub(super) fn without(mut self, text: &str) -> Self {
        if let MaySee::One { without, .. } = &mut self.upstream {
            without.push(text.to_ascii_lowercase());
        }
        self
    }

    /// The body upstream is `text`, whatever it looks like.
    pub(super) fn carrying(mut self, text: &str) -> Self {
        if let MaySee::One { body, .. } = &mut self.upstream {
            *body = Some(text.to_owned());
        }
        self
    }

    /// The upstream may have seen the beginning.
    pub(super) fn begun(mut self) -> Self {
        self.upstream = MaySee::Beginning;
        self
    }
}

/// A request without a key.
pub(super) fn ask(method: &str, target: &str) -> Parts {
    Parts {
        method: method.to_owned(),
        target: target.to_owned(),
        host: "app.example".to_owned(),
        ..Parts::default()
    }
}

/// A GET of alice.
pub(super) fn get(target: &str) -> Parts {
    ask("GET", target).key()
}

impl Parts {
    /// With alice's key.
    pub(super) fn key(self) -> Self {
        self.field("X-Api-Key", KEY)
    }

    pub(super) fn field(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Fields as lines, `Name: value`.
    pub(super) fn lines(self, lines: &[&str]) -> Self {
        lines.iter().fold(self, |parts, line| {
            let (name, value) = line.split_once(':').expect("a name and a value");
            parts.field(name, value.trim_matches(' '))
        })
    }

    pub(super) fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub(super) fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    pub(super) fn trailer(mut self, name: &str, value: &str) -> Self {
        self.trailers.push((name.to_owned(), value.as_bytes().to_vec()));
        self
    }

    /// As bytes of HTTP/1.1.
    pub(super) fn to_http1(&self) -> Vec<u8> {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: {}\r\n", self.method, self.target, self.host);
        let (length, is_chunked) = (self.body.len(), !self.trailers.is_empty());
        if is_chunked {
            head.push_str("Transfer-Encoding: chunked\r\n");
        } else if length > 0 {
            write!(head, "Content-Length: {length}\r\n").expect("a String takes everything");
        }
        let mut wire = head.into_bytes();
        push_fields(&mut wire, &self.fields);
        if is_chunked && length > 0 {
            wire.extend(format!("{length:x}\r\n").bytes());
            wire.extend([&self.body, &b"\r\n"[..]].concat());
        } else if !is_chunked {
            wire.extend(&self.body);
        }
        if is_chunked {
            wire.extend(b"0\r\n");
            push_fields(&mut wire, &self.trailers);
        }
        wire
    }
}

/// Fields and the empty line.
fn push_fields(wire: &mut Vec<u8>, fields: &[(String, Vec<u8>)]) {
    for (name, value) in fields {
        wire.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    wire.extend(b"\r\n");
}
