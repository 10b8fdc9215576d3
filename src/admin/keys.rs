//! The keys as those who manage them read and change them: the one way from the admin side to the key file.
//!
//! A change is decided on the file as it is then, one after another, and by a key that is still good then. It is answered
//! when it is in force, and goes on to its end even if whoever asked has left.
//!
//! Never here: HTTP, or the decision who may do what (see [`rights`](super::rights)).

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::refusal::{Answer, Refusal, unless_seen};
use super::revision::Revision;
use super::rights::{Actor, Grant, is_last_admin};
use crate::auth::Unauthenticated;
use crate::identity::{KeyId, Label, RoleName, UserName};
use crate::keys::format::{Hasher, KeyFormat, generate, start_of};
use crate::keys::store::{AddFault, Disabling, NewKey, Run, Store, StoreError};
use crate::keys::{KeyRecord, KeyState};
use crate::redact::Secret;
use crate::reload::request::{Outcome, Reloads};
use crate::snapshot::{Shared, Snapshot};

/// What a new key is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) user: UserName,
    pub(super) role: RoleName,
    pub(super) label: Label,
    pub(super) expires_at: Option<Timestamp>,
}

/// What is to happen to a key.
#[derive(Clone, Debug)]
pub(super) enum Change {
    /// It is switched off; with `force` even if nobody is left who manages all keys.
    Disable { reason: Option<Label>, force: bool },
    /// It is switched on again.
    Enable,
    /// It goes for good; with `force` even if it is enabled.
    Delete { force: bool },
}

impl Change {
    fn name(&self) -> &'static str {
        match self {
            Self::Disable { .. } => "disabled",
            Self::Enable => "enabled",
            Self::Delete { .. } => "deleted",
        }
    }
}

/// Every key, and the way to change one.
#[derive(Debug)]
pub(super) struct Keys {
    shared: Arc<Shared>,
    reloads: Reloads,
    /// Held while a change is decided and made.
    turn: Arc<Mutex<()>>,
}

impl Keys {
    pub(super) fn new(shared: Arc<Shared>, reloads: Reloads) -> Self {
        Self { shared, reloads, turn: Arc::default() }
    }

    /// The key `id`, if there is one that `actor` knows of.
    pub(super) fn find(&self, actor: &Actor, id: &str) -> Answer<KeyRecord> {
        let snapshot = self.shared.current().load_full();
        find(&snapshot.records, actor, id).cloned()
    }

    /// Makes a key.
    pub(super) async fn create(
        &self,
        actor: &Actor,
        wish: Wish,
    ) -> Answer<(KeyRecord, Secret<String>, Outcome)> {
        let (record, key) = self
            .in_turn(actor, move |file, actor| {
                let role = file.snapshot.config.roles.find(wish.role.as_str());
                let Some(role) = role else {
                    let fault = AddFault::UnknownRole(None);
                    return Err(Refusal::invalid("role", fault.to_string()));
                };
                let grant = Grant { user: &wish.user, role, expires_at: wish.expires_at };
                actor.may_grant(grant).map_err(Refusal::Denied)?;
                let (record, key) = file.add(&wish)?;
                said(&actor, "made", &record);
                Ok((record, key))
            })
            .await?;
        Ok((record, key, self.reloads.ask().await))
    }

    /// Changes the key `id`, if it is still what `expected` says. Gives back how it is then or, deleted, how it was.
    pub(super) async fn change(
        &self,
        actor: &Actor,
        id: &str,
        expected: Option<Revision>,
        change: Change,
    ) -> Answer<(KeyRecord, Outcome)> {
        let id = id.to_owned();
        let record = self
            .in_turn(actor, move |file, actor| {
                let record = file.change(&actor, &id, expected.as_ref(), &change)?;
                said(&actor, change.name(), &record);
                Ok(record)
            })
            .await?;
        Ok((record, self.reloads.ask().await))
    }

    /// Has `change` done to the file as it is, when it is its turn, by the acting key as it is then.
    async fn in_turn<T: Send + 'static>(
        &self,
        actor: &Actor,
        change: impl FnOnce(File, Actor) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let snapshot = self.shared.current().load_full();
        let key_id = actor.key_id.clone();
        let changed = spawn_blocking(move || {
            let _turn = turn;
            let file = File::read(snapshot)?;
            let actor = file.actor(&key_id)?;
            change(file, actor)
        });
        // A panic has been said by the thread that had it.
        changed.await.unwrap_or(Err(Refusal::Internal))
    }
}

