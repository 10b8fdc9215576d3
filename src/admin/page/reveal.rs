//! A new secret, shown once: the only page that ever holds one.
//!
//! Never here: a secret that is kept for another request.

use askama::Template as _;
use axum::response::Response;
use http::StatusCode;

use super::html_of;
use super::views::Reveal;
use super::visit::Visit;
use crate::admin::keys::Shown;
use crate::admin::refusal::{Answer, Refusal};

/// Bytes of the page, at most: growing would leave a copy of the key behind in freed memory.
const PAGE_BYTES: usize = 16 * 1024;

/// Shows the secret of `made`.
pub(super) fn show(
    visit: &Visit,
    made: &Shown,
    headline: &str,
    grace: Option<String>,
) -> Answer<Response> {
    let Shown { record, secret, .. } = made;
    let view = Reveal {
        frame: visit.frame("/keys"),
        notice: None,
        headline: headline.to_owned(),
        id: record.id.to_string(),
        label: record.label.to_string(),
        user: record.user.to_string(),
        secret: secret.expose(),
        grace,
    };
    let mut page = String::with_capacity(PAGE_BYTES);
    view.render_into(&mut page).map_err(|_| Refusal::Internal)?;
    Ok(html_of(StatusCode::OK, page))
}
