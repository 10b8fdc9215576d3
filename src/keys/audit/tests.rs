//! The log on real files: what is told, what a crash leaves, and what tampering shows.

use std::fs;
use std::path::PathBuf;

use super::read::{Page, Query, read};
use super::verify::{Verdict, verify};
use super::*;
use crate::identity::{KeyId, Label};
use crate::keys::KeyRecord;
use crate::keys::actor::Way;

/// A log, and the text of the key file that it tells of.
struct Bench {
    folder: tempfile::TempDir,
    store: Option<String>,
}

fn record(id: &str) -> KeyRecord {
    KeyRecord {
        start: Some("kw_abcd".into()),
        label: Label::new("a \"label\" \\ ünïcode").unwrap(),
        ..KeyRecord::sample(id, id)
    }
}

fn actor() -> crate::keys::actor::Actor {
    let (user, key_id) = (Label::new("carol").unwrap(), KeyId::new("key_admin").unwrap());
    let address = Some([192, 0, 2, 7].into());
    crate::keys::actor::Actor { way: Way::Api, user, key_id: Some(key_id), address }
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), store: None }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    fn open<T>(&self, act: impl FnOnce(&mut AuditLog<'_>) -> T) -> T {
        let path = self.path();
        act(&mut AuditLog::open(&path, &self.folder.path().join("keys.toml")).unwrap())
    }

    /// Tells that the keys with `ids` are made by one change, after which the key file is `after`.
    fn tell(&self, ids: &[&str], after: &str) {
        let (by, records) = (actor(), ids.iter().map(|id| record(id)).collect::<Vec<_>>());
        let event = |record| Event::Key {
            action: "create",
            by: &by,
            before: None,
            after: Some(record),
            reason: Some("because"),
        };
        let events: Vec<_> = records.iter().map(event).collect();
        self.open(|log| log.tell(self.store.as_deref(), after, &events)).unwrap();
    }

    /// Tells it, and it happens.
    fn make(&mut self, ids: &[&str]) {
        let after = format!("{}{}", self.store.as_deref().unwrap_or_default(), ids.concat());
        self.tell(ids, &after);
        self.store = Some(after);
    }

    fn page(&self, query: Query<'_>) -> Page {
        read(&self.path(), &query).unwrap()
    }

    /// Every line, the oldest first: its number, action, and whether it was undone.
    fn all(&self) -> Vec<(u64, String, bool)> {
        let page = self.page(Query { limit: usize::MAX, ..Query::default() });
        assert_eq!((page.next, page.unreadable), (None, 0));
        let entries = page.entries.into_iter().rev();
        entries.map(|told| (told.entry.sequence, told.entry.action, told.undone)).collect()
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(self.path()).unwrap();
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    fn verify(&self) -> Verdict {
        verify(&self.path(), None).unwrap()
    }

    /// What is found when the lines are these instead.
    fn broken(&self, lines: &[String]) -> Vec<String> {
        fs::write(self.path(), lines.concat()).unwrap();
        let broken = self.verify().broken.into_iter();
        broken.map(|broken| format!("{}: {}", broken.line, broken.message)).collect()
    }
}

/// Numbers and actions, none of which was undone.
fn told(actions: &[&str]) -> Vec<(u64, String, bool)> {
    let numbered = actions.iter().zip(1..);
    numbered.map(|(action, number)| (number, (*action).to_owned(), false)).collect()
}

#[test]
fn every_change_is_told_and_linked_to_the_one_before() {
    let mut bench = Bench::new();
    bench.make(&["key_a"]);
    bench.make(&["key_b", "key_c"]);
    bench.make(&["key_d"]);
    assert_eq!(bench.all(), told(&["create"; 4]));
    let verdict = bench.verify();
    assert_eq!((verdict.lines, verdict.broken, verdict.unfinished_bytes), (4, vec![], 0));

    let page = bench.page(Query { before: Some(3), limit: 1, ..Query::default() });
    let entry = &page.entries[0].entry;
    assert_eq!((entry.sequence, entry.change, page.next), (2, 2, Some(2)));
    assert_eq!(entry.key_id.as_deref(), Some("key_b"));
    assert_eq!(entry.reason.as_deref(), Some("because"));
    let by = &entry.actor;
    assert_eq!((&*by.kind, by.user.as_deref()), ("api", Some("carol")));
    assert_eq!(by.address, Some([192, 0, 2, 7].into()));
    assert_eq!(entry.after.as_ref().unwrap()["label"], record("key_a").label.as_str());
    let id = KeyId::new("key_c").unwrap();
    let page = bench.page(Query { key_id: Some(&id), limit: 9, ..Query::default() });
    let found: Vec<_> = page.entries.iter().map(|told| told.entry.sequence).collect();
    assert_eq!(found, [3]);
    let metadata = fs::metadata(bench.path()).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);
}

