//! What becomes of keys is counted exactly, over all workers, and kept: over a stop, a takeover, and a death.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::harness::actor::key_file;
use crate::harness::keyward::get;
use crate::harness::setup::replace;
use crate::harness::{Actor, Keyward, Setup, Upstream, wait_for};
use crate::takeover::free_address;

const KEYS: usize = 40;
const CLIENTS: usize = 8;
const REQUESTS: usize = 300;
const FILE: &str = "keys.usage.jsonl";
const NOT_KEPT: &str = "the usage of keys cannot be kept; it is counted on, and tried again. Let the directory be \
                        writable, or say [keys] usage = \"off\"";

/// What one key was used for, as all lines of the file together say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    requests: [u64; 6],
    bytes: [u64; 2],
    of_hours: u64,
    clients: HashMap<String, u64>,
    routes: HashMap<String, u64>,
}

fn sums(folder: &Path) -> HashMap<String, Sum> {
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    let mut sums: HashMap<String, Sum> = HashMap::new();
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        let usage = &line["usage"];
        let number = |value: &Value| value.as_u64().expect("a number");
        let sum = sums.entry(line["key"].as_str().expect("an id").to_owned()).or_default();
        for (class, count) in sum.requests.iter_mut().enumerate() {
            *count += number(&usage["requests"][class]);
        }
        sum.bytes[0] += number(&usage["bytes_in"]);
        sum.bytes[1] += number(&usage["bytes_out"]);
        for hour in usage["hours"].as_object().expect("hours").values() {
            sum.of_hours += number(&hour["requests"]);
            for (names, of) in [(&mut sum.clients, "clients"), (&mut sum.routes, "routes")] {
                for entry in hour[of]["named"].as_array().expect("a ranking") {
                    let name = entry[0].as_str().unwrap_or("none").to_owned();
                    *names.entry(name).or_default() += number(&entry[1]);
                }
            }
        }
    }
    sums
}

/// The last use of a key that the file tells of.
fn last(folder: &Path, key_id: &str, which: &str) -> Option<Value> {
    let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let uses = lines.filter(|line| line["key"] == key_id).map(|line| line["usage"][which].clone());
    uses.filter(|used| !used.is_null()).max_by_key(|used| used["at"].to_string())
}

fn setup() -> (Upstream, Setup, Vec<Actor>) {
    let app = Upstream::unrecorded(|connection| {
        while let Some(request) = connection.request()? {
            let status = if request.target() == "/gone" { "410 Gone" } else { "200 OK" };
            connection.send(format!("HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\nhello"))?;
        }
        Ok(())
    });
    let mut setup = Setup::new(&app);
    // One that the next process finds again.
    setup.replace("server", &format!("listen = [\"{}\"]\nworkers = 2", free_address()));
    setup.set("keys", "usage_interval = \"1s\"");
    setup.routes(
        "[[routes]]\npath = \"/{*rest}\"\n[[routes]]\npath = \"/admin\"\nroles = [\"admin\"]\n",
    );
    let actors = (0..KEYS).map(|number| setup.key(&format!("user{number}"), "viewer")).collect();
    (app, setup, actors)
}

/// Every key is used by clients on all workers at once; what they see of that is added to `expect`.
fn use_all(kw: &Keyward, actors: &[Actor], expect: &mut HashMap<String, Sum>) {
    let use_some = &|first: usize| {
        let mut client = kw.connect();
        let ask = |number: usize| {
            let actor = &actors[(first * 7 + number) % actors.len()];
            let header = actor.header();
            let (request, sent, route) = match (first + number / 3) % 4 {
                0 => (get("/", &header), 0, "/{*rest}"),
                1 => (get("/gone", &header), 0, "/{*rest}"),
                2 => (put(&header, "abc"), 3, "/{*rest}"),
                _ => (get("/admin", &header), 0, "/admin"),
            };
            client.send(request);
            let answer = client.answer();
            if answer.field("connection") == Some("close") {
                // A process that is just taken over from says so.
                client = kw.connect();
            }
            let class = usize::from(answer.status() / 100);
            (actor.id.clone(), class, [sent, answer.body.len() as u64], route)
        };
        (0..REQUESTS).map(ask).collect::<Vec<_>>()
    };
    let seen = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|first| scope.spawn(move || use_some(first))).collect();
        let seen = clients.into_iter().map(|client| client.join().expect("it was answered"));
        seen.collect::<Vec<_>>()
    });
    for (id, class, bytes, route) in seen.into_iter().flatten() {
        let sum = expect.entry(id).or_default();
        sum.requests[class] += 1;
        sum.of_hours += 1;
        (0..2).for_each(|way| sum.bytes[way] += bytes[way]);
        *sum.clients.entry("127.0.0.1".to_owned()).or_default() += 1;
        *sum.routes.entry(route.to_owned()).or_default() += 1;
    }
}

