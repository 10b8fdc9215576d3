//! Endpoints are asked whether they work, and get requests while they say so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::keyward::field;
use crate::harness::setup::replace;
use crate::harness::{Actor, Keyward, Message, Setup, Upstream, wait_for};

const FAILS: &str = "endpoint fails its health checks";
const PASSES: &str = "endpoint passes its health checks";

/// Says 503 to checks unless `is_well`, and its `name` to everybody else.
fn ailing(name: &'static str, is_well: &Arc<AtomicBool>) -> Upstream {
    let is_well = Arc::clone(is_well);
    Upstream::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            let is_refused = request.target() == "/up" && !is_well.load(Ordering::SeqCst);
            let status = if is_refused { "503 No" } else { "200 OK" };
            let length = name.len();
            connection
                .send(format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{name}"))?;
        }
        Ok(())
    })
}

fn start(apps: &[&Upstream], lines: &str) -> (Keyward, Actor) {
    let mut setup = Setup::new(apps[0]);
    let urls: Vec<String> = apps.iter().map(|app| format!("\"{}\"", app.url())).collect();
    setup.endpoints(&urls, lines);
    let alice = setup.key("alice", "viewer");
    (setup.start(), alice)
}

const CHECKS: &str = "health = { path = \"/up\", interval = \"10ms\", timeout = \"30s\" }";

fn checks(app: &Upstream) -> Vec<Message> {
    app.requests().into_iter().filter(|request| request.target() == "/up").collect()
}

#[test]
fn who_fails_its_checks_gets_no_requests_until_it_passes_them() {
    let is_well = Arc::new(AtomicBool::new(true));
    let (ailing, app) = (ailing("ailing", &is_well), Upstream::named("well"));
    let (kw, alice) = start(&[&ailing, &app], &format!("slow_start = \"0s\"\n{CHECKS}"));
    wait_for("a request", || (kw.get("/", &alice).text() == "ailing").then_some(()));
    is_well.store(false, Ordering::SeqCst);
    let event = kw.wait_for_event(FAILS, |_| true);
    assert_eq!(field(&event, "reason"), "answered 503");
    assert_eq!(field(&event, "upstream"), "app");
    for _ in 0..20 {
        assert_eq!(kw.get("/", &alice).text(), "well");
    }
    assert_eq!(kw.count_events(PASSES), 0);
    is_well.store(true, Ordering::SeqCst);
    kw.wait_for_event(PASSES, |_| true);
    wait_for("a request", || (kw.get("/", &alice).text() == "ailing").then_some(()));
    assert_eq!((kw.count_events(FAILS), kw.count_events(PASSES)), (1, 1), "one line a change");
}

#[test]
fn a_check_is_a_request_of_our_own() {
    let app = Upstream::named("well");
    let (_kw, _) = start(&[&app], CHECKS);
    let check = wait_for("a check", || checks(&app).into_iter().next());
    assert_eq!(check.first_line, "GET /up HTTP/1.1");
    assert_eq!(check.fields("host"), [app.address().to_string()]);
    assert_eq!(check.fields("connection"), ["close"]);
    assert_eq!(check.fields.len(), 3, "{}", check.head);
}

#[test]
fn silence_and_nonsense_and_nobody_fail_a_check() {
    let silent = Upstream::scripted(|connection| connection.wait_for_close());
    let closing = Upstream::scripted(|connection| connection.request().map(drop));
    let odd = Upstream::answering("SSH-2.0-OpenSSH_9.2\r\n");
    let lines =
        "health = { path = \"/up\", interval = \"10ms\", timeout = \"50ms\", unhealthy_after = 1 }";
    let apps = [(&silent, "no answer in time"), (&closing, ""), (&odd, "")];
    for (app, reason) in apps {
        let (kw, _) = start(&[app], lines);
        let event = kw.wait_for_event(FAILS, |_| true);
        let said = field(&event, "reason").as_str().expect("a reason");
        assert!(said.contains(reason), "{said}");
    }
    let gone = Upstream::named_at("gone", "127.0.35.1:0");
    let mut setup = Setup::new(&gone);
    setup.endpoints(&[format!("\"{}\"", gone.url())], lines);
    drop(gone);
    let kw = setup.start();
    let event = kw.wait_for_event(FAILS, |_| true);
    assert!(field(&event, "reason").as_str().expect("a reason").contains("refused"), "{event}");
}

#[test]
fn checks_that_a_reload_removes_stop_and_are_forgotten() {
    let is_well = Arc::new(AtomicBool::new(false));
    let (ailing, app) = (ailing("ailing", &is_well), Upstream::named("well"));
    let (mut kw, alice) = start(&[&ailing, &app], CHECKS);
    kw.wait_for_event(FAILS, |_| true);
    let urls = [&ailing, &app].map(|app| format!("\"{}\"", app.url()));
    kw.setup().endpoints(&urls, "");
    let text = kw.setup().config();
    replace(&kw.path("keyward.toml"), &text);
    kw.wait_for_event("reloaded", |_| true);
    wait_for("a request", || (kw.get("/", &alice).text() == "ailing").then_some(()));
    let before = checks(&ailing).len();
    for _ in 0..100 {
        kw.get("/", &alice);
    }
    // One may have been on its way.
    assert!(checks(&ailing).len() <= before + 1, "{} after {before}", checks(&ailing).len());
}
