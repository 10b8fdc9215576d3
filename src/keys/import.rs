//! Keys made elsewhere, as they come in: one a line, plain or as a digest, or as CSV with a header.
//!
//! Never here: files, or a fault that quotes the line it is about.

use std::collections::HashMap;
use std::fmt::{self, Display, Formatter};

use super::format::{Digest, DigestError, Hasher, KeyFormat, Scheme, start_of};
use super::store::NewKey;
use crate::identity::{Label, NameError, RoleName, UserName};
use crate::limit::requests::RequestLimits;

/// What keys get that come without it.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// Whose they are.
    pub user: Option<UserName>,
    /// What they may do.
    pub role: Option<RoleName>,
    /// What they are called; several keys get it with the number of their line.
    pub label: Option<Label>,
}

/// A key, and the line it came from.
#[derive(Clone, Debug)]
pub struct ImportedKey {
    /// Counted from 1.
    pub line: usize,
    /// What is to be stored.
    pub key: NewKey,
}

/// A line that gives no key. `Display` is `line 3: …` and quotes nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineFault {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong, and what to do.
    pub message: String,
}

impl Display for LineFault {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Reads `text`: CSV if its first line names a column `key` or `hash`, else one key or digest a line.
/// Empty lines are skipped.
///
/// # Errors
/// Every line that gives no key.
pub fn parse(
    text: &str,
    defaults: &Defaults,
    hasher: &Hasher,
    format: &KeyFormat,
) -> Result<Vec<ImportedKey>, Vec<LineFault>> {
    let text = text.trim_start_matches('\u{feff}');
    let mut lines = text
        .lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line.trim_end()))
        .filter(|(_, line)| !line.is_empty())
        .peekable();
    let Some(&(first_line, first)) = lines.peek() else {
        return Ok(Vec::new());
    };
    let header = split(first).and_then(|cells| Columns::read(&cells));
    let columns = match header {
        Some(columns) => {
            lines.next();
            columns
        }
        None => Ok(Columns::plain()),
    };
    let columns = columns
        .and_then(|columns| columns.require(defaults))
        .map_err(|message| vec![LineFault { line: first_line, message }])?;

    let importer = Importer { columns, defaults, hasher, format };
    let mut keys = Vec::new();
    let mut faults = Vec::new();
    for (line, text) in lines {
        match importer.read(line, text) {
            Ok(key) => keys.push(ImportedKey { line, key }),
            Err(message) => faults.push(LineFault { line, message }),
        }
    }
    if let [only] = &mut keys[..]
        && importer.columns.label.is_none()
        && let Some(label) = &defaults.label
    {
        only.key.label = label.clone();
    }
    faults.extend(repeated(&keys));
    faults.sort_by_key(|fault| fault.line);
    if faults.is_empty() { Ok(keys) } else { Err(faults) }
}

/// The faults of keys that an earlier line gives too, or whose user and label it has.
fn repeated(keys: &[ImportedKey]) -> Vec<LineFault> {
    let mut hashes = HashMap::new();
    let mut labels = HashMap::new();
    let mut faults = Vec::new();
    for ImportedKey { line, key } in keys {
        let mut fault = |message| faults.push(LineFault { line: *line, message });
        let earlier_label = labels.insert((&key.user, &key.label), *line);
        if let Some(earlier) = hashes.insert(key.hash, *line) {
            fault(format!("the same key as in line {earlier}; remove one of them"));
        } else if let Some(earlier) = earlier_label {
            fault(format!("user and label are those of line {earlier}; give it another label"));
        }
    }
    faults
}

/// Where in a line things are.
#[derive(Debug)]
struct Columns {
    secret: SecretColumn,
    user: Option<usize>,
    role: Option<usize>,
    label: Option<usize>,
    count: usize,
}

