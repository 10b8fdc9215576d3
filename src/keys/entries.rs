//! The text of a key file, read into records: all faults at once, each at its place.
//!
//! Never here: what records may not stand together (the table knows), writing, or a fault's text that
//! quotes a value which could be a key.

mod limits;

use std::io::{self, BufRead};
use std::ops::Range;
use std::sync::Arc;

use jiff::Timestamp;
use serde_spanned::Spanned;
use toml::de::{DeTable, DeValue};

use super::KeyRecord;
use super::format::{Digest, START_MAX_BYTES};
use super::memory::{Memory, Recalled};
use super::pieces;
use crate::diagnostics::Fault;
use crate::identity::{KeyId, Label, NameError, RoleName, UserName};
use crate::scopes::{self, SCOPES_MAX, ScopeError, Scopes};

/// Every field an entry may have.
const FIELDS: [&str; 21] = [
    "id",
    "hash",
    "start",
    "label",
    "user",
    "role",
    "created_at",
    "enabled",
    "expires_at",
    "allowed_methods",
    "allowed_paths",
    "allowed_cidrs",
    "rate",
    "burst",
    "concurrent",
    "daily",
    "disabled_at",
    "disabled_by",
    "disabled_reason",
    "previous_hash",
    "previous_expires_at",
];

/// Bytes of the text.
pub type Span = Range<usize>;

/// One `[[keys]]` entry.
#[derive(Debug)]
pub struct Entry {
    pub record: KeyRecord,
    pub places: Places,
}

/// Where the parts of an entry are, for faults found later.
#[derive(Debug)]
pub struct Places {
    /// Where the entry begins: at its `[[keys]]`, or the `{` of an inline one.
    pub start: usize,
    pub id: Span,
    pub hash: Span,
    pub role: Span,
    pub previous_hash: Option<Span>,
}

/// A text without a fault in any entry.
#[derive(Debug)]
pub struct Read {
    pub records: Arc<[KeyRecord]>,
    /// Where each entry begins.
    pub starts: Vec<usize>,
    /// What the memory says of them.
    pub(super) recalled: Option<Recalled>,
}

/// Reads `text` entry by entry, but none that `memory` knows. `None` if anything is odd about it: [`parse`] tells what.
pub fn read(text: &str, memory: Option<&Memory>) -> Option<Read> {
    let (before, pieces) = pieces::split(text);
    let (starts, entries): (Vec<_>, Vec<_>) =
        pieces.map(|piece| (piece.start, &text[piece])).unzip();
    if !is_silent(before) || entries.is_empty() {
        return None;
    }
    let Some(memory) = memory else {
        let records = entries.into_iter().map(record).collect::<Option<_>>()?;
        return Some(Read { records, starts, recalled: None });
    };
    let recalled = memory.read(&entries, record)?;
    Some(Read { records: Arc::clone(recalled.records()), starts, recalled: Some(recalled) })
}

/// Gives `take` one record in `text` after the other. `None` where [`read`] has none, and when `take` refuses one.
pub fn one_by_one(
    text: impl BufRead,
    mut take: impl FnMut(&KeyRecord) -> Option<()>,
) -> io::Result<Option<()>> {
    let mut pieces = 0_usize;
    let all = pieces::each(text, |piece| {
        let piece = str::from_utf8(piece).ok()?;
        pieces += 1;
        match pieces {
            1 => is_silent(piece).then_some(()),
            _ => take(&record(piece)?),
        }
    });
    all.map(|all| all.filter(|()| pieces > 1))
}

/// Whether what stands before the first entry says nothing.
fn is_silent(before: &str) -> bool {
    DeTable::parse(before).is_ok_and(|document| document.get_ref().is_empty())
}

/// Reads the one entry that `text` is.
fn record(text: &str) -> Option<KeyRecord> {
    let document = DeTable::parse(text).ok()?.into_inner();
    let (1, DeValue::Array(tables)) = (document.len(), document.get("keys")?.get_ref()) else {
        return None;
    };
    let [table] = &**tables else { return None };
    let mut faults = Vec::new();
    let entry = entry(table, &mut faults)?;
    faults.is_empty().then_some(entry.record)
}

