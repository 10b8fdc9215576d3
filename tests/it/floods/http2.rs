//! Floods of frames: each is ended with the code that says why, and with bounded memory; whoever takes answers may ask
//! for as much as that needs.

use std::io::{ErrorKind, Read as _, Write as _};
use std::thread;
use std::time::Duration;

use http::Request;

use super::frames::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING,
    PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, field,
    frame, get, request,
};
use super::{GROWTH_BYTES, stage};
use crate::harness::keyward::get as get_http1;
use crate::harness::{Actor, Http2, Stage, Upstream, wait_for};

/// More of anything than is let through.
const PIECES: u32 = 20_000;

/// Sends `begin`, and then `flood`; the code of the GOAWAY that it comes to.
#[track_caller]
fn flood(stage: &Stage, begin: &[u8], flood: Vec<u8>) -> u32 {
    let mut wire = Wire::connect(stage.kw.address(), &[]);
    wire.send(begin).expect("the proxy takes the beginning");
    let mut writer = wire.writer();
    // It fails when the connection is closed.
    let flooding = thread::spawn(move || writer.write_all(&flood));
    let goodbye = wire.wait_for(|frame| frame.kind == GOAWAY);
    // Nobody reads what is on its way, and the connection stays open for a while.
    wire.close();
    drop(flooding.join().expect("it does not panic"));
    goodbye.expect("a GOAWAY").code()
}

#[test]
fn a_flood_of_frames_is_ended_with_the_reason_and_holds_no_memory() {
    let (stage, alice) = stage(
        Upstream::unrecorded(|connection| {
            while connection.request()?.is_some() {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
            }
            Ok(())
        }),
        |_| {},
    );
    let is_served = || {
        let answer = stage.kw.ask(get_http1("/", &alice.header()));
        assert_eq!((answer.status(), answer.text()), (200, "hello".into()));
    };
    is_served();
    stage.kw.forget_memory_peak();
    let before = stage.kw.memory_bytes();
    let post = frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &alice));
    let stream = |number: u32| 2 * number + 1;
    let check = |name: &str, begin: &[u8], piece: &dyn Fn(u32) -> Vec<u8>, code: u32| {
        let pieces = (0..PIECES).flat_map(piece).collect();
        assert_eq!(flood(&stage, begin, pieces), code, "{name}");
        is_served();
    };
    let calm = ENHANCE_YOUR_CALM;
    check("PING", &[], &|_| frame(PING, 0, 0, &[0; 8]), calm);
    check("PING that answers nothing", &[], &|_| frame(PING, ACK, 0, &[0; 8]), calm);
    check("SETTINGS", &[], &|_| frame(SETTINGS, 0, 0, &[]), calm);
    check("PRIORITY", &[], &|_| frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]), calm);
    check(
        "PRIORITY of itself",
        &[],
        &|n| frame(PRIORITY, 0, stream(n), &[&stream(n).to_be_bytes()[..], &[16]].concat()),
        calm,
    );
    check("WINDOW_UPDATE", &[], &|_| frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]), calm);
    check(
        "WINDOW_UPDATE of nothing",
        &[],
        &|_| frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        PROTOCOL_ERROR,
    );
    check("frames of no kind", &[], &|_| frame(0xee, 0, 0, &[]), calm);
    check("empty DATA", &post, &|_| frame(DATA, 0, 1, &[]), calm);
    let headers = frame(HEADERS, 0, 1, &request("GET", "/", &alice));
    check("CONTINUATION", &headers, &|_| frame(CONTINUATION, 0, 1, &field("x-more", "more")), calm);
    check("empty CONTINUATION", &headers, &|_| frame(CONTINUATION, 0, 1, &[]), calm);
    let reset = |n| frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8]);
    check("rapid reset", &[], &|n| [get(stream(n), "/", &alice), reset(n)].concat(), calm);
    // The proxy is made to reset what it works on: by a window that is too large, and by what comes behind the end.
    let widest = 0x7fff_ffff_u32.to_be_bytes();
    check(
        "MadeYouReset by a window",
        &[],
        &|n| [get(stream(n), "/", &alice), frame(WINDOW_UPDATE, 0, stream(n), &widest)].concat(),
        calm,
    );
    check(
        "MadeYouReset by DATA",
        &[],
        &|n| [get(stream(n), "/", &alice), frame(DATA, 0, stream(n), b"x")].concat(),
        PROTOCOL_ERROR,
    );
    let growth = stage.kw.memory_peak_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES, "{growth} bytes more");
}

