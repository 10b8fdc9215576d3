//! The API, version 1: its paths, and what each does. The OpenAPI document is made of the same.
//!
//! Never here: who may do what, or how keys are kept.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State as Extract};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use http::Uri;
use http::header::{CONTENT_TYPE, ETAG};
use jiff::Timestamp;
use tokio::task::spawn_blocking;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref,
    ResponseBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::query;
use super::limits::InForce;
use super::refusal::{Answer, Refusal};
use super::revision::etag;
use super::rights::Actor;
use super::usage::Summary;
use super::view::{Detailed, Key, Me, Page, Problem};
use super::{State, audit, changes, create, explain, health, list, metrics, usage};

/// Largest body of a request: a key takes some hundred bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Every path, with the document of them.
fn paths() -> OpenApiRouter<Arc<State>> {
    let key = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("A key whose role has admin = \"own\" or admin = \"all\""))
        .build();
    let about = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("Keyward")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(
                    "Manages API keys. Every refusal is application/problem+json (RFC 9457), with what is wrong with \
                     single values in `errors`.",
                ))
                .build(),
        )
        .components(Some(
            ComponentsBuilder::new().security_scheme("key", SecurityScheme::Http(key)).build(),
        ))
        .build();
    OpenApiRouter::with_openapi(about)
        .routes(routes!(list_keys, create::create))
        .routes(routes!(show_key, changes::update_key, changes::delete_key))
        .routes(routes!(usage::show))
        .routes(routes!(changes::disable_key))
        .routes(routes!(changes::enable_key))
        .routes(routes!(create::rotate))
        .routes(routes!(audit::list))
        .routes(routes!(me))
        .routes(routes!(explain::explain))
        .routes(routes!(explain::routes))
        .routes(routes!(openapi))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(metrics::metrics))
}

/// What is said about the API.
pub(super) fn document() -> OpenApi {
    let mut document = paths().into_openapi();
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    document.components.get_or_insert_default().schemas.extend(schemas);
    let refusal =
        ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
    let refusal = ResponseBuilder::new()
        .description("It is refused; `code` says why")
        .content("application/problem+json", refusal)
        .build();
    for item in document.paths.paths.values_mut() {
        for operation in operations(item) {
            operation.responses.responses.insert("default".to_owned(), refusal.clone().into());
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem { get, post, patch, delete, .. } = item;
    [get, post, patch, delete].into_iter().flatten()
}

/// Answers requests.
pub(super) fn router(state: Arc<State>) -> Router {
    let (router, _) = paths().split_for_parts();
    router
        .fallback(async || Refusal::NotFound)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}

/// Lists keys, the newest first.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys", params(list::Parameters), security(("key" = [])),
    responses((status = 200, body = Page)))]
async fn list_keys(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    uri: Uri,
) -> Answer<Json<Page>> {
    let question = query::<list::Parameters>(&uri)?.check()?;
    let snapshot = state.shared.current().load_full();
    // Among many keys this takes a while, in which others are answered.
    let usage = state.uses.reported.clone();
    let page = move || question.page(&snapshot.records, &usage, &actor, Timestamp::now());
    let page = spawn_blocking(page);
    page.await.map(Json).map_err(|_| Refusal::Internal)
}

/// Shows one key, and in short what it is used for.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)), security(("key" = [])),
    responses((status = 200, body = Detailed, headers(("ETag" = String, description = "For If-Match")))))]
async fn show_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let record = state.keys.find(&actor, &id)?;
    let usage = state.uses.now(&id).await;
    let limits = InForce::of(&record, Some(&usage), &state.shared).into();
    let key = Key::new(&record, Timestamp::now());
    let shown = Detailed { key, limits, usage: Summary::new(&usage) };
    Ok(([(ETAG, etag(&record))], Json(shown)).into_response())
}

/// Says who one is here, and what one may do.
#[utoipa::path(get, path = "/api/v1/me", tag = "keys", security(("key" = [])),
    responses((status = 200, body = Me)))]
async fn me(actor: Actor, Extract(state): Extract<Arc<State>>) -> Json<Me> {
    let snapshot = state.shared.current().load_full();
    let roles = actor.may_give(&snapshot.config.roles);
    Json(Me::new(&actor, roles))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about",
    responses((status = 200, content_type = "application/json")))]
async fn openapi(Extract(state): Extract<Arc<State>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], state.document.clone())
}
