//! The keys as those who manage them read and change them: the one way from the admin side to the key file.
//!
//! Changes are made one after another. What is decided about a key is decided on the very state of it that is changed
//! then: the store refuses any other. A change is answered when it is in force.
//!
//! Never here: HTTP, or the decision who may do what (see [`rights`](super::rights)).

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::task::spawn_blocking;

use super::refusal::{Answer, Refusal, unless_seen};
use super::rights::{Actor, Grant};
use crate::auth::Unauthenticated;
use crate::identity::{Label, Role, RoleName, UserName};
use crate::keys::actor;
use crate::keys::change::{Change, Revision, Rotation, Update};
use crate::keys::format::{Digest, Hasher, KeyFormat, generate, start_of};
use crate::keys::memory::Memory;
use crate::keys::store::{AddFault, Adding, NewKey, Run, Store, StoreError, Terms, Which};
use crate::keys::{KeyRecord, KeyState};
use crate::limit::requests::RequestLimits;
use crate::redact::Secret;
use crate::reload::request::{Outcome, Reloads};
use crate::scopes::Scopes;
use crate::snapshot::{Shared, Snapshot};

/// How often a change is decided anew because the key is changed meanwhile, by who edits the file.
const ATTEMPTS: usize = 3;

/// What a new key is to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wish {
    pub(super) user: UserName,
    pub(super) role: RoleName,
    pub(super) label: Label,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) scopes: Option<Arc<Scopes>>,
    pub(super) limits: RequestLimits,
}

/// A change of a key that is there.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The key.
    pub(super) id: String,
    /// Only if it is still that.
    pub(super) expected: Option<Revision>,
    /// What is to be done.
    pub(super) change: Change,
    /// Even if nobody is left who manages everybody's keys.
    pub(super) force: bool,
}

/// A key and its new secret.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) record: KeyRecord,
    pub(super) secret: Secret<String>,
    pub(super) outcome: Outcome,
}

/// Every key, and the way to change one.
#[derive(Debug)]
pub(super) struct Keys {
    shared: Arc<Shared>,
    reloads: Reloads,
    /// What the reloader and we have read of the key file.
    memory: Memory,
    /// Held from the decision on a change until it is in force.
    turn: Arc<Mutex<()>>,
}

impl Keys {
    pub(super) fn new(shared: Arc<Shared>, reloads: Reloads, memory: Memory) -> Self {
        Self { shared, reloads, memory, turn: Arc::default() }
    }

    /// The key `id`, if there is one that `actor` knows of.
    pub(super) fn find(&self, actor: &Actor, id: &str) -> Answer<KeyRecord> {
        let snapshot = self.shared.current().load_full();
        find(&snapshot.records, actor, id).cloned()
    }

    /// Makes a key.
    pub(super) async fn create(&self, actor: &Actor, wish: Wish) -> Answer<Shown> {
        let turn = self.turn(actor).await?;
        let before = turn.desk.snapshot.generation;
        let made = turn.take(move |desk| desk.create(wish)).await?;
        Ok(self.shown(made, before).await)
    }

    /// Gives a key another secret; the old one is taken until `old_until`.
    pub(super) async fn rotate(
        &self,
        actor: &Actor,
        id: String,
        expected: Option<Revision>,
        old_until: Option<Timestamp>,
    ) -> Answer<Shown> {
        let turn = self.turn(actor).await?;
        let before = turn.desk.snapshot.generation;
        let rotated = turn.take(move |desk| {
            let (secret, hash, start) = desk.draw()?;
            let change = Change::Rotate(Rotation { hash, start: Some(start), old_until });
            let record = desk.change(&Wanted { id, expected, change, force: false })?;
            Ok((record, secret))
        });
        let rotated = rotated.await?;
        Ok(self.shown(rotated, before).await)
    }

    /// Changes a key. Gives back how it is then or, deleted, how it was.
    pub(super) async fn change(
        &self,
        actor: &Actor,
        wanted: Wanted,
    ) -> Answer<(KeyRecord, Outcome)> {
        let turn = self.turn(actor).await?;
        let before = turn.desk.snapshot.generation;
        let (record, _turn) = turn.take(move |desk| desk.change(&wanted)).await?;
        let outcome = self.reloads.ask(record.id.as_str(), before).await;
        Ok((record, outcome))
    }

