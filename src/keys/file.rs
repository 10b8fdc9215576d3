//! The key file on the disk: read, and checked as a whole.
//!
//! Never here: changes to it, or a line of it that is shown without being masked.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use super::KeyRecord;
use super::durable::WRITABLE_BY_OTHERS;
use super::entries::{self, Entry, Read, Span};
use super::format::{Hasher, KeyFormat};
use super::mask::{mask, mask_fault};
use super::memory::Memory;
use super::table::{Builder, HashField, KeyTable, TableError, TableFault};
use crate::diagnostics::{Fault, Report, Source};
use crate::identity::{RoleName, Roles};

/// A key file without faults.
#[derive(Debug)]
pub struct LoadedKeys {
    /// Every key, in the order of the file; none where only the table was asked for.
    pub records: Arc<[KeyRecord]>,
    /// The same keys, to be searched.
    pub table: KeyTable,
}

impl From<KeyTable> for LoadedKeys {
    /// Without the records, of which most is in the table, and which take several times its memory.
    fn from(table: KeyTable) -> Self {
        Self { records: Arc::default(), table }
    }
}

impl LoadedKeys {
    /// How many keys have each role, whatever their state.
    pub fn len_by_role(&self) -> HashMap<&str, usize> {
        let mut counts = HashMap::new();
        for record in &*self.records {
            *counts.entry(record.role.as_str()).or_default() += 1;
        }
        counts
    }
}

/// Reads the key file at `path`, but no entry that is as `memory` knows it.
///
/// # Errors
/// Every fault at its place; a file that others may write, or that may be half-written, is refused.
pub fn load(
    path: &Path,
    roles: &Roles,
    hasher: &Hasher,
    format: &KeyFormat,
    memory: &Memory,
) -> Result<LoadedKeys, Report> {
    let file = KeyFile { path, roles, hasher, format, memory: Some(memory) };
    file.check(&file.read()?)
}

/// Reads the key file at `path`, and keeps no more of it than requests are checked against.
///
/// # Errors
/// As those of [`load`].
pub fn load_table(
    path: &Path,
    roles: &Roles,
    hasher: &Hasher,
    format: &KeyFormat,
) -> Result<KeyTable, Report> {
    let file = KeyFile { path, roles, hasher, format, memory: None };
    match file.table_alone() {
        Some(table) => Ok(table),
        None => file.check(&file.read()?).map(|keys| keys.table),
    }
}

/// Bytes of an entry, about: most have more.
const ENTRY_BYTES: u64 = 160;

/// Where keys are kept, and what they are checked against.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyFile<'a> {
    pub(super) path: &'a Path,
    pub(super) roles: &'a Roles,
    pub(super) hasher: &'a Hasher,
    pub(super) format: &'a KeyFormat,
    /// What is known of its text.
    pub(super) memory: Option<&'a Memory>,
}

