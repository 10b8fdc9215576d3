//! What a key holds open ends with it, at once and whatever it is; what others hold open goes on.

use std::io::{self, Read as _, Write as _};
use std::sync::mpsc::SyncSender;
use std::thread;

use h2::Reason;
use http::Request;
use http::request::Builder;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::harness::actor::key_file;
use crate::harness::certificates::Authority;
use crate::harness::keyward::{field, get};
use crate::harness::setup::{replace, write};
use crate::harness::tls::TlsClients;
use crate::harness::wait::{signal, wait};
use crate::harness::{Actor, Client, Connection, Http2, Http2Stream, Keyward, Message, Stage};
use crate::harness::{Upstream, wait_for};
use crate::upgrade::granted;

/// More than the buffers of all sockets on the way take.
const LARGE_BYTES: u64 = 64 << 20;
/// Downloads of which each is longer than the one before by less than a buffer of TLS.
const SIZES: usize = 80;
const SIZE_STEP_BYTES: usize = 50_000;
const HOST: &str = "app.example";
const CLOSED: &str = "closed what a key held open that is no longer good";
const ROUTES: &str = "[[routes]]\npath = \"/{*rest}\"\nupgrades = [\"websocket\"]\n";

/// Begins what is asked for by the first segment of the path, and brings to its end what `/…/bob` asked for when it is
/// told to go on.
fn app() -> (Upstream, SyncSender<()>) {
    let (go_on, may_go_on) = signal();
    let script = move |connection: &mut Connection| -> io::Result<()> {
        while let Some(request) = connection.head()? {
            let target = request.target().to_owned();
            let (kind, actor) = target[1..].split_once('/').unwrap_or((&target[1..], ""));
            let begin: &str = match kind {
                "tunnel" => &granted(&request),
                "stream" | "call" => {
                    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
                }
                "large" => &format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n"),
                "upload" | "wait" | "sized" => "",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            };
            connection.send(begin)?;
            match (kind, actor) {
                ("tunnel", _) => return echo(connection),
                ("sized", length) => {
                    let length: usize = length.parse().expect("a number");
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                    connection.send([head.as_bytes(), &vec![b'x'; length]].concat())?;
                }
                ("large", _) => {
                    for _ in 0..LARGE_BYTES >> 20 {
                        connection.send(vec![b'x'; 1 << 20])?;
                    }
                }
                ("stream" | "call", "bob") => {
                    wait(&may_go_on);
                    connection.send("4\r\nlast\r\n0\r\n\r\n")?;
                }
                ("upload", "bob") => {
                    connection.skip(10)?;
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast")?;
                }
                ("stream" | "call" | "upload" | "wait", _) => return connection.wait_for_close(),
                _ => {}
            }
        }
        Ok(())
    };
    (Upstream::unrecorded(script), go_on)
}

fn echo(connection: &mut Connection) -> io::Result<()> {
    let mut buffer = [0; 64];
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(()),
            read => connection.write_all(&buffer[..read])?,
        }
    }
}

/// What one key holds open: a request of each kind.
struct Held {
    tunnel: Client,
    stream: (Client, Message),
    large: Client,
    upload: Client,
    wait: Client,
    tunnel_h2: Http2Stream,
    stream_h2: Http2Stream,
    call_h2: Http2Stream,
    large_h2: Http2Stream,
}

impl Held {
    const KINDS: usize = 9;