    async fn shown(
        &self,
        ((record, secret), _turn): ((KeyRecord, Secret<String>), OwnedMutexGuard<()>),
        before: u64,
    ) -> Shown {
        let outcome = self.reloads.ask(record.id.as_str(), before).await;
        Shown { record, secret, outcome }
    }

    /// Waits until it is the turn of `actor`, if they may still act then.
    async fn turn(&self, actor: &Actor) -> Answer<Turn> {
        let guard = Arc::clone(&self.turn).lock_owned().await;
        let snapshot = self.shared.current().load_full();
        let unknown = Refusal::Unauthenticated(Unauthenticated::InvalidKey);
        let record = snapshot.records.iter().find(|record| record.id == actor.key_id);
        let record = record.ok_or(unknown)?;
        let actor = match record.state(Timestamp::now()) {
            KeyState::Enabled => Actor::new(record, &snapshot.config.roles, actor.address)
                .map(|now| now.by(actor.way)),
            KeyState::Disabled => {
                return Err(Refusal::Unauthenticated(Unauthenticated::KeyDisabled));
            }
            KeyState::Expired => {
                return Err(Refusal::Unauthenticated(Unauthenticated::KeyExpired));
            }
        };
        let actor = actor.ok_or(Refusal::NoManager)?;
        Ok(Turn { guard, desk: Desk::new(snapshot, self.memory.clone(), actor) })
    }
}

/// Has `change` made by a task of its own: what has begun is brought into force, whether the client waits or not.
pub(super) async fn to_its_end<T: Send + 'static>(
    change: impl Future<Output = Answer<T>> + Send + 'static,
) -> Answer<T> {
    // A panic has been said by the task that had it.
    tokio::spawn(change).await.unwrap_or(Err(Refusal::Internal))
}

/// The key `id` among `records`, if `actor` knows of it.
fn find<'a>(records: &'a [KeyRecord], actor: &Actor, id: &str) -> Answer<&'a KeyRecord> {
    let record = records.iter().find(|record| record.id.as_str() == id).ok_or(Refusal::NotFound)?;
    unless_seen(actor, &record.user)?;
    Ok(record)
}

/// The right to make one change.
struct Turn {
    guard: OwnedMutexGuard<()>,
    desk: Desk,
}

impl Turn {
    /// Makes it, where it may block. The turn ends when what is given back with the result is dropped.
    async fn take<T: Send + 'static>(
        self,
        change: impl FnOnce(&Desk) -> Answer<T> + Send + 'static,
    ) -> Answer<(T, OwnedMutexGuard<()>)> {
        let Self { guard, desk } = self;
        let changed = spawn_blocking(move || Ok((change(&desk)?, guard)));
        // A panic has been said by the thread that had it.
        changed.await.unwrap_or(Err(Refusal::Internal))
    }
}

/// One who acts, and the keys as they are in force.
struct Desk {
    snapshot: Arc<Snapshot>,
    memory: Memory,
    actor: Actor,
    by: actor::Actor,
    hasher: Hasher,
    format: KeyFormat,
}

impl Desk {
    fn new(snapshot: Arc<Snapshot>, memory: Memory, actor: Actor) -> Self {
        let keys = &snapshot.config.keys;
        let by = actor::Actor {
            way: actor.way,
            user: Label::new(actor.user.as_str()).expect("a user's name is a shorter label"),
            key_id: Some(actor.key_id.clone()),
            address: Some(actor.address),
        };
        let hasher = Hasher::new(keys.pepper.clone());
        let format = KeyFormat::new(keys.prefix.clone());
        Self { hasher, format, snapshot, memory, actor, by }
    }