fn put(header: &str, content: &str) -> String {
    let length = content.len();
    format!("PUT / HTTP/1.1\r\nHost: a\r\n{header}Content-Length: {length}\r\n\r\n{content}")
}

fn count(sums: &HashMap<String, Sum>) -> u64 {
    sums.values().flat_map(|sum| sum.requests).sum()
}

#[test]
fn every_request_of_every_key_is_counted_once_and_for_good() {
    let (_app, setup, actors) = setup();
    let mut kw = setup.start();
    let mut expect = HashMap::new();
    use_all(&kw, &actors, &mut expect);
    // Another process takes over, both write, and the sum is one.
    kw.take_over();
    use_all(&kw, &actors, &mut expect);
    kw.wait_for_exit();
    kw.signal("TERM");
    wait_for("the last counts", || (count(&sums(kw.folder())) == count(&expect)).then_some(()));
    assert_eq!(sums(kw.folder()), expect);
    let mode = fs::metadata(kw.path(FILE)).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // And over a restart, and a death: what was kept is there.
    for signal in ["TERM", "KILL"] {
        kw = restart(kw);
        use_all(&kw, &actors, &mut expect);
        if signal == "KILL" {
            wait_for("all to be kept", || {
                (count(&sums(kw.folder())) == count(&expect)).then_some(())
            });
        }
        kw.signal(signal);
        kw.wait_for_exit();
        assert_eq!(sums(kw.folder()), expect);
    }
    let used = last(kw.folder(), &actors[0].id, "last").expect("it was used");
    assert_eq!(used["client"], "127.0.0.1");
    let at: Timestamp = used["at"].as_str().expect("a time").parse().expect("a time");
    assert!(Timestamp::now().duration_since(at) < SignedDuration::from_mins(10), "{used}");
}

/// The same once more, on the files of the one that has ended.
pub(crate) fn restart(ended: Keyward) -> Keyward {
    let folder = ended.folder().to_owned();
    let again = tempfile::tempdir().expect("a temporary folder");
    for name in ["keyward.toml", "keys.toml", FILE] {
        fs::copy(folder.join(name), again.path().join(name)).expect("our own files");
    }
    Setup::in_folder(again).start_on("keyward.toml")
}

#[test]
fn the_use_of_a_secret_before_a_rotation_is_told_apart() {
    let (_app, mut setup, _) = setup();
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    let rotated = alice.clone().with_key("it-another-secret-of-alice");
    let hash =
        alice.entry().lines().find_map(|line| line.strip_prefix("hash = ")).unwrap().to_owned();
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let grace = format!("previous_hash = {hash}\nprevious_expires_at = {later}");
    replace(&kw.path("keys.toml"), &key_file(&[rotated.clone().with(&grace)]));
    wait_for("the new secret", || (kw.get("/", &rotated).status() == 200).then_some(()));
    wait_for("a use of it", || last(kw.folder(), &alice.id, "last"));
    assert_eq!(last(kw.folder(), &alice.id, "last_of_previous"), None);
    assert_eq!(kw.get("/", &alice).status(), 200);
    let used =
        wait_for("a use of the old one", || last(kw.folder(), &alice.id, "last_of_previous"));
    assert_eq!((&used["client"], &used["route"]), (&"127.0.0.1".into(), &"/{*rest}".into()));
    assert!(!fs::read_to_string(kw.path(FILE)).expect("it is there").contains(&alice.key));
}

#[test]
fn a_file_that_cannot_be_written_is_said_once_and_stops_nobody() {
    let (_app, mut setup, actors) = setup();
    setup.set("keys", "usage = \"nowhere/usage.jsonl\"");
    let kw = setup.start();
    kw.wait_for_event(NOT_KEPT, |_| true);
    assert_eq!(kw.get("/", &actors[0]).status(), 200);
    fs::create_dir(kw.path("nowhere")).expect("a new folder");
    kw.wait_for_event("the usage of keys is kept again", |_| true);
    wait_for("what was counted meanwhile", || {
        let text = fs::read_to_string(kw.path("nowhere/usage.jsonl")).unwrap_or_default();
        text.contains(&actors[0].id).then_some(())
    });
    assert_eq!(kw.count_events(NOT_KEPT), 1);
}