#[test]
fn requests_that_are_taken_back_one_by_one_are_ended_too_and_not_worked_on() {
    let (stage, alice) = stage(
        Upstream::unrecorded(|connection| {
            connection.head()?;
            connection.wait_for_close()
        }),
        |_| {},
    );
    let mut wire = Wire::connect(stage.kw.address(), &[]);
    let mut taken_back = 0;
    let code = loop {
        let stream = 2 * taken_back + 1;
        // The answer to the ping says that the request was taken.
        let ping = frame(PING, 0, 0, &u64::from(stream).to_be_bytes());
        let _ = wire.send(&[get(stream, "/", &alice), ping].concat());
        let heard =
            wire.wait_for(|frame| frame.kind == GOAWAY || (frame.kind, frame.flags) == (PING, ACK));
        let heard = heard.expect("a GOAWAY at least");
        if heard.kind == GOAWAY {
            break heard.code();
        }
        let _ = wire.send(&frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        taken_back += 1;
        assert!(taken_back < PIECES, "it goes on and on");
    };
    assert_eq!(code, ENHANCE_YOUR_CALM);
    assert!(taken_back > 200, "a client that leaves two pages is no flood: {taken_back}");
    let left = |record: &serde_json::Value| record["code"] == "client_left";
    wait_for("a record of each", || {
        let records = stage.kw.access_log().into_iter().filter(left).count();
        (records >= taken_back as usize).then_some(())
    });
}

#[test]
fn who_floods_or_breaks_the_protocol_is_kept_from_coming_back_until_it_is_let_go() {
    let (stage, alice) = stage(Upstream::hello(), |_| {});
    let pings = (0..1100).flat_map(|_| frame(PING, 0, 0, &[0; 8])).collect();
    let no_room: Vec<u8> = frame(WINDOW_UPDATE, 0, 0, &[0; 4]);
    let faults = [(pings, ENHANCE_YOUR_CALM), (no_room, PROTOCOL_ERROR)];
    let mut held = faults.map(|(fault, code)| {
        let mut wire = Wire::connect(stage.kw.address(), &[]);
        wire.send(&fault).expect("the proxy takes it, or the kernel");
        let goodbye = wire.wait_for(|frame| frame.kind == GOAWAY).expect("it is told");
        assert_eq!(goodbye.code(), code);
        wire
    });
    for wire in &held {
        let silence = wire.writer();
        silence.set_read_timeout(Some(Duration::from_secs(1))).expect("an open socket");
        let silent = (&silence).read(&mut [0]).expect_err("no end yet");
        assert_eq!(silent.kind(), ErrorKind::WouldBlock);
    }
    stage.passes(get_http1("/", &alice.header()));
    stage.kw.signal("TERM");
    assert!(stage.kw.wait_for_exit().success());
    assert!(held.iter_mut().all(|wire| wire.next().is_none()));
}

#[test]
fn a_request_that_is_reset_together_with_its_arrival_is_not_worked_on() {
    let (stage, alice) = stage(Upstream::hello(), |_| {});
    let mut wire = Wire::connect(stage.kw.address(), &[]);
    let taken_back = [get(1, "/left", &alice), frame(RST_STREAM, 0, 1, &[0, 0, 0, 8])].concat();
    wire.send(&[taken_back, get(3, "/taken", &alice)].concat()).expect("the proxy takes requests");
    wire.wait_for(|frame| frame.ends()).expect("the answer to the other");
    let record = stage.kw.wait_for_record("of it", |record| record["path"] == "/left");
    assert_eq!(record["code"], "client_left");
    assert_eq!(stage.app.targets(), ["/taken"]);
}

#[test]
fn who_takes_an_answer_may_make_room_and_measure_the_way_with_each_frame_of_it() {
    const ANSWER_BYTES: usize = 16 << 20;
    let (stage, alice) = stage(
        Upstream::unrecorded(|connection| {
            connection.request()?;
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {ANSWER_BYTES}\r\n\r\n"))?;
            connection.send(vec![b'x'; ANSWER_BYTES])
        }),
        |_| {},
    );
    let mut wire = Wire::connect(stage.kw.address(), &[]);
    wire.send(&get(1, "/", &alice)).expect("the proxy takes a request");
    let (mut taken, mut sent) = (0, 0);
    loop {
        let data = wire.wait_for(|frame| matches!(frame.kind, DATA | GOAWAY)).expect("no end yet");
        assert_eq!(data.kind, DATA, "after {sent} frames: {data:?}");
        taken += data.payload.len();
        if data.ends() {
            break;
        }
        let room = (data.payload.len() as u32).to_be_bytes();
        for stream in [0, 1] {
            wire.send(&frame(WINDOW_UPDATE, 0, stream, &room)).expect("the proxy takes it");
        }
        wire.send(&frame(PING, 0, 0, &[1; 8])).expect("the proxy takes it");
        sent += 3;
    }
    assert_eq!(taken, ANSWER_BYTES);
    assert!(sent > 2000, "more than the budget of one who takes nothing: {sent}");
}

#[test]
fn a_head_above_its_limit_is_431_and_one_far_above_it_ends_the_connection() {
    let (stage, alice) = stage(Upstream::hello(), |_| {});
    let client = Http2::connect(stage.kw.address());
    for (bytes, status) in [(20_000, 200), (40_000, 431), (20_000, 200)] {
        let get = Request::get("http://app.example/").header("x-long", "x".repeat(bytes));
        let answer = client.send(get.header("x-api-key", &alice.key));
        assert_eq!(answer.status(), status, "{bytes}");
    }
    let block = [request("GET", "/", &alice), field("x-long", &"x".repeat(300_000))].concat();
    let (first, rest) = block.split_at(16_000);
    let rest = rest.chunks(16_000).flat_map(|piece| frame(CONTINUATION, 0, 1, piece)).collect();
    let goodbye = flood(&stage, &frame(HEADERS, END_STREAM, 1, first), rest);
    assert_eq!(goodbye, ENHANCE_YOUR_CALM);
    stage.passes(get_http1("/", &alice.header()));
}

const INITIAL_WINDOW_SIZE: u16 = 4;
/// Streams of a connection, as many as are allowed.
const STREAMS: u32 = 100;

/// A client that takes nothing, of as many answers as it may ask for.
fn ask_for_all(stage: &Stage, actor: &Actor) -> Wire {
    let mut wire = Wire::connect(stage.kw.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
    let all: Vec<u8> = (0..STREAMS).flat_map(|number| get(2 * number + 1, "/", actor)).collect();
    wire.send(&all).expect("the proxy takes requests");
    wire
}

/// The same, once so many of the answers wait for it, and the others were reset with `reason` because that was too much.
fn hold(stage: &Stage, actor: &Actor, waiting: u32, reason: u32) -> Wire {
    let mut wire = ask_for_all(stage, actor);
    let (mut begun, mut ended) = (0, 0);
    while begun < waiting || ended < STREAMS - waiting {
        let next = wire.wait_for(|frame| matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY));
        let next = next.expect("a head, or a reset, of each answer");
        match next.kind {
            HEADERS => begun += 1,
            kind => {
                assert_eq!((kind, next.code()), (RST_STREAM, reason));
                ended += 1;
            }
        }
    }
    wire
}

/// How many bytes an answer to `actor` holds that is not taken; and the connections with such.
fn held_by(stage: &Stage, actor: &Actor) -> (u64, Vec<Wire>) {
    const CONNECTIONS: u64 = 100;
    (0..8).for_each(|_| drop(hold(stage, actor, STREAMS, REFUSED_STREAM)));
    let before = stage.kw.memory_bytes();
    let held = (0..CONNECTIONS).map(|_| hold(stage, actor, STREAMS, REFUSED_STREAM)).collect();
    let growth = stage.kw.memory_bytes().saturating_sub(before);
    (growth / (CONNECTIONS * u64::from(STREAMS)), held)
}

#[test]
fn answers_that_nobody_takes_hold_little_memory_and_end() {
    let (stage, alice) = stage(Upstream::hello(), |setup| {
        setup.set("server.timeouts", "response_body_idle = \"5s\"");
    });
    let (of_each, held) = held_by(&stage, &alice);
    assert!(of_each < 6000, "{of_each} bytes of each");
    for mut wire in held {
        for _ in 0..STREAMS {
            wire.wait_for(|frame| frame.kind == RST_STREAM).expect("a reset of each");
        }
    }
}

#[test]
fn few_refusals_wait_for_whoever_takes_none_and_the_others_are_reset() {
    const WAITING: u32 = 32;
    let (stage, _) = stage(Upstream::hello(), |_| {});
    let mallory = Actor::new("mallory", "viewer");
    let mut wire = hold(&stage, &mallory, WAITING, ENHANCE_YOUR_CALM);
    // Those that wait come when there is room for them.
    wire.send(&frame(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE as u8, 0, 0, 0xff, 0xff]))
        .expect("the proxy takes it");
    for _ in 0..WAITING {
        let end = wire.wait_for(|frame| frame.kind == RST_STREAM || frame.ends());
        assert_eq!(end.expect("an answer").kind, DATA);
    }
}

