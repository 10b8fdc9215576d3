//! Why a change of the key file is not made.
//!
//! Never here: a text that was given where a key's id belongs, which may be a key.

use std::fmt::{self, Display, Formatter};

use super::KeyRecord;
use super::durable::FileError;
use super::edit;
use crate::diagnostics::Report;
use crate::identity::{KeyId, RoleName};

/// Ids that an error lists at most.
const NAMED_IDS: usize = 5;

/// Why a new key cannot be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddFault {
    /// The same key is stored already.
    SameKey(KeyId),
    /// An enabled key of the same user has the same label.
    LabelTaken(KeyId),
    /// The configuration does not declare this role; the one that may be meant.
    UnknownRole(Option<RoleName>),
    /// It would end before it begins.
    ExpiryPast,
    /// Its limits have a burst and no rate.
    BurstWithoutRate,
    /// Something that is kept and shown holds a key: the label, say.
    HoldsKey(&'static str),
}

impl Display for AddFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameKey(id) => write!(f, "the same key is stored already, as {id}"),
            Self::LabelTaken(id) => write!(
                f,
                "{id}, an enabled key of the same user, has the same label; choose another label, \
                 or disable {id} first"
            ),
            Self::UnknownRole(None) => f.write_str("the configuration does not declare this role"),
            Self::UnknownRole(Some(meant)) => {
                write!(f, "the configuration does not declare this role; did you mean `{meant}`?")
            }
            Self::HoldsKey(what) => {
                write!(
                    f,
                    "the {what} holds a key, or what looks like one; leave it out: it would be kept and shown"
                )
            }
            Self::BurstWithoutRate => f.write_str(
                "a burst goes with a rate of the key's own; give it a rate, or leave the burst out",
            ),
            Self::ExpiryPast => f.write_str("the time at which the key ends is not in the future"),
        }
    }
}

/// Why a change was not made.
#[derive(Debug)]
pub enum StoreError {
    /// The key file has faults.
    Faults(Report),
    /// The file could not be locked or written.
    File(FileError),
    /// No key has this id, nor one that begins with it. The text is not kept: it may be a key.
    NoSuchKey,
    /// The ids of several keys begin with the text.
    AmbiguousId(Vec<KeyId>),
    /// Some of the new keys cannot be stored, by their places; none was.
    Refused(Vec<(usize, AddFault)>),
    /// The key may be used, so it is not deleted.
    StillEnabled(KeyId),
    /// The key is not as it was when the change was thought of. What it is now.
    Changed(Box<KeyRecord>),
    /// Without the key nobody could manage everybody's keys any more.
    LastAdmin(KeyId),
    /// The file holds its keys as `keys = [{ … }]`.
    InlineKeys,
    /// The operating system gave no randomness.
    Randomness(getrandom::Error),
}

impl Display for StoreError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Faults(report) => report.fmt(f),
            Self::File(error) => error.fmt(f),
            Self::NoSuchKey => f.write_str("no key has this id, nor one that begins with it"),
            Self::AmbiguousId(ids) => {
                let named: Vec<_> = ids.iter().take(NAMED_IDS).map(KeyId::as_str).collect();
                let more = if ids.len() > NAMED_IDS { ", …" } else { "" };
                write!(f, "{} ids begin with this: {}{more}", ids.len(), named.join(", "))
            }
            Self::Refused(faults) => {
                let faults: Vec<_> = faults.iter().map(|(_, fault)| fault.to_string()).collect();
                f.write_str(&faults.join("\n"))
            }
            Self::StillEnabled(id) => write!(f, "{id} is enabled; disable it first"),
            Self::Changed(record) => {
                write!(f, "{} was changed meanwhile; look at it again", record.id)
            }
            Self::LastAdmin(id) => write!(
                f,
                "{id} is the last enabled key that may manage everybody's keys; make another first"
            ),
            Self::InlineKeys => f.write_str(
                "the file holds its keys as `keys = [{ … }]`; write each as a `[[keys]]` entry, \
                 and they can be managed here",
            ),
            Self::Randomness(error) => write!(f, "no randomness from the system: {error}"),
        }
    }
}

impl std::error::Error for StoreError {}

impl From<edit::EditError> for StoreError {
    fn from(error: edit::EditError) -> Self {
        match error {
            edit::EditError::InlineKeys => Self::InlineKeys,
        }
    }
}
