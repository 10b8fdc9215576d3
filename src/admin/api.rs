//! The API, version 1: its paths, and what each does. The OpenAPI document is made of the same.
//!
//! Never here: who may do what, or how keys are kept.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Path, State as Extract};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG};
use http::{HeaderMap, Uri};
use jiff::Timestamp;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, OpenApi, OpenApiBuilder, Ref, ResponseBuilder,
};
use utoipa::{IntoParams, PartialSchema as _, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::body::{Faults, json_or_nothing, query};
use super::keys::Change;
use super::refusal::{Answer, Refusal};
use super::revision::Revision;
use super::rights::{Actor, Grant};
use super::view::{Changed, Effect, Key, Me, Page, Problem};
use super::{State, create, explain, health, list};
use crate::identity::Label;

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
        .routes(routes!(show_key, delete_key))
        .routes(routes!(disable_key))
        .routes(routes!(enable_key))
        .routes(routes!(me))
        .routes(routes!(explain::explain))
        .routes(routes!(explain::routes))
        .routes(routes!(openapi))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
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
        for operation in [&mut item.get, &mut item.post, &mut item.delete].into_iter().flatten() {
            operation.responses.responses.insert("default".to_owned(), refusal.clone().into());
        }
    }
    document
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
    let page = spawn_blocking(move || question.page(&snapshot.records, &actor, Timestamp::now()));
    page.await.map(Json).map_err(|_| Refusal::Internal)
}

/// Shows one key.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)), security(("key" = [])),
    responses((status = 200, body = Key, headers(("ETag" = String, description = "For If-Match")))))]
async fn show_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
) -> Answer<Response> {
    let record = state.keys.find(&actor, &id)?;
    let etag = [(ETAG, Revision::of(&record).to_string())];
    Ok((etag, Json(Key::new(&record, Timestamp::now()))).into_response())
}

/// Why a key is switched off.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct Disable {
    /// For those who find it disabled.
    #[schema(max_length = 255)]
    reason: Option<String>,
    /// Even if it is the last enabled key that manages everybody's keys. Takes a role with admin = "all".
    force: bool,
}

/// Switches a key off, at once; all others stay as they are.
#[utoipa::path(post, path = "/api/v1/keys/{id}/disable", tag = "keys", request_body = Option<Disable>,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag of the key as it was seen")),
    security(("key" = [])), responses((status = 200, body = Changed)))]
async fn disable_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let Disable { reason, force } = json_or_nothing(&headers, &body)?;
    let mut faults = Faults::default();
    let reason = reason.filter(|reason| !reason.trim().is_empty());
    let reason = faults.take_some("reason", reason.as_deref(), |reason| Label::new(reason.trim()));
    faults.finish()?;
    change(state, actor, id, &headers, Change::Disable { reason, force }).await
}

/// Nothing is said with this.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct Nothing {}

/// Switches a key on again; one may give back what one could give.
#[utoipa::path(post, path = "/api/v1/keys/{id}/enable", tag = "keys", request_body = Option<Nothing>,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag of the key as it was seen")),
    security(("key" = [])), responses((status = 200, body = Changed)))]
async fn enable_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let Nothing {} = json_or_nothing(&headers, &body)?;
    change(state, actor, id, &headers, Change::Enable).await
}

/// How a key is deleted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Delete {
    /// Even if it is enabled, or the last that manages everybody's keys.
    force: bool,
}

/// Deletes a disabled key for good. The answer shows it as it was.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path), Delete,
        ("If-Match" = Option<String>, Header, description = "The ETag of the key as it was seen")),
    security(("key" = [])), responses((status = 200, body = Changed)))]
async fn delete_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<Response> {
    let Delete { force } = query(&uri)?;
    change(state, actor, id, &headers, Change::Delete { force }).await
}

async fn change(
    state: Arc<State>,
    actor: Actor,
    id: String,
    headers: &HeaderMap,
    change: Change,
) -> Answer<Response> {
    state.unless_ending()?;
    let expected = Revision::expected(headers)?;
    let is_gone = matches!(change, Change::Delete { .. });
    // By a task of its own: what has begun is brought into force, whether the client waits or not.
    let changed =
        tokio::spawn(async move { state.keys.change(&actor, &id, expected, change).await });
    let (record, outcome) = changed.await.unwrap_or(Err(Refusal::Internal))?;
    let etag = Revision::of(&record).to_string();
    let key = Key::new(&record, Timestamp::now());
    let answer = Json(Changed { key, effect: Effect::from(outcome) });
    Ok(if is_gone { answer.into_response() } else { ([(ETAG, etag)], answer).into_response() })
}

/// Says who one is here, and what one may do.
#[utoipa::path(get, path = "/api/v1/me", tag = "keys", security(("key" = [])),
    responses((status = 200, body = Me)))]
async fn me(actor: Actor, Extract(state): Extract<Arc<State>>) -> Json<Me> {
    let snapshot = state.shared.current().load_full();
    let may_grant = |role: &&Arc<crate::identity::Role>| {
        let expires_at = actor.expires_at;
        actor.may_grant(Grant { user: &actor.user, role, expires_at }).is_ok()
    };
    let roles = snapshot.config.roles.iter().filter(may_grant);
    let roles = roles.map(|role| role.name().as_str().to_owned()).collect();
    Json(Me::new(&actor, roles))
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "about",
    responses((status = 200, content_type = "application/json")))]
async fn openapi(Extract(state): Extract<Arc<State>>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], state.document.clone())
}