impl KeyFile<'_> {
    /// The text of the file, unless others may have written it. A concurrent rename is harmless: what
    /// was opened is read to its end.
    pub(super) fn read(&self) -> Result<String, Report> {
        self.read_text().map_err(|fault| {
            let source = Source { path: self.path.to_owned(), text: String::new() };
            Report::error(source, vec![fault])
        })
    }

    fn read_text(&self) -> Result<String, Fault> {
        self.open().and_then(|file| io::read_to_string(file).map_err(unreadable))
    }

    fn open(&self) -> Result<File, Fault> {
        // Asked of the name, not of the open file: opening a pipe would wait for its writer.
        let metadata = fs::metadata(self.path).map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(Fault::whole("the key file is no regular file"));
        }
        if metadata.mode() & WRITABLE_BY_OTHERS != 0 {
            let fault = Fault::whole("every user of this machine may write the key file");
            return Err(fault.with_help(format!("chmod 600 {}", self.path.display())));
        }
        File::open(self.path).map_err(unreadable)
    }

    /// The keys in `text`, if it has no fault.
    pub(super) fn check(&self, text: &str) -> Result<LoadedKeys, Report> {
        self.check_with_places(text).map(|(keys, _)| keys)
    }

    /// The keys in `text`, if it has no fault, and where the entry of each begins.
    pub(super) fn check_with_places(&self, text: &str) -> Result<(LoadedKeys, Vec<usize>), Report> {
        if let Some(read) = entries::read(text, self.memory)
            && let Some(table) = self.table_of(&read)
        {
            return Ok((LoadedKeys { records: read.records, table }, read.starts));
        }
        let (entries, mut faults) = entries::parse(text);
        let (records, places): (Vec<_>, Vec<_>) =
            entries.into_iter().map(|Entry { record, places }| (record, places)).unzip();
        match self.table(&records) {
            Ok(table) if faults.is_empty() => {
                let starts = places.iter().map(|places| places.start).collect();
                Ok((LoadedKeys { records: records.into(), table }, starts))
            }
            result => {
                for error in result.err().unwrap_or_default() {
                    let (record, places) = (&records[error.record], &places[error.record]);
                    faults.push(table_fault(&error, record, places, self.roles));
                }
                let prefix = self.format.prefix();
                faults.iter_mut().for_each(|fault| mask_fault(fault, prefix));
                let text = mask(text, prefix);
                Err(Report::error(Source { path: self.path.to_owned(), text }, faults))
            }
        }
    }

    fn table_of(&self, read: &Read) -> Option<KeyTable> {
        let Some(recalled) = &read.recalled else { return self.table(&read.records).ok() };
        let shared = recalled.table(self.roles, self.hasher, self.format);
        let table = shared.or_else(|| self.table(&read.records).ok())?;
        recalled.keep(&table, self.roles);
        Some(table)
    }

    /// The table of the keys in the file, whose text is never in memory as a whole, for that takes as much as the table.
    /// `None` if [`check`](Self::check) is to say what is wrong.
    fn table_alone(&self) -> Option<KeyTable> {
        let file = self.open().ok()?;
        let about = file.metadata().ok()?.len() / ENTRY_BYTES;
        self.table_of_each(BufReader::with_capacity(64 * 1024, file), about as usize)
    }

    /// The same of `text` with `about` so many keys.
    fn table_of_each(&self, text: impl BufRead, about: usize) -> Option<KeyTable> {
        let (hasher, format) = (self.hasher.clone(), self.format.clone());
        let mut builder = Builder::new(about, self.roles, hasher, format);
        entries::one_by_one(text, |record| builder.add(record)).ok()??;
        builder.finish()
    }

    fn table(&self, records: &[KeyRecord]) -> Result<KeyTable, Vec<TableError>> {
        KeyTable::build(records, self.roles, self.hasher.clone(), self.format.clone())
    }
}

fn unreadable(error: io::Error) -> Fault {
    match error.kind() {
        ErrorKind::NotFound => Fault::whole("there is no key file here")
            .with_help("make it with the first key: `keyward keys create`"),
        ErrorKind::InvalidData => Fault::whole("the key file is not UTF-8 text"),
        _ => Fault::whole(format!("the key file cannot be read: {error}")),
    }
}

fn table_fault(
    error: &TableError,
    record: &KeyRecord,
    places: &entries::Places,
    roles: &Roles,
) -> Fault {
    let hash = |field: &HashField| -> Span {
        match field {
            HashField::Current => places.hash.clone(),
            HashField::Previous => places.previous_hash.clone().unwrap_or(places.hash.clone()),
        }
    };
    let message = error.to_string();
    match &error.fault {
        TableFault::DuplicateId => {
            Fault::at(places.id.clone(), message).with_help("give one of them another id")
        }
        TableFault::DuplicateHash { field, .. } => {
            Fault::at(hash(field), message).with_help("remove one of them")
        }
        TableFault::UnknownRole => {
            let fault = Fault::at(places.role.clone(), message);
            match closest_role(&record.role, roles) {
                Some(meant) => fault.with_help(format!("did you mean `{meant}`?")),
                None => fault.with_help(format!("declare it in the configuration: [roles.{}]", record.role)),
            }
        }
        TableFault::Scheme { field, .. } => Fault::at(hash(field), message)
            .with_help("a hash fits one pepper only: make a new key, or restore the `[keys] pepper` it was made with"),
    }
}

