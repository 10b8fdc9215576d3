//! Changes to the text of a key file that leave every other byte of it as people wrote it.
//!
//! Pure: text in, text out. Never here: files, or whether a change is allowed.

use std::ops::Range;

use jiff::Timestamp;
use toml::de::{DeTable, DeValue};
use toml_edit::{Datetime, Document, DocumentMut, Item, Table, Value};

use super::KeyRecord;

/// Why a text cannot be edited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EditError {
    /// Its keys are written as `keys = [{ … }]`.
    InlineKeys,
}

/// `text`, whose first entry begins at `first`, with `records` behind all others.
pub fn append(
    text: &str,
    first: Option<usize>,
    records: &[KeyRecord],
) -> Result<String, EditError> {
    let mut edited = match first {
        Some(first) if text[first..].starts_with('[') => text.to_owned(),
        Some(_) => return Err(EditError::InlineKeys),
        None => without_empty_list(text),
    };
    for record in records {
        if !edited.is_empty() {
            let newline = if edited.ends_with('\n') { "\n" } else { "\n\n" };
            edited.push_str(newline);
        }
        edited.push_str("[[keys]]\n");
        edited.push_str(&entry(record));
    }
    Ok(edited)
}

/// The entry at `range` of `text`, which is as `before` says, as `after` says. Fields that are the same in both are not
/// touched, and the rest of the text is not even read: it may be long.
pub fn update(
    text: &str,
    range: Range<usize>,
    before: &KeyRecord,
    after: &KeyRecord,
) -> Result<String, EditError> {
    let entry = &text[range];
    if !entry.starts_with('[') {
        return Err(EditError::InlineKeys);
    }
    let mut document: DocumentMut = entry.parse().expect("the text was read before it is edited");
    let tables = document.get_mut("keys").and_then(Item::as_array_of_tables_mut);
    let table = tables.and_then(|tables| tables.get_mut(0)).expect("the range is that of an entry");
    for ((field, old), (_, new)) in fields(before).into_iter().zip(fields(after)) {
        match new {
            new if old.as_ref().map(Value::to_string) == new.as_ref().map(Value::to_string) => {}
            Some(new) => set(table, field, new),
            None => drop(table.remove(field)),
        }
    }
    Ok(with_line_ends_of(entry, &document.to_string()))
}

/// `edited` with the line ends of `entry`, which it was made from: the editor writes line feeds alone.
fn with_line_ends_of(entry: &str, edited: &str) -> String {
    if !entry.contains('\r') {
        return edited.to_owned();
    }
    let text = |line: &str| line.trim_end_matches(['\r', '\n']).len();
    let usual = entry.split_inclusive('\n').next().map_or("", |line| &line[text(line)..]);
    let mut lines = entry.split_inclusive('\n');
    let mut with_ends = String::with_capacity(entry.len() + edited.len());
    for line in edited.split_inclusive('\n') {
        let line = &line[..text(line)];
        let mut rest = lines.clone();
        match rest.find(|old| &old[..text(old)] == line) {
            Some(old) => {
                with_ends.push_str(old);
                lines = rest;
            }
            None => {
                with_ends.push_str(line);
                with_ends.push_str(usual);
            }
        }
    }
    with_ends
}

/// All of `record`, as an entry of the file has it.
pub fn entry(record: &KeyRecord) -> String {
    let mut table = Table::new();
    for (field, value) in fields(record) {
        if let Some(value) = value {
            table.insert(field, Item::Value(value));
        }
    }
    table.to_string()
}

/// `text`, whose entries begin at `starts`, without the one at `place` and the comment right above it; `keys = []` if
/// it was the last.
pub fn remove(text: &str, starts: &[usize], place: usize) -> Result<String, EditError> {
    if !text[starts[place]..].starts_with('[') {
        return Err(EditError::InlineKeys);
    }
    // What belongs to none is behind the entry that it follows, and for the first at the beginning.
    let above = place.checked_sub(1).map_or(0, |before| end(text, starts, before));
    let kept = kept_comment(&text[above..starts[place]]);
    let (above, below) = (&text[..above], &text[end(text, starts, place)..]);
    Ok(match starts.len() {
        1 => format!("{kept}keys = []\n{below}"),
        _ if place == 0 && kept.is_empty() => below.trim_start_matches(['\r', '\n']).to_owned(),
        _ => [above, kept, below].concat(),
    })
}

