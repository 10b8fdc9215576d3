//! Authentication: from what a request carried to who sent it.
//!
//! Never here: whether they may do what they ask for (see [`policy`](crate::policy)).

pub mod challenge;
pub mod credentials;

use std::sync::Arc;

use crate::identity::Identity;
use crate::keys::table::{KeyTable, Rejection};
use credentials::{Ambiguous, Credential};

/// Why nobody is known to have sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unauthenticated {
    /// No source held a key.
    MissingKey,
    /// The key is unknown or malformed: one answer for both.
    InvalidKey,
    /// The key is known and disabled.
    KeyDisabled,
    /// The key is known and expired.
    KeyExpired,
    /// Two different keys.
    Ambiguous,
}

/// Finds out who sent the request that `taken` was taken from, at `now` in seconds since the Unix epoch.
pub fn authenticate(
    taken: Result<Option<Credential>, Ambiguous>,
    keys: &KeyTable,
    now_unix_s: i64,
) -> Result<Arc<Identity>, Unauthenticated> {
    let credential = match taken {
        Ok(Some(credential)) => credential,
        Ok(None) => return Err(Unauthenticated::MissingKey),
        Err(Ambiguous) => return Err(Unauthenticated::Ambiguous),
    };
    keys.lookup(credential.key().expose(), now_unix_s).cloned().map_err(|rejection| match rejection
    {
        Rejection::Unknown => Unauthenticated::InvalidKey,
        Rejection::Disabled => Unauthenticated::KeyDisabled,
        Rejection::Expired => Unauthenticated::KeyExpired,
    })
}