/// Reads `text` as a whole. The entries without a fault are returned beside the faults of the others, so that they
/// can be checked further.
pub fn parse(text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        let fault = |error: &toml::de::Error| match error.span() {
            Some(span) => Fault::at(span, error.message()),
            None => Fault::whole(error.message()),
        };
        return (Vec::new(), errors.iter().map(fault).collect());
    }
    let mut faults = Vec::new();
    for name in document.get_ref().keys().filter(|name| name.get_ref() != "keys") {
        faults.push(unknown_field(name.span(), name.get_ref(), &["keys"]));
    }
    let Some(keys) = document.get_ref().get("keys") else {
        faults.push(
            Fault::whole("the file holds no key: it may be half-written")
                .with_help("write `keys = []` if there shall be none"),
        );
        return (Vec::new(), faults);
    };
    let DeValue::Array(tables) = keys.get_ref() else {
        faults.push(
            Fault::at(keys.span(), "`keys` is no list of keys")
                .with_help("begin each key with `[[keys]]`, in double brackets"),
        );
        return (Vec::new(), faults);
    };
    let entries = tables.iter().filter_map(|table| entry(table, &mut faults)).collect();
    (entries, faults)
}

fn unknown_field(span: Span, name: &str, known: &[&str]) -> Fault {
    let fault = Fault::at(span, format!("unknown field `{name}`"));
    match closest(name, known.iter().copied()) {
        Some(known) => fault.with_help(format!("did you mean `{known}`?")),
        None => fault.with_help(format!("known fields are: {}", known.join(", "))),
    }
}

/// The one of `known` that `word` is most likely meant to be.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// Jaro-Winkler similarity; below it a suggestion confuses more than it helps.
    const SIMILAR: f64 = 0.8;
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Reads one entry; `None` after putting at least one fault into `faults`.
fn entry(table: &Spanned<DeValue<'_>>, faults: &mut Vec<Fault>) -> Option<Entry> {
    let DeValue::Table(fields) = table.get_ref() else {
        faults.push(
            Fault::at(table.span(), "this is no key")
                .with_help("begin each key with `[[keys]]`, in double brackets"),
        );
        return None;
    };
    let faults_before = faults.len();
    let mut reader = Reader { fields, header: table.span(), faults };
    reader.refuse_unknown();

    let id = reader.name("id", "id", KeyId::new);
    let hash = reader.digest("hash");
    let label = reader.name("label", "label", Label::new);
    let user = reader.name("user", "user name", UserName::new);
    let role = reader.name("role", "role", RoleName::new);
    reader.require(["id", "hash", "label", "user", "role"]);
    let start = reader.start();
    let created_at = reader.time("created_at");
    let enabled = reader.flag("enabled").unwrap_or(true);
    let expires_at = reader.time("expires_at");
    let methods = reader.list("allowed_methods", scopes::method);
    let paths = reader.list("allowed_paths", scopes::path);
    let networks = reader.list("allowed_cidrs", scopes::network);
    let limits = reader.limits();
    let disabled_at = reader.time("disabled_at");
    let disabled_by = reader.line("disabled_by");
    let disabled_reason = reader.line("disabled_reason");
    let previous_hash = reader.digest("previous_hash");
    let previous_expires_at = reader.time("previous_expires_at");
    reader.require_together("previous_hash", "previous_expires_at");

    if faults.len() > faults_before {
        return None;
    }
    let ((id, id_place), (hash, hash_place), (role, role_place)) = (id?, hash?, role?);
    let record = KeyRecord {
        id,
        hash,
        start,
        label: label?.0,
        user: user?.0,
        role,
        created_at,
        enabled,
        expires_at,
        scopes: Scopes::new(methods, paths, networks),
        limits,
        disabled_at,
        disabled_by,
        disabled_reason,
        previous: previous_hash.as_ref().map(|(digest, _)| *digest).zip(previous_expires_at),
    };
    let previous_hash = previous_hash.map(|(_, place)| place);
    let places = Places {
        start: table.span().start,
        id: id_place,
        hash: hash_place,
        role: role_place,
        previous_hash,
    };
    Some(Entry { record, places })
}

