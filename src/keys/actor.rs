//! Who changes keys, for the record.
//!
//! Never here: whether they may.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use crate::identity::{KeyId, Label};

/// By what way a change comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The command line, by who may write the key file.
    Cli,
    /// The admin API, by who holds a key for it.
    Api,
    /// The admin page, by who has signed in there.
    Page,
}

impl Way {
    /// In one word: `cli`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Api => "api",
            Self::Page => "page",
        }
    }
}

/// Who makes a change. `Display` is what stands in `disabled_by`: `cli:root`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// By what way.
    pub way: Way,
    /// Their name: of the operating system's user, or of the user whose key it is.
    pub user: Label,
    /// The key they act by.
    pub key_id: Option<KeyId>,
    /// From where.
    pub address: Option<IpAddr>,
}

impl Display for Actor {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.way.as_str(), self.user)
    }
}