#[test]
fn a_hash_is_that_of_the_line_without_it() {
    let mut bench = Bench::new();
    bench.make(&["key_a"]);
    let line = bench.lines().remove(0);
    let (body, rest) = line.split_once(",\"hash\":\"").unwrap();
    assert_eq!(rest, format!("{}\"}}\n", Hash::of(&format!("{body}}}"))));
    assert!(body.contains(&format!("\"previous\":\"{}\"", "0".repeat(64))));
    assert!(!line.contains(&record("key_a").hash.to_string()), "no key's hash is told");
}

#[test]
fn a_page_is_read_back_to_front_however_long_the_log() {
    let mut bench = Bench::new();
    let ids: Vec<String> = (1..=700).map(|number| format!("key_{number}")).collect();
    bench.make(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(fs::metadata(bench.path()).unwrap().len() > 4 * 64 * 1024, "it takes several reads");
    let mut before = None;
    let mut found = Vec::new();
    loop {
        let page = bench.page(Query { before, limit: 64, ..Query::default() });
        found.extend(page.entries.into_iter().map(|told| told.entry.key_id.unwrap()));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    found.reverse();
    assert_eq!(found, ids);
}

#[test]
fn what_was_told_and_not_made_is_told_apart() {
    let mut bench = Bench::new();
    bench.make(&["key_a"]);
    // The disk is full: the program says so itself.
    let after = "never written";
    let (by, key) = (actor(), record("key_b"));
    let event =
        Event::Key { action: "create", by: &by, before: None, after: Some(&key), reason: None };
    bench.open(|log| {
        log.tell(bench.store.as_deref(), after, &[event]).unwrap();
        log.take_back(&FileError::new("write", Path::new("keys.toml"), io::Error::other("full")));
    });
    // The program is killed between the two: the next change says so.
    bench.tell(&["key_c", "key_d"], after);
    bench.make(&["key_e"]);
    let mut expect = told(&["create", "create", "undone", "create", "create", "undone", "create"]);
    for number in [2, 4, 5] {
        expect[number - 1].2 = true;
    }
    assert_eq!(bench.all(), expect);
    assert_eq!(bench.verify().broken, []);
    // Whoever asks for one key alone sees it as well.
    let id = KeyId::new("key_d").unwrap();
    let page = bench.page(Query { key_id: Some(&id), limit: 9, ..Query::default() });
    let found: Vec<_> =
        page.entries.iter().map(|told| (told.entry.sequence, told.undone)).collect();
    assert_eq!(found, [(5, true)]);
}

#[test]
fn what_others_do_to_the_key_file_is_noted() {
    let mut bench = Bench::new();
    bench.store = Some("made by hand".to_owned());
    bench.make(&["key_a"]);
    bench.make(&["key_b"]);
    bench.store = Some("edited by hand".to_owned());
    bench.make(&["key_c"]);
    assert_eq!(bench.all(), told(&["begin", "create", "create", "edited", "create"]));
    // A note is not taken for a change that could be undone.
    bench.store = Some("made by handkey_akey_b".to_owned());
    bench.make(&["key_d"]);
    assert_eq!(bench.all()[5].1, "edited");
    assert_eq!(bench.verify().broken, []);
}

#[test]
fn a_line_that_was_not_finished_is_mended() {
    let mut bench = Bench::new();
    bench.make(&["key_a"]);
    let whole = bench.lines().concat();
    for torn in ["{", "{\"sequence\":2,\"time\"", &whole[..whole.len() - 1]] {
        fs::write(bench.path(), format!("{whole}{torn}")).unwrap();
        let verdict = bench.verify();
        assert_eq!((verdict.lines, verdict.broken), (1, vec![]));
        assert_eq!(verdict.unfinished_bytes, torn.len());
        assert_eq!(bench.all(), told(&["create"]));
        let before = bench.store.clone();
        bench.make(&["key_b"]);
        bench.store = before;
        assert_eq!(bench.all(), told(&["create", "mended", "create"]));
        assert_eq!(bench.verify().broken, []);
    }
    // The first line can be the one.
    fs::write(bench.path(), &whole[..20]).unwrap();
    bench.store = None;
    bench.make(&["key_a"]);
    assert_eq!(bench.all(), told(&["mended", "create"]));
}

#[test]
fn tampering_shows_where_it_was_done() {
    let mut bench = Bench::new();
    for id in ["key_a", "key_b", "key_c", "key_d", "key_e"] {
        bench.make(&[id]);
    }
    let lines = bench.lines();
    let check = |lines: &[String], expect: &[&str]| assert_eq!(bench.broken(lines), expect);
    let with = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines = lines.clone();
        change(&mut lines);
        lines
    };
    check(&lines, &[]);

    let edited = with(&|lines| lines[2] = lines[2].replace("alice", "mallory"));
    check(&edited, &["3: number 3 was edited: its hash does not fit"]);
    let blank = with(&|lines| lines[2] = lines[2].replacen("{", "{ ", 1));
    check(&blank, &["3: number 3 was edited: its hash does not fit"]);
    let last = with(&|lines| lines[4] = lines[4].replace("because", "of me"));
    check(&last, &["5: number 5 was edited: its hash does not fit"]);

    // Whoever makes the hash fit, too, breaks the link behind it.
    let forged = with(&|lines| {
        let (body, _) = lines[2].split_once(",\"hash\":\"").unwrap();
        let body = body.replace("alice", "mallory");
        lines[2] = format!("{body},\"hash\":\"{}\"}}\n", Hash::of(&format!("{body}}}")));
    });
    check(&forged, &["4: number 4 does not follow the line before: that was replaced"]);

    let removed = with(&|lines| drop(lines.remove(2)));
    check(&removed, &["3: number 3 is missing before it"]);
    let more = with(&|lines| drop(lines.drain(1..4)));
    check(&more, &["2: numbers 2 to 4 are missing before it"]);
    let first = with(&|lines| drop(lines.remove(0)));
    check(&first, &["1: number 1 is missing before it"]);
    let swapped = with(&|lines| lines.swap(2, 3));
    check(
        &swapped,
        &[
            "3: number 4 is out of order: 3 belongs here",
            "4: number 3 is out of order: 5 belongs here",
            "5: number 5 is out of order: 4 belongs here",
        ],
    );
    let repeated = with(&|lines| lines.insert(3, lines[2].clone()));
    check(&repeated, &["4: number 3 is out of order: 4 belongs here"]);
    let foreign = with(&|lines| lines[2] = "not JSON\n".to_owned());
    check(&foreign, &["3: this is no line of an audit log"]);
    let cut = with(&|lines| lines[2].truncate(40));
    check(&cut, &["3: this is no line of an audit log", "4: number 4 is missing before it"]);
}

#[test]
fn a_noted_head_shows_what_was_cut_off() {
    let mut bench = Bench::new();
    bench.make(&["key_a"]);
    bench.make(&["key_b"]);
    let (number, head) = bench.verify().head.unwrap();
    assert_eq!(number, 2);
    bench.make(&["key_c"]);
    let noted = |bench: &Bench| verify(&bench.path(), Some(&head)).unwrap().noted_line;
    assert_eq!(noted(&bench), Some(2));
    let lines = bench.lines();
    assert!(bench.broken(&lines[..1]).is_empty(), "the chain alone does not tell");
    assert_eq!(noted(&bench), None);
}

#[test]
fn a_log_that_cannot_be_gone_on_with_stops_every_change() {
    let bench = Bench::new();
    let store = bench.folder.path().join("keys.toml");
    let path = bench.path();
    let open = || AuditLog::open(&path, &store).map(drop).map_err(|error| error.to_string());
    fs::write(&path, "not JSON\n").unwrap();
    assert!(open().unwrap_err().contains("its last line cannot be read"));
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
    assert!(open().unwrap_err().contains("chmod 600"));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(open().is_err());
}