    fn by(actor: &Actor, kw: &Keyward) -> Self {
        let (user, header) = (&actor.user, actor.header());
        let ask = |kind: &str, lines: &str| {
            let mut client = kw.connect();
            client.send(get(&format!("/{kind}/{user}"), &format!("{header}{lines}")));
            client
        };
        let begun = |kind: &str| {
            let mut client = ask(kind, "");
            let head = client.answer_head();
            assert_eq!(head.status(), 200);
            (client, head)
        };
        let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let mut tunnel = ask("tunnel", websocket);
        assert_eq!(tunnel.answer_head().status(), 101);
        let mut stream = begun("stream");
        assert_eq!(stream.0.chunk(&mut stream.1).unwrap().unwrap(), b"first");
        let mut upload = kw.connect();
        let lines = format!("Host: a\r\n{header}Content-Length: 10\r\n");
        upload.send(format!("PUT /upload/{user} HTTP/1.1\r\n{lines}\r\nhalf"));
        let h2 = Http2::connect(kw.address());
        let asking = |kind: &str| {
            let uri = format!("https://app.example/{kind}/{user}");
            Request::builder().uri(uri).header("x-api-key", &actor.key)
        };
        let opened = |asking: Builder, is_whole| {
            let begun = h2.begin(asking, is_whole);
            assert_eq!(begun.status(), 200);
            begun.into_stream()
        };
        let call = asking("call").method("POST").header("content-type", "application/grpc");
        let tunnel_h2 = asking("tunnel").header("sec-websocket-version", "13");
        let mut held = Self {
            tunnel,
            stream,
            large: begun("large").0,
            upload,
            wait: ask(if user == "bob" { "hello" } else { "wait" }, ""),
            tunnel_h2: h2.connect_to("websocket", tunnel_h2).into_stream(),
            stream_h2: opened(asking("stream"), true),
            call_h2: opened(call, false),
            large_h2: opened(asking("large"), true),
        };
        assert_eq!(held.stream_h2.read_bytes(5), b"first");
        assert_eq!(held.call_h2.read_bytes(5), b"first");
        held.talk();
        held
    }

    /// What is sent through the tunnels comes back.
    fn talk(&mut self) {
        self.tunnel.send("ping");
        assert_eq!(self.tunnel.read_bytes(4), b"ping");
        self.tunnel_h2.write_all(b"ping").expect("the stream is open");
        assert_eq!(self.tunnel_h2.read_bytes(4), b"ping");
    }

    /// Each was broken off, so that nobody can take it for whole; what had no answer yet has one that says why.
    fn check_closed(mut self, code: &str) {
        assert_eq!(self.tunnel.rest(), b"");
        let (mut client, mut head) = self.stream;
        client.chunk(&mut head).expect_err("no end of the stream");
        self.large.skip(LARGE_BYTES).expect_err("no whole answer");
        for mut client in [self.upload, self.wait] {
            let answer = client.answer();
            assert_eq!((answer.status(), answer.code()), (401, code.to_owned()));
            assert!(answer.field("www-authenticate").is_some());
        }
        assert_eq!(self.tunnel_h2.reason(), Reason::CANCEL);
        for mut stream in [self.stream_h2, self.call_h2, self.large_h2] {
            let reason = stream.reason();
            assert!([Reason::INTERNAL_ERROR, Reason::CANCEL].contains(&reason), "{reason:?}");
        }
    }

    /// Each goes on to its own end.
    fn check_open(mut self, go_on: &SyncSender<()>) {
        self.talk();
        for _ in 0..3 {
            go_on.send(()).expect("the scripts wait");
        }
        let (mut client, mut head) = self.stream;
        assert_eq!(client.chunk(&mut head).unwrap().unwrap(), b"last");
        assert_eq!(client.chunk(&mut head).unwrap(), None);
        self.large.skip(LARGE_BYTES).expect("the whole answer");
        self.upload.send("second");
        assert_eq!(self.upload.answer().text(), "last");
        assert_eq!(self.wait.answer().text(), "hello");
        for mut stream in [self.stream_h2, self.call_h2] {
            assert_eq!(stream.rest(), b"last");
        }
        assert_eq!(self.large_h2.rest().len() as u64, LARGE_BYTES);
    }
}

fn stage() -> (Stage, SyncSender<()>, [Actor; 2]) {
    let (app, go_on) = app();
    let (stage, actors) = Stage::new(app, |setup| {
        setup.routes(ROUTES);
        [setup.key("alice", "viewer"), setup.key("bob", "viewer")]
    });
    (stage, go_on, actors)
}

fn keys_become(kw: &Keyward, actors: &[Actor]) {
    replace(&kw.path("keys.toml"), &key_file(actors));
}

/// Waits until all requests of `actor` are in the access log, each with `code`.
fn check_records(kw: &Keyward, actor: &Actor, count: usize, code: &str) {
    let records = wait_for("the records", || {
        let records = kw.access_log().into_iter();
        let records: Vec<_> = records.filter(|record| record["user"] == *actor.user).collect();
        (records.len() >= count).then_some(records)
    });
    assert_eq!(records.len(), count);
    for record in records {
        assert_eq!((&record["code"], &record["key_id"]), (&code.into(), &actor.id.as_str().into()));
    }
}

