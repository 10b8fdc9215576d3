//! What holds for every request to the admin listener, and for every answer.
//!
//! A browser must not be made to act for a page of another site: such requests are refused by their Host (DNS rebinding),
//! by where they come from (`Sec-Fetch-Site`, `Origin`), and no answer can be read, framed or kept by anybody else.
//!
//! Never here: who asks (see [`signin`](super::signin)).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, ORIGIN, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use tokio::time::timeout;

use super::refusal::Refusal;
use super::signin::Peer;
use super::{State, page};
use crate::auth::Unauthenticated;
use crate::proxy::request_id::X_REQUEST_ID;
use crate::snapshot::Snapshot;

/// From a request's head to the head of its answer, its body in between.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// What every answer carries, unless it says otherwise itself.
const HEADERS: [(HeaderName, &str); 6] = [
    (CACHE_CONTROL, "no-store"),
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (REFERRER_POLICY, "no-referrer"),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// The two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) client: SocketAddr,
    pub(super) here: SocketAddr,
}

/// Answers one request.
pub(super) async fn answer(
    state: Arc<State>,
    router: Router,
    ends: Ends,
    mut request: Request<Incoming>,
) -> Response<Body> {
    let request_id = state.request_id();
    let snapshot = state.shared.current().load_full();
    let is_ours = admit(request.uri().authority(), request.headers(), &snapshot, ends.here.ip());
    let mut response = match is_ours {
        Err(refusal) => refused(refusal),
        Ok(()) => {
            request.extensions_mut().insert(Peer(ends.client));
            let answered = TowerToHyperService::new(router).call(request);
            match timeout(REQUEST_TIMEOUT, answered).await {
                Ok(Ok(response)) => response,
                Err(_) => refused(Refusal::Timeout),
            }
        }
    };
    let refusal = response.extensions_mut().remove::<Refusal>();
    if let Some(refusal) = refusal.or_else(|| unsaid(&response)) {
        explain(&mut response, &refusal, &request_id, &snapshot.config.realm);
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    headers.insert(X_REQUEST_ID.clone(), request_id);
    response
}

fn refused(refusal: Refusal) -> Response<Body> {
    axum::response::IntoResponse::into_response(refusal)
}

/// What a failure of the router's own means, which has no words of ours yet.
fn unsaid(response: &Response<Body>) -> Option<Refusal> {
    let content_type = response.headers().get(CONTENT_TYPE);
    // `/readyz` fails with JSON, and the page with a page.
    let said = ["application/json", page::HTML];
    if content_type.is_some_and(|value| said.iter().any(|said| value == said)) {
        return None;
    }
    Refusal::of_status(response.status())
}

/// Writes what the client gets to read, and the fields that belong to it.
fn explain(
    response: &mut Response<Body>,
    refusal: &Refusal,
    request_id: &HeaderValue,
    realm: &str,
) {
    let problem = refusal.problem();
    let id = request_id.to_str().unwrap_or_default();
    *response.status_mut() = problem.status;
    *response.body_mut() = Body::from(problem.body_with(id, realm, refusal.errors()));
    let allow = response.headers_mut().remove(ALLOW);
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    if let Some(allow) = allow {
        headers.insert(ALLOW, allow);
    }
    if let Some(seconds) = refusal.retry_after_s() {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Refusal::Unauthenticated(reason) = refusal
        && *reason != Unauthenticated::Ambiguous
    {
        let error = match reason {
            Unauthenticated::MissingKey => "",
            _ => ", error=\"invalid_token\"",
        };
        let challenge = HeaderValue::from_str(&format!("Bearer realm=\"{realm}\"{error}"));
        headers.insert(WWW_AUTHENTICATE, challenge.expect("a checked realm is header-safe"));
    }
}

/// Whether a request is meant for us, and no page of another site has a browser send it. `target` is the host in its
/// request line, if there is one.
fn admit(
    target: Option<&Authority>,
    headers: &HeaderMap,
    snapshot: &Snapshot,
    here: IpAddr,
) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::Malformed("The request needs exactly one Host field.".into()));
    };
    let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok());
    let host = host.ok_or(Refusal::ForeignHost)?;
    let names = snapshot.config.admin.iter().flat_map(|admin| &admin.hosts);
    let names: Vec<&str> = names.map(String::as_str).collect();
    if !is_ours(&host, &names, here) || target.is_some_and(|target| *target != host) {
        return Err(Refusal::ForeignHost);
    }
    let is_from_here = match headers.get("sec-fetch-site") {
        None => true,
        Some(site) => site == "same-origin" || site == "none",
    };
    let has_our_origin = headers.get(ORIGIN).is_none_or(|origin| {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.strip_prefix("https://").or(origin.strip_prefix("http://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str()))
    });
    if is_from_here && has_our_origin { Ok(()) } else { Err(Refusal::CrossSite) }
}

/// Whether `host` is one that nobody else's page could have: the address of this end, a loopback address, or a name that
/// is known here. The port is none of our business: a tunnel may have another one.
fn is_ours(host: &Authority, names: &[&str], here: IpAddr) -> bool {
    if host.as_str().contains('@') {
        return false;
    }
    let name = host.host();
    let literal = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    match literal.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address.to_canonical() == here.to_canonical(),
        Err(_) => ["localhost"].iter().chain(names).any(|known| name.eq_ignore_ascii_case(known)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_has_are_ours() {
        let here = IpAddr::from([192, 0, 2, 1]);
        let check = |host: &str, expect: bool| {
            let authority = host.parse::<Authority>();
            let is = authority.is_ok_and(|host| is_ours(&host, &["keys.example.com"], here));
            assert_eq!(is, expect, "{host}");
        };
        for host in [
            "localhost",
            "LOCALHOST:9901",
            "127.0.0.1",
            "127.0.0.1:9901",
            "[::1]:19901",
            "192.0.2.1:9901",
            "keys.example.com",
            "Keys.Example.com:9901",
            "[::ffff:192.0.2.1]",
        ] {
            check(host, true);
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "192.0.2.2",
            "keys.example.com.evil.example",
            "evil@localhost",
            "[::2]",
            "0.0.0.0",
        ] {
            check(host, false);
        }
    }
}
