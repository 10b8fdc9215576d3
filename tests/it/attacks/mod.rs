//! Attacks, as data: what is sent, what the client must get, and what bytes the upstream may have seen.
//!
//! Each class is a table in a file of its own. Its cases run over HTTP/1.1, and over HTTP/2 where they have a form there.
//! Behind each of them somebody else, on another connection, asks for something, and must get the answer to that. All runs
//! on one worker, so that everybody shares its connections to the upstream. [`control`] shows that the tables bite.
//!
//! Never here: floods, and whoever is slow.

mod bodies;
mod case;
mod chunks;
mod connection;
mod control;
mod frames;
mod framing;
mod http1;
mod http2;
mod identity;
mod keys;
mod lines;
mod malformed_http2;
mod paths;
mod recorder;
mod sizes;
mod strict;
mod targets;
mod upgrades;

use std::time::Duration;

use case::{Case, Expected, KEY, MaySee, OverHttp2, ROOT_KEY, Then};
use frames::Frame;
use http1::Next;
use recorder::{Recorder, Seen};

use crate::harness::{Actor, DEADLINE, Keyward, Setup};

const ROUTES: &str = r#"
[[routes]]
path = "/public/{*rest}"
public = true
[[routes]]
path = "/admin/{*rest}"
roles = ["admin"]
[[routes]]
path = "/read/{*rest}"
methods = ["GET"]
[[routes]]
path = "/chat"
upgrades = ["websocket"]
[[routes]]
path = "/{*rest}"
"#;

/// How long a connection may be silent that should be closed, or answered: a hanging proxy is a fault, not the end of a
/// table.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whoever is neither the attacker nor a victim: requests with these targets are those of [`http1::is_served`] and the like.
const PROBES: [&str; 2] = ["/next/", "/else/"];

/// Every table that has a form in HTTP/1.1.
fn tables() -> Vec<(&'static str, Vec<Case>)> {
    vec![
        ("identity", identity::cases()),
        ("aliases", identity::aliases()),
        ("trailers", identity::trailers()),
        ("claims", identity::claims()),
        ("connection fields", connection::cases()),
        ("two ends", framing::two_ends()),
        ("transfer codings", framing::codings()),
        ("lengths", framing::lengths()),
        ("HTTP/1.0", framing::http_1_0()),
        ("bodies", bodies::cases()),
        ("chunks", chunks::cases()),
        ("lines", lines::cases()),
        ("bytes in lines", lines::controls()),
        ("paths", paths::cases()),
        ("hosts", targets::hosts()),
        ("methods", targets::methods()),
        ("other servers", targets::elsewhere()),
        ("upgrades", upgrades::cases()),
        ("keys", keys::cases()),
        ("sizes", sizes::cases()),
    ]
}

/// The proxy, and what it has behind it.
struct Stage {
    app: Recorder,
    kw: Keyward,
    count: usize,
}

impl Stage {
    fn start() -> Self {
        let app = Recorder::start();
        let mut setup = Setup::with_endpoint(app.address());
        // Hundreds of wrong keys come from here.
        setup.allow_guesses();
        setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
        setup.set(
            "auth",
            "key_sources = [{ header = \"x-api-key\" }, { header = \"authorization\", scheme = \"Bearer\" }, \
             { header = \"authorization\", scheme = \"Basic\" }, { query = \"api_key\" }]",
        );
        setup.routes(ROUTES);
        setup.add(Actor::new("alice", "viewer").with_key(KEY));
        setup.add(Actor::new("root", "admin").with_key(ROOT_KEY));
        Self { app, kw: setup.start(), count: 0 }
    }

    /// What is wrong with the proxy's way with `case`, over HTTP/1.1.
    fn http1(&mut self, case: &Case) -> Vec<String> {
        let (next, other) = self.probes();
        let outcome = http1::run(self.kw.address(), case, &next, PATIENCE);
        let mut faults = Vec::new();
        let answered = match &outcome.answer {
            Ok(answer) => {
                check_answer(answer.status(), &answer.code(), &case.expected, &mut faults);
                if answer.fields("x-request-id").len() != 1 {
                    faults.push(format!("not one x-request-id: {}", answer.head));
                }
                Some((answer.status(), answer.text()))
            }
            Err(why) => {
                faults.push(format!("no answer: {why}"));
                None
            }
        };
        match (&outcome.then, case.expected.then) {
            (Next::Closed, Then::Closed | Then::Any) | (Next::Kept, Then::Kept | Then::Any) => {}
            (then, expected) => {
                faults.push(format!("the connection is {then:?}, not {expected:?}"))
            }
        }
        self.judge(&case.expected, answered, &other, &mut faults);
        faults
    }