/// Reads the fields of one entry, and notes what is wrong with them.
struct Reader<'a, 'text> {
    fields: &'a DeTable<'text>,
    /// Where the entry begins.
    header: Span,
    faults: &'a mut Vec<Fault>,
}

impl<'a> Reader<'a, '_> {
    fn refuse_unknown(&mut self) {
        for name in self.fields.keys() {
            let (span, name) = (name.span(), name.get_ref().as_ref());
            if !FIELDS.contains(&name) {
                self.faults.push(unknown_field(span, name, &FIELDS));
            }
        }
    }

    fn require<const N: usize>(&mut self, names: [&str; N]) {
        for name in names.into_iter().filter(|name| !self.fields.contains_key(*name)) {
            let fault = Fault::at(self.header.clone(), format!("this key has no `{name}`"));
            self.faults.push(fault.with_help(format!("add `{name} = \"…\"`")));
        }
    }

    fn require_together(&mut self, one: &str, other: &str) {
        for (given, missing) in [(one, other), (other, one)] {
            let field = self.fields.get_key_value(given);
            if let (Some((name, _)), false) = (field, self.fields.contains_key(missing)) {
                let message = format!("`{given}` without `{missing}`");
                let help = "the secret before a rotation has both, or neither";
                self.faults.push(Fault::at(name.span(), message).with_help(help));
            }
        }
    }

    fn text(&mut self, name: &str) -> Option<(&'a str, Span)> {
        let value = self.fields.get(name)?;
        let DeValue::String(text) = value.get_ref() else {
            let fault = Fault::at(value.span(), format!("`{name}` is no text"));
            self.faults.push(fault.with_help("write it in double quotes"));
            return None;
        };
        Some((text, value.span()))
    }

    fn name<T>(
        &mut self,
        field: &str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, NameError>,
    ) -> Option<(T, Span)> {
        let (text, span) = self.text(field)?;
        match parse(text) {
            Ok(value) => Some((value, span)),
            Err(error) => {
                self.faults.push(Fault::at(span, format!("the {what} {error}")));
                None
            }
        }
    }

    fn line(&mut self, field: &str) -> Option<String> {
        let (line, _) = self.name(field, &format!("`{field}`"), Label::new)?;
        Some(line.as_str().to_owned())
    }

    fn digest(&mut self, field: &str) -> Option<(Digest, Span)> {
        let (text, span) = self.text(field)?;
        match Digest::parse(text) {
            Ok(digest) => Some((digest, span)),
            Err(error) => {
                self.faults.push(Fault::at(span, format!("the hash {error}")).with_help(
                    "a hash is `sha256:` and 64 hexadecimal digits; `keyward keys import` makes \
                     it from the key",
                ));
                None
            }
        }
    }

    fn start(&mut self) -> Option<String> {
        let (text, span) = self.text("start")?;
        let fault = match text {
            _ if text.len() > START_MAX_BYTES => {
                format!("`start` is longer than {START_MAX_BYTES} bytes")
            }
            _ if text.chars().any(char::is_control) => "`start` does not print".to_owned(),
            _ => return Some(text.to_owned()),
        };
        let help = "keep the first few characters of the key, too few to use it, or leave it out";
        self.faults.push(Fault::at(span, fault).with_help(help));
        None
    }

    /// What a list holds; nothing where there is none. An empty one could be meant in two ways.
    fn list<T>(&mut self, field: &str, parse: impl Fn(&str) -> Result<T, ScopeError>) -> Vec<T> {
        let Some(value) = self.fields.get(field) else { return Vec::new() };
        let mut fault = |span, message: String, help: String| {
            self.faults.push(Fault::at(span, message).with_help(help));
        };
        let DeValue::Array(values) = value.get_ref() else {
            let help = "write the values in brackets, each in double quotes";
            fault(value.span(), format!("`{field}` is no list"), help.to_owned());
            return Vec::new();
        };
        if values.is_empty() || values.len() > SCOPES_MAX {
            let message = format!("`{field}` has {} values", values.len());
            let help =
                format!("write 1 to {SCOPES_MAX} of them, or leave the field out to allow all");
            fault(value.span(), message, help);
        }
        let mut read = Vec::with_capacity(values.len());
        for value in values.iter() {
            let parsed = match value.get_ref() {
                DeValue::String(text) => parse(text),
                _ => Err(ScopeError::new("this is no text", "write it in double quotes")),
            };
            match parsed {
                Ok(parsed) => read.push(parsed),
                Err(error) => {
                    fault(value.span(), format!("`{field}`: {}", error.message), error.help)
                }
            }
        }
        read
    }

    fn flag(&mut self, field: &str) -> Option<bool> {
        let value = self.fields.get(field)?;
        if let DeValue::Boolean(flag) = value.get_ref() {
            return Some(*flag);
        }
        let fault = Fault::at(value.span(), format!("`{field}` is neither true nor false"));
        self.faults.push(fault.with_help("write `true` or `false`, without quotes"));
        None
    }

    fn time(&mut self, field: &str) -> Option<Timestamp> {
        let value = self.fields.get(field)?;
        let time = match value.get_ref() {
            DeValue::Datetime(time) if time.offset.is_some() => time.to_string().parse().ok(),
            _ => None,
        };
        if time.is_none() {
            let fault = Fault::at(value.span(), format!("`{field}` is no time with a zone"));
            self.faults.push(fault.with_help("write it as `2026-11-23T10:00:00Z`, without quotes"));
        }
        time
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Hasher;
    use super::*;

    /// An entry with `extra` lines.
    fn key(id: &str, extra: &str) -> String {
        let hash = Hasher::default().digest(id.as_bytes());
        format!(
            "[[keys]]\nid = \"{id}\"\nhash = \"{hash}\"\nlabel = \"l\"\nuser = \"u\"\nrole = \"r\"\n{extra}"
        )
    }

    #[test]
    fn entry_by_entry_the_same_is_read_as_at_once() {
        let (a, b) = (key("a", "start = '[[keys]]'\n"), key("b", ""));
        let commented =
            format!("# Ours.\n\n{}\n# Bob:\n{}", key("a", "enabled = false"), key("b", "# end"));
        for text in [commented, format!("{a}{b}").replace('\n', "\r\n")] {
            let (whole, faults) = parse(&text);
            assert_eq!(faults, [], "{text}");
            let (records, starts): (Vec<_>, Vec<_>) =
                whole.into_iter().map(|entry| (entry.record, entry.places.start)).unzip();
            let memory = Memory::default();
            for memory in [None, Some(&memory), Some(&memory)] {
                let read = read(&text, memory).expect("each entry stands alone");
                assert_eq!((&*read.records, &read.starts), (&*records, &starts), "{text}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_entry_by_entry_is_read_at_once() {
        let memory = Memory::default();
        read(&(key("a", "") + &key("b", "")), Some(&memory)).expect("both can be");
        let multiline = key("a", "disabled_reason = \"\"\"\n[[keys]]\n\"\"\"\n");
        for text in [
            "keys = []\n".to_owned(),
            format!("keys = []\n{}", key("a", "")),
            format!("\u{1}\n{}", key("a", "")),
            format!("[keys]\n{}", key("a", "")),
            format!("{}[other]\n{}", key("a", ""), key("b", "")),
            format!("{}[[keys.inner]]\n{}", key("a", ""), key("b", "")),
            format!("{}\n [[keys]]\n{}", key("a", ""), key("b", "")),
            key("a", "id = \"b\"\n"),
            key("a", "unknown = 1\n"),
            multiline,
        ] {
            assert!(read(&text, None).is_none(), "{text}");
            assert!(read(&text, Some(&memory)).is_none(), "{text}");
        }
    }
}