/// Where the entry at `place` ends: before the comments and empty lines that follow it.
fn end(text: &str, starts: &[usize], place: usize) -> usize {
    let start = starts[place];
    let piece = &text[start..starts.get(place + 1).copied().unwrap_or(text.len())];
    let document = Document::parse(piece).expect("the text was read before it is edited");
    start + document.trailing().span().map_or(piece.len(), |trailing| trailing.start)
}

/// What stands before a key but does not belong to it: everything up to the last empty line.
fn kept_comment(above: &str) -> &str {
    let mut end = 0;
    let mut line_end = 0;
    for line in above.split_inclusive('\n') {
        line_end += line.len();
        // The last line may be the header's indentation.
        if line.trim().is_empty() && line.ends_with('\n') {
            end = line_end;
        }
    }
    let kept = &above[..end];
    if kept.trim().is_empty() { "" } else { kept }
}

/// `text` without its `keys = []`, which says that there are no keys.
fn without_empty_list(text: &str) -> String {
    let document = DeTable::parse(text).expect("the text was read before it is edited");
    let Some((name, value)) = document.get_ref().get_key_value("keys") else {
        return text.to_owned();
    };
    if !matches!(value.get_ref(), DeValue::Array(keys) if keys.is_empty()) {
        return text.to_owned();
    }
    let after = text[value.span().end..].trim_start_matches([' ', '\t']);
    let after = after.strip_prefix("\r\n").or(after.strip_prefix('\n')).unwrap_or(after);
    format!("{}{after}", &text[..name.span().start])
}

/// Sets a field, keeping its place and the comments around it.
fn set(table: &mut Table, field: &str, value: Value) {
    match table.get_mut(field).and_then(Item::as_value_mut) {
        Some(existing) => {
            let decor = existing.decor().clone();
            *existing = value;
            *existing.decor_mut() = decor;
        }
        None => {
            table.insert(field, Item::Value(value));
        }
    }
}

fn time(time: Timestamp) -> Value {
    let datetime: Datetime = time.to_string().parse().expect("both write RFC 3339");
    datetime.into()
}

/// `entries` as a list of texts, unless there are none.
fn list(entries: &[impl ToString]) -> Option<Value> {
    let list: toml_edit::Array = entries.iter().map(ToString::to_string).collect();
    (!list.is_empty()).then_some(list.into())
}

