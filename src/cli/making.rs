//! Makes a key for a command: draws the secret, digests it, stores what is kept of it.
//!
//! Never here: showing it.

use std::sync::Arc;

use jiff::Timestamp;

use super::operator::operator;
use crate::config::Config;
use crate::identity::{Label, RoleName, UserName};
use crate::keys::KeyRecord;
use crate::keys::format::{Digest, Hasher, KeyFormat, generate, start_of};
use crate::keys::store::{Adding, NewKey, Run, Store, StoreError};
use crate::limit::requests::RequestLimits;
use crate::redact::Secret;
use crate::scopes::Scopes;

/// A key that is wanted.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) user: UserName,
    pub(super) role: RoleName,
    pub(super) label: Label,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) scopes: Option<Arc<Scopes>>,
    pub(super) limits: RequestLimits,
}

/// A key just made.
#[derive(Debug)]
pub(super) struct Made {
    /// To be shown once.
    pub(super) secret: Secret<String>,
    pub(super) record: KeyRecord,
}

/// A secret, and what is kept of it.
#[derive(Debug)]
pub(super) struct Drawn {
    /// To be shown once.
    pub(super) secret: Secret<String>,
    pub(super) hash: Digest,
    pub(super) start: String,
}

/// Draws a secret.
pub(super) fn draw(hasher: &Hasher, format: &KeyFormat) -> Result<Drawn, StoreError> {
    let secret = generate(format.prefix()).map_err(StoreError::Randomness)?;
    let hash = hasher.digest(secret.expose().as_bytes());
    let start = start_of(secret.expose());
    Ok(Drawn { secret, hash, start })
}

/// Makes a key, and stores it in the key file of `config`.
pub(super) fn make(config: &Config, wanted: Wanted) -> Result<Made, StoreError> {
    let hasher = Hasher::new(config.keys.pepper.clone());
    let format = KeyFormat::new(config.keys.prefix.clone());
    let Config { keys, audit, roles, .. } = config;
    let store = Store::new(&keys.store, &audit.file, roles, &hasher, &format);
    let Drawn { secret, hash, start } = draw(&hasher, &format)?;
    let Wanted { user, role, label, expires_at, scopes, limits } = wanted;
    let new = NewKey { hash, start: Some(start), label, user, role, expires_at, scopes, limits };
    let by = operator();
    let mut added = store.add(&[new], Adding { by: &by, action: "create", run: Run::Real })?;
    let record = added.pop().expect("one key was given, one is added");
    Ok(Made { secret, record })
}
