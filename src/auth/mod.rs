//! Authentication: from what a request carried to who sent it.
//!
//! Never here: whether they may do what they ask for (see [`policy`](crate::policy)).

pub mod challenge;
pub mod credentials;

use crate::keys::table::{Found, KeyTable, Rejection};
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

impl From<Rejection> for Unauthenticated {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Unknown => Self::InvalidKey,
            Rejection::Disabled => Self::KeyDisabled,
            Rejection::Expired => Self::KeyExpired,
        }
    }
}

/// Finds out who sent the request that `taken` was taken from, at `now` in seconds since the Unix epoch.
pub fn authenticate(
    taken: Result<Option<Credential>, Ambiguous>,
    keys: &KeyTable,
    now_unix_s: i64,
) -> Result<Found<'_>, Unauthenticated> {
    let credential = match taken {
        Ok(Some(credential)) => credential,
        Ok(None) => return Err(Unauthenticated::MissingKey),
        Err(Ambiguous) => return Err(Unauthenticated::Ambiguous),
    };
    Ok(keys.lookup(credential.key().expose(), now_unix_s)?)
}