    fn store(&self) -> Store<'_> {
        let config = &self.snapshot.config;
        let (keys, audit) = (&config.keys.store, &config.audit.file);
        let store = Store::new(keys, audit, &config.roles, &self.hasher, &self.format);
        store.remembering(&self.memory)
    }

    /// A new secret, its digest, and what of it may be shown.
    fn draw(&self) -> Answer<(Secret<String>, Digest, String)> {
        let secret = generate(self.format.prefix()).map_err(StoreError::Randomness)?;
        let hash = self.hasher.digest(secret.expose().as_bytes());
        let start = start_of(secret.expose());
        Ok((secret, hash, start))
    }

    fn create(&self, wish: Wish) -> Answer<(KeyRecord, Secret<String>)> {
        let (role, scopes) = (self.role(&wish.role)?, wish.scopes.as_deref());
        let Wish { user, expires_at, limits, .. } = &wish;
        self.may_grant(Grant { user, role, expires_at: *expires_at, scopes, limits: *limits })?;
        let (secret, hash, start) = self.draw()?;
        let Wish { user, role, label, expires_at, scopes, limits } = wish;
        let start = Some(start);
        let new = NewKey { hash, start, label, user, role, expires_at, scopes, limits };
        let how = Adding { by: &self.by, action: "create", run: Run::Real };
        let mut added = self.store().add(&[new], how)?;
        let record = added.pop().expect("one key was given, one is added");
        self.said("create", &record);
        Ok((record, secret))
    }

    fn change(&self, wanted: &Wanted) -> Answer<KeyRecord> {
        let Wanted { id, expected, change, force } = wanted;
        let mut record = find(&self.snapshot.records, &self.actor, id)?.clone();
        if expected.is_some_and(|expected| expected != Revision::of(&record)) {
            return Err(Refusal::Changed);
        }
        for _ in 0..ATTEMPTS {
            self.decide(&record, change)?;
            let terms = Terms {
                by: &self.by,
                expected: Some(Revision::of(&record)),
                may_leave_no_admin: *force && self.actor.manages_all(),
            };
            match self.store().change(Which::Exactly(&record.id), change, terms) {
                // It is not what is in force, and nobody said which state is meant: so it is decided on what it is.
                Err(StoreError::Changed(now)) if expected.is_none() => record = *now,
                changed => {
                    let changed = changed?;
                    self.said(change.as_str(), changed.record());
                    return Ok(changed.record().clone());
                }
            }
        }
        Err(Refusal::Changed)
    }

    /// Whether `change` may be made to `record`.
    fn decide(&self, record: &KeyRecord, change: &Change) -> Answer<()> {
        unless_seen(&self.actor, &record.user)?;
        let after = match change {
            Change::Disable { .. } | Change::Delete { .. } => return Ok(()),
            // To give back is to give; and whoever rotates a key holds it then.
            Change::Enable | Change::Rotate(_) => record.clone(),
            Change::Update(update) if is_about_rights(update) => {
                let mut after = record.clone();
                update.apply(&mut after);
                after
            }
            Change::Update(_) => return Ok(()),
        };
        let (role, scopes) = (self.role(&after.role)?, after.scopes.as_deref());
        let KeyRecord { user, expires_at, limits, .. } = &after;
        self.may_grant(Grant { user, role, expires_at: *expires_at, scopes, limits: *limits })
    }

    fn role(&self, name: &RoleName) -> Answer<&Role> {
        let role = self.snapshot.config.roles.find(name.as_str());
        let unknown = || Refusal::invalid("role", AddFault::UnknownRole(None).to_string());
        role.map(|role| &**role).ok_or_else(unknown)
    }

    fn may_grant(&self, grant: Grant<'_>) -> Answer<()> {
        self.actor.may_grant(grant).map_err(Refusal::Denied)
    }

    /// The event log hears of every change.
    fn said(&self, what: &'static str, record: &KeyRecord) {
        let (by, by_key_id) = (self.actor.user.as_str(), self.actor.key_id.as_str());
        let (key_id, user, role) = (record.id.as_str(), record.user.as_str(), record.role.as_str());
        tracing::info!(what, key_id, user, role, by, by_key_id, "key changed over the admin API");
    }
}

/// Whether it changes more than what a key is called.
fn is_about_rights(update: &Update) -> bool {
    let Update { label: _, role, expires_at, methods, paths, networks, limits } = update;
    let narrows = methods.is_some() || paths.is_some() || networks.is_some();
    role.is_some() || expires_at.is_some() || narrows || !limits.is_empty()
}
