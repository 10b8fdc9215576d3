//! `GET /api/v1/audit`: what was done to keys, by whom, newest first.
//!
//! Never here: changes, or whether the log was tampered with (`keyward audit verify` says that).

use std::path::Path;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Extract;
use http::Uri;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;
use utoipa::{IntoParams, ToSchema};

use super::State;
use super::body::{Faults, query};
use super::refusal::{Answer, Refusal};
use super::rights::Actor;
use crate::identity::KeyId;
use crate::keys::audit::read::{self, Query, Told};

/// Entries on a page that does not say how many.
const LIMIT_DEFAULT: usize = 50;
/// Entries on a page at most.
const LIMIT_MAX: usize = 200;

/// What is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Only entries about this key.
    key_id: Option<String>,
    /// Entries on a page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Some entries, the newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct AuditPage {
    #[schema(value_type = Vec<Object>)]
    pub(super) entries: Vec<Told>,
    /// Where the next page begins; null on the last.
    pub(super) next_cursor: Option<String>,
    /// How many lines could not be read: somebody tampered with the log.
    pub(super) unreadable: usize,
}

/// Lists what was done to keys, the newest first: to all, or to those of one's own user.
#[utoipa::path(get, path = "/api/v1/audit", tag = "audit", params(Parameters), security(("key" = [])),
    responses((status = 200, body = AuditPage)))]
pub(super) async fn list(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    uri: Uri,
) -> Answer<Json<AuditPage>> {
    let Parameters { key_id, limit, cursor } = query(&uri)?;
    let mut faults = Faults::default();
    let key_id = faults.take_some("key_id", key_id.as_deref(), KeyId::new);
    let limit = faults.take_some("limit", limit.as_deref(), |text| {
        let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
        limit.ok_or_else(|| format!("must be a number from 1 to {LIMIT_MAX}"))
    });
    let before = faults.take_some("cursor", cursor.as_deref(), |text| {
        text.parse().map_err(|_| "must be the next_cursor of another page")
    });
    faults.finish()?;
    let snapshot = state.shared.current().load_full();
    let page = spawn_blocking(move || {
        let file = &snapshot.config.audit.file;
        page(file, &actor, key_id.as_ref(), before, limit.unwrap_or(LIMIT_DEFAULT))
    });
    page.await.unwrap_or(Err(Refusal::Internal)).map(Json)
}

/// The page of the log that is asked for, of what `actor` sees.
pub(super) fn page(
    file: &Path,
    actor: &Actor,
    key_id: Option<&KeyId>,
    before: Option<u64>,
    limit: usize,
) -> Answer<AuditPage> {
    let user = (!actor.manages_all()).then_some(&actor.user);
    let page = read::read(file, &Query { key_id, user, before, limit }).map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        Refusal::Store("The audit log cannot be read; the event log says why.".to_owned())
    })?;
    Ok(AuditPage {
        entries: page.entries,
        next_cursor: page.next.map(|before| before.to_string()),
        unreadable: page.unreadable,
    })
}
