//! `POST /api/v1/keys` and `…/rotate`: a secret is made. The only answers with one.
//!
//! Never here: a secret that is shown again to anybody but who asks again, soon, by the same `Idempotency-Key`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{Path, State as Extract};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::State;
use super::body::{Faults, future, json, json_or_nothing};
use super::idempotency::{Made, Name, Turn};
use super::keys::{Shown, Wish, to_its_end};
use super::limits::Given;
use super::refusal::{Answer, Refusal};
use super::revision::{etag, expected};
use super::rights::Actor;
use super::view::{Changed, Created};
use crate::identity::{RoleName, UserName};
use crate::keys::change::Revision;
use crate::redact::Secret;
use crate::scopes::Scopes;

/// Bytes of an answer, at most: growing would leave a copy of the key behind in freed memory. Scopes, and the routes of a
/// rotated key, may take more.
const ANSWER_BYTES: usize = 32 * 1024;
/// How long the old secret is taken after a rotation that does not say.
pub(super) const GRACE_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// A secret to be made.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Wanted {
    /// With a key of its own.
    Key(Wish),
    /// For a key that is there.
    Rotation { id: String, expected: Option<Revision>, grace: Duration },
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// Whose it is to be; one's own unless given.
    #[schema(max_length = 128)]
    pub(super) user: Option<String>,
    /// What it may do: a role of the configuration, not wider than one's own.
    #[schema(max_length = 128)]
    pub(super) role: String,
    /// What people call it: what it is for, and where.
    #[schema(min_length = 3, max_length = 255, example = "billing export")]
    pub(super) label: String,
    /// When it ends; not later than the acting key. Never, unless given.
    #[schema(format = DateTime)]
    pub(super) expires_at: Option<String>,
    /// The methods it is narrowed to. All, unless given.
    #[schema(max_items = 64)]
    pub(super) allowed_methods: Option<Vec<String>>,
    /// The paths it is narrowed to, in the syntax of routes. All, unless given.
    #[schema(max_items = 64)]
    pub(super) allowed_paths: Option<Vec<String>>,
    /// The networks it is narrowed to. All, unless given.
    #[schema(max_items = 64)]
    pub(super) allowed_cidrs: Option<Vec<String>>,
    /// How fast its requests may come, on average. As its role says, unless given.
    #[schema(pattern = "^[0-9]+/[smh]$", example = "100/s")]
    pub(super) rate: Option<String>,
    /// How many may come at once, after a silence; with a rate only. As many as come in a second, unless given.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(super) burst: Option<u64>,
    /// How many may be in flight. As its role says, unless given.
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(super) concurrent: Option<u64>,
    /// How many there may be in a day of UTC. As its role says, unless given.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64)]
    pub(super) daily: Option<u64>,
}

impl NewKey {
    /// The same, checked.
    pub(super) fn check(self, actor: &Actor) -> Answer<Wish> {
        let mut faults = Faults::default();
        let user = match &self.user {
            Some(user) => faults.take("user", UserName::new(user)),
            None => Some(actor.user.clone()),
        };
        let role = faults.take("role", RoleName::new(&self.role));
        let label = faults.label(&self.label);
        let expires_at = faults.take_some("expires_at", self.expires_at.as_deref(), future);
        let methods = faults.methods(self.allowed_methods).unwrap_or_default();
        let paths = faults.paths(self.allowed_paths).unwrap_or_default();
        let networks = faults.networks(self.allowed_cidrs).unwrap_or_default();
        let Self { rate, burst, concurrent, daily, .. } = self;
        let limits = Given { rate, burst, concurrent, daily }.check(&mut faults);
        faults.finish()?;
        let (Some(user), Some(role), Some(label)) = (user, role, label) else {
            return Err(Refusal::Internal);
        };
        let scopes = Scopes::new(methods, paths, networks);
        Ok(Wish { user, role, label, expires_at, scopes, limits })
    }
}

/// Makes a key. Its secret is in this answer, and nowhere else.
///
/// With an `Idempotency-Key`, the same request gets the same answer again for ten minutes, from the same acting key, as long
/// as the process runs.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys", request_body = NewKey, security(("key" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "A name for this request, new for each key")),
    responses((status = 201, body = Created<'static>, headers(
        ("Location" = String, description = "Where the key is found"),
        ("ETag" = String, description = "For If-Match")
    ))))]
