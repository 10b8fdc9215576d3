//! The head of a request in the form of the protocol that its endpoint speaks. What stands in it is decided once, for
//! both (the proxy's header rules); here is how each says it: HTTP/1 as the bytes that are sent, HTTP/2 as fields.
//!
//! Never here: which fields a request has, or I/O.

use std::borrow::Cow;

use http::header::{CONNECTION, CONTENT_LENGTH, TE, UPGRADE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

use super::kept::Kept;
use super::request::RequestHead;
use crate::http1::encode::Framing;

/// Fields that we add to the client's.
const ROOM_FOR_OURS: usize = 10;

/// A head that is being written.
pub trait Form: Sized {
    /// Begins with the method and the target.
    fn begin(method: &Method, target: &Uri) -> Self;
    /// Says the host that is asked.
    fn host(&mut self, host: &[u8]);
    /// Adds a field with a value of ours.
    fn push(&mut self, name: &HeaderName, value: &[u8]);
    /// Adds a field as the client sent it.
    fn pass(&mut self, name: &HeaderName, value: &HeaderValue);
    /// Says that trailers are taken, which is about this connection alone.
    fn push_te(&mut self);
    /// Asks for another protocol on this connection.
    fn push_upgrade(&mut self, protocol: &str);
    /// Ends the head with what `framing` needs.
    fn end(self, framing: Framing) -> Head;
}

/// A head that is written.
#[derive(Debug)]
pub enum Head {
    /// For HTTP/1.1.
    Http1(RequestHead),
    /// For HTTP/2. Boxed, so that HTTP/1 does not carry the room for it.
    Http2(Box<StreamHead>),
}

/// What a connection must be for a request to go over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// One of HTTP/1.1, for this request alone.
    Http1,
    /// One of HTTP/2, made after the one with this number: that one has failed the request.
    Http2 {
        /// 0: none has.
        after: u64,
    },
}

impl Head {
    /// Says another host than before, for an endpoint that wants its own.
    pub fn set_host(&mut self, host: &HeaderValue) {
        match self {
            Self::Http1(head) => head.set_host(host.as_bytes()),
            Self::Http2(head) => head.host(host.as_bytes()),
        }
    }

    /// What it can go over.
    pub fn way(&self) -> Way {
        match self {
            Self::Http1(_) => Way::Http1,
            Self::Http2(head) => Way::Http2 { after: head.failed_on },
        }
    }
}

impl Form for RequestHead {
    fn begin(method: &Method, target: &Uri) -> Self {
        Self::new(method, &origin_form(target))
    }

    fn host(&mut self, host: &[u8]) {
        self.push_host(host);
    }

    fn push(&mut self, name: &HeaderName, value: &[u8]) {
        self.push(name.as_str(), value);
    }

    fn pass(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.push(name.as_str(), value.as_bytes());
    }

    fn push_te(&mut self) {
        self.push(TE.as_str(), b"trailers");
        self.push(CONNECTION.as_str(), b"te");
    }

    fn push_upgrade(&mut self, protocol: &str) {
        self.push(UPGRADE.as_str(), protocol.as_bytes());
        self.push(CONNECTION.as_str(), b"upgrade");
    }

    fn end(self, framing: Framing) -> Head {
        Head::Http1(self.end(framing))
    }
}

/// A head as a stream of HTTP/2 begins with it, and what another try needs to know.
#[derive(Debug)]
pub struct StreamHead {
    method: Method,
    /// `None`: what was said is none.
    authority: Option<Authority>,
    path: PathAndQuery,
    fields: HeaderMap,
    pub(super) framing: Framing,
    /// What was read of the body, for another try.
    pub(super) kept: Kept,
    /// The number of the connection that failed the request last; 0: none did.
    pub(super) failed_on: u64,
}

impl StreamHead {
    pub(super) fn is_head(&self) -> bool {
        self.method == Method::HEAD
    }

    /// The head as it is sent over a connection of `scheme`; `None` if its host is none.
    pub(super) fn request(&self, scheme: &Scheme) -> Option<Request<()>> {
        let mut target = http::uri::Parts::default();
        target.scheme = Some(scheme.clone());
        target.authority = Some(self.authority.clone()?);
        target.path_and_query = Some(self.path.clone());
        let mut request = Request::new(());
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(target).ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.fields.clone();
        Some(request)
    }
}

