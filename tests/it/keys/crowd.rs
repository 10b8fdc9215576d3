//! Many who make keys at once make all of them, and the audit log has each.

use std::collections::BTreeSet;
use std::thread;

use super::audit::check_replay;
use super::home::Home;

/// Who make keys at the same time, each one key after another.
const MAKERS: usize = 8;
/// What each of them makes.
const KEYS: usize = 100;

#[test]
fn of_eight_who_make_a_hundred_keys_each_nobody_loses_one() {
    let home = Home::new();
    let make = |maker: usize, key: usize| {
        let (user, label) = (format!("maker-{maker}"), format!("key {key}"));
        let made = home
            .keys(&["create", "--user", &user, "--role", "viewer", "--label", &label, "--json"])
            .expect_json(0);
        [&made["id"], &made["user"], &made["label"]].map(|field| field.as_str().unwrap().to_owned())
    };
    let made: BTreeSet<_> = thread::scope(|scope| {
        let make = &make;
        let make_all = |maker| move || (0..KEYS).map(|key| make(maker, key)).collect::<Vec<_>>();
        let makers: Vec<_> = (0..MAKERS).map(|maker| scope.spawn(make_all(maker))).collect();
        makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect()
    });
    assert_eq!(made.len(), MAKERS * KEYS);
    let listed = home.keys(&["list", "--json"]).expect_json(0);
    let listed = listed.as_array().unwrap().iter();
    let listed: Vec<_> = listed
        .map(|key| ["id", "user", "label"].map(|field| key[field].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(listed.len(), made.len());
    assert_eq!(BTreeSet::from_iter(listed), made);
    check_replay(&home);
    home.run(&["audit", "verify"]).expect(0, "the chain holds: 800 lines");
}
