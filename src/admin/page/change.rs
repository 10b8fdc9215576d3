//! `/keys/{id}/disable`, `…/enable`, `…/rotate`, `…/delete`: what would break is shown, asked for, and then done.
//!
//! A form says which state of the key was seen; if the key is another by then, nothing is done, and that is shown.
//!
//! Never here: who may do it, or how keys are kept.

use std::sync::Arc;

use axum::response::{IntoResponse as _, Redirect, Response};
use http::{Method, StatusCode};
use jiff::Timestamp;

use super::session::random;
use super::views::{Ask, Confirm};
use super::visit::Visit;
use super::{html, reveal, shown};
use crate::admin::State;
use crate::admin::body::Faults;
use crate::admin::create::{GRACE_DEFAULT, end_of};
use crate::admin::keys::{Wanted, to_its_end};
use crate::admin::refusal::{Answer, Refusal};
use crate::admin::rights::Actor;
use crate::keys::KeyRecord;
use crate::keys::change::{Change, Revision};
use crate::reload::request::{InForce, Outcome};

/// What can be done to a key here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Disable,
    Enable,
    Rotate,
    Delete,
}

impl What {
    fn word(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Enable => "enable",
            Self::Rotate => "rotate",
            Self::Delete => "delete",
        }
    }

    /// Who acts, if the API would let them.
    fn acting(self, visit: &Visit) -> Answer<Actor> {
        match self {
            Self::Delete => visit.acting_on_key(&Method::DELETE, ""),
            _ => visit.acting_on_key(&Method::POST, &format!("/{}", self.word())),
        }
    }
}

/// Asks whether the key is to be disabled.
pub(super) async fn disable(visit: Visit, state: Arc<State>) -> Answer<Response> {
    ask(&visit, &state, What::Disable, None).await
}

/// Asks whether it is to be enabled.
pub(super) async fn enable(visit: Visit, state: Arc<State>) -> Answer<Response> {
    ask(&visit, &state, What::Enable, None).await
}

/// Asks whether it is to be rotated.
pub(super) async fn rotate(visit: Visit, state: Arc<State>) -> Answer<Response> {
    ask(&visit, &state, What::Rotate, None).await
}

/// Asks whether it is to be deleted.
pub(super) async fn delete(visit: Visit, state: Arc<State>) -> Answer<Response> {
    ask(&visit, &state, What::Delete, None).await
}

/// Disables the key.
pub(super) async fn disable_now(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let mut faults = Faults::default();
    let reason = faults.reason(Some(visit.form.text("reason")));
    match faults.finish() {
        Ok(()) => make(visit, state, What::Disable, Change::Disable { reason }).await,
        Err(refusal) => ask(&visit, &state, What::Disable, Some(&refusal)).await,
    }
}

/// Enables it.
pub(super) async fn enable_now(visit: Visit, state: Arc<State>) -> Answer<Response> {
    make(visit, state, What::Enable, Change::Enable).await
}

/// Deletes it.
pub(super) async fn delete_now(visit: Visit, state: Arc<State>) -> Answer<Response> {
    make(visit, state, What::Delete, Change::Delete { force: false }).await
}

/// Rotates it, and shows the new secret once.
pub(super) async fn rotate_now(visit: Visit, state: Arc<State>) -> Answer<Response> {
    let what = What::Rotate;
    let actor = what.acting(&visit)?;
    let mut faults = Faults::default();
    // A bare 0 is what people write for none.
    let text =
        visit.form.some("grace").map(|text| if text == "0" { "0s".to_owned() } else { text });
    let grace = faults.grace(text.as_deref());
    let old_until = faults.finish().and_then(|()| end_of(grace.unwrap_or(GRACE_DEFAULT)));
    let old_until = match old_until {
        Ok(old_until) => old_until,
        Err(refusal) => return ask(&visit, &state, what, Some(&refusal)).await,
    };
    state.unless_ending()?;
    let Ok(expected) = expected(&visit) else {
        return ask(&visit, &state, what, Some(&Refusal::Changed)).await;
    };
    visit.unless_sent(&state)?;
    let (making, id) = (Arc::clone(&state), visit.id.clone());
    let made = async move { making.keys.rotate(&actor, id, Some(expected), old_until).await };
    match to_its_end(made).await {
        Ok(made) => {
            let old = match old_until {
                Some(until) => format!("The old secret works until {}.", shown::time(until)),
                None => "The old secret works no longer.".to_owned(),
            };
            reveal::show(&visit, &made, "The key has a new secret", Some(old))
        }
        Err(refusal) => ask(&visit, &state, what, Some(&refusal)).await,
    }
}

async fn make(visit: Visit, state: Arc<State>, what: What, change: Change) -> Answer<Response> {
    let actor = what.acting(&visit)?;
    let Ok(expected) = expected(&visit) else {
        return ask(&visit, &state, what, Some(&Refusal::Changed)).await;
    };
    let force = visit.form.has("force");
    match carry_out(&state, actor, &visit, expected, change, force).await {
        Ok(outcome) => Ok(done(&visit.id, what, outcome)),
        Err(refusal @ Refusal::NotFound) => Err(refusal),
        Err(refusal) => ask(&visit, &state, what, Some(&refusal)).await,
    }
}

