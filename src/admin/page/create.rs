//! `/keys/new`: a key is asked for, and made.
//!
//! A form is sent once: sent again, by a reload or a second click, it makes no second key.
//!
//! Never here: a secret (see [`reveal`]), or a rule of what a key may be.

use std::sync::Arc;

use axum::response::Response;
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};

use super::form::Form;
use super::session::random;
use super::views::{Create, Field, Notice};
use super::visit::Visit;
use super::{html, reveal};
use crate::admin::State;
use crate::admin::create::NewKey;
use crate::admin::keys::{Shown, to_its_end};
use crate::admin::refusal::{Answer, Refusal};
use crate::admin::rights::Actor;

/// Asks what the key is to be.
pub(super) async fn ask(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let actor = visit.acting(&Method::POST, "/api/v1/keys")?;
    page(&visit, &state, &actor, None)
}

/// Makes it, and shows it once.
pub(super) async fn create(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let actor = visit.acting(&Method::POST, "/api/v1/keys")?;
    let new = wanted(&visit.form, &actor);
    let wish = match new.check(&actor) {
        Ok(wish) => wish,
        Err(refusal) => return page(&visit, &state, &actor, Some(&refusal)),
    };
    state.unless_ending()?;
    visit.unless_sent(&state)?;
    let (by, making) = (actor.clone(), Arc::clone(&state));
    match to_its_end(async move { making.keys.create(&by, wish).await }).await {
        Ok(made) => reveal::show(&visit, &made, headline(&made), None),
        Err(refusal) => page(&visit, &state, &actor, Some(&refusal)),
    }
}

fn headline(made: &Shown) -> &'static str {
    match made.outcome {
        crate::reload::request::Outcome::InForce(_) => "The key is made",
        _ => "The key is stored, but not in force yet",
    }
}

/// What the form asks for.
fn wanted(form: &Form, actor: &Actor) -> NewKey {
    NewKey {
        user: form.some("user").filter(|_| actor.manages_all()),
        role: form.text("role").to_owned(),
        label: form.text("label").to_owned(),
        expires_at: form.some("expires").map(|text| end(&text)),
        allowed_methods: form.words("methods"),
        allowed_paths: form.words("paths"),
        allowed_cidrs: form.words("addresses"),
        rate: form.some("rate"),
        burst: count(form, "burst"),
        concurrent: count(form, "concurrent"),
        daily: count(form, "daily"),
    }
}

/// A number; one that is none becomes one that is refused.
pub(super) fn count(form: &Form, name: &str) -> Option<u64> {
    form.some(name).map(|text| text.parse().unwrap_or_default())
}

/// An end that is given as a time from now, or as a day, in the form that the API takes; others as they are.
pub(super) fn end(text: &str) -> String {
    let from_now = humantime::parse_duration(text).ok();
    let from_now = from_now.and_then(|time| SignedDuration::try_from(time).ok());
    let at = from_now.and_then(|time| Timestamp::now().checked_add(time).ok());
    match at.and_then(|at| Timestamp::from_second(at.as_second()).ok()) {
        Some(at) => at.to_string(),
        None if text.len() == 10 => format!("{text}T00:00:00Z"),
        None => text.to_owned(),
    }
}

/// The form, with what was typed, and what is wrong with it.
fn page(
    visit: &Visit,
    state: &State,
    actor: &Actor,
    refusal: Option<&Refusal>,
) -> Answer<Response> {
    let snapshot = state.shared.current().load_full();
    let form = &visit.form;
    let fields = Fields::new(form, refusal);
    let once = random().map_err(|_| Refusal::Internal)?;
    let user = if form.has("user") { form.text("user") } else { actor.user.as_str() };
    // What is wrong is not to be hidden.
    let is_said =
        |name: &str| !form.text(name).is_empty() || fields.field(name, &[name]).error.is_some();
    let view = Create {
        frame: visit.frame("/keys"),
        notice: fields.notice(),
        token: visit.token(),
        once,
        sees_all: actor.manages_all(),
        has_errors: refusal.is_some(),
        is_narrowed: ["methods", "paths", "addresses"].iter().any(|name| is_said(name)),
        is_limited: ["rate", "burst", "concurrent", "daily"].iter().any(|name| is_said(name)),
        roles: actor.may_give(&snapshot.config.roles),
        label: fields.field("label", &["label"]),
        user: Field { value: user.to_owned(), ..fields.field("user", &["user"]) },
        role: fields.field("role", &["role"]),
        expires: fields.field("expires", &["expires_at"]),
        methods: fields.field("methods", &["allowed_methods", "scopes"]),
        paths: fields.field("paths", &["allowed_paths"]),
        addresses: fields.field("addresses", &["allowed_cidrs"]),
        rate: fields.field("rate", &["rate"]),
        burst: fields.field("burst", &["burst"]),
        concurrent: fields.field("concurrent", &["concurrent"]),
        daily: fields.field("daily", &["daily"]),
    };
    let status = refusal.map_or(StatusCode::OK, |refusal| refusal.problem().status);
    Ok(html(status, &view))
}

/// What is wrong, by the fields of a form.
pub(super) struct Fields<'a> {
    form: &'a Form,
    refusal: Option<&'a Refusal>,
}

impl<'a> Fields<'a> {
    pub(super) fn new(form: &'a Form, refusal: Option<&'a Refusal>) -> Self {
        Self { form, refusal }
    }

    /// The field `name`, which the API knows by `known_as`.
    pub(super) fn field(&self, name: &str, known_as: &[&str]) -> Field {
        let mut error = None;
        if let Some(refusal) = self.refusal {
            let faults = refusal.errors().iter();
            let faults = faults.filter(|fault| known_as.contains(&&*fault.field));
            let messages: Vec<_> = faults.map(|fault| sentence(&fault.message)).collect();
            error = Some(messages.join(" ")).filter(|text| !text.is_empty());
            if let Refusal::Conflict { code: "label_taken", detail } = refusal
                && known_as.contains(&"label")
            {
                error = Some(detail.clone());
            }
        }
        Field { value: self.form.text(name).to_owned(), error }
    }

    /// What is wrong with no single field.
    pub(super) fn notice(&self) -> Option<Notice> {
        let refusal = self.refusal?;
        let is_told = !refusal.errors().is_empty()
            || matches!(refusal, Refusal::Conflict { code: "label_taken", .. });
        (!is_told).then(|| Notice { tone: "bad", text: refusal.problem().detail.into_owned() })
    }
}

/// `must be …` as a sentence.
fn sentence(message: &str) -> String {
    let mut letters = message.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str().trim_end_matches('.'))
}
