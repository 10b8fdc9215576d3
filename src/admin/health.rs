//! `/healthz` and `/readyz`: for those who decide whether a process is restarted, or gets requests.
//!
//! Never here: a name or a path of the configuration, but those of upstreams: nobody signs in for this.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Phase, State};

/// Whether requests should come here.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// Why not, for people.
    reasons: Vec<String>,
    /// What is in force.
    generation: u64,
}

/// The process runs.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = str, content_type = "text/plain")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests should come here: not while the process ends, while an upstream has no endpoint that works, or while
/// the newest files are refused.
#[utoipa::path(get, path = "/readyz", tag = "health", responses(
    (status = 200, body = Readiness), (status = 503, body = Readiness)
))]
pub(super) async fn readyz(extract::State(state): extract::State<Arc<State>>) -> Response {
    let snapshot = state.shared.current().load_full();
    let mut reasons = Vec::new();
    if *state.phase.borrow() != Phase::Serving {
        reasons.push("the process is about to end".to_owned());
    }
    if state.shared.reloads().is_refused() {
        reasons.push(format!(
            "the newest configuration or key file is refused, generation {} stays in force: the log and `keyward \
             check` say why",
            snapshot.generation
        ));
    }
    let now = Instant::now();
    for upstream in snapshot.upstreams.iter().filter(|upstream| !upstream.is_up(now)) {
        reasons.push(format!("no endpoint of the upstream {:?} is up", upstream.name));
    }
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Readiness { ready, reasons, generation: snapshot.generation })).into_response()
}
