//! `/keys/{id}/edit`: what is known of a key is changed.
//!
//! Only what is another than it was is asked for, so that a new label takes no right to give what the key may do.
//!
//! Never here: a rule of what a key may be.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};

use super::change::{carry_out, expected};
use super::create::{Fields, count, end};
use super::form::Form;
use super::html;
use super::views::{Edit, Field, Notice};
use super::visit::Visit;
use crate::admin::State;
use crate::admin::changes;
use crate::admin::refusal::{Answer, Refusal};
use crate::keys::KeyRecord;
use crate::keys::change::{Change, Revision};
use crate::reload::request::Outcome;
use crate::scopes::Scopes;

/// The fields of the form, with what the API calls them.
const FIELDS: [(&str, &[&str]); 10] = [
    ("label", &["label"]),
    ("role", &["role"]),
    ("expires", &["expires_at"]),
    ("methods", &["allowed_methods", "scopes"]),
    ("paths", &["allowed_paths"]),
    ("addresses", &["allowed_cidrs"]),
    ("rate", &["rate"]),
    ("burst", &["burst"]),
    ("concurrent", &["concurrent"]),
    ("daily", &["daily"]),
];

/// Asks what is to be changed.
pub(super) async fn ask(visit: Visit, state: Arc<State>) -> Answer<Response> {
    page(&visit, &state, None)
}

/// Changes it.
pub(super) async fn save(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let actor = visit.acting_on_key(&Method::PATCH, "")?;
    let record = state.keys.find(&actor, &visit.id)?;
    let outcome = match (wanted(&visit.form, &record).check(), expected(&visit)) {
        (Err(refusal), _) | (_, Err(refusal)) => Err(refusal),
        (Ok(update), Ok(expected)) => {
            let change = Change::Update(Box::new(update));
            carry_out(&state, actor, &visit, expected, change, false).await
        }
    };
    match outcome {
        Ok(outcome) => {
            let done = if matches!(outcome, Outcome::InForce(_)) { "changed" } else { "stored" };
            Ok(Redirect::to(&format!("/keys/{}?done={done}", visit.id)).into_response())
        }
        Err(refusal) => page(&visit, &state, Some(&refusal)),
    }
}

/// What the form says of `record` that is not so.
fn wanted(form: &Form, record: &KeyRecord) -> changes::Edit {
    let is_new = |name| form.has(name) && form.text(name) != known(record, name);
    let number = |name| is_new(name).then(|| count(form, name));
    let words = |name| is_new(name).then(|| form.words(name));
    changes::Edit {
        label: is_new("label").then(|| form.text("label").to_owned()),
        role: is_new("role").then(|| form.text("role").to_owned()),
        expires_at: is_new("expires").then(|| form.some("expires").map(|text| end(&text))),
        allowed_methods: words("methods"),
        allowed_paths: words("paths"),
        allowed_cidrs: words("addresses"),
        rate: is_new("rate").then(|| form.some("rate")),
        burst: number("burst"),
        concurrent: number("concurrent"),
        daily: number("daily"),
    }
}

/// What a field says of the key as it is.
fn known(record: &KeyRecord, name: &str) -> String {
    fn words<T: ToString>(narrowed: Option<&[T]>) -> String {
        let words = narrowed.unwrap_or_default().iter().map(ToString::to_string);
        words.collect::<Vec<_>>().join(" ")
    }
    fn text<T: ToString>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let (scopes, limits) = (record.scopes.as_deref(), record.limits);
    match name {
        "label" => record.label.to_string(),
        "role" => record.role.to_string(),
        "expires" => text(record.expires_at),
        "methods" => words(scopes.map(Scopes::methods)),
        "paths" => words(scopes.map(Scopes::paths)),
        "addresses" => words(scopes.map(Scopes::addresses)),
        "rate" => text(limits.rate),
        "burst" => text(limits.burst),
        "concurrent" => text(limits.concurrent),
        "daily" => text(limits.daily),
        _ => String::new(),
    }
}

/// The form: with what the key is, or what was typed, and what is wrong with that.
fn page(visit: &Visit, state: &State, refusal: Option<&Refusal>) -> Answer<Response> {
    let actor = visit.acting_on_key(&Method::PATCH, "")?;
    let record = state.keys.find(&actor, &visit.id)?;
    let fields = Fields::new(&visit.form, refusal);
    let all = FIELDS.map(|(name, known_as)| {
        let field = fields.field(name, known_as);
        if visit.form.has(name) { field } else { Field { value: known(&record, name), ..field } }
    });
    let [label, role, expires, methods, paths, addresses, rate, burst, concurrent, daily] = all;
    let mut roles = actor.may_give(&state.shared.current().load().config.roles);
    if !roles.contains(&record.role.to_string()) {
        roles.push(record.role.to_string());
    }
    let notice = match refusal {
        Some(Refusal::Changed) => Some(Notice {
            tone: "bad",
            text: "The key was changed since you opened this page. Below is what you typed; its own page shows what it is \
                   now. Save it again if it is still meant."
                .to_owned(),
        }),
        _ => fields.notice(),
    };
    let view = Edit {
        frame: visit.frame("/keys"),
        notice,
        token: visit.token(),
        revision: Revision::of(&record).to_string(),
        id: record.id.to_string(),
        name: record.label.to_string(),
        has_errors: refusal.is_some(),
        roles,
        label,
        role,
        expires,
        methods,
        paths,
        addresses,
        rate,
        burst,
        concurrent,
        daily,
    };
    let status = refusal.map_or(StatusCode::OK, |refusal| refusal.problem().status);
    Ok(html(status, &view))
}
