//! The key file: both ways to read it agree; no fault tells a key; and a change to one key leaves every other byte as it
//! was, and says what it should.
//!
//! Input: a byte that says what is changed, one that says which key, and the text, in which what could be a key takes
//! the place of a byte 1.

use std::path::Path;
use std::sync::OnceLock;

use jiff::Timestamp;
use keyward::diagnostics::Report;
use keyward::identity::{Label, RoleDeclaration, RoleName, Roles};
use keyward::keys::KeyRecord;
use keyward::keys::edit::{self, EditError};
use keyward::keys::entries;
use keyward::keys::format::{Hasher, KeyFormat, Prefix};
use keyward::keys::memory::Memory;
use keyward::keys::store::Store;
use keyward::paths::patterns::PathPattern;
use keyward::scopes::Scopes;

use super::reading::cut;

/// A key of ours, and one of somebody else's.
const OWN: &str = "kw_2mVx81QpZr7Yt3Wn5Bc9Df1Gh6Jk4Ls8MnPq";
const FOREIGN: &str = "hUnt3r2-hUnt3r2";
/// So many characters of a key in a row give it away.
const TELLING: usize = 13;

/// Runs the target.
pub fn run(data: &[u8]) {
    let &[change, place, ref text @ ..] = data else { return };
    let (before, after) = cut(text, 1);
    let secret = if before.len() < text.len() { written(change) } else { String::new() };
    let (Ok(before), Ok(after)) = (std::str::from_utf8(before), std::str::from_utf8(after)) else {
        return;
    };
    let text = [before, &secret, after].concat();
    let report = store().check(&text).err();
    let tells = |text: &str| parts().any(|part| text.contains(part));
    if let Some(report) = report.filter(|_| !tells(before) && !tells(after)) {
        check_report(&report);
    }
    check_readings(&text);
    check_edits(&text, change, usize::from(place));
}

fn store() -> Store<'static> {
    static PARTS: OnceLock<(Roles, Hasher, KeyFormat)> = OnceLock::new();
    let (roles, hasher, format) = PARTS.get_or_init(|| {
        let viewer = RoleDeclaration {
            name: RoleName::new("viewer").expect("a name"),
            inherits: Vec::new(),
            admin: Default::default(),
            limits: Default::default(),
        };
        let format = KeyFormat::new(Prefix::new("kw").expect("a prefix"));
        (Roles::new(&[viewer]).expect("one role"), Hasher::default(), format)
    });
    Store::new(Path::new("keys.toml"), Path::new("keys.audit.jsonl"), roles, hasher, format)
}

/// A key, in each way that it gets into a file. Ours is hidden wherever it stands, somebody else's where a digest
/// belongs.
fn written(way: u8) -> String {
    match way % 12 {
        0 => format!("\nhash = \"{FOREIGN}\"\n"),
        1 => format!("\nhash = \"sha256:{FOREIGN}\"\n"),
        2 => format!("\nhash = {FOREIGN}\n"),
        3 => format!("\nprevious_hash = '{FOREIGN}'\n"),
        4 => format!("\nkey = \"{FOREIGN}\"\n"),
        5 => format!("\nstart = \"{FOREIGN}\"\n"),
        6 => format!("\n{FOREIGN}\n"),
        7 => format!("\nkeys = [{{ id = \"a\", hash = \"{FOREIGN}\" }}]\n"),
        8 => format!("\nhash = \"{OWN}\"\n"),
        _ => OWN.to_owned(),
    }
}

fn parts() -> impl Iterator<Item = &'static str> {
    let parts = |key: &'static str| (0..=key.len() - TELLING).map(|at| &key[at..at + TELLING]);
    parts(OWN).chain(parts(FOREIGN))
}

fn check_report(report: &Report) {
    assert!(report.has_errors(), "refused without a reason");
    let lines: Vec<String> = report.lines().collect();
    for view in [report.render(false), report.render(true), lines.join("\n")] {
        for part in parts() {
            assert!(!view.contains(part), "{part} is shown: {view}");
        }
    }
}

/// Reading entry by entry, from memory too, finds what reading the whole finds.
fn check_readings(text: &str) {
    let Some(quick) = entries::read(text, None) else { return };
    let (entries, faults) = entries::parse(text);
    assert_eq!(faults, [], "{text}");
    let records: Vec<KeyRecord> = entries.iter().map(|entry| entry.record.clone()).collect();
    let starts: Vec<usize> = entries.iter().map(|entry| entry.places.start).collect();
    assert_eq!((&quick.records[..], &quick.starts), (&records[..], &starts));
    let mut alone = Vec::new();
    let all = entries::one_by_one(text.as_bytes(), |record| {
        alone.push(record.clone());
        Some(())
    });
    assert_eq!((all.expect("it is in memory"), alone), (Some(()), records));
    let memory = Memory::default();
    for _ in 0..2 {
        let known = entries::read(text, Some(&memory)).expect("it was read before");
        assert_eq!((&known.records, &known.starts), (&quick.records, &quick.starts));
    }
}

