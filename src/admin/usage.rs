//! What keys are used for, as those who manage them see it; `GET /api/v1/keys/{id}/usage` shows all of it.
//!
//! Of one key that is what all workers know at the moment; of many, what they have reported: it may be some seconds old.
//!
//! Never here: counting, or whose keys somebody sees.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State as Extract};
use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use super::State;
use super::refusal::Answer;
use super::rights::Actor;
use crate::server::control::Control;
use crate::usage::recorder::{KeyUsage, Usage};
use crate::usage::{HOURS, Hour, Use};

/// Where that is known.
#[derive(Clone, Debug)]
pub(super) struct Uses {
    pub(super) workers: Control,
    pub(super) reported: Usage,
}

impl Uses {
    /// What has become of a key up to now; nothing if it was never used.
    pub(super) async fn known(&self, id: &str) -> Option<KeyUsage> {
        self.workers.report_usage().await;
        self.reported.settle().await;
        self.reported.of(id)
    }

    /// The same in figures, which are zero then.
    pub(super) async fn now(&self, id: &str) -> KeyUsage {
        self.known(id).await.unwrap_or_default()
    }
}

/// A use of a key.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct LastUse {
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// From where: the peer, or whom a trusted proxy names.
    address: String,
    /// The pattern of the route; null where there was none.
    route: Option<String>,
}

impl LastUse {
    pub(super) fn new(last: Option<Use>) -> Option<Self> {
        last.map(|Use { at, client, route }| Self { at, address: client.to_string(), route })
    }
}

/// Requests by the hundreds of their status.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ByStatus {
    /// Those that ended without one, for their client had left.
    none: u64,
    #[serde(rename = "1xx")]
    informational: u64,
    #[serde(rename = "2xx")]
    successful: u64,
    #[serde(rename = "3xx")]
    redirection: u64,
    #[serde(rename = "4xx")]
    client_error: u64,
    #[serde(rename = "5xx")]
    server_error: u64,
}

/// What a key is used for, in short.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Summary {
    /// When a request with the key last began.
    last_used: Option<LastUse>,
    /// The same of the secret before its rotation: once nobody uses that, it can end.
    previous_last_used: Option<LastUse>,
    /// Its requests that have ended.
    requests: ByStatus,
    /// Its requests that have not, tunnels among them, in this process.
    in_flight: u64,
}

impl Summary {
    pub(super) fn new(usage: &KeyUsage) -> Self {
        let KeyUsage { tally, in_flight } = usage;
        let [none, informational, successful, redirection, client_error, server_error] =
            tally.requests;
        Self {
            last_used: LastUse::new(tally.last.clone()),
            previous_last_used: LastUse::new(tally.last_of_previous.clone()),
            requests: ByStatus {
                none,
                informational,
                successful,
                redirection,
                client_error,
                server_error,
            },
            in_flight: *in_flight,
        }
    }
}

/// What a key was used for in the last 24 hours, the current one among them: what breaks when it ends.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct LastDay {
    /// How many ended.
    requests: u64,
    /// Where they came from, the most frequent first.
    clients: Vec<FromClient>,
    /// Their routes, the most frequent first.
    routes: Vec<OnRoute>,
    /// What stands under no name there, for there are many.
    others: Others,
}

/// Requests from one address.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct FromClient {
    address: String,
    requests: u64,
}

/// Requests on one route.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct OnRoute {
    /// The pattern; null where there was none.
    route: Option<String>,
    requests: u64,
}

/// Requests that are counted under no name.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Others {
    /// From further addresses.
    clients: u64,
    /// On further routes.
    routes: u64,
}

impl LastDay {
    pub(super) fn new(usage: &KeyUsage) -> Self {
        let Hour { requests, clients, routes, refused: _ } = usage.tally.recent();
        let from = |(address, requests): (&std::net::IpAddr, u64)| FromClient {
            address: address.to_string(),
            requests,
        };
        let on =
            |(route, requests): (&Option<String>, u64)| OnRoute { route: route.clone(), requests };
        Self {
            requests,
            others: Others { clients: clients.others(), routes: routes.others() },
            clients: clients.named().into_iter().map(from).collect(),
            routes: routes.named().into_iter().map(on).collect(),
        }
    }
}

/// All that is known of a key's usage.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct Account {
    /// The key.
    id: String,
    #[serde(flatten)]
    summary: Summary,
    /// Bytes of content from clients, in requests that have ended.
    bytes_in: u64,
    /// And to them.
    bytes_out: u64,
    last_24_hours: LastDay,
    /// The requests of each of these hours; the last is the current one.
    hourly: [u64; HOURS as usize],
}

/// Shows what a key is used for: what would break without it.
#[utoipa::path(get, path = "/api/v1/keys/{id}/usage", tag = "keys", params(("id" = String, Path)), security(("key" = [])),
    responses((status = 200, body = Account)))]
pub(super) async fn show(
    actor: Actor,
    Extract(state): Extract<Arc<State>>,
    Path(id): Path<String>,
) -> Answer<Json<Account>> {
    let record = state.keys.find(&actor, &id)?;
    let usage = state.uses.now(record.id.as_str()).await;
    Ok(Json(Account {
        id,
        summary: Summary::new(&usage),
        bytes_in: usage.tally.bytes_in,
        bytes_out: usage.tally.bytes_out,
        last_24_hours: LastDay::new(&usage),
        hourly: usage.tally.hourly(Timestamp::now()),
    }))
}