    /// The same over HTTP/2, of `frames` that are to come to `expected`, or are malformed.
    fn http2(&mut self, frames: &[Frame], expected: Option<&Expected>) -> Vec<String> {
        let (next, other) = self.probes();
        let (first, second) = http2::run(self.kw.address(), frames, &next);
        let mut faults = Vec::new();
        let goes_on = second == http2::Outcome::Answered(200, next);
        let mut answered = None;
        match (&first, expected) {
            (http2::Outcome::Answered(status, text), Some(expected)) => {
                let code = code_of(text);
                check_answer(*status, &code, expected, &mut faults);
                answered = Some((*status, text.clone()));
                if !goes_on {
                    faults.push(format!("the next stream: {second:?}"));
                }
            }
            (first, Some(_)) => faults.push(format!("no answer: {first:?}")),
            (http2::Outcome::Answered(400, text), None) if code_of(text) == "bad_request" => {}
            (http2::Outcome::Reset | http2::Outcome::Ended, None) => {}
            (first, None) => faults.push(format!("not refused: {first:?}")),
        }
        if !goes_on && second != http2::Outcome::Ended {
            faults.push(format!("the connection neither ends nor goes on: {second:?}"));
        }
        let refused = case::refused(&[400], "bad_request");
        self.judge(expected.unwrap_or(&refused), answered, &other, &mut faults);
        faults
    }

    /// What the upstream has seen, and what somebody else gets now.
    fn judge(
        &self,
        expected: &Expected,
        answered: Option<(u16, String)>,
        other: &str,
        faults: &mut Vec<String>,
    ) {
        if let Err(why) = http1::is_served(self.kw.address(), other, DEADLINE) {
            faults.push(format!("somebody else: {why}"));
        }
        let seen = self.app.take();
        check_safe(&seen, &expected.upstream, faults);
        let mut requests = attackers(&seen);
        if let (MaySee::One { user, with, body, .. }, Some(request)) =
            (&expected.upstream, requests.next())
        {
            let arrived = String::from_utf8_lossy(&request.body);
            if body.as_ref().is_some_and(|body| *body != arrived) {
                faults.push(format!("the body upstream is {arrived:?}"));
            }
            check_identity(request, *user, faults);
            for text in with.iter().filter(|text| !request.head.contains(*text)) {
                faults.push(format!("{text:?} is not in {:?}", request.head));
            }
            let answer = answered.map(|(_, text)| text).unwrap_or_default();
            if request.method != "HEAD" && answer != request.target {
                faults.push(format!("got {answer:?}, and asked for {:?}", request.target));
            }
        } else if matches!(expected.upstream, MaySee::One { .. }) {
            faults.push("nothing reached the upstream".to_owned());
        }
        for request in &seen.requests {
            for key in [KEY, ROOT_KEY].iter().filter(|key| request.head.contains(**key)) {
                faults.push(format!("the key {key} is in {:?}", request.head));
            }
        }
    }

    fn probes(&mut self) -> (String, String) {
        self.count += 1;
        let [next, other] = PROBES.map(|probe| format!("{probe}{}", self.count));
        (next, other)
    }
}

/// The requests that the attacker brought about.
fn attackers(seen: &Seen) -> impl Iterator<Item = &strict::Request> {
    let is_probe = |target: &str| PROBES.iter().any(|probe| target.starts_with(probe));
    seen.requests.iter().filter(move |request| !is_probe(&request.target))
}

fn check_answer(status: u16, code: &str, expected: &Expected, faults: &mut Vec<String>) {
    if !(expected.statuses.contains(&status) && code == expected.code) {
        let Expected { statuses, code: expected, .. } = expected;
        faults.push(format!("got {status} {code:?}, not {statuses:?} {expected:?}"));
    }
}

/// What nobody may have seen, whatever a proxy is there for.
fn check_safe(seen: &Seen, may_see: &MaySee, faults: &mut Vec<String>) {
    faults.extend(seen.unclean.iter().map(|why| format!("unclean bytes upstream: {why}")));
    let count = attackers(seen).count();
    let most = usize::from(matches!(may_see, MaySee::One { .. }));
    if count > most {
        let heads: Vec<&str> = attackers(seen).map(|request| request.head.as_str()).collect();
        faults.push(format!("{count} requests upstream, at most {most}: {heads:?}"));
    }
    for request in attackers(seen) {
        let head = request.head.to_ascii_lowercase();
        let without = match may_see {
            MaySee::One { without, .. } => &without[..],
            _ => &[],
        };
        let evil = "evil".to_owned();
        for text in without.iter().chain([&evil]).filter(|text| head.contains(text.as_str())) {
            faults.push(format!("{text:?} is in {head:?}"));
        }
        for (name, _) in request.trailers.iter().filter(|(_, value)| value.contains("evil")) {
            faults.push(format!("the trailer {name} came through"));
        }
    }
}