fn records(text: &str) -> Vec<KeyRecord> {
    let (entries, faults) = entries::parse(text);
    assert_eq!(faults, [], "{text}");
    entries.into_iter().map(|entry| entry.record).collect()
}

fn check_edits(text: &str, change: u8, place: usize) {
    let (entries, faults) = entries::parse(text);
    if !faults.is_empty() || text.starts_with('\u{feff}') {
        return;
    }
    let starts: Vec<usize> = entries.iter().map(|entry| entry.places.start).collect();
    let records: Vec<KeyRecord> = entries.into_iter().map(|entry| entry.record).collect();
    check_appended(text, &starts, &records);
    if records.is_empty() {
        return;
    }
    let place = place % records.len();
    check_updated(text, &starts, &records, place, change);
    check_removed(text, &starts, &records, place);
}

fn check_appended(text: &str, starts: &[usize], records: &[KeyRecord]) {
    let new = &new_record();
    let edited = match edit::append(text, starts.first().copied(), std::slice::from_ref(new)) {
        Ok(edited) => edited,
        Err(EditError::InlineKeys) => return,
    };
    if starts.is_empty() {
        // `keys = []` went, and nothing else.
        let entry = edited.find("[[keys]]").expect("the new entry");
        assert!(is_without_span(text.trim_end(), edited[..entry].trim_end()), "{edited}");
    } else {
        assert!(edited.starts_with(text), "{edited}");
    }
    let (last, others) = (self::records(&edited), records);
    assert_eq!(last.split_last(), Some((new, others)), "{edited}");
}

fn check_updated(text: &str, starts: &[usize], records: &[KeyRecord], place: usize, change: u8) {
    let range = starts[place]..starts.get(place + 1).copied().unwrap_or(text.len());
    let before = &records[place];
    let Ok(same) = edit::update(text, range.clone(), before, before) else { return };
    assert_eq!(same, text[range.clone()], "what is not changed is not written anew");
    let after = changed(before, change);
    let entry = edit::update(text, range.clone(), before, &after).expect("no inline entry");
    let edited = [&text[..range.start], &entry, &text[range.end..]].concat();
    let mut expected = records.to_vec();
    expected[place] = after;
    assert_eq!(self::records(&edited), expected, "{edited}");
    let kept = |line: &&str| line.trim_start().starts_with('#');
    if !text.contains("\"\"\"") && !text.contains("'''") {
        let comments =
            |text: &str| text.lines().filter(kept).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(comments(&edited), comments(text), "{edited}");
    }
}

fn check_removed(text: &str, starts: &[usize], records: &[KeyRecord], place: usize) {
    let Ok(edited) = edit::remove(text, starts, place) else { return };
    let mut expected = records.to_vec();
    expected.remove(place);
    assert_eq!(self::records(&edited), expected, "{edited}");
    let left = if records.len() == 1 { edited.replacen("keys = []\n", "", 1) } else { edited };
    assert!(is_without_span(text, &left), "{left}");
}

/// Whether `left` is `text` without one part of it.
fn is_without_span(text: &str, left: &str) -> bool {
    let (text, left) = (text.as_bytes(), left.as_bytes());
    let same = text.iter().zip(left).take_while(|(one, other)| one == other).count();
    let rest = &left[same..];
    left.len() <= text.len() && text.ends_with(rest)
}

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).expect("a time that exists")
}

fn new_record() -> KeyRecord {
    let hash = Hasher::default().digest(b"new");
    let text = format!(
        "[[keys]]\nid = \"key_new\"\nhash = \"{hash}\"\nlabel = \"\\\"new\\\" \u{fc}\"\nuser = \"u\"\nrole = \"viewer\"\n"
    );
    changed(&records(&text)[0], 0xff)
}

/// `record` with some fields of its own and some without.
fn changed(record: &KeyRecord, change: u8) -> KeyRecord {
    let mut record = record.clone();
    let is_set = |bit: u8| change & 1 << bit != 0;
    if is_set(0) {
        record.enabled = !record.enabled;
        let is_off = !record.enabled;
        record.disabled_at = is_off.then(|| time(1));
        record.disabled_by = is_off.then(|| "cli:\"root\"".to_owned());
        record.disabled_reason = is_off.then(|| "left # the 'firm' \\".to_owned());
    }
    if is_set(1) {
        record.label = Label::new("an \"other\" label = [x] #").expect("it prints");
    }
    if is_set(2) {
        record.expires_at = if record.expires_at.is_some() { None } else { Some(time(2)) };
    }
    if is_set(3) {
        record.previous = Some((record.hash, time(3)));
        record.hash = Hasher::default().digest(b"rotated");
        record.start = Some("kw_2m".to_owned());
    }
    if is_set(4) {
        let path = PathPattern::new("/a \"b\"/{*rest}").expect("a pattern");
        record.scopes = Scopes::new(vec![http::Method::GET], vec![path], Vec::new());
    }
    if is_set(5) {
        record.scopes = None;
    }
    record
}
