//! Hot reload: whatever way a file is changed, the new one is served as one whole, a broken one changes
//! nothing, and no request notices.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use crate::harness::actor::key_file;
use crate::harness::keyward::{field, get};
use crate::harness::setup::{replace, write};
use crate::harness::{Actor, Keyward, Setup, Stage, Upstream, wait_for};

const RELOADED: &str = "reloaded";
const REFUSED: &str = "reload refused";

fn stage() -> (Stage, Actor) {
    Stage::new(Upstream::hello(), |setup| setup.allow_guesses().key("alice", "viewer"))
}

/// Makes a change and waits until the proxy refuses it; gives back all that it says.
fn refused(kw: &Keyward, change: impl FnOnce()) -> String {
    let before = kw.count_events(REFUSED);
    change();
    kw.wait_for_another(REFUSED, before);
    // Each fault is an event: once the next reload is refused too, all of this one have been said.
    let said = kw.count_events(REFUSED);
    kw.signal("HUP");
    kw.wait_for_another(REFUSED, said);
    kw.stderr().lines().filter(|line| line.contains(REFUSED)).skip(before).collect()
}

/// Waits until a change is served: `actor`, who could not before, passes to `target`.
fn wait_until_passes(kw: &Keyward, target: &str, actor: &Actor) {
    wait_for(&format!("{} to pass to {target}", actor.user), || {
        (kw.get(target, actor).status() == 200).then_some(())
    });
}

/// Changes the key file by `edit`, and holds the proxy to the new keys: the newcomer passes, the one who
/// left does not, also on a connection that was there before.
#[track_caller]
fn check_edit(edit: impl Fn(&Path, &str)) {
    let (stage, alice) = stage();
    let mut open = stage.kw.connect();
    open.send(get("/", &alice.header()));
    assert_eq!(open.answer().status(), 200);
    let bob = Actor::new("bob", "viewer");
    let without_alice = key_file(std::slice::from_ref(&bob));
    let path = stage.kw.path("keys.toml");
    edit(&path, &without_alice);
    wait_until_passes(&stage.kw, "/", &bob);
    open.send(get("/", &alice.header()));
    assert_eq!(open.answer().code(), "invalid_key");
    assert_eq!(stage.passes(get("/", &bob.header())).fields("x-auth-user"), ["bob"]);
    let event = stage.kw.wait_for_event(RELOADED, |_| true);
    assert!(field(&event, "generation").as_u64() > Some(1), "{event}");
    // The same way works again.
    edit(&path, &key_file(&[alice.clone(), bob]));
    wait_until_passes(&stage.kw, "/", &alice);
}

#[test]
fn a_write_in_place_is_seen() {
    check_edit(|path, text| fs::write(path, text).expect("our own file"));
}

#[test]
fn an_atomic_rename_is_seen() {
    check_edit(replace);
}

#[test]
fn an_editor_that_keeps_a_backup_is_seen() {
    check_edit(|path, text| {
        let swap = path.with_file_name(".keys.toml.swp");
        write(&swap, "editor state");
        fs::rename(path, path.with_extension("toml~")).expect("one folder");
        write(path, text);
        fs::remove_file(swap).expect("it was there");
    });
}

#[test]
fn a_file_that_is_removed_and_made_again_is_seen() {
    check_edit(|path, text| {
        fs::remove_file(path).expect("it was there");
        write(path, text);
    });
}

#[test]
fn a_change_right_behind_another_is_not_lost() {
    let (stage, _alice) = stage();
    let path = stage.kw.path("keys.toml");
    for number in 0..100 {
        let newcomer = Actor::new("bob", "viewer");
        let keys = key_file(std::slice::from_ref(&newcomer));
        if number % 2 == 0 {
            replace(&path, &keys)
        } else {
            write(&path, &keys)
        };
        wait_until_passes(&stage.kw, "/", &newcomer);
    }
}

/// Puts a generation of mounted files beside the others, as Kubernetes does.
fn mount(folder: &Path, generation: &str, files: &[(&str, &str)]) {
    let data = folder.join(generation);
    fs::create_dir(&data).expect("a new folder");
    for (name, text) in files {
        write(&data.join(name), text);
    }
    symlink(generation, folder.join("..data_tmp")).expect("a new link");
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("one folder");
}