/// Every field an entry may have, in the order of a new one.
fn fields(record: &KeyRecord) -> [(&'static str, Option<Value>); 21] {
    let scopes = record.scopes.as_deref();
    let limits = record.limits;
    let count = |count: Option<u32>| count.map(|count| i64::from(count).into());
    let daily = limits.daily.and_then(|daily| i64::try_from(daily).ok());
    [
        ("id", Some(record.id.as_str().into())),
        ("hash", Some(record.hash.to_string().into())),
        ("start", record.start.as_deref().map(Value::from)),
        ("label", Some(record.label.as_str().into())),
        ("user", Some(record.user.as_str().into())),
        ("role", Some(record.role.as_str().into())),
        ("created_at", record.created_at.map(time)),
        ("enabled", Some(record.enabled.into())),
        ("expires_at", record.expires_at.map(time)),
        ("allowed_methods", scopes.and_then(|scopes| list(scopes.methods()))),
        ("allowed_paths", scopes.and_then(|scopes| list(scopes.paths()))),
        ("allowed_cidrs", scopes.and_then(|scopes| list(scopes.addresses()))),
        ("rate", limits.rate.map(|rate| rate.to_string().into())),
        ("burst", count(limits.burst)),
        ("concurrent", count(limits.concurrent)),
        ("daily", daily.map(Value::from)),
        ("disabled_at", record.disabled_at.map(time)),
        ("disabled_by", record.disabled_by.as_deref().map(Value::from)),
        ("disabled_reason", record.disabled_reason.as_deref().map(Value::from)),
        ("previous_hash", record.previous.map(|(digest, _)| digest.to_string().into())),
        ("previous_expires_at", record.previous.map(|(_, until)| time(until))),
    ]
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::entries;
    use super::super::format::Hasher;
    use super::*;
    use crate::limit::requests::{Rate, RequestLimits};
    use crate::paths::patterns::PathPattern;
    use crate::scopes::Scopes;

    fn key(id: &str) -> String {
        let hash = Hasher::default().digest(id.as_bytes());
        format!(
            "[[keys]]\nid = \"{id}\"\nhash = \"{hash}\"\nlabel = \"l\"\nuser = \"u\"\nrole = \"r\"\n"
        )
    }

    fn records(text: &str) -> Vec<KeyRecord> {
        let (entries, faults) = entries::parse(text);
        assert_eq!(faults, [], "{text}");
        entries.into_iter().map(|entry| entry.record).collect()
    }

    /// Where the entry at `place` is.
    fn range(text: &str, place: usize) -> Range<usize> {
        let starts: Vec<_> =
            entries::parse(text).0.iter().map(|entry| entry.places.start).collect();
        starts[place]..starts.get(place + 1).copied().unwrap_or(text.len())
    }

    /// `text` without the entry at `place`.
    fn remove(text: &str, place: usize) -> Result<String, EditError> {
        let (entries, _) = entries::parse(text);
        let starts: Vec<_> = entries.iter().map(|entry| entry.places.start).collect();
        super::remove(text, &starts, place)
    }

    /// All of `text` after the update of the entry at `place`.
    fn updated(text: &str, place: usize, before: &KeyRecord, after: &KeyRecord) -> String {
        let range = range(text, place);
        let entry = update(text, range.clone(), before, after).unwrap();
        [&text[..range.start], &entry, &text[range.end..]].concat()
    }

    fn full_record() -> KeyRecord {
        let mut record = records(&key("key_full")).remove(0);
        record.start = Some("kw_\"2m".into());
        record.created_at = Some(Timestamp::from_second(1_800_000_000).unwrap());
        record.expires_at = Some(Timestamp::from_millisecond(1_900_000_000_001).unwrap());
        record.scopes = Scopes::new(
            vec![Method::GET, Method::from_bytes(b"PROPFIND").unwrap()],
            vec![PathPattern::new("/a \"b\"/{*rest}").unwrap()],
            vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::1/128".parse().unwrap()],
        );
        record.limits = RequestLimits {
            rate: Rate::parse("100/s"),
            burst: Some(200),
            concurrent: Some(16),
            daily: Some(10_000),
        };
        record.enabled = false;
        record.disabled_at = record.created_at;
        record.disabled_by = Some("cli:root".into());
        record.disabled_reason = Some("left the \"firm\" \\ ünïcode".into());
        record.previous = Some((Hasher::default().digest(b"previous"), record.expires_at.unwrap()));
        record
    }

    #[test]
    fn what_is_appended_is_read_back_and_nothing_else_changes() {
        let record = full_record();
        let check = |text: &str, expect: &str| {
            let (entries, _) = entries::parse(text);
            let first = entries.first().map(|entry| entry.places.start);
            let edited = append(text, first, std::slice::from_ref(&record)).unwrap();
            assert!(edited.starts_with(expect), "{edited}");
            assert_eq!(records(&edited).last(), Some(&record));
        };
        check("", "[[keys]]\nid = \"key_full\"\n");
        check("keys = []\n", "[[keys]]\n");
        check("# Ours.\n\nkeys=[ ] # none yet\r\n# End.", "# Ours.\n\n# none yet\r\n# End.\n\n[[");
        let text = format!("# Ours.\n{}# Bob:\n{}\n# End.", key("key_a"), key("key_b"));
        check(&text, &format!("{text}\n\n[[keys]]\n"));
    }

    #[test]
    fn a_key_is_switched_off_and_on_in_its_place() {
        let text = format!(
            "# Ours.\n{}enabled = true # for now\n\n# Bob's\n{}# End.\n",
            key("key_a"),
            key("key_b")
        );
        let before = records(&text).remove(0);
        let after = KeyRecord {
            enabled: false,
            disabled_at: Some(Timestamp::from_second(1_800_000_000).unwrap()),
            disabled_by: Some("cli:root".into()),
            disabled_reason: Some("lost".into()),
            ..before.clone()
        };
        let disabled = updated(&text, 0, &before, &after);
        let addition = "disabled_at = 2027-01-15T08:00:00Z\ndisabled_by = \"cli:root\"\n\
                        disabled_reason = \"lost\"\n";
        let expect = text.replace(
            "enabled = true # for now\n",
            &format!("enabled = false # for now\n{addition}"),
        );
        assert_eq!(disabled, expect);
        assert_eq!(updated(&disabled, 0, &after, &before), text);
    }

    #[test]
    fn every_field_can_be_changed_in_its_place() {
        let text = format!("# Ours.\n{}\n# Bob's\n{}", key("key_a"), key("key_full"));
        let (before, after) = (records(&text).remove(1), full_record());
        let edited = updated(&text, 1, &before, &after);
        assert_eq!(records(&edited)[1], after);
        assert_eq!(updated(&edited, 1, &after, &before), format!("{text}enabled = true\n"));
    }

    #[test]
    fn lines_end_as_they_did() {
        let text = key("key_a").replace('\n', "\r\n").replace("\"l\"\r\n", "\"l\" # mixed\n");
        let before = records(&text).remove(0);
        let after = KeyRecord { enabled: false, ..before.clone() };
        assert_eq!(updated(&text, 0, &before, &before), text);
        assert_eq!(updated(&text, 0, &before, &after), format!("{text}enabled = false\r\n"));
    }

    #[test]
    fn a_key_goes_with_the_comment_right_above_it() {
        let (a, b, c) = (key("key_a"), key("key_b"), key("key_c"));
        let text = format!("# Ours.\n\n# a\n{a}\n# b\n{b}\n# Carols:\n\n{c}# End.\n");
        let check = |place, expect: String| assert_eq!(remove(&text, place).unwrap(), expect);
        check(0, format!("# Ours.\n\n\n# b\n{b}\n# Carols:\n\n{c}# End.\n"));
        check(1, format!("# Ours.\n\n# a\n{a}\n# Carols:\n\n{c}# End.\n"));
        check(2, format!("# Ours.\n\n# a\n{a}\n# b\n{b}\n# Carols:\n\n# End.\n"));
    }

    #[test]
    fn of_what_is_around_a_key_that_goes_no_byte_changes() {
        let (a, b) = (key("key_a"), key("key_b").replace("[[keys]]", "[[ keys ]]"));
        let label = "label = \"\"\"x\\\n  # y\"\"\" # z\n";
        let odd = key("key_c").replace("label = \"l\"\n", "") + label;
        let check = |text: &str, place, expect: &str| {
            assert_eq!(remove(text, place).unwrap(), expect, "{text}");
        };
        let text = format!("# Ours.\n{a}  # Bob's:\n  {b}{odd}");
        check(&text, 0, &format!("  # Bob's:\n  {b}{odd}"));
        check(&text, 1, &format!("# Ours.\n{a}{odd}"));
        check(&text, 2, &format!("# Ours.\n{a}  # Bob's:\n  {b}"));
        let windows = |text: &str| text.replace('\n', "\r\n");
        check(&windows(&text), 1, &windows(&format!("# Ours.\n{a}{odd}")));
        check(&windows(&format!("{a}\n\n{odd}")), 0, &windows(&odd));
    }

    #[test]
    fn without_its_last_key_a_file_says_so() {
        let a = key("key_a");
        let check = |text: &str, expect: &str| {
            let edited = remove(text, 0).unwrap();
            assert_eq!(edited, expect);
            assert!(records(&edited).is_empty());
        };
        check(&a, "keys = []\n");
        check(&format!("# Ours.\n\n# a\n{a}# End.\n"), "# Ours.\n\nkeys = []\n# End.\n");
    }

    #[test]
    fn keys_in_one_inline_list_are_read_but_not_edited() {
        let hash = Hasher::default().digest(b"a");
        let text = format!(
            "keys = [{{ id = \"a\", hash = \"{hash}\", label = \"l\", user = \"u\", role = \"r\" }}]"
        );
        assert_eq!(records(&text).len(), 1);
        let first = range(&text, 0);
        let appended = append(&text, Some(first.start), &[full_record()]);
        assert_eq!(appended, Err(EditError::InlineKeys));
        let record = full_record();
        assert_eq!(update(&text, first, &record, &record), Err(EditError::InlineKeys));
        assert_eq!(remove(&text, 0), Err(EditError::InlineKeys));
    }
}