/// How many of its requests the log says were closed.
fn closed(kw: &Keyward, actor: &Actor) -> u64 {
    let events = kw.events_with(CLOSED);
    let own = events.iter().filter(|event| field(event, "key_id") == actor.id.as_str());
    own.map(|event| field(event, "requests").as_u64().expect("a number")).sum()
}

#[test]
fn all_that_a_disabled_key_holds_open_is_closed_and_nothing_else() {
    let (stage, go_on, [alice, bob]) = stage();
    let kw = &stage.kw;
    let (of_alice, of_bob) = (Held::by(&alice, kw), Held::by(&bob, kw));
    keys_become(kw, &[alice.clone().with("enabled = false"), bob.clone()]);
    of_alice.check_closed("key_disabled");
    check_records(kw, &alice, Held::KINDS, "key_disabled");
    assert_eq!(closed(kw, &alice), Held::KINDS as u64);
    of_bob.check_open(&go_on);
    assert_eq!(closed(kw, &bob), 0);
    let of_bob = || kw.access_log().into_iter().filter(|record| record["user"] == "bob");
    assert!(of_bob().all(|record| record["code"].is_null()), "{:?}", of_bob().collect::<Vec<_>>());
    // It is the key that was disabled: the connection of the refused request serves others.
    assert_eq!(kw.get("/hello", &alice).code(), "key_disabled");
    assert_eq!(kw.get("/hello", &bob).status(), 200);
}

#[test]
fn a_deleted_key_holds_nothing_open() {
    let (stage, _, [alice, bob]) = stage();
    let of_alice = Held::by(&alice, &stage.kw);
    keys_become(&stage.kw, &[bob]);
    of_alice.check_closed("invalid_key");
    check_records(&stage.kw, &alice, Held::KINDS, "invalid_key");
}

#[test]
fn a_key_holds_nothing_open_behind_its_expiry() {
    let (stage, _, [alice, bob]) = stage();
    let mut tunnels = [&alice, &bob].map(|actor| open_tunnel(&stage.kw, actor));
    // Nobody touches the file when that has come.
    let soon = Timestamp::now() + SignedDuration::from_secs(2);
    keys_become(&stage.kw, &[alice.clone().with(&format!("expires_at = {soon}")), bob]);
    assert_eq!(tunnels[0].rest(), b"");
    check_records(&stage.kw, &alice, 1, "key_expired");
    tunnels[1].send("ping");
    assert_eq!(tunnels[1].read_bytes(4), b"ping");
}

#[test]
fn a_secret_before_a_rotation_holds_nothing_open_behind_its_grace() {
    // One worker has both secrets of one key in use.
    let (app, _go_on) = app();
    let (stage, [alice, bob]) = Stage::new(app, |setup| {
        setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
        setup.routes(ROUTES);
        [setup.key("alice", "viewer"), setup.key("bob", "viewer")]
    });
    let mut old = open_tunnel(&stage.kw, &alice);
    let rotated = alice.clone().with_key("it-another-secret-of-alice");
    let later = Timestamp::now() + SignedDuration::from_hours(1);
    let hash =
        alice.entry().lines().find_map(|line| line.strip_prefix("hash = ")).unwrap().to_owned();
    let grace = format!("previous_hash = {hash}\nprevious_expires_at = {later}");
    keys_become(&stage.kw, &[rotated.clone().with(&grace), bob.clone()]);
    wait_for("the new secret", || (stage.kw.get("/hello", &rotated).status() == 200).then_some(()));
    let mut new = open_tunnel(&stage.kw, &rotated);
    let mut old_again = open_tunnel(&stage.kw, &alice);
    old.send("ping");
    assert_eq!(old.read_bytes(4), b"ping");
    // The old secret ends; the key does not.
    keys_become(&stage.kw, &[rotated, bob]);
    assert_eq!((old.rest(), old_again.rest()), (Vec::new(), Vec::new()));
    new.send("ping");
    assert_eq!(new.read_bytes(4), b"ping");
    // Before the new secret was known, a request with it had no user.
    let has_ended = |record: &Value| record["user"] == "alice" && record["code"] == "invalid_key";
    let ended = || stage.kw.access_log().into_iter().filter(has_ended).count();
    wait_for("both records", || (ended() == 2).then_some(()));
}