pub(super) async fn create(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response<Body>> {
    let new: NewKey = json(&headers, &body)?;
    let wish = new.check(&actor)?;
    let made = make_once(state, actor, &headers, Wanted::Key(wish)).await?;
    let location = format!("/api/v1/keys/{}", made.id);
    Ok(answer(StatusCode::CREATED, made, Some(location)))
}

/// How a key is rotated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Rotate {
    /// How long the old secret is taken beside the new one: `24h`, unless given; `0s` ends it at once.
    #[schema(example = "24h")]
    grace: Option<String>,
}

/// Gives a key another secret, which is in this answer, and nowhere else. Id, label, role and scopes stay.
///
/// A secret that is still taken from an earlier rotation ends at once. With an `Idempotency-Key`, a request that comes again
/// rotates once.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys", request_body = Option<Rotate>,
    params(("id" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The ETag of the key as it was seen"),
        ("Idempotency-Key" = Option<String>, Header, description = "A name for this request, new for each rotation")),
    security(("key" = [])), responses((status = 200, body = Created<'static>, headers(
        ("ETag" = String, description = "For If-Match")
    ))))]
pub(super) async fn rotate(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Answer<Response<Body>> {
    let Rotate { grace } = json_or_nothing(&headers, &body)?;
    let mut faults = Faults::default();
    let grace = faults.grace(grace.as_deref());
    faults.finish()?;
    let grace = grace.unwrap_or(GRACE_DEFAULT);
    let wanted = Wanted::Rotation { id, expected: expected(&headers)?, grace };
    Ok(answer(StatusCode::OK, make_once(state, actor, &headers, wanted).await?, None))
}

/// Makes what is wanted; or gives back what was made when the same was wanted by this name before.
async fn make_once(
    state: Arc<State>,
    actor: Actor,
    headers: &HeaderMap,
    wanted: Wanted,
) -> Answer<Made> {
    state.unless_ending()?;
    let name = Name::of(headers, &actor.key_id)?;
    if let Some(name) = &name {
        match state.answers.begin(name, &wanted, Instant::now())? {
            Turn::First => {}
            Turn::Again(made) => return Ok(made),
        }
    }
    // A client that leaves now asks again, and is to hear of the key that was made.
    to_its_end(async move {
        let made = make(&state, &actor, wanted).await;
        if let Some(name) = &name {
            state.answers.end(name, made.as_ref().ok().map(Made::copy));
        }
        made
    })
    .await
}

async fn make(state: &State, actor: &Actor, wanted: Wanted) -> Answer<Made> {
    let is_new = matches!(wanted, Wanted::Key(_));
    let shown = match wanted {
        Wanted::Key(wish) => state.keys.create(actor, wish).await?,
        Wanted::Rotation { id, expected, grace } => {
            let old_until = end_of(grace)?;
            state.keys.rotate(actor, id, expected, old_until).await?
        }
    };
    let Shown { record, secret, outcome } = shown;
    let changed = match is_new {
        true => Changed::made(&record, outcome),
        false => Changed::new(&record, outcome, &state.uses.now(record.id.as_str()).await),
    };
    let mut body = Vec::with_capacity(ANSWER_BYTES);
    let written = serde_json::to_writer(&mut body, &Created { key: secret.expose(), changed });
    let body = Secret::new(body);
    written.map_err(|_| Refusal::Internal)?;
    Ok(Made::new(record.id.to_string(), etag(&record), body))
}

/// Until when an old secret is taken that has so long from now; `None`: no longer.
pub(super) fn end_of(grace: Duration) -> Answer<Option<Timestamp>> {
    // Whole seconds: what people read, and what the table knows.
    let now = Timestamp::now().as_second();
    let until = Timestamp::from_second(now).and_then(|now| now.checked_add(grace));
    let until = until.map_err(|_| Refusal::Internal)?;
    Ok((!grace.is_zero()).then_some(until))
}

fn answer(status: StatusCode, made: Made, location: Option<String>) -> Response<Body> {
    let mut response = Response::builder()
        .status(status)
        .header(ETAG, &made.etag)
        .header(CONTENT_TYPE, "application/json");
    if let Some(location) = location {
        response = response.header(LOCATION, location);
    }
    response.body(Body::from(made.body())).expect("an id and a tag are header-safe")
}
