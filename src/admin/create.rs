//! `POST /api/v1/keys`: makes a key. The one answer with a secret.
//!
//! Never here: a secret that is shown again to anybody but who asks again, soon, by the same `Idempotency-Key`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State as Extract;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, ETAG, LOCATION};
use http::{HeaderMap, Response, StatusCode};
use jiff::Timestamp;
use serde::Deserialize;
use utoipa::ToSchema;

use super::State;
use super::body::{Faults, future, json};
use super::idempotency::{Made, Name, Turn};
use super::keys::Wish;
use super::refusal::{Answer, Refusal};
use super::revision::Revision;
use super::rights::Actor;
use super::view::{Changed, Created, Effect, Key};
use crate::identity::{Label, RoleName, UserName};
use crate::redact::Secret;

/// Bytes of an answer, at most: growing would leave a copy of the key behind in freed memory.
const ANSWER_BYTES: usize = 4_096;
/// Fewer characters describe nothing.
const LABEL_CHARS_MIN: usize = 3;

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKey {
    /// Whose it is to be; one's own unless given.
    #[schema(max_length = 128)]
    user: Option<String>,
    /// What it may do: a role of the configuration, not wider than one's own.
    #[schema(max_length = 128)]
    role: String,
    /// What people call it: what it is for, and where.
    #[schema(min_length = 3, max_length = 255, example = "billing export")]
    label: String,
    /// When it ends; not later than the acting key. Never, unless given.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

impl NewKey {
    fn check(self, actor: &Actor) -> Answer<Wish> {
        let mut faults = Faults::default();
        let user = match &self.user {
            Some(user) => faults.take("user", UserName::new(user)),
            None => Some(actor.user.clone()),
        };
        let role = faults.take("role", RoleName::new(&self.role));
        let label = self.label.trim();
        if label.chars().count() < LABEL_CHARS_MIN {
            faults.add(
                "label",
                "must say what the key is for, so that people know it again".to_owned(),
            );
        }
        let label = Label::new(label).map_err(|error| faults.add("label", error.to_string())).ok();
        let expires_at = faults.take_some("expires_at", self.expires_at.as_deref(), future);
        faults.finish()?;
        let (Some(user), Some(role), Some(label)) = (user, role, label) else {
            return Err(Refusal::Internal);
        };
        Ok(Wish { user, role, label, expires_at })
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
    state.unless_ending()?;
    let new: NewKey = json(&headers, &body)?;
    let wish = new.check(&actor)?;
    let name = Name::of(&headers, &actor.key_id)?;
    if let Some(name) = &name {
        match state.answers.begin(name, &wish, Instant::now())? {
            Turn::First => {}
            Turn::Again { id, etag, body } => return Ok(answer(&id, &etag, body)),
        }
    }
    // By a task of its own: a client that leaves now asks again, and is to hear of the key that was made.
    let made = tokio::spawn(async move {
        let made = make(&state, &actor, wish).await;
        let (kept, answer) = match made {
            Ok(made) => {
                let answer = answer(&made.id, &made.etag, made.body());
                (Some(made), Ok(answer))
            }
            Err(refusal) => (None, Err(refusal)),
        };
        if let Some(name) = &name {
            state.answers.end(name, kept);
        }
        answer
    });
    made.await.unwrap_or(Err(Refusal::Internal))
}

async fn make(state: &State, actor: &Actor, wish: Wish) -> Answer<Made> {
    let (record, key, outcome) = state.keys.create(actor, wish).await?;
    let changed =
        Changed { key: Key::new(&record, Timestamp::now()), effect: Effect::from(outcome) };
    let mut body = Vec::with_capacity(ANSWER_BYTES);
    let written = serde_json::to_writer(&mut body, &Created { key: key.expose(), changed });
    let body = Secret::new(body);
    written.map_err(|_| Refusal::Internal)?;
    Ok(Made::new(record.id.to_string(), Revision::of(&record).to_string(), body))
}

fn answer(id: &str, etag: &str, body: Bytes) -> Response<Body> {
    Response::builder()
        .status(StatusCode::CREATED)
        .header(LOCATION, format!("/api/v1/keys/{id}"))
        .header(ETAG, etag)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(body))
        .expect("an id and a tag are header-safe")
}
