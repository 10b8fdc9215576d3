//! What was read of a key file, so that the next reading of it reads only the entries that are not as they were.
//!
//! Kept is a hash of each entry's text beside its record. It is keyed at random, so nobody can write two entries that
//! have the same; and what an entry says depends on its text alone, so a record is good whatever stands around it.
//!
//! The table of the records is kept as well, for the next one shares with it all that a change leaves as it is.
//!
//! Never here: what an entry says, or whether entries may stand together: all of them are asked that each time.

use std::hash::{BuildHasher as _, RandomState};
use std::iter;
use std::ops::Range;
use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::KeyRecord;
use super::format::{Hasher, KeyFormat};
use super::table::KeyTable;
use crate::identity::Roles;

/// What the last text said that could be read entry by entry. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    last: Arc<ArcSwapOption<Known>>,
    hasher: RandomState,
}

/// Entries in their order.
#[derive(Debug)]
struct Known {
    hashes: Box<[u64]>,
    records: Arc<[KeyRecord]>,
    /// Their table, once it was built, and with which roles.
    table: ArcSwapOption<(KeyTable, Roles)>,
}

/// Records, and how they differ from those before.
#[derive(Debug)]
pub(super) struct Recalled {
    now: Arc<Known>,
    before: Option<Arc<Known>>,
    /// What is not as it was in `before`, and what stands there in its place.
    removed: Range<usize>,
    changed: Range<usize>,
}

impl Memory {
    /// The records in `entries`, all of which `read` can read. Only those are read that lie between the first and the last
    /// that are not as they were.
    pub(super) fn read(
        &self,
        entries: &[&str],
        read: impl Fn(&str) -> Option<KeyRecord>,
    ) -> Option<Recalled> {
        let hashes: Box<[_]> = entries.iter().map(|entry| self.hasher.hash_one(entry)).collect();
        let last = self.last.load_full();
        let (known, kept) = match last.as_deref() {
            Some(last) => (&*last.hashes, &*last.records),
            None => Default::default(),
        };
        let before = common(hashes.iter(), known.iter());
        let after = common(hashes[before..].iter().rev(), known[before..].iter().rev());
        let (removed, changed) = (before..known.len() - after, before..hashes.len() - after);
        if let Some(last) = &last
            && removed.is_empty()
            && changed.is_empty()
        {
            let (now, before) = (Arc::clone(last), Some(Arc::clone(last)));
            return Some(Recalled { now, before, removed, changed });
        }
        let anew = entries[changed.clone()].iter().map(|entry| read(entry));
        let anew: Vec<_> = anew.collect::<Option<_>>()?;
        let (before, after) = (&kept[..before], &kept[removed.end..]);
        let records = before.iter().cloned().chain(anew).chain(after.iter().cloned()).collect();
        let now = Arc::new(Known { hashes, records, table: ArcSwapOption::empty() });
        self.last.store(Some(Arc::clone(&now)));
        Some(Recalled { now, before: last, removed, changed })
    }
}

impl Recalled {
    /// All of them, in the order of the text.
    pub(super) fn records(&self) -> &Arc<[KeyRecord]> {
        &self.now.records
    }

    /// Their table, if that of the records before can be used for it.
    pub(super) fn table(
        &self,
        roles: &Roles,
        hasher: &Hasher,
        format: &KeyFormat,
    ) -> Option<KeyTable> {
        let before = self.before.as_ref()?;
        let built = before.table.load_full();
        let (table, _) = built.as_deref().filter(|(_, with)| with == roles)?;
        let (hasher, format) = (hasher.clone(), format.clone());
        if Arc::ptr_eq(before, &self.now) {
            return table.clone().with(hasher, format);
        }
        let removed = &before.records[self.removed.clone()];
        table.rebuilt(removed, &self.now.records, self.changed.clone(), roles, hasher, format)
    }

    /// Keeps their table, which was built with `roles`.
    pub(super) fn keep(&self, table: &KeyTable, roles: &Roles) {
        self.now.table.store(Some(Arc::new((table.clone(), roles.clone()))));
    }
}

/// How many are the same from the beginning on.
fn common<'a>(one: impl Iterator<Item = &'a u64>, other: impl Iterator<Item = &'a u64>) -> usize {
    iter::zip(one, other).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::identity::KeyId;

    /// An entry here is a key's id and nothing else.
    fn record(entry: &str) -> Option<KeyRecord> {
        KeyId::new(entry).ok()?;
        Some(KeyRecord::sample(entry, entry))
    }

    #[test]
    fn what_is_as_it_was_is_not_read_again() {
        let memory = Memory::default();
        let check = |entries: &str, expect: &str| {
            let entries: Vec<_> = entries.split_whitespace().collect();
            let read = RefCell::new(Vec::new());
            let records = memory.read(&entries, |entry| {
                read.borrow_mut().push(entry.to_owned());
                record(entry)
            });
            let records = records.expect("each is an id");
            let ids: Vec<_> = records.records().iter().map(|record| record.id.as_str()).collect();
            assert_eq!(ids, entries);
            assert_eq!(read.into_inner().join(" "), expect, "{entries:?}");
        };
        check("a b c", "a b c");
        check("a b c", "");
        check("a B c", "B");
        check("a B c d", "d");
        check("B c d", "");
        check("B d", "");
        check("B B d", "B");
        check("B B B d", "B");
        check("B d", "");
        check("x B d y", "x B d y");
        check("B x y d", "B x y d");
        check("d B", "d B");
        check("", "");
        check("d B", "d B");
    }

    #[test]
    fn what_cannot_be_read_is_not_remembered() {
        let memory = Memory::default();
        let first = memory.read(&["a", "b"], record).expect("both are ids");
        assert!(memory.read(&["a", "no id", "b"], record).is_none());
        let again = memory.read(&["a", "b"], |_| None).expect("both are known");
        assert!(Arc::ptr_eq(first.records(), again.records()), "they share what is the same");
        let clone = memory.clone();
        assert!(clone.read(&["b"], |_| None).is_some(), "so do clones");
    }
}
