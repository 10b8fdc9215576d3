//! What many hostile clients do at once, or one that never stops: each is ended by a deadline, a rate or a limit, with
//! bounded memory, and legitimate requests beside it are answered.
//!
//! What one client alone may do is in `limits.rs` and `pace.rs`.

mod frames;
mod http2;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use crate::harness::keyward::get;
use crate::harness::{Actor, Client, Keyward, Setup, Stage, Upstream, wait_for};

/// What a flood may make the process grow by: buffers of the few connections that tests have, and no more with time.
const GROWTH_BYTES: u64 = 24 << 20;
/// Of each kind of slow client.
const SLOW: usize = 50;

fn stage(app: Upstream, prepare: impl FnOnce(&mut Setup)) -> (Stage, Actor) {
    Stage::new(app, |setup| {
        prepare(setup);
        setup.key("alice", "viewer")
    })
}

fn open_files(kw: &Keyward) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", kw.pid())).expect("our own child").count()
}

/// Whether there is an answer, or the end, without waiting for either.
fn is_over(client: &Client) -> bool {
    let socket = client.socket();
    socket.set_nonblocking(true).expect("an open socket takes options");
    let heard = socket.peek(&mut [0]);
    socket.set_nonblocking(false).expect("an open socket takes options");
    !heard.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

#[test]
fn clients_that_drip_are_all_ended_while_others_are_served() {
    let (stage, alice) = stage(Upstream::hello(), |setup| {
        setup.set("server.timeouts", "request_header = \"2s\"\nrequest_body_idle = \"2s\"");
    });
    let key = alice.header();
    let forms = [
        ("silent", String::new(), ""),
        ("a head", "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ".to_owned(), "x"),
        ("fields", "GET / HTTP/1.1\r\nHost: a\r\n".to_owned(), "X-Slow: x\r\n"),
        (
            "a body",
            format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 99999\r\n\r\n"),
            "x",
        ),
        (
            "chunks",
            format!("POST / HTTP/1.1\r\nHost: a\r\n{key}Transfer-Encoding: chunked\r\n\r\n"),
            "1\r\nx\r\n",
        ),
    ];
    let mut dripping = Vec::new();
    for (name, begin, piece) in &forms {
        for _ in 0..SLOW {
            let mut client = stage.kw.connect();
            client.send(begin);
            dripping.push((*name, client, *piece));
        }
    }
    let served = stage.kw.access_log().len();
    wait_for("the end of all of them", || {
        assert_eq!(stage.kw.get("/", &alice).status(), 200);
        dripping
            .retain_mut(|(_, client, piece)| !is_over(client) && client.try_send(*piece).is_ok());
        dripping.is_empty().then_some(())
    });
    assert!(stage.kw.access_log().len() > served);
}

#[test]
fn an_extension_of_a_chunk_without_end_is_refused_before_it_is_taken() {
    let (stage, alice) = stage(Upstream::hello(), |_| {});
    stage.kw.get("/", &alice);
    stage.kw.forget_memory_peak();
    let before = stage.kw.memory_bytes();
    let mut client = stage.kw.connect();
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a\r\n{}Transfer-Encoding: chunked\r\n\r\n1;",
        alice.header()
    ));
    let piece = vec![b'x'; 64 << 10];
    let mut sent = 0;
    while sent < 16 << 20 && client.try_send(&piece).is_ok() {
        sent += piece.len();
    }
    let answer = client.try_answer();
    if let Ok(answer) = answer {
        assert_eq!((answer.status(), answer.code().as_str()), (400, "bad_request"));
    }
    assert!(sent < 16 << 20, "all of it was taken");
    stage.kw.wait_for_record("the request", |record| record["status"] == 400);
    let growth = stage.kw.memory_peak_bytes().saturating_sub(before);
    assert!(growth < 4 << 20, "{growth} bytes more");
    stage.passes(get("/", &alice.header()));
}

