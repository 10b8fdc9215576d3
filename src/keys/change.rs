//! What can be done to a key, and what it is then.
//!
//! Pure: a record and a change give another record. Never here: files, or whether somebody may.

use std::fmt::{self, Display, Formatter};

use http::Method;
use ipnet::IpNet;
use jiff::Timestamp;

use super::KeyRecord;
use super::actor::Actor;
use super::edit;
use super::format::{Digest, sha256};
use crate::identity::{Label, RoleName};
use crate::limit::requests::LimitsChange;
use crate::paths::patterns::PathPattern;
use crate::scopes::Scopes;

/// Bytes of a [`Revision`]: two states of one key that have the same are not found by chance.
const REVISION_BYTES: usize = 16;

/// Something to do to a key.
#[derive(Clone, Debug)]
pub enum Change {
    /// Switch it off. One that is off stays as it is.
    Disable {
        /// Why, for those who find it disabled.
        reason: Option<Label>,
    },
    /// Switch it on again. One that is on stays as it is.
    Enable,
    /// Give it another secret.
    Rotate(Rotation),
    /// Change what is known of it.
    Update(Box<Update>),
    /// Remove it for good.
    Delete {
        /// Even if it is enabled.
        force: bool,
    },
}

/// The secret that takes the place of a key's.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// Its digest.
    pub hash: Digest,
    /// What of it may be shown.
    pub start: Option<String>,
    /// Until when the old secret is still taken; `None`: no longer. One that is still taken from an earlier
    /// rotation ends at once, for a key has two secrets at most.
    pub old_until: Option<Timestamp>,
}

/// What is to be known of a key; `None` leaves it as it is.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// What people call it.
    pub label: Option<Label>,
    /// What it may do.
    pub role: Option<RoleName>,
    /// From when on it may not be used any more; `Some(None)`: never.
    pub expires_at: Option<Option<Timestamp>>,
    /// The methods it is narrowed to; none: all.
    pub methods: Option<Vec<Method>>,
    /// The paths it is narrowed to; none: all.
    pub paths: Option<Vec<PathPattern>>,
    /// The networks it is narrowed to; none: all.
    pub networks: Option<Vec<IpNet>>,
    /// How many requests it may send.
    pub limits: LimitsChange,
}

impl Change {
    /// In one word: `disable`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Disable { .. } => "disable",
            Self::Enable => "enable",
            Self::Rotate(_) => "rotate",
            Self::Update(_) => "update",
            Self::Delete { .. } => "delete",
        }
    }

    /// Why, if that was said.
    pub(super) fn reason(&self) -> Option<&Label> {
        match self {
            Self::Disable { reason } => reason.as_ref(),
            Self::Enable | Self::Rotate(_) | Self::Update(_) | Self::Delete { .. } => None,
        }
    }

    /// What `record` is after it, made by `actor` at `now`; nothing if it is gone.
    pub(super) fn apply(
        &self,
        record: &KeyRecord,
        actor: &Actor,
        now: Timestamp,
    ) -> Option<KeyRecord> {
        let mut record = record.clone();
        match self {
            Self::Disable { reason } if record.enabled => {
                record.enabled = false;
                record.disabled_at = Some(now);
                record.disabled_by = Some(actor.to_string());
                record.disabled_reason = reason.as_ref().map(ToString::to_string);
            }
            Self::Enable if !record.enabled => {
                record.enabled = true;
                record.disabled_at = None;
                record.disabled_by = None;
                record.disabled_reason = None;
            }
            Self::Disable { .. } | Self::Enable => {}
            Self::Rotate(rotation) => {
                let old_until = rotation.old_until.filter(|&until| until > now);
                record.previous = old_until.map(|until| (record.hash, until));
                record.hash = rotation.hash;
                record.start.clone_from(&rotation.start);
            }
            Self::Update(update) => update.apply(&mut record),
            Self::Delete { .. } => return None,
        }
        Some(record)
    }
}

impl Update {
    /// Makes it to `record`.
    pub fn apply(&self, record: &mut KeyRecord) {
        if let Some(label) = &self.label {
            record.label = label.clone();
        }
        if let Some(role) = &self.role {
            record.role = role.clone();
        }
        if let Some(expires_at) = self.expires_at {
            record.expires_at = expires_at;
        }
        record.limits = self.limits.apply(record.limits);
        let known = record.scopes.as_deref();
        record.scopes = Scopes::new(
            self.methods.clone().unwrap_or_else(|| of(known, Scopes::methods)),
            self.paths.clone().unwrap_or_else(|| of(known, Scopes::paths)),
            self.networks.clone().unwrap_or_else(|| of(known, Scopes::addresses)),
        );
    }

    /// Whether it leaves everything as it is.
    pub fn is_empty(&self) -> bool {
        let Self { label, role, expires_at, methods, paths, networks, limits } = self;
        label.is_none()
            && role.is_none()
            && expires_at.is_none()
            && methods.is_none()
            && paths.is_none()
            && networks.is_none()
            && limits.is_empty()
    }
}

fn of<T: Clone>(scopes: Option<&Scopes>, list: impl Fn(&Scopes) -> &[T]) -> Vec<T> {
    scopes.map(|scopes| list(scopes).to_vec()).unwrap_or_default()
}

/// A change that was made.
#[derive(Clone, Debug)]
pub struct Changed {
    /// The key before it.
    pub before: KeyRecord,
    /// The key after it; `None` if it is gone.
    pub after: Option<KeyRecord>,
    /// Whether no key is left that may manage everybody's, where there was one.
    pub leaves_no_admin: bool,
}

impl Changed {
    /// The key as it is or, removed, as it was.
    pub fn record(&self) -> &KeyRecord {
        self.after.as_ref().unwrap_or(&self.before)
    }

    /// Until when a secret from an earlier rotation would have been taken, had this one not ended it.
    pub fn cut_short(&self, now: Timestamp) -> Option<Timestamp> {
        let (digest, until) = self.before.previous?;
        let is_kept = self.record().previous.is_some_and(|(kept, _)| kept == digest);
        (until > now && !is_kept).then_some(until)
    }
}

/// A state of a key: two that differ in anything have different ones. Good as an `ETag`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision([u8; REVISION_BYTES]);

impl Revision {
    /// That of `record`.
    pub fn of(record: &KeyRecord) -> Self {
        let digest = sha256(edit::entry(record).as_bytes());
        let mut revision = [0; REVISION_BYTES];
        revision.copy_from_slice(&digest[..REVISION_BYTES]);
        Self(revision)
    }
}

impl Revision {
    /// Reads what `Display` writes; nothing if it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut revision = [0; REVISION_BYTES];
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() != 2 * REVISION_BYTES || !text.bytes().all(is_hex) {
            return None;
        }
        for (byte, pair) in revision.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |place: usize| char::from(pair[place]).to_digit(16);
            *byte = (digit(0)? << 4 | digit(1)?) as u8;
        }
        Some(Self(revision))
    }
}

impl Display for Revision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
