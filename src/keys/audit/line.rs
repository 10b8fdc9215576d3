//! One line of the audit log: how it is written, how it is read, and what links it to the line before.
//!
//! A line is a JSON object whose last field is `hash`: the SHA-256 of the same object without that field, byte for
//! byte as it stands there. One of the fields before is `previous`, the hash of the line before. So a line that was
//! edited does not fit its own hash, and one that was put in its place does not fit the line behind it.
//!
//! Never here: files.

use std::fmt::{self, Display, Formatter};
use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::keys::KeyRecord;
use crate::keys::actor::Actor;
use crate::keys::format::sha256;
use crate::keys::shown::ShownKey;

/// Between the hashed part of a line and its hash.
const HASH_FIELD: &str = ",\"hash\":\"";
/// Behind the hash.
const END: &str = "\"}";
/// Hexadecimal digits of a hash.
const HASH_CHARS: usize = 64;

/// SHA-256, as lower-case hexadecimal digits: of a line, or of a whole key file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(Box<str>);

impl Hash {
    /// What the first line of a log follows.
    pub(super) fn none() -> Self {
        Self("0".repeat(HASH_CHARS).into())
    }

    /// The hash of `text`.
    pub(super) fn of(text: &str) -> Self {
        let digest = sha256(text.as_bytes());
        Self(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Reads a hash, in either case.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() == HASH_CHARS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(format!(
                "a hash is {HASH_CHARS} hexadecimal digits, as `keyward audit verify` tells"
            ))
        }
    }
}

impl Display for Hash {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a line tells.
#[derive(Debug)]
pub(in crate::keys) enum Event<'a> {
    /// A key is made, changed or gone.
    Key {
        action: &'static str,
        by: &'a Actor,
        before: Option<&'a KeyRecord>,
        after: Option<&'a KeyRecord>,
        reason: Option<&'a str>,
    },
    /// Something about the log itself.
    Note { action: &'static str, undoes: Option<u64>, reason: String },
}

/// Where a line stands, and which states of the key file it lies between.
#[derive(Debug)]
pub(super) struct Place<'a> {
    pub(super) sequence: u64,
    pub(super) change: u64,
    pub(super) time: Timestamp,
    pub(super) store_before: Option<&'a Hash>,
    pub(super) store_after: Option<&'a Hash>,
    pub(super) previous: &'a Hash,
}

#[derive(Serialize)]
struct Body<'a> {
    sequence: u64,
    time: Timestamp,
    actor: EntryActor,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<ShownKey<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<ShownKey<'a>>,
    change: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    undoes: Option<u64>,
    store_before: Option<&'a Hash>,
    store_after: Option<&'a Hash>,
    previous: &'a Hash,
}

/// Who wrote a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryActor {
    /// By what way: `cli`, `api`, `page`, or `keyward` for what the log notes itself.
    pub kind: String,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// By which key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
}

impl EntryActor {
    fn itself() -> Self {
        Self { kind: "keyward".to_owned(), user: None, key_id: None, address: None }
    }

    fn new(actor: &Actor) -> Self {
        Self {
            kind: actor.way.as_str().to_owned(),
            user: Some(actor.user.to_string()),
            key_id: actor.key_id.as_ref().map(ToString::to_string),
            address: actor.address,
        }
    }
}

/// Appends the line that tells `event`, with its line end; gives back its hash.
pub(super) fn push(text: &mut String, place: &Place<'_>, event: &Event<'_>) -> Hash {
    let &Place { sequence, change, time, store_before, store_after, previous } = place;
    let (actor, action, undoes, reason, before, after) = match event {
        Event::Key { action, by, before, after, reason } => {
            (EntryActor::new(by), *action, None, *reason, *before, *after)
        }
        Event::Note { action, undoes, reason } => {
            (EntryActor::itself(), *action, *undoes, Some(reason.as_str()), None, None)
        }
    };
    let body = Body {
        sequence,
        time,
        actor,
        action,
        key_id: after.or(before).map(|record| record.id.as_str()),
        reason,
        before: before.map(ShownKey::new),
        after: after.map(ShownKey::new),
        change,
        undoes,
        store_before,
        store_after,
        previous,
    };
    let body = serde_json::to_string(&body).expect("texts, numbers and lists are JSON");
    let hash = Hash::of(&body);
    text.push_str(body.strip_suffix('}').expect("it is an object"));
    text.extend([HASH_FIELD, &*hash.0, END, "\n"]);
    hash
}

/// A line, read. All of it may be shown.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Its number: each line has that of the line before and one.
    pub sequence: u64,
    /// When it was written.
    pub time: Timestamp,
    /// By whom.
    pub actor: EntryActor,
    /// What was done: `create`, `import`, `update`, `disable`, `enable`, `rotate`, `delete`; of the log itself `begin`,
    /// `edited`, `undone`, `mended`.
    pub action: String,
    /// Of which key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The key before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The key after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
    /// The number of the first line that tells of the same change of the file.
    pub change: u64,
    /// Of `undone`: the change that was told of and not made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<u64>,
    /// SHA-256 of the key file before; nothing if there was none.
    pub store_before: Option<Hash>,
    /// SHA-256 of the key file after.
    pub store_after: Option<Hash>,
    /// The hash of the line before.
    pub previous: Hash,
    /// The line's own.
    pub hash: Hash,
}

impl Entry {
    /// Reads `line`, without its line end; nothing if it is none. Whether its hash fits is not asked.
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Whose key it is about.
    pub fn user(&self) -> Option<&str> {
        self.after.as_ref().or(self.before.as_ref())?.get("user")?.as_str()
    }

    /// What differs between the key before and after: the field, and its value in both.
    pub fn differences(&self) -> Vec<(&str, &Value, &Value)> {
        let (Some(Value::Object(before)), Some(Value::Object(after))) = (&self.before, &self.after)
        else {
            return Vec::new();
        };
        let differs = |(field, to): (&'_ String, &'_ Value)| before.get(field) != Some(to);
        let changed = after.iter().filter(|&pair| differs(pair));
        changed
            .map(|(field, to)| (field.as_str(), before.get(field).unwrap_or(&Value::Null), to))
            .collect()
    }
}

/// Whether `line`, without its line end, is as it was written, as far as it alone can tell.
pub(super) fn fits_its_hash(line: &[u8]) -> bool {
    let split = line.len().checked_sub(HASH_FIELD.len() + HASH_CHARS + END.len());
    let Some((body, hash)) = split.and_then(|place| line.split_at_checked(place)) else {
        return false;
    };
    let (Ok(body), Ok(hash)) = (std::str::from_utf8(body), std::str::from_utf8(hash)) else {
        return false;
    };
    let hash = hash.strip_prefix(HASH_FIELD).and_then(|rest| rest.strip_suffix(END));
    hash == Some(&*Hash::of(&format!("{body}}}")).0)
}
