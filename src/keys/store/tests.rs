//! The store on real files, in a folder of each test's own.

use std::fs;

use super::super::KeyState;
use super::*;
use crate::identity::{AdminScope, RoleDeclaration};
use crate::keys::actor::Way;
use crate::keys::change::{Rotation, Update};
use crate::keys::format::Prefix;
use crate::scopes::{self, Scopes};

/// A store in a folder of its own.
struct Bench {
    folder: tempfile::TempDir,
    roles: Roles,
    hasher: Hasher,
    format: KeyFormat,
}

impl Bench {
    fn new() -> Self {
        let role = |name, admin| RoleDeclaration {
            name: RoleName::new(name).unwrap(),
            inherits: Vec::new(),
            admin,
            limits: Default::default(),
        };
        let roles = [role("viewer", AdminScope::None), role("admin", AdminScope::All)];
        Self {
            folder: tempfile::tempdir().unwrap(),
            roles: Roles::new(&roles).unwrap(),
            hasher: Hasher::default(),
            format: KeyFormat::new(Prefix::new("kw").unwrap()),
        }
    }

    fn with<T>(&self, act: impl FnOnce(Store<'_>) -> T) -> T {
        let path = self.folder.path().join("keys.toml");
        let audit = self.folder.path().join("audit.jsonl");
        act(Store::new(&path, &audit, &self.roles, &self.hasher, &self.format))
    }

    fn new_key(&self, key: &str, label: &str) -> NewKey {
        NewKey {
            hash: self.hasher.digest(key.as_bytes()),
            start: None,
            label: Label::new(label).unwrap(),
            user: UserName::new("alice").unwrap(),
            role: RoleName::new("viewer").unwrap(),
            expires_at: None,
            scopes: None,
            limits: Default::default(),
        }
    }

    fn add(&self, key: &str, label: &str) -> Result<KeyRecord, StoreError> {
        self.add_new(self.new_key(key, label))
    }

    fn add_new(&self, new: NewKey) -> Result<KeyRecord, StoreError> {
        self.add_all(&[new], Run::Real).map(|mut added| added.remove(0))
    }

    fn add_all(&self, new: &[NewKey], run: Run) -> Result<Vec<KeyRecord>, StoreError> {
        self.with(|store| store.add(new, Adding { by: &carol(), action: "create", run }))
    }

    fn stored(&self) -> Vec<KeyRecord> {
        self.with(|store| store.load()).unwrap().records.to_vec()
    }

    fn change(&self, id: &KeyId, change: Change) -> Result<Changed, StoreError> {
        self.change_on(id, change, None, true)
    }

    fn change_on(
        &self,
        id: &KeyId,
        change: Change,
        expected: Option<Revision>,
        may_leave_no_admin: bool,
    ) -> Result<Changed, StoreError> {
        let terms = Terms { by: &carol(), expected, may_leave_no_admin };
        self.with(|store| store.change(Which::Exactly(id), &change, terms))
    }

    fn rotation(&self, key: &str, old_until: Option<Timestamp>) -> Change {
        let hash = self.hasher.digest(key.as_bytes());
        Change::Rotate(Rotation { hash, start: Some("kw_new".into()), old_until })
    }
}

fn carol() -> Actor {
    let user = Label::new("carol").unwrap();
    Actor { way: Way::Api, user, key_id: None, address: None }
}

fn disable(reason: &str) -> Change {
    Change::Disable { reason: Some(Label::new(reason).unwrap()) }
}

fn update(update: Update) -> Change {
    Change::Update(Box::new(update))
}

fn in_seconds(seconds: i64) -> Timestamp {
    Timestamp::from_second(now().as_second() + seconds).unwrap()
}

#[track_caller]
fn check_refusal<T>(result: Result<T, StoreError>, expect: AddFault) {
    match result.err() {
        Some(StoreError::Refused(faults)) => assert_eq!(faults, [(0, expect)]),
        Some(error) => panic!("{error}"),
        None => panic!("it was not refused"),
    }
}

#[test]
fn a_key_lives_from_its_making_to_its_deletion() {
    let bench = Bench::new();
    let made = bench.add("secret-a", "a").unwrap();
    let id = &made.id;
    assert_eq!(bench.stored(), std::slice::from_ref(&made));

    let disabled = bench.change(id, disable("lost")).unwrap().after.unwrap();
    assert!(!disabled.enabled && disabled.disabled_at.is_some());
    assert_eq!(disabled.disabled_by.as_deref(), Some("api:carol"));
    assert_eq!(disabled.disabled_reason.as_deref(), Some("lost"));
    assert_eq!(bench.stored(), std::slice::from_ref(&disabled));
    // Who disabled it first stays on record.
    assert_eq!(bench.change(id, disable("again")).unwrap().after, Some(disabled));

    assert_eq!(bench.change(id, Change::Enable).unwrap().after.as_ref(), Some(&made));
    assert_eq!(bench.change(id, Change::Enable).unwrap().after.as_ref(), Some(&made));
    let refused = bench.change(id, Change::Delete { force: false }).unwrap_err();
    assert!(matches!(refused, StoreError::StillEnabled(_)), "{refused}");
    let deleted = bench.change(id, Change::Delete { force: true }).unwrap();
    assert_eq!((deleted.before, deleted.after), (made, None));
    assert_eq!(bench.stored(), []);
}

#[test]
fn a_rotated_key_is_the_same_key_with_another_secret() {
    let bench = Bench::new();
    let made = bench.add("secret-a", "a").unwrap();
    let digest = |key: &str| bench.hasher.digest(key.as_bytes());
    let state = |key| bench.stored()[0].state_of(&digest(key), now());
    let lookup = |key: &str| {
        let table = bench.with(|store| store.load()).unwrap().table;
        table
            .lookup(key.as_bytes(), now().as_second())
            .map(|found| found.identity().key_id().to_owned())
    };
    let grace = in_seconds(3600);

    let rotated = bench.change(&made.id, bench.rotation("secret-b", Some(grace))).unwrap();
    let expect = KeyRecord {
        hash: digest("secret-b"),
        start: Some("kw_new".into()),
        previous: Some((made.hash, grace)),
        ..made.clone()
    };
    assert_eq!(bench.stored(), [expect]);
    assert_eq!(rotated.cut_short(now()), None);
    assert_eq!(lookup("secret-a").as_deref(), Ok(made.id.as_str()));
    assert_eq!(lookup("secret-b").as_deref(), Ok(made.id.as_str()));

    // A key has two secrets at most.
    let again = bench.change(&made.id, bench.rotation("secret-c", Some(grace))).unwrap();
    assert_eq!(again.cut_short(now()), Some(grace));
    assert_eq!(state("secret-a"), None);
    assert_eq!(state("secret-b"), Some(KeyState::Enabled));

    let at_once = bench.change(&made.id, bench.rotation("secret-d", None)).unwrap();
    assert_eq!(at_once.cut_short(now()), Some(grace));
    assert_eq!(bench.stored()[0].previous, None);
    assert!(lookup("secret-c").is_err() && lookup("secret-d").is_ok());
    // A grace that is over is none.
    let late = bench.change(&made.id, bench.rotation("secret-e", Some(in_seconds(-1)))).unwrap();
    assert_eq!(late.after.unwrap().previous, None);
}

#[test]
fn no_key_is_rotated_to_a_secret_that_is_known() {
    let bench = Bench::new();
    let (a, b) = (bench.add("secret-a", "a").unwrap(), bench.add("secret-b", "b").unwrap());
    bench.change(&b.id, bench.rotation("secret-c", Some(in_seconds(60)))).unwrap();
    let before = bench.stored();
    check_refusal(bench.change(&a.id, bench.rotation("secret-b", None)), AddFault::SameKey(b.id));
    // Its own is no change, but for the old one's end.
    assert!(bench.change(&a.id, bench.rotation("secret-a", None)).is_ok());
    assert_eq!(bench.stored()[1..], before[1..]);
}

#[test]
fn what_is_known_of_a_key_can_be_changed_and_no_further() {
    let bench = Bench::new();
    let (a, b) = (bench.add("secret-a", "a").unwrap(), bench.add("secret-b", "b").unwrap());
    let label = |text: &str| Some(Label::new(text).unwrap());
    let role = |text: &str| Some(RoleName::new(text).unwrap());
    let end = in_seconds(60);
    let changed = bench
        .change(
            &a.id,
            update(Update {
                label: label("c"),
                role: role("admin"),
                expires_at: Some(Some(end)),
                methods: Some(vec![scopes::method("GET").unwrap()]),
                paths: Some(vec![scopes::path("/a").unwrap()]),
                networks: None,
                limits: Default::default(),
            }),
        )
        .unwrap();
    let after = bench.stored().remove(0);
    assert_eq!(changed.after.as_ref(), Some(&after));
    let narrowed = after.scopes.clone();
    let expect = KeyRecord {
        label: label("c").unwrap(),
        role: role("admin").unwrap(),
        expires_at: Some(end),
        scopes: narrowed.clone(),
        ..a.clone()
    };
    assert_eq!(after, expect);

    let fewer = Update { methods: Some(Vec::new()), expires_at: Some(None), ..Update::default() };
    let after = bench.change(&a.id, update(fewer)).unwrap().after.unwrap();
    let scopes = after.scopes.as_deref().unwrap();
    assert!(scopes.methods().is_empty() && after.expires_at.is_none());
    assert_eq!(scopes.paths(), narrowed.as_deref().map(Scopes::paths).unwrap());

    let before = bench.stored();
    let past = Update { expires_at: Some(Some(in_seconds(0))), ..Update::default() };
    check_refusal(bench.change(&a.id, update(past)), AddFault::ExpiryPast);
    let taken = Update { label: label("b"), ..Update::default() };
    check_refusal(bench.change(&a.id, update(taken.clone())), AddFault::LabelTaken(b.id.clone()));
    let unknown = Update { role: role("wizard"), ..Update::default() };
    check_refusal(bench.change(&a.id, update(unknown)), AddFault::UnknownRole(None));
    assert_eq!(bench.stored(), before);

    // A label is its user's enabled keys' alone.
    bench.change(&b.id, disable("lost")).unwrap();
    bench.change(&a.id, update(taken)).unwrap();
    check_refusal(bench.change(&b.id, Change::Enable), AddFault::LabelTaken(a.id));
}

#[test]
fn a_change_that_was_thought_of_for_another_state_is_refused() {
    let bench = Bench::new();
    let made = bench.add("secret-a", "a").unwrap();
    let seen = Revision::of(&made);
    assert_eq!(Revision::parse(&seen.to_string()), Some(seen));
    for wrong in ["", "0", &"g".repeat(32), &"A".repeat(32), &"é".repeat(16)] {
        assert_eq!(Revision::parse(wrong), None, "{wrong}");
    }
    let on = |change, expected| bench.change_on(&made.id, change, Some(expected), true);
    let disabled = on(disable("lost"), seen).unwrap().after.unwrap();
    assert_ne!(Revision::of(&disabled), seen);
    match on(Change::Delete { force: false }, seen) {
        Err(StoreError::Changed(current)) => assert_eq!(*current, disabled),
        other => panic!("{other:?}"),
    }
    let enabled = on(Change::Enable, Revision::of(&disabled)).unwrap().after.unwrap();
    assert_eq!(Revision::of(&enabled), seen, "it is as it was");
}

#[test]
fn the_last_who_may_manage_everybodys_keys_is_guarded() {
    let bench = Bench::new();
    let admin = |key: &str| {
        let role = RoleName::new("admin").unwrap();
        bench.add_new(NewKey { role, ..bench.new_key(key, &key[6..]) }).unwrap()
    };
    let (first, second, viewer) =
        (admin("secret-1"), admin("secret-2"), bench.add("secret-3", "v").unwrap());
    let to_viewer =
        || update(Update { role: Some(RoleName::new("viewer").unwrap()), ..Update::default() });
    let ask = |id: &KeyId, change| bench.change_on(id, change, None, false);

    ask(&viewer.id, disable("lost")).unwrap();
    ask(&first.id, disable("lost")).unwrap();
    for change in [disable("lost"), Change::Delete { force: true }, to_viewer()] {
        let refused = ask(&second.id, change).unwrap_err();
        assert!(matches!(&refused, StoreError::LastAdmin(id) if *id == second.id), "{refused}");
    }
    ask(&second.id, bench.rotation("secret-4", None)).unwrap();
    ask(&first.id, Change::Delete { force: false }).unwrap();
    let forced = bench.change(&second.id, to_viewer()).unwrap();
    assert!(forced.leaves_no_admin);
    // Where there is none, none is lost.
    assert!(!ask(&second.id, disable("lost")).unwrap().leaves_no_admin);
}

#[test]
fn a_key_is_not_kept_in_a_text_that_is_shown() {
    let bench = Bench::new();
    let made = bench.add("secret-a", "a").unwrap();
    let ours = format!("kw_{}", "x".repeat(36));
    for text in ["secret-a", "it was 'secret-a'.", "(secret-a)", &ours, &format!("old:{ours}")] {
        check_refusal(bench.change(&made.id, disable(text)), AddFault::HoldsKey("reason"));
        let label = Some(Label::new(text).unwrap());
        let update = update(Update { label, ..Update::default() });
        check_refusal(bench.change(&made.id, update), AddFault::HoldsKey("label"));
        check_refusal(bench.add("secret-b", text), AddFault::HoldsKey("label"));
    }
    // Columns that were mixed up.
    check_refusal(bench.add("secret-b", "secret-b"), AddFault::HoldsKey("label"));
    let user = UserName::new("secret-a").unwrap();
    let mixed = NewKey { user, ..bench.new_key("secret-b", "b") };
    check_refusal(bench.add_new(mixed), AddFault::HoldsKey("user name"));
    assert_eq!(bench.stored(), std::slice::from_ref(&made));
    bench.change(&made.id, disable("secret agents, kw_Start")).unwrap();
}

#[test]
fn a_store_that_remembers_reads_what_others_wrote() {
    let bench = Bench::new();
    let memory = Memory::default();
    let remembered = || bench.with(|store| store.remembering(&memory).load()).unwrap();
    let by = carol();
    let adding = Adding { by: &by, action: "create", run: Run::Real };
    let new = ["a", "b", "c"].map(|name| bench.new_key(&format!("secret-{name}"), name));
    let made = bench.with(|store| store.remembering(&memory).add(&new, adding)).unwrap();
    assert!(Arc::ptr_eq(&remembered().records, &remembered().records));
    assert_eq!(*remembered().records, made);

    // Another process, which knows nothing of this memory.
    let other = bench.change(&made[1].id, disable("lost")).unwrap().after.unwrap();
    let terms = Terms { by: &by, expected: Some(Revision::of(&made[1])), may_leave_no_admin: true };
    let change = |id, change: &Change, terms| {
        let which = Which::Exactly(id);
        bench.with(|store| store.remembering(&memory).change(which, change, terms))
    };
    let outdated = change(&other.id, &Change::Enable, terms).unwrap_err();
    assert!(matches!(outdated, StoreError::Changed(now) if *now == other));

    let terms = Terms { expected: None, ..terms };
    change(&made[0].id, &Change::Delete { force: true }, terms).unwrap();
    let rotation = bench.rotation("secret-d", None);
    let rotated = change(&made[2].id, &rotation, terms).unwrap().after.unwrap();
    assert_eq!(*remembered().records, [other.clone(), rotated.clone()]);
    assert!(remembered().table.lookup(b"secret-d", 0).is_ok());
    assert_eq!(bench.stored(), [other, rotated.clone()]);

    // What must hold for all is asked of all, also of those that are as they were.
    let path = bench.folder.path().join("keys.toml");
    let text = fs::read_to_string(&path).unwrap();
    let twice = text.replace("id = \"key_", "id = \"key2_").replace("[[keys]]", "\n[[keys]]");
    fs::write(&path, text + &twice).unwrap();
    let faults = bench.with(|store| store.remembering(&memory).load()).unwrap_err();
    assert_eq!(faults.lines().count(), 2, "{faults:?}");
    assert!(faults.lines().all(|fault| fault.contains("have one hash")), "{faults:?}");
}

#[test]
fn what_would_not_load_is_never_written() {
    let bench = Bench::new();
    let (a, _) = (bench.add("secret-a", "a").unwrap(), bench.add("secret-b", "b").unwrap());
    let read = |name: &str| fs::read(bench.folder.path().join(name)).unwrap();
    let before = (read("keys.toml"), read("audit.jsonl"));
    // With the way before it, the name is longer than a field may be.
    let by = Actor { user: Label::new(&"x".repeat(255)).unwrap(), ..carol() };
    let terms = Terms { by: &by, expected: None, may_leave_no_admin: true };
    let which = Which::Exactly(&a.id);
    let refused = bench.with(|store| store.change(which, &disable("lost"), terms)).unwrap_err();
    assert!(matches!(refused, StoreError::Faults(_)), "{refused}");
    assert_eq!((read("keys.toml"), read("audit.jsonl")), before);
}

#[test]
fn a_program_never_means_a_key_by_the_beginning_of_its_id() {
    let bench = Bench::new();
    let made = bench.add("secret-a", "a").unwrap();
    let beginning = KeyId::new(&made.id.as_str()[..6]).unwrap();
    let missed = bench.change(&beginning, Change::Delete { force: true }).unwrap_err();
    assert!(matches!(missed, StoreError::NoSuchKey), "{missed}");
    let terms = Terms { by: &carol(), expected: None, may_leave_no_admin: true };
    let which = Which::Beginning(beginning.as_str());
    let changed = bench.with(|store| store.change(which, &disable("lost"), terms)).unwrap();
    assert_eq!(changed.before, made);
}

#[test]
fn of_several_new_keys_all_are_stored_or_none() {
    let bench = Bench::new();
    let first = bench.add("secret-a", "a").unwrap();
    let mut foreign = bench.new_key("secret-d", "d");
    foreign.role = RoleName::new("veiwer").unwrap();
    let new = [
        bench.new_key("secret-b", "b"),
        bench.new_key("secret-a", "c"),
        bench.new_key("secret-c", "a"),
        foreign,
    ];
    let error = bench.add_all(&new, Run::Real).unwrap_err();
    let StoreError::Refused(faults) = error else { panic!("{error}") };
    let meant = RoleName::new("viewer").unwrap();
    assert_eq!(
        faults,
        [
            (1, AddFault::SameKey(first.id.clone())),
            (2, AddFault::LabelTaken(first.id.clone())),
            (3, AddFault::UnknownRole(Some(meant))),
        ]
    );
    assert_eq!(bench.stored(), [first]);
}

#[test]
fn a_dry_run_checks_and_writes_nothing() {
    let bench = Bench::new();
    let new = [bench.new_key("secret-a", "a")];
    assert_eq!(bench.add_all(&new, Run::Dry).unwrap().len(), 1);
    for name in ["keys.toml", "audit.jsonl"] {
        assert!(!bench.folder.path().join(name).exists(), "{name}");
    }
}

#[test]
fn an_id_may_be_shortened_to_a_unique_beginning() {
    let bench = Bench::new();
    let text: String = ["key_ab", "key_abc", "key_b"]
        .map(|id| {
            let hash = bench.hasher.digest(id.as_bytes());
            format!(
                "[[keys]]\nid = \"{id}\"\nhash = \"{hash}\"\nlabel = \"{id}\"\n\
                 user = \"alice\"\nrole = \"viewer\"\n"
            )
        })
        .concat();
    fs::write(bench.folder.path().join("keys.toml"), text).unwrap();
    let records = bench.with(|store| store.load()).unwrap().records;
    let check = |id, expect: Result<usize, &str>| {
        assert_eq!(
            find(&records, id).map_err(|error| error.to_string()),
            expect.map_err(str::to_owned)
        );
    };
    check("key_b", Ok(2));
    check("key_abc", Ok(1));
    check("key_ab", Ok(0));
    check("key_a", Err("2 ids begin with this: key_ab, key_abc"));
    check("", Err("no key has this id, nor one that begins with it"));
    check("key_x", Err("no key has this id, nor one that begins with it"));
}

#[test]
fn a_file_with_faults_is_not_changed() {
    let bench = Bench::new();
    let path = bench.folder.path().join("keys.toml");
    fs::write(&path, "kyes = []\n").unwrap();
    let error = bench.add("secret-a", "a").unwrap_err();
    assert!(matches!(error, StoreError::Faults(_)), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "kyes = []\n");
}