/// Makes a change of the key, if it is still the one that was seen.
pub(super) async fn carry_out(
    state: &Arc<State>,
    actor: Actor,
    visit: &Visit,
    expected: Revision,
    change: Change,
    force: bool,
) -> Answer<Outcome> {
    state.unless_ending()?;
    let wanted = Wanted { id: visit.id.clone(), expected: Some(expected), change, force };
    let making = Arc::clone(state);
    let made = to_its_end(async move { making.keys.change(&actor, wanted).await });
    made.await.map(|(_, outcome)| outcome)
}

/// Which state of the key was seen.
pub(super) fn expected(visit: &Visit) -> Answer<Revision> {
    Revision::parse(visit.form.text("revision")).ok_or(Refusal::Changed)
}

fn done(id: &str, what: What, outcome: Outcome) -> Response {
    let page = if what == What::Delete { "/keys".to_owned() } else { format!("/keys/{id}") };
    let Outcome::InForce(InForce { closed, took, .. }) = outcome else {
        return Redirect::to(&format!("{page}?done=stored")).into_response();
    };
    let done = match what {
        What::Disable => "disabled",
        What::Enable => "enabled",
        What::Rotate => "changed",
        What::Delete => "deleted",
    };
    let closed = match closed {
        0 => String::new(),
        closed => format!("&closed={closed}&took_ms={}", took.as_millis() + 1),
    };
    Redirect::to(&format!("{page}?done={done}{closed}")).into_response()
}

/// Shows what would break, and asks; with why it was not done, if it was tried.
async fn ask(
    visit: &Visit,
    state: &State,
    what: What,
    refusal: Option<&Refusal>,
) -> Answer<Response> {
    let actor = what.acting(visit)?;
    let record = state.keys.find(&actor, &visit.id)?;
    let usage = state.uses.known(record.id.as_str()).await;
    let label = record.label.to_string();
    let (headline, lead, verb) = words(what, &label);
    let is_last = matches!(refusal, Some(Refusal::Conflict { code: "last_admin", .. }));
    let facts = match what {
        What::Enable => Vec::new(),
        _ => shown::usage(usage.as_ref(), Timestamp::now()),
    };
    let once = (what == What::Rotate).then(random).transpose().map_err(|_| Refusal::Internal)?;
    let view = Confirm {
        frame: visit.frame("/keys"),
        notice: None,
        token: visit.token(),
        revision: Revision::of(&record).to_string(),
        id: record.id.to_string(),
        action: format!("/keys/{}/{}", record.id, what.word()),
        label,
        headline,
        lead: lead.to_owned(),
        once,
        error: refusal.map(|refusal| told(refusal, &record)),
        facts,
        ask: match what {
            What::Disable => Ask::Reason,
            What::Rotate => Ask::Grace,
            What::Enable | What::Delete => Ask::Nothing,
        },
        value: match what {
            What::Rotate if !visit.form.has("grace") => "24h".to_owned(),
            What::Rotate => visit.form.text("grace").to_owned(),
            _ => visit.form.text("reason").to_owned(),
        },
        needs_force: is_last && actor.manages_all(),
        verb,
        is_dangerous: matches!(what, What::Disable | What::Delete),
    };
    let status = refusal.map_or(StatusCode::OK, |refusal| refusal.problem().status);
    Ok(html(status, &view))
}

/// Why it was not done.
fn told(refusal: &Refusal, record: &KeyRecord) -> String {
    match refusal {
        Refusal::Changed => {
            let by = record.disabled_by.as_deref().filter(|_| !record.enabled);
            let by = by.map(|by| format!(" It is disabled now, by {by}.")).unwrap_or_default();
            format!("The key was changed since you opened this page, so nothing was done.{by} Decide again.")
        }
        Refusal::Conflict { code: "last_admin", .. } => {
            "It is the last enabled key that manages everybody's keys. Without it keys are managed on the machine itself \
             alone, with `keyward keys`."
                .to_owned()
        }
        refusal => {
            let faults = refusal.errors().iter();
            let faults = faults.map(|fault| format!(" {}: {}.", fault.field, fault.message));
            format!("{}{}", refusal.problem().detail, faults.collect::<String>())
        }
    }
}

fn words(what: What, label: &str) -> (String, &'static str, &'static str) {
    match what {
        What::Disable => (
            format!("Disable “{label}”?"),
            "The next request with it is refused, and what it holds open is closed at once. No other key is touched; it can \
             be enabled again.",
            "Disable the key",
        ),
        What::Enable => (
            format!("Enable “{label}”?"),
            "Whoever holds it is let in again, from the next request on.",
            "Enable the key",
        ),
        What::Rotate => (
            format!("Rotate “{label}”?"),
            "The key gets a new secret, which is shown once. Its id, label, role and limits stay.",
            "Rotate the key",
        ),
        What::Delete => (
            format!("Delete “{label}”?"),
            "It is gone for good, and its id means nothing any more. Only a key that is disabled can be deleted; the audit \
             log still tells of it.",
            "Delete the key",
        ),
    }
}