/// RFC 9113 §8.2 and §8.3: the host is `:authority`, and nothing is about the connection but `te: trailers`.
impl Form for StreamHead {
    fn begin(method: &Method, target: &Uri) -> Self {
        let path = match (target.path_and_query(), origin_form(target)) {
            (Some(path), Cow::Borrowed(_)) => path.clone(),
            (_, target) => PathAndQuery::try_from(&*target).expect("a valid target with a path"),
        };
        Self {
            method: method.clone(),
            authority: None,
            path,
            fields: HeaderMap::with_capacity(2 * ROOM_FOR_OURS),
            framing: Framing::Empty,
            kept: Kept::default(),
            failed_on: 0,
        }
    }

    fn host(&mut self, host: &[u8]) {
        self.authority = Authority::try_from(host).ok();
    }

    fn push(&mut self, name: &HeaderName, value: &[u8]) {
        let value = HeaderValue::from_bytes(value);
        self.fields.append(name, value.expect("what we say of a request is header-safe"));
    }

    fn pass(&mut self, name: &HeaderName, value: &HeaderValue) {
        self.fields.append(name, value.clone());
    }

    fn push_te(&mut self) {
        self.fields.insert(TE, HeaderValue::from_static("trailers"));
    }

    fn push_upgrade(&mut self, _protocol: &str) {
        unreachable!("the configuration's check lets no upgrade lead to an upstream of HTTP/2");
    }

    fn end(mut self, framing: Framing) -> Head {
        if let Framing::Length(length) = framing {
            self.fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        self.framing = framing;
        Head::Http2(Box::new(self))
    }
}

/// What an endpoint is asked for (RFC 9112 §3.2.1): of a target in absolute form the path may be empty.
fn origin_form(target: &Uri) -> Cow<'_, str> {
    match target.path_and_query().map(PathAndQuery::as_str) {
        None => Cow::Borrowed("/"),
        Some(query) if query.starts_with('?') => Cow::Owned(format!("/{query}")),
        Some(path) => Cow::Borrowed(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(target: &str, host: &str, framing: Framing) -> StreamHead {
        let mut head = StreamHead::begin(&Method::PUT, &target.parse().expect("a target"));
        head.host(host.as_bytes());
        head.push(&HeaderName::from_static("x-a"), b"1");
        head.push_te();
        let Head::Http2(head) = head.end(framing) else { panic!("another form") };
        *head
    }

    #[test]
    fn a_stream_begins_with_scheme_host_and_target_apart() {
        for (target, framing, length) in [
            ("/a%2Fb?c", Framing::Empty, None),
            ("/a%2Fb?c", Framing::Length(7), Some("7")),
            ("http://other.test/a%2Fb?c", Framing::Chunked, None),
        ] {
            let request = head(target, "a.test:81", framing).request(&Scheme::HTTPS);
            let request = request.expect("a host");
            assert_eq!(request.uri().to_string(), "https://a.test:81/a%2Fb?c");
            let value = |name: &str| Some(request.headers().get(name)?.to_str().expect("text"));
            assert_eq!((value("x-a"), value("te")), (Some("1"), Some("trailers")));
            assert_eq!((value("content-length"), value("host")), (length, None));
        }
    }

    #[test]
    fn an_empty_path_is_the_root() {
        for (target, path) in
            [("http://a.test?b", "/?b"), ("http://a.test", "/"), ("/?b", "/?b"), ("*", "*")]
        {
            let target = target.parse().expect("a target");
            let head = <RequestHead as Form>::begin(&Method::GET, &target);
            let line = format!("GET {path} HTTP/1.1\r\n");
            assert_eq!(String::from_utf8_lossy(head.as_bytes()), line);
            assert_eq!(StreamHead::begin(&Method::GET, &target).path, path);
        }
    }

    #[test]
    fn another_host_takes_the_place_of_the_first() {
        let mut head = Head::Http2(Box::new(head("/", "a.test", Framing::Empty)));
        head.set_host(&HeaderValue::from_static("[::1]:80"));
        let Head::Http2(head) = head else { panic!("another form") };
        assert_eq!(
            head.request(&Scheme::HTTP).expect("a host").uri().to_string(),
            "http://[::1]:80/"
        );
    }

    #[test]
    fn what_is_no_host_is_not_sent() {
        assert!(head("/", "a b", Framing::Empty).request(&Scheme::HTTP).is_none());
    }
}
