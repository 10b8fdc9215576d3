//! A request of somebody who has signed in: the only way into the views.
//!
//! Who has no session is brought to the gate, and from there back to where they were. A form comes in with the token of its
//! session, or not at all, so that no view can forget to ask for it.
//!
//! What a visitor does is asked for as the request of the API that does the same, so that a key that is narrowed can do no
//! more here than there.
//!
//! Never here: what a view shows.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::RequestExt as _;
use axum::extract::{FromRequest, RawPathParams, Request};
use axum::response::{IntoResponse as _, Redirect, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use jiff::Timestamp;

use super::form::{Form, link};
use super::session::{self, Entered};
use super::views::Frame;
use super::{failure, gate};
use crate::admin::State;
use crate::admin::refusal::{Answer, Refusal};
use crate::admin::rights::Actor;
use crate::admin::signin::{self, Peer};
use crate::keys::actor::Way;
use crate::snapshot::Snapshot;

/// Without `[admin]`, which a reload may take away; then no new session begins either.
const IDLE_DEFAULT: Duration = Duration::from_secs(30 * 60);

/// Who comes, and with what.
pub(super) struct Visit {
    session: Entered,
    actor: Actor,
    /// The key in the path, if there is one.
    pub(super) id: String,
    /// The fields of the form, or of the query.
    pub(super) form: Form,
}

impl Visit {
    /// Who acts, if they may do what `method` does at `target` of the API.
    pub(super) fn acting(&self, method: &Method, target: &str) -> Answer<Actor> {
        if let Some(scopes) = &self.actor.scopes {
            let asked = scopes.check(method, target, self.actor.address);
            asked.map_err(Refusal::OutOfScope)?;
        }
        Ok(self.actor.clone())
    }

    /// The same for the key in the path: `""`, or `"/disable"` and the like.
    pub(super) fn acting_on_key(&self, method: &Method, what: &str) -> Answer<Actor> {
        self.acting(method, &format!("/api/v1/keys/{}{what}", self.id))
    }

    /// What surrounds a page of the section at `section`.
    pub(super) fn frame(&self, section: &'static str) -> Option<Frame> {
        Some(Frame {
            user: self.actor.user.to_string(),
            role: self.actor.role.name().as_str().to_owned(),
            token: self.session.token.clone(),
            section,
        })
    }

    /// What its forms carry.
    pub(super) fn token(&self) -> String {
        self.session.token.clone()
    }

    /// A form that makes a secret is sent once: by a reload or a second click it makes no other.
    pub(super) fn unless_sent(&self, state: &State) -> Answer<()> {
        let form = self.form.text("once");
        if !form.is_empty() && state.sessions.send(&self.session.name, form) {
            return Ok(());
        }
        Err(Refusal::Conflict {
            code: "form_sent",
            detail: "This form was sent before. What it made was shown then, once, and is kept nowhere: if the secret is \
                     lost, rotate the key."
                .to_owned(),
        })
    }

    /// Ends the session.
    pub(super) fn end(&self, state: &State) {
        state.sessions.end(&self.session.name);
    }
}

impl FromRequest<Arc<State>> for Visit {
    type Rejection = Response;

    async fn from_request(mut request: Request, state: &Arc<State>) -> Result<Self, Response> {
        let refused = |refusal| failure(None, &refusal);
        let Some(&Peer(client)) = request.extensions().get::<Peer>() else {
            return Err(refused(Refusal::Internal));
        };
        let snapshot = state.shared.current().load_full();
        let named = session::named(request.headers(), snapshot.admin_tls.is_some());
        let had_session = named.is_some();
        let session =
            named.and_then(|name| state.sessions.enter(name, idle(&snapshot), Instant::now()));
        let id = match request.extract_parts::<RawPathParams>().await {
            Ok(parameters) => {
                let mut parameters = parameters.iter();
                parameters.find(|(name, _)| *name == "id").map(|(_, id)| id.to_owned())
            }
            Err(_) => return Err(refused(Refusal::NotFound)),
        };
        let (path, is_post) = (request.uri().path().to_owned(), request.method() == Method::POST);
        let query = request.uri().query().unwrap_or_default().to_owned();
        let form = if is_post {
            let body = Bytes::from_request(request, state).await;
            let body = body.map_err(|error| {
                refused(Refusal::of_status(error.status()).unwrap_or(Refusal::Internal))
            })?;
            Form::read(&body)
        } else {
            Form::read(query.as_bytes())
        };
        let back = || match form.kept() {
            kept if kept.is_empty() => path.clone(),
            kept => format!("{path}?{kept}"),
        };
        let actor = session.as_ref().map(|session| actor(&snapshot, session, client.ip()));
        let (session, actor) = match (session, actor) {
            (Some(session), Some(Ok(actor))) => (session, actor),
            (Some(session), Some(Err(refusal))) => {
                // Its key was disabled, has expired, or manages no keys any more.
                state.sessions.end(&session.name);
                return Err(gate::page(StatusCode::FORBIDDEN, &back(), None, Some(&refusal)));
            }
            _ if is_post => {
                let said = "Your session has ended. Sign in, and what you typed is there again.";
                return Err(gate::page(StatusCode::UNAUTHORIZED, &back(), Some(said), None));
            }
            _ => {
                let why = if had_session { "ended" } else { "" };
                let gate = link("/sign-in", [("next", back().as_str()), ("why", why)]);
                return Err(Redirect::to(&gate).into_response());
            }
        };
        let visit = Self { session, actor, id: id.unwrap_or_default(), form };
        if is_post && !visit.session.has_sent(visit.form.text("token")) {
            return Err(failure(visit.frame(""), &Refusal::ForeignForm));
        }
        Ok(visit)
    }
}

/// Who acts in a session, by the key as it is in force.
fn actor(snapshot: &Snapshot, session: &Entered, client: IpAddr) -> Answer<Actor> {
    let found = snapshot.keys.lookup_digest(&session.digest, Timestamp::now().as_second());
    let found = found.map_err(|rejection| Refusal::Unauthenticated(rejection.into()))?;
    signin::actor(snapshot, found, client).map(|actor| actor.by(Way::Page))
}

fn idle(snapshot: &Snapshot) -> Duration {
    snapshot.config.admin.as_ref().map_or(IDLE_DEFAULT, |admin| admin.session_idle)
}
