//! Who asks: from the key of a request to whoever acts by it.
//!
//! The key is looked up in the table of the current generation, so that one that was disabled is out at once.
//!
//! Never here: what they may do (see [`rights`](super::rights)).

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use axum::extract::FromRequestParts;
use http::HeaderName;
use http::header::AUTHORIZATION;
use http::request::Parts;
use jiff::Timestamp;

use super::State;
use super::refusal::{Answer, Refusal};
use super::rights::Actor;
use crate::auth::credentials::{Ambiguous, Credential, KeySource, KeySources, Scheme};
use crate::auth::{Unauthenticated, authenticate};
use crate::keys::table::Found;
use crate::limit::failures::{self, Rule};
use crate::snapshot::Snapshot;

/// The other end of the connection, as an extension of each of its requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Some failures are free: a wrong clipboard, or a script with an old key. Then they come back one by one. It is short, for
/// who shares an address with one who guesses waits, too: guessing is refused before a key is looked at, so that a
/// refusal tells nothing about it.
const FAILURES: Rule = Rule {
    limit: 20,
    window: Duration::from_secs(60),
    ban: Duration::from_secs(3),
    addresses: 4_096,
};

/// Where keys are here, whatever the configuration says of other requests.
static SOURCES: LazyLock<KeySources> = LazyLock::new(|| {
    let bearer = Scheme::Token("Bearer".to_owned());
    let sources = [
        KeySource::Header { name: AUTHORIZATION, scheme: bearer },
        KeySource::Header { name: HeaderName::from_static("x-api-key"), scheme: Scheme::Bare },
    ];
    KeySources::new(&sources, true)
});

impl FromRequestParts<Arc<State>> for Actor {
    type Rejection = Refusal;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<State>,
    ) -> Result<Self, Self::Rejection> {
        let client = parts.extensions.get::<Peer>().ok_or(Refusal::Internal)?.0.ip();
        let taken = SOURCES.take(&mut parts.uri, &mut parts.headers);
        if matches!(taken, Ok(None)) {
            return Err(Refusal::Unauthenticated(Unauthenticated::MissingKey));
        }
        let snapshot = state.shared.current().load_full();
        let found = known(state, &snapshot, taken, client)?;
        // A key that is narrowed is so here, too: a request is a request.
        if let Some(scopes) = found.identity().scopes() {
            let asked = scopes.check(&parts.method, parts.uri.path(), client);
            asked.map_err(Refusal::OutOfScope)?;
        }
        actor(&snapshot, found, client)
    }
}

/// Whose key was `taken` from a request of `client`; who guesses has to wait.
pub(super) fn known<'a>(
    state: &State,
    snapshot: &'a Snapshot,
    taken: Result<Option<Credential>, Ambiguous>,
    client: IpAddr,
) -> Answer<Found<'a>> {
    if let Some(wait) = state.failures.ban_left(client, &FAILURES, Instant::now()) {
        return Err(Refusal::TooManyFailures { retry_after_s: failures::retry_after_s(wait) });
    }
    authenticate(taken, &snapshot.keys, Timestamp::now().as_second()).map_err(|reason| {
        state.failures.failed(client, &FAILURES, Instant::now());
        tracing::warn!(%client, ?reason, "a key was refused where keys are managed");
        Refusal::Unauthenticated(reason)
    })
}

/// Who acts by a key that was found, from `client`.
pub(super) fn actor(snapshot: &Snapshot, found: Found<'_>, client: IpAddr) -> Answer<Actor> {
    let id = found.identity().key_id();
    let record = snapshot.records.iter().find(|record| record.id.as_str() == id);
    let record = record.ok_or(Refusal::Internal)?;
    Actor::new(record, &snapshot.config.roles, client).ok_or(Refusal::NoManager)
}