/// The event log hears of every change.
fn said(actor: &Actor, what: &'static str, record: &KeyRecord) {
    let (by, by_key_id) = (actor.user.as_str(), actor.key_id.as_str());
    let (key_id, user, role) = (record.id.as_str(), record.user.as_str(), record.role.as_str());
    tracing::info!(what, key_id, user, role, by, by_key_id, "key changed over the admin API");
}

/// The key `id` among `records`, if `actor` knows of it.
fn find<'a>(records: &'a [KeyRecord], actor: &Actor, id: &str) -> Answer<&'a KeyRecord> {
    let record = records.iter().find(|record| record.id.as_str() == id).ok_or(Refusal::NotFound)?;
    unless_seen(actor, &record.user)?;
    Ok(record)
}

/// The key file as it was read for one change.
struct File {
    snapshot: Arc<Snapshot>,
    hasher: Hasher,
    format: KeyFormat,
    records: Vec<KeyRecord>,
}

impl File {
    fn read(snapshot: Arc<Snapshot>) -> Answer<Self> {
        let keys = &snapshot.config.keys;
        let hasher = Hasher::new(keys.pepper.clone());
        let format = KeyFormat::new(keys.prefix.clone());
        let mut file = Self { hasher, format, records: Vec::new(), snapshot };
        file.records = file.store().load().map_err(StoreError::Faults)?.records;
        Ok(file)
    }

    fn store(&self) -> Store<'_> {
        let config = &self.snapshot.config;
        Store::new(&config.keys.store, &config.roles, &self.hasher, &self.format)
    }

    /// Who acts by the key `id`, if it is still good for that.
    fn actor(&self, id: &KeyId) -> Answer<Actor> {
        let unknown = Refusal::Unauthenticated(Unauthenticated::InvalidKey);
        let record = self.records.iter().find(|record| record.id == *id).ok_or(unknown)?;
        match record.state(Timestamp::now()) {
            KeyState::Enabled => {
                Actor::new(record, &self.snapshot.config.roles).ok_or(Refusal::NoManager)
            }
            KeyState::Disabled => Err(Refusal::Unauthenticated(Unauthenticated::KeyDisabled)),
            KeyState::Expired => Err(Refusal::Unauthenticated(Unauthenticated::KeyExpired)),
        }
    }

    fn add(&self, wish: &Wish) -> Answer<(KeyRecord, Secret<String>)> {
        let key = generate(self.format.prefix()).map_err(StoreError::Randomness)?;
        let Wish { user, role, label, expires_at } = wish.clone();
        let new = NewKey {
            hash: self.hasher.digest(key.expose().as_bytes()),
            start: Some(start_of(key.expose())),
            label,
            user,
            role,
            expires_at,
        };
        let mut stored = self.store().add(&[new], Run::Real)?;
        Ok((stored.pop().expect("what was stored is returned"), key))
    }

    fn change(
        &self,
        actor: &Actor,
        id: &str,
        expected: Option<&Revision>,
        change: &Change,
    ) -> Answer<KeyRecord> {
        let record = find(&self.records, actor, id)?;
        if expected.is_some_and(|expected| !expected.is_of(record)) {
            return Err(Refusal::Changed);
        }
        let roles = &self.snapshot.config.roles;
        let now = Timestamp::now();
        let keep_one = |force: bool| {
            let is_last = is_last_admin(&self.records, roles, &record.id, now);
            if is_last && !(force && actor.manages_all()) {
                let detail = "No other enabled key manages everybody's keys. With force=true it is done all the same; \
                              then keys are managed with `keyward keys` alone."
                    .to_owned();
                return Err(Refusal::Conflict { code: "last_admin", detail });
            }
            Ok(())
        };
        let store = self.store();
        Ok(match change {
            Change::Disable { reason, force } => {
                keep_one(*force)?;
                let reason = reason.as_ref().map(|reason| reason.as_str().to_owned());
                let by = format!("api:{}:{}", actor.user, actor.key_id);
                store.disable(id, &Disabling { at: now, by, reason })?
            }
            Change::Enable => {
                let role = roles.find(record.role.as_str()).ok_or(Refusal::Internal)?;
                let grant = Grant { user: &record.user, role, expires_at: record.expires_at };
                actor.may_grant(grant).map_err(Refusal::Denied)?;
                store.enable(id)?
            }
            Change::Delete { force } => {
                keep_one(*force)?;
                store.delete(id, *force)?
            }
        })
    }
}
