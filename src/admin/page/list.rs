//! `/keys`: the keys, with filters, search and pages.
//!
//! Never here: keys that whoever asks may not see.

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};
use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::form::{Form, link};
use super::views::{Filter, Keys, Notice};
use super::visit::Visit;
use super::{html, shown};
use crate::admin::State;
use crate::admin::list::{Found, Parameters};
use crate::admin::refusal::{Answer, Refusal};
use crate::keys::KeyRecord;

/// Shows the keys that are asked for.
pub(super) async fn show(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let actor = visit.acting(&Method::GET, "/api/v1/keys")?;
    let sees_all = actor.manages_all();
    let form = &visit.form;
    let asked = Parameters {
        limit: None,
        cursor: form.some("cursor"),
        user: form.some("user").filter(|_| sees_all),
        role: form.some("role"),
        state: form.some("state"),
        label: None,
        q: form.some("q"),
        unused_days: None,
    };
    let question = asked.check()?;
    let snapshot = state.shared.current().load_full();
    let roles = snapshot.config.roles.iter().map(|role| role.name().as_str().to_owned()).collect();
    let now = Timestamp::now();
    let usage = state.uses.reported.clone();
    // Among many keys this takes a while, in which others are answered.
    let found = spawn_blocking(move || {
        let found = question.find(&snapshot.records, &usage, &actor, now);
        let Found { records, total, next_cursor } = found;
        (records.into_iter().cloned().collect::<Vec<KeyRecord>>(), total, next_cursor)
    });
    let (records, total, next) = found.await.map_err(|_| Refusal::Internal)?;
    let text = |name| form.text(name);
    let next = next.map(|cursor| {
        let filter = ["q", "user", "role", "state"].map(|name| (name, text(name)));
        link("/keys", filter.into_iter().chain([("cursor", cursor.as_str())]))
    });
    let rows = records
        .iter()
        .map(|record| shown::row(record, state.uses.reported.of(record.id.as_str()).as_ref(), now));
    let filter = |name| text(name).to_owned();
    let view = Keys {
        frame: visit.frame("/keys"),
        notice: notice(form),
        sees_all,
        filter: Filter {
            q: filter("q"),
            user: filter("user"),
            role: filter("role"),
            state: filter("state"),
        },
        roles,
        count: shown::counted(total as u64, "key"),
        rows: rows.collect(),
        next,
    };
    Ok(html(StatusCode::OK, &view))
}

/// What is said of what was just done.
pub(super) fn notice(form: &Form) -> Option<Notice> {
    let mut text = match form.text("done") {
        "disabled" => "The key is disabled. Nothing is let in with it any more.".to_owned(),
        "enabled" => "The key is enabled again.".to_owned(),
        "changed" => "The key is changed.".to_owned(),
        "deleted" => "The key is deleted.".to_owned(),
        "stored" => {
            let text = "The change is stored, but not in force: the files have faults, which `keyward check` names.";
            return Some(Notice { tone: "bad", text: text.to_owned() });
        }
        _ => return None,
    };
    let number = |name| form.text(name).parse::<u64>().ok();
    if let (Some(closed @ 1..), Some(took)) = (number("closed"), number("took_ms")) {
        let closed = shown::counted(closed, "stream");
        text += &format!(" What it held open, {closed}, was closed within {took} ms.");
    }
    Some(Notice { tone: "good", text })
}
