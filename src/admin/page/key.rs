//! `/keys/{id}`: one key, what it is used for, and what was done to it.
//!
//! Never here: a change.

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};
use jiff::Timestamp;
use tokio::task::spawn_blocking;

use super::list::notice;
use super::views::{Event, Key, bars};
use super::visit::Visit;
use super::{history, html, shown};
use crate::admin::limits::InForce;
use crate::admin::refusal::{Answer, Refusal};
use crate::admin::{State, audit};
use crate::keys::KeyRecord;
use crate::keys::change::Revision;
use crate::scopes::Scopes;
use crate::usage::recorder::KeyUsage;

/// Entries of a key's history that are shown.
const HISTORY_MAX: usize = 20;

/// Shows it.
pub(super) async fn show(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let actor = visit.acting_on_key(&Method::GET, "")?;
    let record = state.keys.find(&actor, &visit.id)?;
    let history = history_of(&visit, &state, &record).await?;
    let usage = state.uses.known(record.id.as_str()).await;
    let now = Timestamp::now();
    let mut facts = shown::usage(usage.as_ref(), now);
    let in_force = InForce::of(&record, usage.as_ref(), &state.shared);
    if let Some(most) = in_force.limits.daily {
        let (today, most) = (shown::number(in_force.today), shown::number(most));
        facts.push(("Today", format!("{today} of {most}")));
    }
    if let Some(usage) = &usage {
        facts.push(("Ever", shown::answers(usage)));
    }
    let view = Key {
        frame: visit.frame("/keys"),
        notice: notice(&visit.form),
        token: visit.token(),
        revision: Revision::of(&record).to_string(),
        key: shown::row(&record, usage.as_ref(), now),
        disabled: disabled(&record),
        old_secret: old_secret(&record, usage.as_ref(), now),
        about: about(&record, in_force),
        usage: facts,
        chart: bars(&shown::hours(usage.as_ref(), now), 420, 64),
        history,
    };
    Ok(html(StatusCode::OK, &view))
}

/// What was done to it, as far as whoever asks may see the audit log.
async fn history_of(visit: &Visit, state: &State, record: &KeyRecord) -> Answer<Vec<Event>> {
    let Ok(actor) = visit.acting(&Method::GET, "/api/v1/audit") else { return Ok(Vec::new()) };
    let snapshot = state.shared.current().load_full();
    let id = record.id.clone();
    let page = spawn_blocking(move || {
        audit::page(&snapshot.config.audit.file, &actor, Some(&id), None, HISTORY_MAX)
    });
    let page = page.await.unwrap_or(Err(Refusal::Internal))?;
    Ok(page.entries.iter().map(history::event).collect())
}

fn about(record: &KeyRecord, in_force: InForce) -> Vec<(&'static str, String)> {
    let time = |at: Option<Timestamp>, none: &str| at.map_or_else(|| none.to_owned(), shown::time);
    let scopes = record.scopes.as_deref();
    vec![
        (
            "Begins with",
            record.start.as_ref().map_or_else(|| "unknown".to_owned(), |s| format!("{s}…")),
        ),
        ("User", record.user.to_string()),
        ("Role", record.role.to_string()),
        ("Created", time(record.created_at, "unknown")),
        ("Expires", time(record.expires_at, "never")),
        ("Methods", words(scopes.map(Scopes::methods))),
        ("Paths", words(scopes.map(Scopes::paths))),
        ("Addresses", words(scopes.map(Scopes::addresses))),
        (
            "Limits",
            match in_force.limits {
                limits if limits.is_empty() => "none".to_owned(),
                limits => limits.to_string(),
            },
        ),
    ]
}

/// What a key is narrowed to, in words; `any` if it is not.
fn words<T: ToString>(narrowed: Option<&[T]>) -> String {
    let words: Vec<_> = narrowed.unwrap_or_default().iter().map(ToString::to_string).collect();
    if words.is_empty() { "any".to_owned() } else { words.join(" ") }
}

fn disabled(record: &KeyRecord) -> Option<String> {
    let at = record.disabled_at.filter(|_| !record.enabled)?;
    let by = record.disabled_by.as_deref().unwrap_or("somebody");
    let reason = record.disabled_reason.as_deref().unwrap_or("no reason was given");
    Some(format!("Disabled on {} by {by}: {reason}", shown::time(at)))
}

/// When it is safe to let the secret before a rotation go.
fn old_secret(record: &KeyRecord, usage: Option<&KeyUsage>, now: Timestamp) -> Option<String> {
    let (_, until) = record.previous.filter(|&(_, until)| until > now)?;
    let last = usage.and_then(|usage| usage.tally.last_of_previous.as_ref());
    let last = match last {
        Some(last) => format!("it was last used {}", shown::used(last, now)),
        None => "it was not used since".to_owned(),
    };
    Some(format!("The old secret works for another {}; {last}.", shown::left(until, now)))
}
