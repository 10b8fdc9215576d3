//! The keys: how they look ([`format`]), the table requests are checked against ([`table`]), and the
//! TOML file they are kept in ([`store`]).
//!
//! Never here: a key itself, beyond the moment it is made or digested; HTTP; the decision who may pass.

pub mod format;
pub mod store;
pub mod table;

use jiff::Timestamp;

use crate::identity::{KeyId, Label, RoleName, UserName};
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
    /// When, by whom and why it was disabled.
    pub disabled_at: Option<Timestamp>,
    /// Who disabled it.
    pub disabled_by: Option<String>,
    /// Why it was disabled.
    pub disabled_reason: Option<String>,
    /// The digest of the secret before a rotation, and until when it is still taken.
    pub previous: Option<(Digest, Timestamp)>,
}