/// The declared role that `role` is most likely meant to be.
pub(super) fn closest_role(role: &RoleName, roles: &Roles) -> Option<RoleName> {
    let names: Vec<_> = roles.iter().map(|role| role.name().as_str()).collect();
    let meant = entries::closest(role.as_str(), names)?;
    roles.find(meant).map(|role| role.name().clone())
}

#[cfg(test)]
mod tests {
    use super::super::format::Prefix;
    use super::super::table::Rejection;
    use super::*;
    use crate::identity::RoleDeclaration;

    const SECRET: &str = "hunter2-hunter2";

    fn roles() -> Roles {
        let declare = |name| RoleDeclaration {
            name: RoleName::new(name).unwrap(),
            inherits: Vec::new(),
            admin: Default::default(),
            limits: Default::default(),
        };
        Roles::new(&[declare("viewer"), declare("admin")]).unwrap()
    }

    fn report(text: &str) -> Report {
        let roles = roles();
        let (hasher, format) = (Hasher::default(), KeyFormat::new(Prefix::new("kw").unwrap()));
        let path = Path::new("keys.toml");
        let file = KeyFile { path, roles: &roles, hasher: &hasher, format: &format, memory: None };
        let checked = file.check(text);
        let alone = file.table_of_each(text.as_bytes(), 1);
        assert!(checked.is_ok() || alone.is_none(), "a table is made of what has a fault: {text}");
        checked.err().unwrap_or_default()
    }

    fn lines(text: &str) -> Vec<String> {
        report(text).lines().collect()
    }

    /// An entry with `extra` lines behind the required ones.
    fn key(id: &str, extra: &str) -> String {
        let hash = Hasher::default().digest(id.as_bytes());
        format!(
            "[[keys]]\nid = \"{id}\"\nhash = \"{hash}\"\nlabel = \"a label\"\nuser = \"alice\"\n\
             role = \"viewer\"\n{extra}"
        )
    }

    #[test]
    fn every_fault_is_told_at_its_place() {
        let text = format!(
            "{}\n{}\n[[keys]]\nid = \"key c\"\nrole = \"viewer\"\n",
            key("key_a", "lable = \"x\"\nenabled = \"no\"\nallowed_paths = [\"/a\", \"/b?\"]\n"),
            key("key_b", "created_at = 2026-01-01\nprevious_expires_at = 2026-01-01T00:00:00Z\n"),
        );
        assert_eq!(
            lines(&text),
            [
                "keys.toml:7:1: unknown field `lable`; did you mean `label`?",
                "keys.toml:8:11: `enabled` is neither true nor false; write `true` or `false`, \
                 without quotes",
                "keys.toml:9:24: `allowed_paths`: this is no path pattern; write the decoded path, \
                 without '%', '?', '#' or ';'",
                "keys.toml:17:14: `created_at` is no time with a zone; write it as \
                 `2026-11-23T10:00:00Z`, without quotes",
                "keys.toml:18:1: `previous_expires_at` without `previous_hash`; the secret before a \
                 rotation has both, or neither",
                "keys.toml:20:1: this key has no `hash`; add `hash = \"…\"`",
                "keys.toml:20:1: this key has no `label`; add `label = \"…\"`",
                "keys.toml:20:1: this key has no `user`; add `user = \"…\"`",
                "keys.toml:21:6: the id holds ' '; allowed are ASCII letters, digits, '_', '-' and \
                 '.'",
            ]
        );
    }

    #[test]
    fn what_does_not_fit_together_is_told_at_its_place_too() {
        let same_hash = key("key_a", "").replace("id = \"key_a\"", "id = \"key_b\"");
        let other_role = key("key_c", "").replace("viewer", "veiwer");
        let foreign_role = key("key_d", "").replace("viewer", "wizard");
        let text = [key("key_a", ""), same_hash, other_role, foreign_role, key("key_a", "")];
        assert_eq!(
            lines(&text.concat()),
            [
                "keys.toml:9:8: key_a and key_b have one hash: they are the same key; remove one \
                 of them",
                "keys.toml:18:8: key_c has a role that the configuration does not declare; did you \
                 mean `viewer`?",
                "keys.toml:24:8: key_d has a role that the configuration does not declare; declare \
                 it in the configuration: [roles.wizard]",
                "keys.toml:26:6: two keys have the id key_a; give one of them another id",
                "keys.toml:27:8: key_a has one hash twice; remove one of them",
            ]
        );
    }