#[derive(Clone, Copy, Debug)]
enum SecretColumn {
    /// Each whole line is a key or a digest.
    Line,
    /// A column of keys or digests.
    Key(usize),
    /// A column of digests.
    Hash(usize),
}

impl Columns {
    fn plain() -> Self {
        Self { secret: SecretColumn::Line, user: None, role: None, label: None, count: 1 }
    }

    /// The columns that `cells` name; nothing if they do not look like a header.
    fn read(cells: &[String]) -> Option<Result<Self, String>> {
        let names: Vec<_> = cells.iter().map(|cell| cell.trim().to_ascii_lowercase()).collect();
        let position = |wanted: &str| names.iter().position(|name| name == wanted);
        let secret = match (position("key"), position("hash")) {
            (Some(_), Some(_)) => {
                return Some(Err("a column `key` and a column `hash`; keep one".to_owned()));
            }
            (Some(place), None) => SecretColumn::Key(place),
            (None, Some(place)) => SecretColumn::Hash(place),
            (None, None) => return None,
        };
        let known = ["key", "hash", "user", "role", "label"];
        for (place, name) in names.iter().enumerate() {
            let number = place + 1;
            if !known.contains(&name.as_str()) {
                return Some(Err(format!(
                    "column {number} has a name that is not known; known are key or hash, label, \
                     user and role"
                )));
            }
            if names[..place].contains(name) {
                return Some(Err(format!("column {number} has the name of an earlier one")));
            }
        }
        let (user, role, label) = (position("user"), position("role"), position("label"));
        Some(Ok(Self { secret, user, role, label, count: names.len() }))
    }

    /// Whether every key can get what it must have, from a column or from `defaults`.
    fn require(self, defaults: &Defaults) -> Result<Self, String> {
        let missing = [
            ("user", self.user.is_none() && defaults.user.is_none()),
            ("role", self.role.is_none() && defaults.role.is_none()),
            ("label", self.label.is_none() && defaults.label.is_none()),
        ];
        let missing: Vec<_> =
            missing.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
        if missing.is_empty() {
            return Ok(self);
        }
        let options: Vec<_> = missing.iter().map(|name| format!("--{name}")).collect();
        Err(format!(
            "the keys come without {}: give {}, or a CSV with such columns",
            missing.join(" and "),
            options.join(" and ")
        ))
    }
}

struct Importer<'a> {
    columns: Columns,
    defaults: &'a Defaults,
    hasher: &'a Hasher,
    format: &'a KeyFormat,
}

