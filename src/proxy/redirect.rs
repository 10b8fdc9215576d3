//! The answer to a request in clear where only a redirect to https is given.
//!
//! A key that such a request carries has been read by the network already; here it is neither looked at nor
//! logged.
//!
//! Never here: a permit, or an upstream.

use std::rc::Rc;

use http::header::{HOST, LOCATION};
use http::request::Parts;
use http::{HeaderValue, Response};

use super::body::ResponseBody;
use super::context::RequestContext;
use super::error::Refusal;
use super::{Proxy, headers, refuse};
use crate::server::connection::ConnectionInfo;

impl Proxy {
    /// Sends the client to https at `port`, where it asks for the same again.
    pub fn redirect(
        self: &Rc<Self>,
        connection: &Rc<ConnectionInfo>,
        head: &Parts,
        port: u16,
    ) -> Response<ResponseBody> {
        let context = RequestContext::start(self, connection, Some(head));
        let checked = headers::survey(head, &context.snapshot().config.identity);
        match checked.and_then(|_| location(head, port).ok_or(Refusal::BadHost)) {
            Ok(location) => {
                let mut response = refuse(Refusal::HttpsOnly, context);
                response.headers_mut().insert(LOCATION, location);
                response
            }
            Err(refusal) => refuse(refusal, context),
        }
    }
}

/// The same target by https; `None` without a host (HTTP/1.0). To be called for a checked head.
fn location(head: &Parts, port: u16) -> Option<HeaderValue> {
    let host = match head.uri.authority() {
        Some(authority) => authority.as_str(),
        None => head.headers.get(HOST)?.to_str().ok()?,
    };
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    // `OPTIONS *` has no path.
    let target = if target.starts_with('/') { target } else { "/" };
    let location = match port {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    };
    HeaderValue::try_from(location).ok()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    #[track_caller]
    fn check(uri: &str, host: Option<&str>, port: u16, expected: Option<&str>) {
        let mut request = Request::get(uri);
        if let Some(host) = host {
            request = request.header(HOST, host);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        let location = location(&head, port);
        assert_eq!(location.as_ref().map(|l| l.to_str().expect("ASCII")), expected, "{uri}");
    }

    #[test]
    fn the_same_is_asked_for_by_https() {
        check("/a?b=%2F", Some("a.test"), 443, Some("https://a.test/a?b=%2F"));
        check("/", Some("a.test:80"), 443, Some("https://a.test/"));
        check("/", Some("a.test:"), 8443, Some("https://a.test:8443/"));
        check("//b.test/", Some("[::1]:80"), 443, Some("https://[::1]//b.test/"));
        check("/", Some("[::1]"), 443, Some("https://[::1]/"));
        check("http://b.test:81/x", Some("a.test"), 443, Some("https://b.test/x"));
        check("*", Some("a.test"), 443, Some("https://a.test/"));
        check("/", None, 443, None);
    }
}