/// Who called is said once, in one spelling, by us.
fn check_identity(request: &strict::Request, user: Option<&str>, faults: &mut Vec<String>) {
    let told = |name| request.folded(name);
    let role = user.map(|user| if user == "root" { "admin" } else { "viewer" });
    let expected = [("x-auth-user", user), ("x-auth-role", role)];
    for (name, value) in expected {
        if told(name) != Vec::from_iter(value) {
            faults.push(format!("{name} is {:?}, not {value:?}", told(name)));
        }
    }
    if told("x-auth-key-id").len() != usize::from(user.is_some()) {
        faults.push(format!("x-auth-key-id is {:?}", told("x-auth-key-id")));
    }
    if told("x-forwarded-for") != ["127.0.0.1"] {
        faults.push(format!("x-forwarded-for is {:?}", told("x-forwarded-for")));
    }
}

fn code_of(text: &str) -> String {
    let problem: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}

/// Runs a table over both protocols, and shows all that is wrong at once.
#[track_caller]
fn check(table: &[Case]) {
    let mut stage = Stage::start();
    let mut faults = Vec::new();
    for case in table {
        let mut note = |protocol: &str, found: Vec<String>| {
            faults.extend(
                found.iter().map(|fault| format!("{}, over {protocol}: {fault}", case.name)),
            );
        };
        note("HTTP/1.1", stage.http1(case));
        let Some(frames) = http2::frames_of(case) else { continue };
        let expected = match &case.over_http2 {
            OverHttp2::Same => Some(&case.expected),
            OverHttp2::Other(expected) => Some(expected),
            OverHttp2::Malformed => None,
            OverHttp2::Nothing => continue,
        };
        note("HTTP/2", stage.http2(&frames, expected));
    }
    // A body that is not sound is seen to be so when some of it has gone on.
    let begun = |case: &&Case| {
        matches!(case.expected.upstream, MaySee::Beginning)
            || matches!(case.over_http2, OverHttp2::Malformed)
    };
    finish(&stage, table.len(), table.iter().filter(begun).count(), faults);
}

/// What was cut off upstream is clean as far as it goes, and no more than `may_begin` of the `count` cases.
#[track_caller]
fn finish(stage: &Stage, count: usize, may_begin: usize, mut faults: Vec<String>) {
    let cut = stage.app.take_cut();
    if cut.len() > may_begin {
        faults.push(format!("{} requests were begun and cut off, at most {may_begin}", cut.len()));
    }
    for bytes in cut {
        faults.extend(strict::read(&bytes).err().map(|why| format!("cut off, and unclean: {why}")));
    }
    assert!(faults.is_empty(), "{} faults of {count} cases:\n{}", faults.len(), faults.join("\n"));
}

macro_rules! test_tables {
    ($($name:ident: $cases:expr;)*) => {$(
        #[test]
        fn $name() {
            check(&$cases);
        }
    )*};
}

test_tables! {
    identity_of_a_client_never_arrives: identity::cases();
    nor_does_any_alias_of_it: identity::aliases();
    nor_do_trailers_carry_it: identity::trailers();
    claims_about_another_request_decide_nothing: identity::claims();
    connection_fields_take_nothing_of_ours_away: connection::cases();
    a_body_with_two_ends_is_refused: framing::two_ends();
    a_transfer_coding_is_exactly_chunked: framing::codings();
    a_length_is_one_plain_number: framing::lengths();
    http_1_0_has_no_transfer_coding: framing::http_1_0();
    a_body_is_never_a_request: bodies::cases();
    a_chunk_has_one_reading: chunks::cases();
    a_line_has_one_reading: lines::cases();
    no_control_character_passes: lines::controls();
    a_path_has_one_reading: paths::cases();
    a_host_has_one_reading: targets::hosts();
    methods_that_make_proxies_do_things_are_refused: targets::methods();
    nobody_else_is_ever_dialled: targets::elsewhere();
    an_upgrade_is_never_passed_on_by_itself: upgrades::cases();
    two_keys_are_none: keys::cases();
    what_is_too_large_is_refused: sizes::cases();
}

#[test]
fn what_only_http_2_can_say_is_refused_there() {
    let mut stage = Stage::start();
    let mut faults = Vec::new();
    let cases = malformed_http2::cases();
    for case in &cases {
        let found = stage.http2(&case.frames, case.expected.as_ref());
        faults.extend(found.iter().map(|fault| format!("{}: {fault}", case.name)));
    }
    // What the frames belie is known only when some of it has gone on.
    finish(&stage, cases.len(), cases.len(), faults);
}

#[test]
fn there_are_enough_of_them() {
    let tables = tables();
    let count: usize = tables.iter().map(|(_, cases)| cases.len()).sum();
    assert!(count >= 300, "{count}");
    let has_form = |case: &&Case| {
        matches!(case.request, case::Request::Parts(_))
            && !matches!(case.over_http2, OverHttp2::Nothing)
    };
    let over_http2 = tables.iter().flat_map(|(_, cases)| cases).filter(has_form).count();
    let count = over_http2 + malformed_http2::cases().len();
    assert!(count >= 300, "over HTTP/2: {count}");
    let mut names: Vec<_> = tables.iter().flat_map(|(_, cases)| cases).map(|c| &c.name).collect();
    names.sort();
    let twice = names.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(twice, None, "a name is there twice");
}