impl Importer<'_> {
    fn read(&self, line: usize, text: &str) -> Result<NewKey, String> {
        let cells = match self.columns.secret {
            SecretColumn::Line => vec![text.to_owned()],
            _ => split(text).ok_or("a quoted cell does not end on its line")?,
        };
        if cells.len() != self.columns.count {
            let (found, expected) = (cells.len(), self.columns.count);
            return Err(format!("{found} cells, but the header names {expected} columns"));
        }
        let (hash, start) = match self.columns.secret {
            SecretColumn::Line => self.key_or_digest(&cells[0])?,
            SecretColumn::Key(place) => self.key_or_digest(&cells[place])?,
            SecretColumn::Hash(place) => (self.digest(&cells[place])?, None),
        };
        let default = &self.defaults;
        Ok(NewKey {
            hash,
            start,
            label: match self.columns.label {
                Some(place) => Label::new(cells[place].trim()).map_err(says("label"))?,
                None => self.numbered_label(line)?,
            },
            user: cell_or(&cells, self.columns.user, &default.user, UserName::new, "user name")?,
            role: cell_or(&cells, self.columns.role, &default.role, RoleName::new, "role")?,
            expires_at: None,
            scopes: None,
            limits: RequestLimits::default(),
        })
    }

    fn numbered_label(&self, line: usize) -> Result<Label, String> {
        let label = self.defaults.label.as_ref().expect("a default or a column is required");
        Label::new(&format!("{label} {line}")).map_err(says("label with the line's number"))
    }

    fn key_or_digest(&self, text: &str) -> Result<(Digest, Option<String>), String> {
        let begins_as_digest = [Scheme::Sha256, Scheme::HmacSha256].into_iter().any(|scheme| {
            text.strip_prefix(scheme.name()).is_some_and(|rest| rest.starts_with(':'))
        });
        if begins_as_digest {
            return Ok((self.digest(text)?, None));
        }
        if self.format.is_mistyped(text.as_bytes()) {
            return Err("this looks like a key made here, but its checksum does not fit: a \
                        character is wrong"
                .to_owned());
        }
        if !self.format.is_plausible(text.as_bytes()) {
            return Err(
                "no key: a key is 8 to 256 printable ASCII characters, without spaces".to_owned()
            );
        }
        Ok((self.hasher.digest(text.as_bytes()), Some(start_of(text))))
    }

    fn digest(&self, text: &str) -> Result<Digest, String> {
        let digest = Digest::parse(text.trim()).map_err(|error| match error {
            DigestError::Scheme => {
                format!("the hash {error}; a column of plain keys is named `key`")
            }
            _ => format!("the hash {error}"),
        })?;
        match (digest.scheme(), self.hasher.scheme()) {
            (found, expected) if found == expected => Ok(digest),
            (_, Scheme::HmacSha256) => Err("the hash was made without the configured pepper, \
                                            and cannot be turned into one that was"
                .to_owned()),
            (_, Scheme::Sha256) => {
                Err("the hash was made with a pepper, and none is configured".to_owned())
            }
        }
    }
}

fn cell_or<T: Clone>(
    cells: &[String],
    column: Option<usize>,
    default: &Option<T>,
    parse: impl Fn(&str) -> Result<T, NameError>,
    what: &str,
) -> Result<T, String> {
    match column {
        Some(place) => parse(cells[place].trim()).map_err(says(what)),
        None => Ok(default.clone().expect("a default or a column is required")),
    }
}

/// The message for a bad name; without the character that is wrong, which could be a key's.
fn says(what: &str) -> impl Fn(NameError) -> String {
    move |error| match error {
        NameError::Character { allowed, .. } => {
            format!("the {what} holds a character it may not; allowed are {allowed}")
        }
        error => format!("the {what} {error}"),
    }
}

/// The cells of a line of CSV (RFC 4180, without line breaks in cells); nothing if a quote stays open.
fn split(line: &str) -> Option<Vec<String>> {
    let mut cells = Vec::new();
    let mut rest = line;
    loop {
        let (cell, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_cell(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].to_owned(), &rest[end..])
            }
        };
        cells.push(cell);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None if after.is_empty() => return Some(cells),
            None => return None,
        }
    }
}

