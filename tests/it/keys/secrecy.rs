//! A key is printed once, by the command that made it, and is in nothing else that is said or kept.

use std::fs;

use super::ALICE;
use super::home::Home;

#[test]
fn a_key_is_nowhere_but_where_it_was_made() {
    let home = Home::new();
    let made = home.keys(&ALICE).expect_json(0);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let typo = format!("{}{}", &key[..38], if key.ends_with('0') { '1' } else { '0' });
    let foreign = "hunter2-hunter2-hunter2";
    let csv =
        format!("key,user,role,label\n{key},a,viewer,x\n{typo},b,c,d\n\"{foreign},e\n{foreign}");
    let import = ["import", "--user", "bob", "--role", "viewer", "--label", "old"];

    let commands: [(&[&str], &str); 26] = [
        (&["list"], ""),
        (&["list", "--json"], ""),
        (&["show", id], ""),
        (&["show", key], ""),
        (&["show", foreign], ""),
        (&["disable", key], ""),
        (&["enable", key], ""),
        (&["delete", key], ""),
        (&["rotate", key], ""),
        (&["update", key, "--role", "viewer"], ""),
        (&["update", id, "--role", "viewer", "--json"], ""),
        (&["rotate", id, "--grace", "1h"], ""),
        (&["verify"], key),
        (&["verify", "--json"], key),
        (&["verify"], &typo),
        (&["verify"], foreign),
        (&["verify", key], ""),
        (&import, key),
        (&import, &typo),
        (&import, &csv),
        (&["import"], &csv),
        (&["import", foreign], ""),
        (&["import", key], ""),
        (&["import", "--user", "bob", "--dry-run", "--json"], &csv),
        (&["disable", id, "--reason", "lost", "--json"], ""),
        (&["delete", id, "--json"], ""),
    ];
    for (args, input) in commands {
        let told = home.keys_with_input(args, input);
        for secret in [key, &typo, foreign] {
            let said = [&told.stdout, &told.stderr];
            assert!(!said.iter().any(|text| text.contains(secret)), "{} {told:?}", args[0]);
        }
        for name in home.names() {
            let content = fs::read_to_string(home.folder().join(&name)).unwrap();
            assert!(!content.contains(key) && !content.contains(foreign), "{name}");
        }
    }
}

#[test]
fn a_key_in_a_label_or_a_reason_is_refused_and_not_shown() {
    let home = Home::new();
    let made = home.keys(&ALICE).expect_json(0);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let foreign = "hunter2-hunter2-hunter2";
    let import = ["import", "--user", "bob", "--role", "viewer", "--label", "old"];
    home.keys_with_input(&import, foreign).expect(0, "1 key imported");
    for secret in [key, foreign] {
        let sentence = format!("leaked: \"{secret}\"");
        for args in [
            &["disable", id, "--reason", &sentence][..],
            &["update", id, "--label", secret],
            &["create", "--user", secret, "--role", "viewer", "--label", "x"],
            &["create", "--user", "x", "--role", "viewer", "--label", &sentence],
        ] {
            let told = home.keys(args).expect(1, "holds a key, or what looks like one");
            assert!(!told.stderr.contains(secret) && told.stdout.is_empty(), "{told:?}");
        }
        for name in home.names() {
            let content = fs::read_to_string(home.folder().join(&name)).unwrap();
            assert!(!content.contains(secret), "{name}");
        }
    }
}

#[test]
fn a_key_put_into_the_file_by_mistake_is_not_shown() {
    let home = Home::new();
    let key = home.keys(&ALICE).expect_json(0)["key"].as_str().unwrap().to_owned();
    let rest = "id = \"key_a\"\nlabel = \"a\"\nuser = \"a\"\nrole = \"viewer\"\n";
    for secret in [key.as_str(), "hunter2-hunter2-hunter2"] {
        for line in [
            format!("hash = \"{secret}\""),
            format!("hash = \"{secret}"),
            format!("hash = {secret}"),
            format!("hash = \"sha256:{secret}\""),
            format!("key = \"{secret}\""),
            format!("start = \"{secret}{secret}\""),
            format!("previous_hash = '{secret}'"),
            secret.to_owned(),
        ] {
            home.write_store(&format!("[[keys]]\n{line}\n{rest}"));
            let told = home.keys(&["list"]).expect(2, "keys.toml:2:");
            assert!(!told.stderr.contains(secret), "{}", told.stderr);
        }
    }
}