#[test]
fn once_a_worker_has_many_streams_a_connection_may_open_few() {
    const MANY: u32 = 8192;
    const FEW: u32 = 8;
    let (stage, alice) = stage(Upstream::hello(), |setup| {
        setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    });
    let crowd = (0..MANY / STREAMS).map(|_| hold(&stage, &alice, STREAMS, REFUSED_STREAM));
    let mut crowd: Vec<Wire> = crowd.collect();
    crowd.push(hold(&stage, &alice, MANY % STREAMS, REFUSED_STREAM));
    drop(hold(&stage, &alice, FEW, REFUSED_STREAM));
    // Whoever takes what it asks for notices nothing.
    let client = Http2::connect(stage.kw.address());
    for _ in 0..3 {
        let answer =
            client.send(Request::get("http://app.example/").header("x-api-key", &alice.key));
        assert_eq!(answer.status(), 200);
    }
    drop(crowd);
    wait_for("room for many", || {
        let mut wire = ask_for_all(&stage, &alice);
        let mut is_head = || {
            let next = wire.wait_for(|frame| matches!(frame.kind, HEADERS | RST_STREAM));
            next.is_some_and(|frame| frame.kind == HEADERS)
        };
        (0..STREAMS).all(|_| is_head()).then_some(())
    });
}