#[test]
fn the_symlink_swap_of_a_mounted_folder_is_seen() {
    let app = Upstream::hello();
    let mut setup = Setup::new(&app);
    let alice = setup.allow_guesses().key("alice", "viewer");
    let config = setup.config();
    let folder = setup.folder.path().to_owned();
    let alices = key_file(std::slice::from_ref(&alice));
    mount(&folder, "..2026_1", &[("mounted.toml", &config), ("keys.toml", &alices)]);
    for name in ["mounted.toml", "keys.toml"] {
        symlink(Path::new("..data").join(name), folder.join(name)).expect("a new link");
    }
    let stage = Stage { app, kw: setup.start_on("mounted.toml") };
    stage.passes(get("/", &alice.header()));
    let mut previous = alice;
    for (generation, path) in [("..2026_2", "/second"), ("..2026_3", "/third")] {
        let closed = format!("{config}[[routes]]\npath = \"{path}\"\n");
        let newcomer = Actor::new("bob", "viewer");
        let keys = key_file(std::slice::from_ref(&newcomer));
        mount(&folder, generation, &[("mounted.toml", &closed), ("keys.toml", &keys)]);
        wait_until_passes(&stage.kw, path, &newcomer);
        // Where the new keys are, the new routes are too.
        stage.refuses(get("/other", &newcomer.header()), 404, "no_route");
        stage.refuses(get(path, &previous.header()), 401, "invalid_key");
        previous = newcomer;
    }
}

#[test]
fn sighup_reloads() {
    let (stage, alice) = stage();
    for _ in 0..3 {
        let before = stage.kw.count_events(RELOADED);
        stage.kw.signal("HUP");
        let event = stage.kw.wait_for_another(RELOADED, before);
        assert!(field(&event, "generation").as_u64() > Some(1), "{event}");
        stage.passes(get("/", &alice.header()));
    }
}

#[test]
fn a_disabled_key_is_refused_while_others_are_served_on() {
    let (stage, (alice, bob)) = Stage::new(Upstream::hello(), |setup| {
        (setup.key("alice", "viewer"), setup.key("bob", "viewer"))
    });
    let disabled = alice.clone().with("enabled = false");
    write(&stage.kw.path("keys.toml"), &key_file(&[disabled, bob.clone()]));
    wait_for("the refusal of the disabled key", || {
        assert_eq!(stage.kw.get("/", &bob).status(), 200);
        (stage.kw.get("/", &alice).code() == "key_disabled").then_some(())
    });
    stage.passes(get("/", &bob.header()));
}

#[test]
fn a_broken_file_changes_nothing_and_the_next_good_one_clears_it() {
    let (stage, alice) = stage();
    let good = key_file(std::slice::from_ref(&alice));
    let path = stage.kw.path("keys.toml");
    let twice = good.clone() + &alice.entry().replace(&alice.id, "key_twin");
    for (broken, expected) in [
        ("", "keys.toml"),
        ("\n\n", "keys.toml"),
        (&good[..good.len() / 2], "keys.toml:"),
        (&good.replace("viewer", "emperor"), "emperor"),
        (&good.replace("[[keys]]", "[[keys]"), "keys.toml:"),
        (&good.replace("sha256:", "md5:"), "keys.toml:"),
        (&good.replace("label", "lable"), "label"),
        (&twice, "key_twin"),
    ] {
        let said = refused(&stage.kw, || write(&path, broken));
        assert!(said.contains(expected), "no {expected:?} in {said}");
        stage.passes(get("/", &alice.header()));
        let bob = Actor::new("bob", "viewer");
        write(&path, &key_file(&[alice.clone(), bob.clone()]));
        wait_until_passes(&stage.kw, "/", &bob);
    }
}

#[test]
fn a_key_file_that_is_gone_or_writable_by_others_changes_nothing() {
    let (stage, alice) = stage();
    let path = stage.kw.path("keys.toml");
    refused(&stage.kw, || fs::remove_file(&path).expect("it was there"));
    stage.passes(get("/", &alice.header()));
    let bob = Actor::new("bob", "viewer");
    write(&path, &key_file(&[alice.clone(), bob.clone()]));
    wait_until_passes(&stage.kw, "/", &bob);
    let open_to_all = Permissions::from_mode(0o666);
    refused(&stage.kw, || fs::set_permissions(&path, open_to_all).expect("our own file"));
    stage.passes(get("/", &alice.header()));
}

