//! `/audit`: what was done to keys; and how an entry of the audit log reads.
//!
//! Never here: whether the log was tampered with (`keyward audit verify` says that).

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::form::link;
use super::views::{Audit, Event, Notice};
use super::visit::Visit;
use super::{html, shown};
use crate::admin::refusal::{Answer, Refusal};
use crate::admin::{State, audit};
use crate::keys::audit::read::Told;

/// What of a key an entry shows, and what people call it.
const SHOWN: [(&str, &str); 7] = [
    ("label", "label"),
    ("user", "user"),
    ("role", "role"),
    ("expires_at", "expires"),
    ("allowed_methods", "methods"),
    ("allowed_paths", "paths"),
    ("allowed_cidrs", "addresses"),
];

/// Entries on a page.
const PAGE_ENTRIES: usize = 50;

/// Shows what was done to the keys that whoever asks may see.
pub(super) async fn show(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let actor = visit.acting(&Method::GET, "/api/v1/audit")?;
    let before = match visit.form.some("cursor").map(|text| text.parse()) {
        None => None,
        Some(Ok(before)) => Some(before),
        Some(Err(_)) => return Err(Refusal::NotFound),
    };
    let snapshot = state.shared.current().load_full();
    let page = spawn_blocking(move || {
        audit::page(&snapshot.config.audit.file, &actor, None, before, PAGE_ENTRIES)
    });
    let page = page.await.unwrap_or(Err(Refusal::Internal))?;
    let notice = (page.unreadable > 0).then(|| Notice {
        tone: "bad",
        text: "Some lines of the log cannot be read: somebody has tampered with it. `keyward audit verify` says where."
            .to_owned(),
    });
    let view = Audit {
        frame: visit.frame("/audit"),
        notice,
        count: "Newest first".to_owned(),
        entries: page.entries.iter().map(event).collect(),
        next: page.next_cursor.map(|cursor| link("/audit", [("cursor", cursor.as_str())])),
    };
    Ok(html(StatusCode::OK, &view))
}

/// An entry, as it reads.
pub(super) fn event(told: &Told) -> Event {
    let Told { entry, undone } = told;
    let actor = &entry.actor;
    let user = actor.user.as_deref().unwrap_or("keyward");
    let who = match &actor.key_id {
        Some(key_id) => format!("{user} ({key_id})"),
        None => user.to_owned(),
    };
    let mut details: Vec<String> = entry.reason.iter().cloned().collect();
    details.extend(changes(entry.before.as_ref(), entry.after.as_ref()));
    if *undone {
        details.insert(0, "this was not carried out".to_owned());
    }
    Event {
        when: shown::time(entry.time),
        what: past(&entry.action).to_owned(),
        key: entry.key_id.clone().unwrap_or_default(),
        who,
        from: match actor.address {
            Some(address) => format!("{address}, {}", actor.kind),
            None => actor.kind.clone(),
        },
        details: details.join("; "),
    }
}

/// What the key was, and became.
fn changes(before: Option<&Value>, after: Option<&Value>) -> Vec<String> {
    let text = |key: Option<&Value>, name: &str| {
        let value = key.and_then(|key| key.get(name));
        match value {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
            }
            Some(other) => other.to_string(),
        }
    };
    let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let fields = SHOWN.into_iter().filter_map(|(field, name)| {
        let (was, is) = (text(before, field), text(after, field));
        match (before, after) {
            (None, Some(_)) if !is.is_empty() => Some(format!("{name} {is}")),
            (Some(_), Some(_)) if was != is => {
                Some(format!("{name} {} → {}", or_none(was), or_none(is)))
            }
            _ => None,
        }
    });
    fields.collect()
}

fn past(action: &str) -> &str {
    match action {
        "create" => "created",
        "import" => "imported",
        "update" => "changed",
        "disable" => "disabled",
        "enable" => "enabled",
        "rotate" => "rotated",
        "delete" => "deleted",
        other => other,
    }
}
