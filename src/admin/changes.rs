//! What is done to a key that is there: disabled, enabled, changed, deleted.
//!
//! Never here: who may do it, or how keys are kept.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderMap, Uri};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::body::{Faults, future, json, json_or_nothing, or_null, query};
use super::keys::{Wanted, to_its_end};
use super::limits::GivenChange;
use super::refusal::Answer;
use super::revision::{etag, expected};
use super::rights::Actor;
use super::view::Changed;
use crate::identity::RoleName;
use crate::keys::change::{Change, Update};

/// Why a key is switched off.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Disable {
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
pub(super) async fn disable_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let Disable { reason, force } = json_or_nothing(&headers, &body)?;
    let mut faults = Faults::default();
    let reason = faults.reason(reason.as_deref());
    faults.finish()?;
    change(state, actor, id, &headers, Change::Disable { reason }, force).await
}

/// Nothing is said with this.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Nothing {}

/// Switches a key on again; one may give back what one could give.
#[utoipa::path(post, path = "/api/v1/keys/{id}/enable", tag = "keys", request_body = Option<Nothing>,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag of the key as it was seen")),
    security(("key" = [])), responses((status = 200, body = Changed)))]
pub(super) async fn enable_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let Nothing {} = json_or_nothing(&headers, &body)?;
    change(state, actor, id, &headers, Change::Enable, false).await
}

/// What is to be known of a key; what is left out stays (RFC 7396).
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Edit {
    /// What people call it.
    #[schema(min_length = 3, max_length = 255)]
    pub(super) label: Option<String>,
    /// What it may do.
    #[schema(max_length = 128)]
    pub(super) role: Option<String>,
    /// When it ends; null for never.
    #[serde(deserialize_with = "or_null")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(super) expires_at: Option<Option<String>>,
    /// The methods it is narrowed to; null or none for all.
    #[serde(deserialize_with = "or_null")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub(super) allowed_methods: Option<Option<Vec<String>>>,
    /// The paths it is narrowed to, in the syntax of routes; null or none for all.
    #[serde(deserialize_with = "or_null")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub(super) allowed_paths: Option<Option<Vec<String>>>,
    /// The networks it is narrowed to; null or none for all.
    #[serde(deserialize_with = "or_null")]
    #[schema(value_type = Option<Vec<String>>, max_items = 64)]
    pub(super) allowed_cidrs: Option<Option<Vec<String>>>,
    /// How fast its requests may come, on average; null: as its role says.
    #[serde(deserialize_with = "or_null")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]+/[smh]$")]
    pub(super) rate: Option<Option<String>>,
    /// How many may come at once, after a silence; null: as many as come in a second.
    #[serde(deserialize_with = "or_null")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1_000_000)]
    pub(super) burst: Option<Option<u64>>,
    /// How many may be in flight; null: as its role says.
    #[serde(deserialize_with = "or_null")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1_000_000)]
    pub(super) concurrent: Option<Option<u64>>,
    /// How many there may be in a day of UTC; null: as its role says.
    #[serde(deserialize_with = "or_null")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1_000_000_000_000_u64)]
    pub(super) daily: Option<Option<u64>>,
}

impl Edit {
    /// The same, checked.
    pub(super) fn check(self) -> Answer<Update> {
        let mut faults = Faults::default();
        let role = self.role.as_deref();
        let (rate, burst, concurrent, daily) = (self.rate, self.burst, self.concurrent, self.daily);
        let limits = GivenChange { rate, burst, concurrent, daily };
        let update = Update {
            label: self.label.and_then(|label| faults.label(&label)),
            role: faults.take_some("role", role, RoleName::new),
            expires_at: self
                .expires_at
                .map(|end| faults.take_some("expires_at", end.as_deref(), future)),
            methods: self.allowed_methods.and_then(|texts| faults.methods(texts.or(Some(vec![])))),
            paths: self.allowed_paths.and_then(|texts| faults.paths(texts.or(Some(vec![])))),
            networks: self.allowed_cidrs.and_then(|texts| faults.networks(texts.or(Some(vec![])))),
            limits: limits.check(&mut faults),
        };
        faults.finish()?;
        Ok(update)
    }
}

/// Changes what is known of a key. What it may then do, one must be able to give.
#[utoipa::path(patch, path = "/api/v1/keys/{id}", tag = "keys", request_body = Edit,
    params(("id" = String, Path), ("If-Match" = Option<String>, Header, description = "The ETag of the key as it was seen")),
    security(("key" = [])), responses((status = 200, body = Changed)))]
pub(super) async fn update_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response> {
    let update = json::<Edit>(&headers, &body)?.check()?;
    change(state, actor, id, &headers, Change::Update(Box::new(update)), false).await
}

/// How a key is deleted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Delete {
    /// Even if it is enabled, or the last that manages everybody's keys.
    force: bool,
}

/// Deletes a disabled key for good. The answer shows it as it was.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path), Delete,
        ("If-Match" = Option<String>, Header, description = "The ETag of the key as it was seen")),
    security(("key" = [])), responses((status = 200, body = Changed)))]
pub(super) async fn delete_key(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<Response> {
    let Delete { force } = query(&uri)?;
    change(state, actor, id, &headers, Change::Delete { force }, force).await
}

async fn change(
    state: Arc<State>,
    actor: Actor,
    id: String,
    headers: &HeaderMap,
    change: Change,
    force: bool,
) -> Answer<Response> {
    state.unless_ending()?;
    let expected = expected(headers)?;
    let is_gone = matches!(change, Change::Delete { .. });
    let wanted = Wanted { id, expected, change, force };
    let changed = to_its_end(async move {
        let (record, outcome) = state.keys.change(&actor, wanted).await?;
        // Behind the change: what it closed has ended, and counts.
        let usage = state.uses.now(record.id.as_str()).await;
        Ok((etag(&record), Changed::new(&record, outcome, &usage)))
    });
    let (etag, changed) = changed.await?;
    let answer = Json(changed);
    Ok(if is_gone { answer.into_response() } else { ([(ETAG, etag)], answer).into_response() })
}
