//! A new process takes over from a running one: no request is lost, and one that cannot changes nothing.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use crate::harness::keyward::get;
use crate::harness::setup::replace;
use crate::harness::{Actor, Client, Keyward, Setup, Upstream, wait_for};

const FAILED: &str = "the new process did not take over; this one goes on serving";

/// Requests under load before and after each takeover.
const REQUESTS: usize = 500;

pub(crate) fn free_address() -> SocketAddr {
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    unused.expect("loopback has free ports")
}

/// A proxy on an address that the next process finds again.
fn setup(app: &Upstream) -> (Setup, Actor) {
    let mut setup = Setup::new(app);
    setup.replace("server", &format!("listen = [\"{}\"]\nworkers = 2", free_address()));
    let alice = setup.key("alice", "viewer");
    (setup, alice)
}

/// Answers every request with 200 and a short text, and keeps none.
fn hello() -> Upstream {
    Upstream::unrecorded(|connection| {
        while connection.request()?.is_some() {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
        Ok(())
    })
}

/// Asks until it is `over`, on kept connections and on new ones; anything but an answer is a failure.
fn load(kw: &Keyward, actor: &Actor, on_one: usize, done: &AtomicUsize, over: &AtomicBool) {
    let request = get("/", &actor.header());
    while !over.load(Ordering::Relaxed) {
        let mut client = kw.connect();
        for _ in 0..on_one {
            client.send(&request);
            let answer = client.answer();
            assert_eq!(answer.text(), "hello");
            done.fetch_add(1, Ordering::Relaxed);
            let is_last = answer.field("connection") == Some("close");
            if is_last || over.load(Ordering::Relaxed) {
                break;
            }
        }
    }
}

/// However one side ends, the other must not go on for ever.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_takeover_under_load_loses_no_request() {
    let app = hello();
    let (setup, alice) = setup(&app);
    let kw = setup.start();
    let (done, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let more = || {
        let before = done.load(Ordering::Relaxed);
        wait_for("more requests", || {
            (done.load(Ordering::Relaxed) > before + REQUESTS).then_some(())
        });
    };
    thread::scope(|scope| {
        for on_one in [usize::MAX, usize::MAX, 20, 1] {
            let (kw, alice, done, over) = (&kw, &alice, &done, &over);
            scope.spawn(move || {
                let _ends = Ends(over);
                load(kw, alice, on_one, done, over);
            });
        }
        let _ends = Ends(&over);
        more();
        for _ in 0..4 {
            let before = kw.pid();
            let after = kw.take_over();
            assert_ne!(before, after);
            more();
        }
    });
    assert_eq!(kw.wait_for_exit().code(), Some(0), "the first process ends by itself");
    assert_eq!(kw.count_events(FAILED), 0);
    wait_for("the records of all requests but those of the last process", || {
        (kw.access_log().len() >= 4 * REQUESTS).then_some(())
    });
    assert!(kw.access_log().iter().all(|record| record["status"] == 200));
}

#[test]
fn what_is_in_flight_ends_in_the_old_process_which_then_ends_by_itself() {
    let (app, held_back) = Upstream::halting("/long", "hello");
    let (mut setup, alice) = setup(&app);
    // That is for an end without a successor.
    setup.set("server.timeouts", "shutdown = \"0s\"");
    let kw = setup.start();
    let mut long = kw.connect();
    long.send(get("/long", &alice.header()));
    held_back.wait();
    let mut idle = kw.connect();
    kw.take_over();
    assert_eq!(idle.rest(), b"", "an idle connection is closed");
    assert_eq!(kw.get("/", &alice).text(), "hello");
    held_back.let_go();
    assert_eq!(long.answer().text(), "first-then");
    assert_eq!(kw.wait_for_exit().code(), Some(0));
    assert_eq!(kw.get("/", &alice).text(), "hello");
}

#[test]
fn what_does_not_end_before_its_time_is_cut() {
    let (app, held_back) = Upstream::holding("/held", "ok");
    for (timeouts, is_told) in [("takeover = \"300ms\"", false), ("shutdown = \"300ms\"", true)] {
        let (mut setup, alice) = setup(&app);
        setup.set("server.timeouts", timeouts);
        let kw = setup.start();
        let first = kw.pid();
        let mut held = kw.connect();
        held.send(get("/held", &alice.header()));
        held_back.wait();
        kw.take_over();
        if is_told {
            kw.signal_to(first, "TERM");
        }
        let said = String::from_utf8_lossy(&held.rest()).into_owned();
        assert!(!said.contains(" 200 "), "{said}");
        kw.wait_for_exit();
        kw.wait_for_event("stopped; connections still in use were cut", |_| true);
        held_back.let_go();
        assert_eq!(kw.get("/", &alice).text(), "ok");
    }
}

#[test]
fn a_process_that_cannot_serve_changes_nothing() {
    let app = hello();
    let (setup, alice) = setup(&app);
    let kw = setup.start();
    let mut kept = kw.connect();
    let text = fs::read_to_string(kw.path("keyward.toml")).expect("it was written");
    let taken = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = taken.local_addr().expect("it is bound");
    let on_taken = text.replacen("listen = [", &format!("listen = [\"{address}\", "), 1);
    let broken = [(text.clone() + "[nonsense", 2), (on_taken, 1)];
    for (place, (broken, code)) in broken.iter().enumerate() {
        replace(&kw.path("keyward.toml"), broken);
        kw.signal("USR2");
        let event = kw.wait_for_another(FAILED, place);
        assert_eq!(event["error"], format!("it ended (exit status: {code})"), "{event}");
        kept.send(get("/", &alice.header()));
        assert_eq!(kept.answer().text(), "hello");
        assert_eq!(kw.get("/", &alice).text(), "hello");
    }
    replace(&kw.path("keyward.toml"), &text);
    kw.take_over();
    assert_eq!(kw.get("/", &alice).text(), "hello");
}

#[test]
fn the_next_process_listens_where_its_configuration_says() {
    let app = hello();
    let (setup, alice) = setup(&app);
    let kw = setup.start();
    let request = get("/", &alice.header());
    let (before, after) = (kw.address(), free_address());
    let text = fs::read_to_string(kw.path("keyward.toml")).expect("it was written");
    let moved = text.replace(&before.to_string(), &after.to_string());
    replace(&kw.path("keyward.toml"), &moved);
    kw.take_over();
    let mut client = Client::connect(after);
    client.send(request);
    assert_eq!(client.answer().text(), "hello");
    wait_for("the end of the address before", || TcpStream::connect(before).err());
}

#[test]
fn it_is_the_program_that_is_there_now() {
    let app = hello();
    let (mut setup, alice) = setup(&app);
    let path = setup.folder.path().join("program");
    let program = path.to_str().expect("a path in UTF-8").to_owned();
    setup.start_through(&["bash", "-c", "exec -a \"$0\" \"$@\"", &program]);
    let kw = setup.start();
    let script = format!(
        "#!/bin/sh\necho \"$@\" > \"{program}.arguments\"\nexec \"{}\" \"$@\"\n",
        env!("CARGO_BIN_EXE_keyward")
    );
    fs::write(&path, script).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    kw.take_over();
    let arguments = fs::read_to_string(kw.path("program.arguments")).expect("it was run");
    assert_eq!(arguments, format!("--config {} serve\n", kw.path("keyward.toml").display()));
    assert_eq!(kw.get("/", &alice).text(), "hello");
}
