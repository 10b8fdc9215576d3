//! The store on real files, in a folder of each test's own.

use std::fs;

use super::*;
use crate::identity::RoleDeclaration;
use crate::keys::format::Prefix;

/// A store in a folder of its own.
struct Bench {
    folder: tempfile::TempDir,
    roles: Roles,
    hasher: Hasher,
    format: KeyFormat,
}

impl Bench {
    fn new() -> Self {
        let viewer = RoleDeclaration {
            name: RoleName::new("viewer").unwrap(),
            inherits: Vec::new(),
            admin: Default::default(),
        };
        Self {
            folder: tempfile::tempdir().unwrap(),
            roles: Roles::new(&[viewer]).unwrap(),
            hasher: Hasher::default(),
            format: KeyFormat::new(Prefix::new("kw").unwrap()),
        }
    }

    fn with<T>(&self, act: impl FnOnce(Store<'_>) -> T) -> T {
        let path = self.folder.path().join("keys.toml");
        act(Store::new(&path, &self.roles, &self.hasher, &self.format))
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
        }
    }

    fn add(&self, key: &str, label: &str) -> Result<KeyRecord, StoreError> {
        let new = self.new_key(key, label);
        self.with(|store| store.add(&[new], Run::Real)).map(|mut added| added.remove(0))
    }
}

fn disabling() -> Disabling {
    Disabling {
        at: Timestamp::from_second(1_800_000_000).unwrap(),
        by: "cli:root".into(),
        reason: Some("lost".into()),
    }
}

#[test]
fn a_key_lives_from_its_making_to_its_deletion() {
    let bench = Bench::new();
    let made = bench.add("secret-a", "a").unwrap();
    let id = made.id.as_str();
    let stored = || bench.with(|store| store.load()).unwrap().records;
    assert_eq!(stored(), std::slice::from_ref(&made));

    let disabled = bench.with(|store| store.disable(id, &disabling())).unwrap();
    assert!(!disabled.enabled);
    assert_eq!(disabled.disabled_reason.as_deref(), Some("lost"));
    assert_eq!(stored(), std::slice::from_ref(&disabled));
    // Who disabled it first stays on record.
    let later = Disabling { by: "cli:eve".into(), ..disabling() };
    assert_eq!(bench.with(|store| store.disable(id, &later)).unwrap(), disabled);

    assert_eq!(bench.with(|store| store.enable(id)).unwrap(), made);
    assert_eq!(bench.with(|store| store.enable(id)).unwrap(), made);
    let refused = bench.with(|store| store.delete(id, false)).unwrap_err();
    assert!(matches!(refused, StoreError::StillEnabled(_)), "{refused}");
    assert_eq!(bench.with(|store| store.delete(id, true)).unwrap(), made);
    assert_eq!(stored(), []);
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
    let error = bench.with(|store| store.add(&new, Run::Real)).unwrap_err();
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
    assert_eq!(bench.with(|store| store.load()).unwrap().records, [first]);
}

#[test]
fn a_dry_run_checks_and_writes_nothing() {
    let bench = Bench::new();
    let new = [bench.new_key("secret-a", "a")];
    assert_eq!(bench.with(|store| store.add(&new, Run::Dry)).unwrap().len(), 1);
    assert!(!bench.folder.path().join("keys.toml").exists());
}

#[test]
fn a_label_is_free_again_once_its_key_is_disabled() {
    let bench = Bench::new();
    let first = bench.add("secret-a", "a").unwrap();
    bench.with(|store| store.disable(first.id.as_str(), &disabling())).unwrap();
    bench.add("secret-b", "a").unwrap();
    let error = bench.with(|store| store.enable(first.id.as_str())).unwrap_err();
    assert!(matches!(error, StoreError::Refused(_)), "{error}");
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