/// The text of a cell up to its closing quote, and what follows it; `""` stands for a quote.
fn quoted_cell(text: &str) -> Option<(String, &str)> {
    let mut cell = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        cell.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                cell.push('"');
                rest = next;
            }
            None => return Some((cell, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Prefix;
    use super::*;

    fn read(text: &str, defaults: &Defaults) -> Result<Vec<ImportedKey>, Vec<LineFault>> {
        let format = KeyFormat::new(Prefix::new("kw").unwrap());
        parse(text, defaults, &Hasher::default(), &format)
    }

    fn defaults() -> Defaults {
        Defaults {
            user: Some(UserName::new("alice").unwrap()),
            role: Some(RoleName::new("viewer").unwrap()),
            label: Some(Label::new("old").unwrap()),
        }
    }

    fn show(ImportedKey { line, key }: &ImportedKey) -> String {
        let start = key.start.as_deref().unwrap_or("-");
        format!("{line}: {} {} {} {start}", key.user, key.role, key.label)
    }

    fn keys(text: &str, defaults: &Defaults) -> Vec<String> {
        read(text, defaults).unwrap().iter().map(show).collect()
    }

    fn faults(text: &str, defaults: &Defaults) -> Vec<String> {
        read(text, defaults).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_line_is_a_key_or_a_digest() {
        let digest = Hasher::default().digest(b"another-key");
        let text = format!("\u{feff}plain-key-1\r\n\n{digest}\n");
        let found = read(&text, &defaults()).unwrap();
        assert_eq!(found[0].key.hash, Hasher::default().digest(b"plain-key-1"));
        assert_eq!(found[1].key.hash, digest);
        assert_eq!(
            found.iter().map(show).collect::<Vec<_>>(),
            ["1: alice viewer old 1 pl", "3: alice viewer old 3 -"]
        );
        assert_eq!(keys("plain-key-1", &defaults()), ["1: alice viewer old pl"]);
        assert!(keys("\n\r\n", &defaults()).is_empty());
    }

    #[test]
    fn csv_columns_come_in_any_order_and_defaults_fill_the_rest() {
        let text = "Label, key,user\n\"a, \"\"b\"\"\",plain-key-1,bob\nc,plain-key-2,carol\n";
        assert_eq!(keys(text, &defaults()), ["2: bob viewer a, \"b\" pl", "3: carol viewer c pl"]);
        let hash = Hasher::default().digest(b"plain-key-1");
        let text = format!("hash,label,user,role\n{hash},a,bob,admin");
        assert_eq!(keys(&text, &Defaults::default()), ["2: bob admin a -"]);
    }

    #[test]
    fn every_bad_line_is_named_and_none_is_quoted() {
        const SECRET: &str = "hünter2-hunter2";
        let typo = format!("kw_{}", "a".repeat(36));
        let text = format!("{SECRET}\nplain-key-1\nshort\n{typo}\nsha256:{SECRET}\nplain-key-1\n");
        let found = faults(&text, &defaults());
        assert!(!found.concat().contains("hunter2"));
        assert_eq!(
            found,
            [
                "line 1: no key: a key is 8 to 256 printable ASCII characters, without spaces",
                "line 3: no key: a key is 8 to 256 printable ASCII characters, without spaces",
                "line 4: this looks like a key made here, but its checksum does not fit: a \
                 character is wrong",
                "line 5: the hash has 15 characters after the colon instead of 64",
                "line 6: the same key as in line 2; remove one of them",
            ]
        );
    }

    #[test]
    fn bad_csv_is_named_by_line() {
        let check = |text: &str, expect: &[&str]| {
            assert_eq!(faults(text, &defaults()), expect, "{text}");
        };
        check(
            "key,name\nplain-key-1,a",
            &["line 1: column 2 has a name that is not known; known \
             are key or hash, label, user and role"],
        );
        check("key,key\n", &["line 1: column 2 has the name of an earlier one"]);
        check("key,hash\n", &["line 1: a column `key` and a column `hash`; keep one"]);
        check("key,user\nplain-key-1\n", &["line 2: 1 cells, but the header names 2 columns"]);
        check("key,user\n\"plain-key-1,a\n", &["line 2: a quoted cell does not end on its line"]);
        check(
            "key,user\nplain-key-1,a b\n",
            &["line 2: the user name holds a character it may \
             not; allowed are printable ASCII characters without spaces"],
        );
        check(
            "hash\nplain-key-1\n",
            &["line 2: the hash begins with neither `sha256:` nor \
             `hmac-sha256:`; a column of plain keys is named `key`"],
        );
        check(
            "key,label\nplain-key-1,a\nplain-key-2,a\n",
            &["line 3: user and label are those of line 2; give it another label"],
        );
    }

    #[test]
    fn what_no_column_and_no_default_gives_is_asked_for_once() {
        assert_eq!(
            faults("plain-key-1\nplain-key-2\n", &Defaults::default()),
            ["line 1: the keys come without user and role and label: give --user and --role and \
              --label, or a CSV with such columns"]
        );
    }
}
