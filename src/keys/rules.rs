//! What keys may stand beside each other: what is checked when one is made or changed.
//!
//! Never here: what a file must not hold whoever wrote it (the table knows), or who may change what.

use std::collections::HashMap;

use jiff::Timestamp;

use super::change::Change;
use super::file::{KeyFile, LoadedKeys, closest_role};
use super::format::Digest;
use super::mask;
use super::refusal::{AddFault, StoreError};
use super::store::NewKey;
use super::table::Rejection;
use super::{KeyRecord, KeyState};
use crate::identity::{AdminScope, KeyId, Roles};
use crate::limit::requests::RequestLimits;

/// Refuses `new` keys that cannot stand beside `records`.
pub(super) fn check_new(
    file: &KeyFile<'_>,
    keys: &LoadedKeys,
    new: &[NewKey],
    now: Timestamp,
) -> Result<(), StoreError> {
    let (roles, records) = (file.roles, &keys.records);
    let mut faults = Vec::new();
    let known: HashMap<&Digest, &KeyId> = records
        .iter()
        .flat_map(|record| {
            let previous = record.previous.iter().map(|(digest, _)| digest);
            std::iter::once(&record.hash).chain(previous).map(|digest| (digest, &record.id))
        })
        .collect();
    let labels: HashMap<_, _> = records
        .iter()
        .filter(|record| record.enabled)
        .map(|record| ((&record.user, &record.label), &record.id))
        .collect();
    for (place, key) in new.iter().enumerate() {
        if roles.find(key.role.as_str()).is_none() {
            let meant = closest_role(&key.role, roles);
            faults.push((place, AddFault::UnknownRole(meant)));
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            faults.push((place, AddFault::ExpiryPast));
        }
        if is_burst_alone(key.limits) {
            faults.push((place, AddFault::BurstWithoutRate));
        }
        for (what, text) in [("user name", key.user.as_str()), ("label", key.label.as_str())] {
            let is_its_own = |word: &str| file.hasher.digest(word.as_bytes()) == key.hash;
            if holds_key(file, keys, text) || words(text).any(is_its_own) {
                faults.push((place, AddFault::HoldsKey(what)));
            }
        }
        if let Some(&id) = known.get(&key.hash) {
            faults.push((place, AddFault::SameKey(id.clone())));
        } else if let Some(&id) = labels.get(&(&key.user, &key.label)) {
            faults.push((place, AddFault::LabelTaken(id.clone())));
        }
    }
    if faults.is_empty() { Ok(()) } else { Err(StoreError::Refused(faults)) }
}

/// Refuses what a key at `place` may not become.
pub(super) fn check_change(
    file: &KeyFile<'_>,
    keys: &LoadedKeys,
    place: usize,
    change: &Change,
    after: Option<&KeyRecord>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (roles, records) = (file.roles, &keys.records);
    let before = &records[place];
    let Some(after) = after else {
        let may_go = !before.enabled || matches!(change, Change::Delete { force: true });
        return if may_go { Ok(()) } else { Err(StoreError::StillEnabled(before.id.clone())) };
    };
    let mut faults = Vec::new();
    if roles.find(after.role.as_str()).is_none() {
        faults.push(AddFault::UnknownRole(closest_role(&after.role, roles)));
    }
    let is_named_anew = !before.enabled || after.label != before.label;
    if after.enabled && is_named_anew {
        let mut others = records.iter().enumerate().filter(|(other, _)| *other != place);
        let holder = others.find(|(_, other)| {
            other.enabled && other.user == after.user && other.label == after.label
        });
        faults.extend(holder.map(|(_, other)| AddFault::LabelTaken(other.id.clone())));
    }
    if after.expires_at != before.expires_at && after.expires_at.is_some_and(|end| end <= now) {
        faults.push(AddFault::ExpiryPast);
    }
    if is_burst_alone(after.limits) {
        faults.push(AddFault::BurstWithoutRate);
    }
    let label = (after.label != before.label).then_some(&after.label);
    for (what, text) in [("label", label), ("reason", change.reason())] {
        if text.is_some_and(|text| holds_key(file, keys, text.as_str())) {
            faults.push(AddFault::HoldsKey(what));
        }
    }
    let holds = |record: &KeyRecord, digest: &Digest| {
        record.hash == *digest || record.previous.is_some_and(|(old, _)| old == *digest)
    };
    if after.hash != before.hash
        && let Some(other) = records.iter().find(|record| holds(record, &after.hash))
    {
        faults.push(AddFault::SameKey(other.id.clone()));
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(StoreError::Refused(faults.into_iter().map(|fault| (0, fault)).collect()))
}

/// Whether there is a burst of no rate.
fn is_burst_alone(limits: RequestLimits) -> bool {
    limits.burst.is_some() && limits.rate.is_none()
}

/// Whether `text`, which is going to be kept and shown, holds a key: one that is stored, wherever it was made, or
/// what has the shape of one made here.
fn holds_key(file: &KeyFile<'_>, keys: &LoadedKeys, text: &str) -> bool {
    let is_stored =
        |word: &str| !matches!(keys.table.lookup(word.as_bytes(), 0), Err(Rejection::Unknown));
    mask::holds_key(text, file.format.prefix()) || words(text).any(is_stored)
}

/// What in `text` could be a whole key.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let around = |c: char| matches!(c, '"' | '\'' | '`' | ',' | '.' | ':' | ';' | '(' | ')');
    text.split_whitespace().flat_map(move |word| [word, word.trim_matches(around)])
}

/// Whether no key is left that may manage everybody's once the one at `place` is as `after` says.
pub(super) fn leaves_no_admin(
    records: &[KeyRecord],
    place: usize,
    after: Option<&KeyRecord>,
    roles: &Roles,
    now: Timestamp,
) -> bool {
    let is_admin = |record: &KeyRecord| {
        let role = roles.find(record.role.as_str());
        record.state(now) == KeyState::Enabled
            && role.is_some_and(|role| role.admin() == AdminScope::All)
    };
    let mut others = records.iter().enumerate().filter(|(other, _)| *other != place);
    is_admin(&records[place])
        && !after.is_some_and(is_admin)
        && !others.any(|(_, record)| is_admin(record))
}