#[test]
fn a_storm_of_connections_leaves_nothing_behind() {
    let (stage, alice) = stage(Upstream::hello(), |_| {});
    stage.kw.get("/", &alice);
    let before = open_files(&stage.kw);
    for round in 0..30 {
        for number in 0..100 {
            let client = stage.kw.connect();
            match number % 3 {
                0 => client.reset(),
                1 => drop(client),
                _ => {
                    let mut client = client;
                    client.send("GET / HT");
                }
            }
        }
        assert_eq!(stage.kw.get("/", &alice).status(), 200, "round {round}");
    }
    wait_for("the end of all of them", || (open_files(&stage.kw) <= before + 2).then_some(()));
}

#[test]
fn a_shortage_of_file_descriptors_is_said_once_and_who_waited_is_served() {
    const FILES: usize = 100;
    const SAID: &str = "a connection could not be accepted, trying again";
    let (stage, alice) = stage(Upstream::hello(), |setup| {
        setup.start_through(&["prlimit", &format!("--nofile={FILES}:{FILES}")]);
    });
    let mut before = stage.kw.connect();
    before.send(get("/", &alice.header()));
    assert_eq!(before.answer().status(), 200);
    let mut many: Vec<Client> = (0..2 * FILES).map(|_| stage.kw.connect()).collect();
    let is_said = |event: &serde_json::Value| {
        crate::harness::keyward::field(event, "message")
            .as_str()
            .is_some_and(|it| it.starts_with(SAID))
    };
    wait_for("the word on it", || stage.kw.find_event(is_said));
    for _ in 0..10 {
        before.send(get("/", &alice.header()));
        assert_eq!(before.answer().status(), 200, "connections that are there are served on");
    }
    let mut last = many.pop().expect("there are many");
    last.send(get("/", &alice.header()));
    drop(many);
    assert_eq!(last.answer().status(), 200, "who waited is served");
    let said = stage.kw.stderr().matches(SAID).count();
    assert_eq!(said, 1);
}

/// A connection from `from`.
fn connect_from(from: Ipv4Addr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

#[test]
fn ten_thousand_idle_connections_hold_little_memory_and_nobody_up() {
    const IDLE: u32 = 10_000;
    const FROM_EACH: u32 = 1_000;
    // What a descriptor more is needed for: files, sockets of the test's other ends.
    const OTHERS: u32 = 200;
    let wanted = format!("--nofile={0}", IDLE + OTHERS);
    let own = std::process::id().to_string();
    let raised = Command::new("prlimit").args(["--pid", &own, &wanted]).status();
    assert!(raised.expect("util-linux is there").success(), "`ulimit -Hn` must allow {wanted}");
    let (stage, alice) = stage(Upstream::hello(), |setup| {
        setup.set("server.timeouts", "request_header = \"5m\"");
    });
    stage.kw.get("/", &alice);
    let before = stage.kw.memory_bytes();
    let idle: Vec<TcpStream> = (0..IDLE)
        .map(|number| {
            let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + number / FROM_EACH);
            connect_from(from, stage.kw.address()).expect("the proxy accepts")
        })
        .collect();
    // Connections are accepted in their order: an answer says that those before it are.
    for _ in 0..20 {
        assert_eq!(stage.kw.get("/", &alice).status(), 200);
    }
    let of_each = stage.kw.memory_bytes().saturating_sub(before) / u64::from(IDLE);
    assert!(of_each < 8 << 10, "{of_each} bytes of each");
    let alive = |mut stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_millis(1))).expect("an open socket");
        let read = io::Read::read(&mut stream, &mut [0]);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    };
    assert!(idle.iter().step_by(500).all(alive), "they may stay");
    assert!(open_files(&stage.kw) > IDLE as usize);
    drop(idle);
    wait_for("the end of all of them", || (open_files(&stage.kw) < 200).then_some(()));
}