    #[test]
    fn a_table_alone_is_the_one_beside_the_records() {
        let (roles, folder) = (roles(), tempfile::tempdir().unwrap());
        let (hasher, format) = (Hasher::default(), KeyFormat::new(Prefix::new("kw").unwrap()));
        let path = folder.path().join("keys.toml");
        let old = Hasher::default().digest(b"key_0");
        let rotated =
            format!("previous_hash = \"{old}\"\nprevious_expires_at = 2036-01-01T00:00:00Z\n");
        let text = [
            key("key_a", "daily = 7\n"),
            key("key_b", "enabled = false\n"),
            key("key_c", &rotated),
        ];
        fs::write(&path, text.concat()).unwrap();
        let alone = load_table(&path, &roles, &hasher, &format).unwrap();
        let whole = load(&path, &roles, &hasher, &format, &Memory::default()).unwrap();
        assert_eq!((alone.len(), whole.records.len()), (3, 3));
        for secret in ["key_a", "key_b", "key_c", "key_0", "key_d"] {
            let digest = *hasher.digest(secret.as_bytes()).as_bytes();
            let found = |table: &KeyTable| {
                let found = table.lookup_digest(&digest, 0)?;
                let identity = format!("{:?}", found.identity());
                Ok::<_, Rejection>((identity, found.expires_unix_s(), found.is_previous()))
            };
            assert_eq!(found(&alone), found(&whole.table), "{secret}");
        }
    }

    #[test]
    fn a_file_that_does_not_say_it_is_empty_is_refused() {
        let message = "the file holds no key: it may be half-written";
        for text in ["", "\n", "# only a comment\n"] {
            let expect = format!("keys.toml: {message}; write `keys = []` if there shall be none");
            assert_eq!(lines(text), [expect]);
        }
        assert_eq!(lines("keys = []"), [""; 0]);
        assert_eq!(
            lines("key = []"),
            [
                "keys.toml: the file holds no key: it may be half-written; write `keys = []` if \
                 there shall be none",
                "keys.toml:1:1: unknown field `key`; did you mean `keys`?",
            ]
        );
        assert_eq!(
            lines("[keys]\nid = \"a\"\n"),
            [
                "keys.toml:1:1: `keys` is no list of keys; begin each key with `[[keys]]`, in double \
              brackets"
            ]
        );
    }

    #[test]
    fn a_key_in_place_of_its_hash_is_never_shown() {
        let entry = |hash: &str| {
            let hash = format!("hash = {hash}\n");
            key("key_a", "")
                .lines()
                .map(|line| match line.starts_with("hash") {
                    true => hash.clone(),
                    false => format!("{line}\n"),
                })
                .collect::<String>()
        };
        let rendered = report(&entry(&format!("\"{SECRET}\""))).render(false);
        insta::assert_snapshot!(rendered, @r"
        error: the hash begins with neither `sha256:` nor `hmac-sha256:`
         --> keys.toml:3:8
          |
        3 | hash = *****************
          |        ^^^^^^^^^^^^^^^^^
          |
          = help: a hash is `sha256:` and 64 hexadecimal digits; `keyward keys import` makes it from the key
        ");
        for hash in [
            format!("\"{SECRET}"),
            SECRET.to_owned(),
            format!("'{SECRET}'"),
            format!("\"sha256:{SECRET}\""),
            format!("[\"{SECRET}\"]"),
            format!("\"\"\"\n{SECRET}\"\"\""),
        ] {
            let report = report(&entry(&hash));
            assert!(report.has_errors());
            assert!(!report.render(false).contains(SECRET), "{report}");
            assert!(!report.lines().any(|line| line.contains(SECRET)), "{report}");
        }
    }
}
