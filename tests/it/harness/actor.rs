//! People (and programs) with keys.
//!
//! Keys are made here, not by the program under test: any 8 to 256 printable bytes are a valid key.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha256};

/// Somebody with a key.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    /// The key itself.
    pub(crate) key: String,
    /// Its public id.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) user: String,
    /// The role it has.
    pub(crate) role: String,
    /// Further lines of its entry in the key file.
    pub(crate) more: String,
}

impl Actor {
    /// `user` with a new enabled key of `role`.
    pub(crate) fn new(user: &str, role: &str) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let seed = format!("{user} {role} {number} {}", std::process::id());
        Self {
            key: format!("it-{}", &hex(&Sha256::digest(seed))[..40]),
            id: format!("key_{user}_{number}"),
            user: user.to_owned(),
            role: role.to_owned(),
            more: String::new(),
        }
    }

    /// The same person with this very key.
    pub(crate) fn with_key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// The same key with further lines in its entry, `enabled = false` say.
    pub(crate) fn with(mut self, lines: &str) -> Self {
        self.more = format!("{lines}\n");
        self
    }

    /// The header line that carries the key, with its line end.
    pub(crate) fn header(&self) -> String {
        format!("X-Api-Key: {}\r\n", self.key)
    }

    /// The entry in the key file.
    pub(crate) fn entry(&self) -> String {
        let Self { id, user, role, more, .. } = self;
        let hash = hex(&Sha256::digest(self.key.as_bytes()));
        let head = format!("[[keys]]\nid = \"{id}\"\nhash = \"sha256:{hash}\"\n");
        format!("{head}label = \"of {user}\"\nuser = \"{user}\"\nrole = \"{role}\"\n{more}\n")
    }
}

/// The key file that holds the keys of `actors`.
pub(crate) fn key_file(actors: &[Actor]) -> String {
    match actors {
        [] => "keys = []\n".to_owned(),
        some => some.iter().map(Actor::entry).collect(),
    }
}

/// The value of an `Authorization` field with a user name and a password, RFC 7617.
pub(crate) fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")))
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes everything");
        text
    })
}
