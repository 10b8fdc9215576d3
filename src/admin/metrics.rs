//! `GET /metrics`: what is measured, for Prometheus.
//!
//! Nobody signs in for it, as is usual: it tells routes, upstreams and counts, and keys only where `[metrics] per_key`
//! says so.
//!
//! Never here: what is measured.

use std::sync::Arc;

use axum::extract::State as Extract;
use axum::response::IntoResponse;
use http::header::CONTENT_TYPE;

use super::State;
use super::refusal::{Answer, Refusal};
use crate::server::metrics;

/// What is measured, in the text format of Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, body = str, content_type = "text/plain")))]
pub(super) async fn metrics(
    Extract(state): Extract<Arc<State>>,
) -> Answer<impl IntoResponse + use<>> {
    let page = state.metrics.render().await.map_err(|metrics::Incomplete| Refusal::Incomplete)?;
    Ok(([(CONTENT_TYPE, metrics::CONTENT_TYPE)], page))
}
