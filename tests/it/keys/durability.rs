//! Whatever happens to those who write keys, the file loads, and holds what was acknowledged.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher as _;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::audit::check_replay;
use super::home::{Home, Outcome};

/// Writes that are started, many of which are killed.
const WRITES: usize = 1000;
/// What there is beside each other when nobody writes.
const FILES: [&str; 4] = [".keys.toml.lock", "keys.audit.jsonl", "keys.toml", "keyward.toml"];
/// Processes that write at the same time.
const WRITERS: usize = 4;

#[test]
fn twenty_writers_at_once_lose_nothing() {
    let home = Home::new();
    thread::scope(|scope| {
        for writer in 0..20 {
            let home = &home;
            scope.spawn(move || {
                let label = format!("writer {writer}");
                home.keys(&["create", "--user", "alice", "--role", "viewer", "--label", &label])
                    .expect(0, "made key_");
            });
        }
    });
    let listed = home.keys(&["list", "--json"]).expect_json(0);
    assert_eq!(listed.as_array().unwrap().len(), 20);
    check_replay(&home);
    home.run(&["audit", "verify"]).expect(0, "the chain holds: 20 lines");
    assert_eq!(home.names(), FILES);
}

#[test]
fn killed_writers_lose_nothing_that_was_acknowledged() {
    let home = Home::new();
    let written: Vec<Written> = thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS).map(|name| scope.spawn(writer(&home, name))).collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert!(!written.is_empty());

    let listed = home.keys(&["list", "--json"]).expect_json(0);
    for Written { id, acknowledged, attempted } in &written {
        let listed = listed.as_array().unwrap().iter().find(|key| key["id"] == **id);
        let found = match listed {
            None => Step::Deleted,
            Some(key) if key["state"] == "disabled" => Step::Disabled,
            Some(_) => Step::Made,
        };
        assert!((acknowledged..=attempted).contains(&&found), "{id}: {found:?}");
    }
    // What a killed writer leaves behind, the next one removes.
    home.keys(&["create", "--user", "bob", "--role", "viewer", "--label", "last"])
        .expect(0, "made key_");
    check_replay(&home);
    home.run(&["audit", "verify"]).expect(0, "the chain holds");
    assert_eq!(home.names(), FILES);
}

/// What can happen to a key, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Made,
    Disabled,
    Deleted,
}

/// How far a key came: a killed step may have been taken, or not.
struct Written {
    id: String,
    acknowledged: Step,
    attempted: Step,
}

/// Takes key after key through its steps, in a process for each; every second one is killed.
fn writer(home: &Home, name: usize) -> impl FnOnce() -> Vec<Written> {
    move || {
        let random = RandomState::new();
        let mut written: Vec<Written> = Vec::new();
        // The longest an undisturbed process took.
        let mut longest = Duration::from_millis(1);
        for round in 0..WRITES / WRITERS {
            let label = format!("{name}.{round}");
            let create = ["create", "--user", "alice", "--role", "viewer", "--label", &label];
            let last = written.last_mut().filter(|key| key.attempted < Step::Deleted);
            let (args, step) = match &last {
                None => (&create[..], Step::Made),
                Some(key) if key.attempted == Step::Made => {
                    (&["disable", &*key.id][..], Step::Disabled)
                }
                Some(key) => (&["delete", &*key.id, "--force"][..], Step::Deleted),
            };
            let mut command = home.command(args);
            command.arg("--json");
            let moment = longest.mul_f64(random.hash_one(round) as f64 / u64::MAX as f64);
            let is_killed = round % 2 == 1;
            let begin = Instant::now();
            let answer = run_and_kill(command, is_killed.then_some(moment));
            if !is_killed {
                longest = longest.max(begin.elapsed());
                assert!(answer.is_some(), "an undisturbed writer succeeds");
            }
            match (last, answer) {
                (Some(key), answer) => {
                    key.attempted = step;
                    key.acknowledged = answer.map_or(key.acknowledged, |_| step);
                }
                (None, Some(answer)) => written.push(Written {
                    id: answer["id"].as_str().unwrap().to_owned(),
                    acknowledged: step,
                    attempted: step,
                }),
                (None, None) => {}
            }
        }
        written
    }
}

/// What `command` acknowledged, if it did before it was killed.
fn run_and_kill(mut command: Command, moment: Option<Duration>) -> Option<Value> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary is built");
    if let Some(moment) = moment {
        #[expect(clippy::disallowed_methods, reason = "it waits for nothing: any moment will do")]
        thread::sleep(moment);
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    if let Some(code) = output.status.code() {
        assert_eq!(code, 0, "{}", String::from_utf8_lossy(&output.stderr));
    }
    serde_json::from_slice(&output.stdout).ok()
}

#[test]
fn a_file_that_may_not_grow_stays_whole() {
    let home = home_with_ten_keys();
    let before = fs::read(home.store()).unwrap();
    let script = "trap '' XFSZ; ulimit -f 1; exec \"$@\"";
    let write =
        home.command(&["create", "--user", "bob", "--role", "viewer", "--label", "one more"]);
    let mut limited = Command::new("bash");
    limited.args(["-c", script, "bash"]).arg(write.get_program()).args(write.get_args());
    let told = Outcome::after(&mut limited, "").expect(1, "nothing was changed");
    assert_eq!(told.stdout, "", "no key is given out that is not stored");
    assert_eq!(fs::read(home.store()).unwrap(), before);
    assert_eq!(home.names(), FILES);
}

#[test]
fn a_full_disk_leaves_the_old_file_whole() {
    // A small file system that exists for one process, and is gone with it. Where that is not allowed,
    // the test above stands for this one.
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--map-root-user", "--mount", "bash", "-ec", script, "bash"]);
        command
    };
    let folder = tempfile::tempdir().unwrap();
    let mount = "mount -t tmpfs -o size=16k tmpfs \"$1\"; ";
    let probe = in_namespace(mount).arg(folder.path()).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        return;
    }
    let home = home_with_ten_keys();
    let script = format!(
        "{mount} cp \"$2\"/*.toml \"$1\"; cd \"$1\"; set +e; cat /dev/zero > filler 2> /dev/null; \
         \"$3\" --config keyward.toml keys create --user bob --role viewer --label more; \
         echo \"code $?\"; cmp keys.toml \"$2\"/keys.toml && echo same; LC_ALL=C ls -A"
    );
    let mut command = in_namespace(&script);
    command.arg(folder.path()).arg(home.folder()).arg(env!("CARGO_BIN_EXE_keyward"));
    let told = Outcome::after(&mut command, "").expect(0, "the disk is full; nothing was changed");
    assert_eq!(
        told.stdout.lines().collect::<Vec<_>>(),
        [
            "code 1",
            "same",
            ".keys.toml.lock",
            "filler",
            "keys.audit.jsonl",
            "keys.toml",
            "keyward.toml"
        ]
    );
}

/// With a store of more than one block.
fn home_with_ten_keys() -> Home {
    let home = Home::new();
    let lines: String = (0..10).map(|number| format!("plain-key-number-{number}\n")).collect();
    home.keys_with_input(
        &["import", "--user", "alice", "--role", "viewer", "--label", "old"],
        &lines,
    )
    .expect(0, "10 keys imported");
    home
}