#[test]
fn no_keys_at_all_are_served_only_if_the_file_says_so() {
    let (stage, alice) = stage();
    write(&stage.kw.path("keys.toml"), "keys = []\n");
    wait_for("the refusal of the removed key", || {
        (stage.kw.get("/", &alice).code() == "invalid_key").then_some(())
    });
}

#[test]
fn a_changed_configuration_is_served_and_a_broken_one_is_not() {
    let (mut stage, alice) = stage();
    let path = stage.kw.path("keyward.toml");
    stage.passes(get("/orders", &alice.header()));
    let setup = stage.kw.setup();
    setup.routes("[[routes]]\npath = \"/orders\"\nroles = [\"admin\"]\n");
    setup.set("identity", "user = \"remote-user\"");
    let changed = setup.config();
    write(&path, &changed);
    wait_for("the new routes", || {
        (stage.kw.get("/other", &alice).code() == "no_route").then_some(())
    });
    stage.refuses(get("/orders", &alice.header()), 403, "forbidden");
    let broken = changed.replace("roles = [\"admin\"]", "roles = [\"emperor\"]\nmethod = 1");
    let said = refused(&stage.kw, || write(&path, &broken));
    for expected in ["keyward.toml:", "emperor", "methods"] {
        assert!(said.contains(expected), "every fault is said: no {expected:?} in {said}");
    }
    stage.refuses(get("/orders", &alice.header()), 403, "forbidden");
    write(&path, &changed.replace("roles = [\"admin\"]", "roles = [\"viewer\"]"));
    wait_until_passes(&stage.kw, "/orders", &alice);
    let received = stage.passes(get("/orders", &alice.header()));
    assert_eq!(received.fields("remote-user"), ["alice"]);
    assert_eq!(received.field("x-auth-user"), None);
}

#[test]
fn a_refusal_for_a_missing_key_file_is_cleared_by_that_file() {
    let (mut stage, alice) = stage();
    let setup = stage.kw.setup();
    setup.replace("keys", "store = \"others.toml\"");
    let changed = setup.config();
    let said = refused(&stage.kw, || write(&stage.kw.path("keyward.toml"), &changed));
    assert!(said.contains("others.toml"), "{said}");
    stage.passes(get("/", &alice.header()));
    let bob = Actor::new("bob", "viewer");
    write(&stage.kw.path("others.toml"), &key_file(std::slice::from_ref(&bob)));
    wait_until_passes(&stage.kw, "/", &bob);
    stage.refuses(get("/", &alice.header()), 401, "invalid_key");
}

#[test]
fn what_needs_a_restart_is_named_and_the_rest_is_served() {
    let (mut stage, alice) = stage();
    let setup = stage.kw.setup();
    setup.replace("server", "listen = [\"127.0.0.1:0\", \"[::1]:0\"]\nworkers = 3");
    setup.routes("[[routes]]\npath = \"/only\"\n");
    let changed = setup.config();
    write(&stage.kw.path("keyward.toml"), &changed);
    for name in ["listen", "workers"] {
        wait_for(&format!("a word about {name}"), || {
            stage.kw.find_event(|event| {
                let text = event.to_string();
                text.contains("start") && text.contains(name)
            })
        });
    }
    // They are said before the swap.
    stage.kw.wait_for_event(RELOADED, |_| true);
    stage.refuses(get("/other", &alice.header()), 404, "no_route");
    stage.passes(get("/only", &alice.header()));
}

#[test]
fn a_request_in_flight_ends_on_the_snapshot_on_which_it_began() {
    let (app, held) = Upstream::holding("/held", "hello");
    let (mut stage, alice) = Stage::new(app, |setup| setup.key("alice", "viewer"));
    let mut client = stage.kw.connect();
    client.send(get("/held", &alice.header()));
    held.wait();
    let elsewhere = Upstream::hello();
    let setup = stage.kw.setup();
    setup.replace("upstreams.app", &format!("endpoints = [\"{}\"]", elsewhere.url()));
    let moved = setup.config();
    write(&stage.kw.path("keyward.toml"), &moved);
    wait_for("the move to the other upstream", || {
        stage.kw.get("/", &alice);
        (!elsewhere.requests().is_empty()).then_some(())
    });
    held.let_go();
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    let before = elsewhere.requests().len();
    client.send(get("/", &alice.header()));
    assert_eq!(client.answer().status(), 200);
    assert_eq!(elsewhere.requests().len(), before + 1, "the next request is on the new one");
}
