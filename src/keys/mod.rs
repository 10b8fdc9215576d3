//! The keys: how they look ([`mod@format`]), the table requests are checked against ([`table`]), the TOML
//! file they are kept in ([`store`]), and the forms in which keys come from elsewhere ([`import`]).
//!
//! Never here: a key itself, beyond the moment it is made or digested; HTTP; the decision who may pass.

pub mod actor;
pub mod audit;
pub mod change;
pub mod format;
pub mod import;
pub mod memory;
pub mod shown;
pub mod store;
pub mod table;

mod durable;
#[doc(hidden)]
pub mod edit;
#[doc(hidden)]
pub mod entries;
mod file;
mod mask;
mod pieces;
mod refusal;
mod rules;
mod shard;

use std::sync::Arc;

use jiff::Timestamp;

use crate::identity::{KeyId, Label, RoleName, UserName};
use crate::limit::requests::RequestLimits;
use crate::scopes::Scopes;
use format::Digest;

/// Everything that is kept about a key: all of it may be shown.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyRecord {
    /// Its public name.
    pub id: KeyId,
    /// The digest of the key's bytes.
    pub hash: Digest,
    /// The first characters of the key: enough to recognise it, never enough to use it.
    pub start: Option<String>,
    /// What people call it.
    pub label: Label,
    /// Whose it is.
    pub user: UserName,
    /// What it may do.
    pub role: RoleName,
    /// When it was made.
    pub created_at: Option<Timestamp>,
    /// Whether it may be used.
    pub enabled: bool,
    /// From when on it may not be used any more.
    pub expires_at: Option<Timestamp>,
    /// What it is narrowed to.
    pub scopes: Option<Arc<Scopes>>,
    /// How many requests it may send; what is not limited here, its role may limit.
    pub limits: RequestLimits,
    /// When, by whom and why it was disabled.
    pub disabled_at: Option<Timestamp>,
    /// Who disabled it.
    pub disabled_by: Option<String>,
    /// Why it was disabled.
    pub disabled_reason: Option<String>,
    /// The digest of the secret before a rotation, and until when it is still taken.
    pub previous: Option<(Digest, Timestamp)>,
}

/// What a key is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// It lets its holder in.
    Enabled,
    /// It was switched off.
    Disabled,
    /// Its time is over.
    Expired,
}

impl KeyState {
    /// The state in one word: `enabled`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Expired => "expired",
        }
    }
}

impl KeyRecord {
    /// The state at `now`, by the rule of [`table::KeyTable::lookup`].
    pub fn state(&self, now: Timestamp) -> KeyState {
        match self.expires_at {
            _ if !self.enabled => KeyState::Disabled,
            Some(end) if now.as_second() >= end.as_second() => KeyState::Expired,
            _ => KeyState::Enabled,
        }
    }

    /// The state at `now` of the secret with `digest`: a secret before a rotation ends earlier.
    /// Nothing if it is neither the key's digest nor that of its previous secret.
    pub fn state_of(&self, digest: &Digest, now: Timestamp) -> Option<KeyState> {
        if self.hash == *digest {
            return Some(self.state(now));
        }
        let (_, until) = self.previous.filter(|(previous, _)| previous == digest)?;
        Some(match self.state(now) {
            KeyState::Enabled if now.as_second() >= until.as_second() => KeyState::Expired,
            state => state,
        })
    }
}

#[cfg(test)]
impl KeyRecord {
    /// The enabled key `secret` of alice, a viewer, for tests to change.
    pub(crate) fn sample(id: &str, secret: &str) -> Self {
        Self {
            id: KeyId::new(id).unwrap(),
            hash: format::Hasher::default().digest(secret.as_bytes()),
            start: None,
            label: Label::new("a label").unwrap(),
            user: UserName::new("alice").unwrap(),
            role: RoleName::new("viewer").unwrap(),
            created_at: None,
            enabled: true,
            expires_at: None,
            scopes: None,
            limits: RequestLimits::default(),
            disabled_at: None,
            disabled_by: None,
            disabled_reason: None,
            previous: None,
        }
    }
}
