//! The web page: another face of what the API does.
//!
//! Plain HTML that needs no script but to copy a key. Every view comes through [`visit`], is asked for by the rights and made
//! by the means of the API (see [`keys`](super::keys)), and is filled into its template by [`views`].
//!
//! Never here: a decision who may do what, or a resource of another site.

mod assets;
mod change;
mod create;
mod edit;
mod form;
mod gate;
mod history;
mod key;
mod list;
mod policy;
mod reveal;
pub(super) mod session;
mod shown;
mod views;
mod visit;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State as Extract};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};

use super::State;
use super::refusal::{Answer, Refusal};
use views::{Failure, Frame};
use visit::Visit;

/// What a page is sent as.
pub(super) const HTML: &str = "text/html; charset=utf-8";
/// Our own style, script, picture and forms, and nothing else; in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";
/// Nothing is told to other sites. With `no-referrer` browsers would send our own forms with `Origin: null`.
const REFERRER: &str = "same-origin";
/// Largest form.
const FORM_BYTES_MAX: usize = 64 * 1024;

/// Answers requests.
pub(super) fn router(state: Arc<State>) -> Router {
    Router::new()
        .route("/", get(async || Redirect::to("/keys")))
        .route("/assets/{name}", get(assets::send))
        .route("/sign-in", get(gate::show).post(gate::sign_in))
        .route("/sign-out", post(gate::sign_out))
        .route("/keys", get(view(list::show)))
        .route("/keys/new", get(view(create::ask)).post(view(create::create)))
        .route("/keys/{id}", get(view(key::show)))
        .route("/keys/{id}/disable", get(view(change::disable)).post(view(change::disable_now)))
        .route("/keys/{id}/enable", get(view(change::enable)).post(view(change::enable_now)))
        .route("/keys/{id}/rotate", get(view(change::rotate)).post(view(change::rotate_now)))
        .route("/keys/{id}/delete", get(view(change::delete)).post(view(change::delete_now)))
        .route("/keys/{id}/edit", get(view(edit::ask)).post(view(edit::save)))
        .route("/audit", get(view(history::show)))
        .route("/routes", get(view(policy::routes)))
        .route("/explain", get(view(policy::explain)))
        .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
        .with_state(state)
}

/// What makes a view, for whoever has signed in; a refusal becomes a page, too.
fn view<F, R>(
    make: F,
) -> impl Fn(Extract<Arc<State>>, Visit) -> Made + Clone + Send + Sync + 'static
where
    F: Fn(Visit, Arc<State>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = Answer<Response>> + Send + 'static,
{
    move |Extract(state), visit| {
        let frame = visit.frame("");
        let made = make(visit, state);
        Box::pin(async move { made.await.unwrap_or_else(|refusal| failure(frame, &refusal)) })
    }
}

/// A view in the making.
type Made = Pin<Box<dyn Future<Output = Response> + Send>>;

/// A refusal, as a page.
fn failure(frame: Option<Frame>, refusal: &Refusal) -> Response {
    let problem = refusal.problem();
    let faults =
        refusal.errors().iter().map(|fault| format!(" {}: {}.", fault.field, fault.message));
    let detail = format!("{}{}", problem.detail, faults.collect::<String>());
    let view = Failure {
        frame,
        notice: None,
        headline: problem.title.to_owned(),
        detail,
        back: "/keys".to_owned(),
    };
    html(problem.status, &view)
}

/// A page.
fn html(status: StatusCode, view: &impl Template) -> Response {
    match view.render() {
        Ok(text) => html_of(status, text),
        Err(error) => {
            tracing::error!(%error, "a page cannot be shown");
            Refusal::Internal.into_response()
        }
    }
}

fn html_of(status: StatusCode, text: String) -> Response {
    let fields =
        [(CONTENT_TYPE, HTML), (CONTENT_SECURITY_POLICY, POLICY), (REFERRER_POLICY, REFERRER)];
    (status, fields, text).into_response()
}
