//! Signing in and out.
//!
//! A key is pasted, looked up as any other, and forgotten; what stays is a session.
//!
//! Never here: an address of another site to go on to.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::State as Extract;
use axum::response::{IntoResponse as _, Redirect, Response};
use bytes::Bytes;
use http::header::{HeaderValue, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode, Uri};

use super::form::Form;
use super::views::{Notice, SignIn};
use super::visit::Visit;
use super::{html, session};
use crate::admin::State;
use crate::admin::refusal::{Answer, Refusal};
use crate::admin::signin::{self, Peer};
use crate::auth::Unauthenticated;
use crate::auth::credentials::Credential;
use crate::redact::Secret;

/// Where one is brought who comes from nowhere.
const HOME: &str = "/keys";
/// Longest way back that is kept.
const NEXT_BYTES_MAX: usize = 8 * 1024;

/// The page to sign in on.
pub(super) async fn show(uri: Uri) -> Response {
    let form = Form::read(uri.query().unwrap_or_default().as_bytes());
    let said = match form.text("why") {
        "ended" => Some("Your session has ended. Sign in to go on."),
        "out" => Some("You have signed out."),
        _ => None,
    };
    page(StatusCode::OK, form.text("next"), said, None)
}

/// The same, with what is said above it, or with why a key is not taken.
pub(super) fn page(
    status: StatusCode,
    next: &str,
    said: Option<&str>,
    refusal: Option<&Refusal>,
) -> Response {
    let notice = said.map(|said| Notice { tone: "wait", text: said.to_owned() });
    let error = refusal.map(told);
    html(status, &SignIn { frame: None, notice, next: local(next).to_owned(), error })
}

/// Why a key is not taken.
fn told(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Unauthenticated(Unauthenticated::MissingKey) => "Paste a key.".to_owned(),
        Refusal::Unauthenticated(Unauthenticated::InvalidKey) => {
            "No key here is like this. Check that all of it was pasted.".to_owned()
        }
        refusal => refusal.problem().detail.into_owned(),
    }
}

/// Signs in with a key.
pub(super) async fn sign_in(
    Extract(state): Extract<Arc<State>>,
    axum::Extension(Peer(client)): axum::Extension<Peer>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::read(&body);
    let next = local(form.text("next")).to_owned();
    let is_tls = state.shared.current().load().admin_tls.is_some();
    match begin(&state, Form::key(&body), client.ip()) {
        Ok(name) => {
            // Whatever session this browser had, it is another one now (fixation).
            if let Some(old) = session::named(&headers, is_tls) {
                state.sessions.end(old);
            }
            with_cookie(Redirect::to(&next).into_response(), Some(&name), is_tls)
        }
        Err(refusal) => page(refusal.problem().status, &next, None, Some(&refusal)),
    }
}

/// The name of a new session for whoever has `key`.
fn begin(state: &State, key: Option<Secret<Vec<u8>>>, client: IpAddr) -> Answer<String> {
    let key = key.ok_or(Refusal::Unauthenticated(Unauthenticated::MissingKey))?;
    let taken = Ok(Some(Credential::typed(key)));
    let snapshot = state.shared.current().load_full();
    let found = signin::known(state, &snapshot, taken, client)?;
    let actor = signin::actor(&snapshot, found, client)?;
    // As `GET /api/v1/me`, which a key that is narrowed to other addresses does not get.
    if let Some(scopes) = &actor.scopes {
        scopes.check(&Method::GET, "/api/v1/me", client).map_err(Refusal::OutOfScope)?;
    }
    let name = state.sessions.begin(*found.digest(), Instant::now()).map_err(|error| {
        tracing::error!(%error, "no randomness from the system");
        Refusal::Internal
    })?;
    let (user, key_id) = (actor.user.as_str(), actor.key_id.as_str());
    tracing::info!(user, key_id, %client, "signed in to the page");
    Ok(name)
}

/// Ends the session.
pub(super) async fn sign_out(Extract(state): Extract<Arc<State>>, visit: Visit) -> Response {
    visit.end(&state);
    let is_tls = state.shared.current().load().admin_tls.is_some();
    with_cookie(Redirect::to("/sign-in?why=out").into_response(), None, is_tls)
}

fn with_cookie(mut response: Response, name: Option<&str>, is_tls: bool) -> Response {
    let cookie = HeaderValue::from_str(&session::cookie(name, is_tls));
    let cookie = cookie.expect("a name of base64 is header-safe");
    response.headers_mut().insert(SET_COOKIE, cookie);
    response
}

/// `next`, if it is a path of this page to which one can go; else the first page.
fn local(next: &str) -> &str {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.contains('\\');
    let is_gate = next.starts_with("/sign-") || next.len() > NEXT_BYTES_MAX;
    // Browsers leave control characters out of an address, so `/\t/` would be `//`.
    let is_sound = next.bytes().all(|byte| byte.is_ascii_graphic()) && next.parse::<Uri>().is_ok();
    if is_path && !is_gate && is_sound { next } else { HOME }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_page_are_gone_on_to() {
        for next in ["/keys", "/keys/key_a/disable?reason=a+b%0A", "/explain?path=//x"] {
            assert_eq!(local(next), next);
        }
        for next in [
            "",
            "keys",
            "//evil.example",
            "/\\evil.example",
            "\\\\evil.example",
            "https://evil.example/",
            "javascript:alert(1)",
            "/\t/evil.example",
            "/keys\r\nSet-Cookie: a=b",
            "/sign-out",
            "/sign-in?next=/sign-in",
            " /keys",
        ] {
            assert_eq!(local(next), HOME, "{next:?}");
        }
    }
}