#[test]
fn a_process_that_another_has_taken_over_from_hears_of_it_too() {
    let (stage, _, [alice, bob]) = stage();
    let mut tunnels = [&alice, &bob].map(|actor| open_tunnel(&stage.kw, actor));
    stage.kw.take_over();
    keys_become(&stage.kw, &[alice.with("enabled = false"), bob]);
    assert_eq!(tunnels[0].rest(), b"");
    tunnels[1].send("ping");
    assert_eq!(tunnels[1].read_bytes(4), b"ping");
}

#[test]
fn who_waits_for_an_answer_over_http2_is_told_why_there_is_none() {
    let (stage, _, [alice, bob]) = stage();
    let h2 = Http2::connect(stage.kw.address());
    let asking = || {
        let uri = "https://app.example/wait/alice";
        Request::builder().uri(uri).header("x-api-key", &alice.key)
    };
    let call = asking().method("POST").header("content-type", "application/grpc");
    let before = stage.app.connections();
    let [plain, call] = [asking(), call].map(|asking| {
        let h2 = h2.clone();
        thread::spawn(move || h2.send(asking).read())
    });
    wait_for("both requests", || (stage.app.connections() == before + 2).then_some(()));
    keys_become(&stage.kw, &[alice.with("enabled = false"), bob]);
    let plain = plain.join().expect("an answer");
    assert_eq!(plain.status, 401);
    assert!(plain.text.contains("key_disabled"), "{}", plain.text);
    let call = call.join().expect("an answer");
    assert_eq!((call.status, &call.headers["grpc-status"]), (200, &"16".parse().unwrap()));
}

fn open_tunnel(kw: &Keyward, actor: &Actor) -> Client {
    let mut client = kw.connect();
    let websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let target = format!("/tunnel/{}", actor.user);
    client.send(get(&target, &format!("{}{websocket}", actor.header())));
    assert_eq!(client.answer_head().status(), 101);
    client.send("ping");
    assert_eq!(client.read_bytes(4), b"ping");
    client
}

/// A proxy that speaks TLS.
fn tls_stage() -> (Stage, TlsClients, SyncSender<()>, [Actor; 2]) {
    let (app, go_on) = app();
    let authority = Authority::new();
    let (stage, actors) = Stage::new(app, |setup| {
        let pair = authority.server(&[HOST]);
        write(&setup.folder.path().join("server.pem"), &pair.certificate);
        write(&setup.folder.path().join("server.key"), &pair.private_key);
        setup.set("server.tls", "certificate = \"server.pem\"\nprivate_key = \"server.key\"");
        setup.routes(ROUTES);
        [setup.key("alice", "viewer"), setup.key("bob", "viewer")]
    });
    (stage, TlsClients::of(&authority), go_on, actors)
}

#[test]
fn over_tls_nothing_stays_open_either_not_even_the_end_of_an_answer_that_nobody_takes() {
    let (stage, clients, _, [alice, bob]) = tls_stage();
    let ask = |target: &str| {
        let mut client = clients.connect(stage.kw.address(), HOST);
        client.send(get(target, &alice.header()));
        client
    };
    // One of these lengths is just what the sockets take, and some of the last record.
    let lengths = (0..SIZES).map(|step| (2 << 20) + step * SIZE_STEP_BYTES);
    let mut downloads: Vec<_> = lengths.map(|length| ask(&format!("/sized/{length}"))).collect();
    let mut stream = ask("/stream/alice");
    let h2 = Http2::connect_tls(stage.kw.address(), clients.clone(), HOST);
    let uri = "https://app.example/stream/alice";
    let begun = h2.send(Request::builder().uri(uri).header("x-api-key", &alice.key));
    // Each has begun.
    for client in downloads.iter_mut().chain([&mut stream]) {
        client.read_exact(&mut [0]).expect("the beginning of an answer");
    }
    keys_become(&stage.kw, &[alice.clone().with("enabled = false"), bob]);
    stream.rest().expect_err("no end of the stream");
    assert_eq!(begun.into_stream().reason(), Reason::INTERNAL_ERROR);
    wait_for("the records of all", || {
        (stage.kw.access_log().len() == downloads.len() + 2).then_some(())
    });
}
