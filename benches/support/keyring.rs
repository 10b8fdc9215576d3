//! Keys for a bench: made by keyward's own code, spread over users and roles, and written as
//! keyward's store. In clear they lie in memory and in the bench's own folder, never elsewhere.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use keyward::keys::format::{self, Hasher, Prefix};

use super::Failure;

/// Keys that one user holds.
const KEYS_PER_USER: usize = 10;
/// The roles that `peers/keyward.toml` declares; keys take them in turn.
const ROLES: [&str; 4] = ["viewer", "author", "manager", "admin"];
/// The characters after `key_` in an id.
const ID_CHARS: usize = 8;

/// One key in clear, for the peers' maps and the load, with whom it stands for.
pub(crate) struct Key {
    /// What the client sends.
    pub(crate) secret: String,
    /// Its public id.
    pub(crate) id: String,
    /// Whom the upstream is told.
    pub(crate) user: String,
    /// In which role.
    pub(crate) role: &'static str,
}

/// Makes `count` keys.
pub(crate) fn make(count: usize) -> Result<Vec<Key>, Failure> {
    let prefix = Prefix::new("kw")?;
    let mut keys = Vec::with_capacity(count);
    for number in 0..count {
        keys.push(Key {
            secret: format::generate(&prefix)?.expose().clone(),
            id: format!("key_{}", format::random_text(ID_CHARS)?),
            user: format!("user-{:04}", number / KEYS_PER_USER),
            role: ROLES[number % ROLES.len()],
        });
    }
    Ok(keys)
}

/// Writes keyward's store: hashes only, mode 0600. A user's labels differ, or a key that was disabled
/// could not be enabled again.
pub(crate) fn write_store(path: &Path, keys: &[Key]) -> Result<(), Failure> {
    let hasher = Hasher::new(None);
    let mut text = String::new();
    for Key { secret, id, user, role } in keys {
        let hash = hasher.digest(secret.as_bytes());
        let start = format::start_of(secret);
        write!(
            text,
            "[[keys]]\nid = \"{id}\"\nhash = \"{hash}\"\nstart = \"{start}\"\nlabel = \"bench {id}\"\n\
             user = \"{user}\"\nrole = \"{role}\"\ncreated_at = 2026-11-23T10:00:00Z\n\
             enabled = true\n\n"
        )?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    Ok(file.write_all(text.as_bytes())?)
}
