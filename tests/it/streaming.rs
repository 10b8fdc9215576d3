//! Bodies and answers go through as they come, in both directions, whole or visibly broken.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use http::Request;

use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Actor, DEADLINE, Http2, Stage, Upstream};

/// Events of a stream.
const EVENTS: usize = 200;

fn stage(app: Upstream) -> (Stage, Actor) {
    Stage::new(app, |setup| setup.key("alice", "viewer"))
}

fn post(alice: &Actor, framing: &str) -> String {
    format!("POST /upload HTTP/1.1\r\nHost: a\r\n{}{framing}\r\n\r\n", alice.header())
}

#[test]
fn the_first_piece_of_an_upload_arrives_before_the_last_is_sent() {
    let (arrived, first_piece) = signal();
    let app = Upstream::scripted(move |connection| {
        while let Some(mut request) = connection.head()? {
            while let Some(_chunk) = connection.chunk(&mut request)? {
                let _nobody_waits_for_the_second = arrived.try_send(());
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    client.send(post(&alice, "Transfer-Encoding: chunked") + "5\r\nfirst\r\n");
    wait(&first_piece);
    client.send("6\r\nsecond\r\n0\r\n\r\n");
    assert_eq!(client.answer().status(), 200);
}

/// More at once than a worker has pipes for, most of them not read for a while.
#[test]
fn large_downloads_at_once_each_get_their_own_bytes() {
    const DOWNLOADS: usize = 40;
    const BYTES: usize = 8_000_000;
    let app = Upstream::unrecorded(|connection| {
        while let Some(request) = connection.request()? {
            let body = request.target().repeat(BYTES / request.target().len());
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()))?;
            connection.send(body)?;
        }
        Ok(())
    });
    let (stage, alice) = Stage::new(app, |setup| {
        setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
        setup.key("alice", "viewer")
    });
    let clients: Vec<_> = (0..DOWNLOADS)
        .map(|number| {
            let target = format!("/download/{number:03}");
            let mut client = stage.kw.connect();
            client.send(get(&target, &alice.header()));
            (client, target)
        })
        .collect();
    for (mut client, target) in clients {
        for _ in 0..2 {
            let answer = client.answer();
            assert!(answer.body == target.repeat(BYTES / target.len()).as_bytes(), "{target}");
            client.send(get(&target, &alice.header()));
        }
        assert_eq!(client.answer().body.len(), BYTES / target.len() * target.len());
    }
}

#[test]
fn the_first_piece_of_a_download_arrives_before_the_last_is_sent() {
    let (go_on, may_go_on) = signal();
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        wait(&may_go_on);
        connection.send("6\r\nsecond\r\n0\r\n\r\n")
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    client.send(get("/", &alice.header()));
    let mut answer = client.answer_head();
    let first = client.chunk(&mut answer).expect("the first piece comes alone");
    assert_eq!(first.as_deref(), Some(&b"first"[..]));
    go_on.send(()).expect("the script waits");
    let second = client.chunk(&mut answer).expect("the rest comes too");
    assert_eq!(second.as_deref(), Some(&b"second"[..]));
    assert_eq!(client.chunk(&mut answer).expect("the end"), None);
}

/// Sends events, each with its moment, and the next one only when the last was read.
fn events() -> (Upstream, Receiver<Instant>, SyncSender<()>) {
    let (go_on, may_go_on) = signal();
    let (sender, sent) = sync_channel(1);
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        connection.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
             Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n",
        )?;
        for number in 0..EVENTS {
            let event = event(number);
            let now = Instant::now();
            connection.send(format!("{:x}\r\n{event}\r\n", event.len()))?;
            sender.send(now).expect("the test waits");
            wait(&may_go_on);
        }
        connection.send("0\r\n\r\n")
    });
    (app, sent, go_on)
}

fn event(number: usize) -> String {
    format!("id: {number}\ndata: event {number}\n\n")
}

/// Reads event by event, by `next`. On a machine that is slow now and then one may be late; that half of them are, has
/// another reason.
fn check_events(
    mut next: impl FnMut() -> Option<Vec<u8>>,
    sent: &Receiver<Instant>,
    go_on: &SyncSender<()>,
) {
    let mut delays: Vec<Duration> = Vec::new();
    for number in 0..EVENTS {
        let read = next().expect("the event comes alone");
        let now = Instant::now();
        assert_eq!(String::from_utf8_lossy(&read), event(number));
        let sent = sent.recv_timeout(DEADLINE).expect("it was sent");
        delays.push(now.saturating_duration_since(sent));
        go_on.send(()).expect("the script waits");
    }
    assert_eq!(next(), None);
    delays.sort();
    let median = delays[EVENTS / 2];
    assert!(median <= Duration::from_millis(50), "half of the events came after {median:?}");
}

#[test]
fn each_event_of_a_stream_is_read_at_once_and_before_the_next_is_sent() {
    let (app, sent, go_on) = events();
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    client.send(get("/events", &(alice.header() + "Accept: text/event-stream\r\n")));
    let mut answer = client.answer_head();
    assert_eq!(answer.field("content-type"), Some("text/event-stream"));
    check_events(|| client.chunk(&mut answer).expect("the stream is whole"), &sent, &go_on);
}

#[test]
fn over_http_2_too() {
    let (app, sent, go_on) = events();
    let (stage, alice) = stage(app);
    let client = Http2::connect(stage.kw.address());
    let request = Request::builder().uri("http://app.example/events");
    let begun = client.send(request.header("x-api-key", &alice.key));
    assert_eq!(begun.headers()["content-type"], "text/event-stream");
    let mut stream = begun.into_stream();
    // The end may come in a frame of its own.
    let next = || stream.frame().filter(|frame| !frame.is_empty()).map(|frame| frame.to_vec());
    check_events(next, &sent, &go_on);
}

#[test]
fn events_that_end_with_their_connection_are_read_one_by_one() {
    let (go_on, may_go_on) = signal();
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
        for number in 0..10 {
            connection.send(format!("data: {number}\n\n"))?;
            wait(&may_go_on);
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    client.send(get("/events", &alice.header()));
    let mut answer = client.answer_head();
    for number in 0..10 {
        let event = client.chunk(&mut answer).expect("the event comes alone").expect("an event");
        assert_eq!(event, format!("data: {number}\n\n").as_bytes());
        go_on.send(()).expect("the script waits");
    }
    assert_eq!(client.chunk(&mut answer).expect("the end"), None);
}

#[test]
fn a_long_poll_is_answered_when_there_is_something_to_say() {
    let (app, held) = Upstream::holding("/poll", "news");
    let (stage, alice) = stage(app);
    let mut poller = stage.kw.connect();
    for _ in 0..3 {
        poller.send(get("/poll", &alice.header()));
        held.wait();
        // Who waits holds nobody up.
        assert_eq!(stage.kw.get("/other", &alice).text(), "news");
        held.let_go();
        assert_eq!(poller.answer().text(), "news");
    }
}

#[test]
fn content_is_the_same_on_both_sides_however_it_is_framed() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            let length = request.body.len();
            let mut answer = Vec::new();
            if request.target().ends_with("chunked") {
                answer.extend(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for piece in request.body.chunks(1000) {
                    answer.extend(format!("{:X}\r\n", piece.len()).as_bytes());
                    answer.extend(piece);
                    answer.extend(b"\r\n");
                }
                answer.extend(b"0\r\n\r\n");
            } else {
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                answer.extend(head.as_bytes());
                answer.extend(&request.body);
            }
            connection.send(answer)?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    for size in [0, 1, 999, 70_000, 300_000] {
        let body: Vec<u8> = (0..size).map(|i: u32| ((i * 7919) >> 3) as u8).collect();
        for target in ["/length", "/chunked"] {
            let head = format!("POST {target} HTTP/1.1\r\nHost: a\r\n{}", alice.header());
            let mut by_length = format!("{head}Content-Length: {size}\r\n\r\n").into_bytes();
            by_length.extend(&body);
            let mut by_chunks = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
            for piece in body.chunks(777) {
                by_chunks.extend(format!("{:x}\r\n", piece.len()).as_bytes());
                by_chunks.extend(piece);
                by_chunks.extend(b"\r\n");
            }
            by_chunks.extend(b"0\r\n\r\n");
            assert!(stage.kw.ask(by_length).body == body, "{size} bytes by length, {target}");
            assert!(stage.kw.ask(by_chunks).body == body, "{size} bytes by chunks, {target}");
        }
    }
}

#[test]
fn answers_without_content_leave_the_connection_in_order() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            connection.send(match request.target() {
                "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"1\"\r\nContent-Length: 9\r\n\r\n",
                "/head" => "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n",
                "/head-chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast",
            })?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    for (method, target, status) in [
        ("GET", "/204", 204),
        ("GET", "/304", 304),
        ("HEAD", "/head", 200),
        ("HEAD", "/head-chunked", 200),
        ("HEAD", "/204", 204),
    ] {
        client.send(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{}\r\n", alice.header()));
        let answer = client.answer_to(method);
        assert_eq!(answer.status(), status, "{method} {target}");
        if target == "/head" {
            assert_eq!(answer.field("content-length"), Some("1000000"));
        }
    }
    client.send(get("/last", &alice.header()));
    assert_eq!(client.answer().text(), "last");
}

#[test]
fn trailers_of_the_upstream_reach_a_client_that_takes_them() {
    let (stage, alice) = stage(Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Checksum\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Checksum: 42\r\n\r\n",
    ));
    let lines = format!("TE: trailers\r\nConnection: TE\r\n{}", alice.header());
    let answer = stage.kw.ask(get("/", &lines));
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.trailers.len(), 1, "{:?}", answer.trailers);
    assert!(answer.trailers[0].0.eq_ignore_ascii_case("x-checksum"));
    assert_eq!(answer.trailers[0].1, "42");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            let body = request.target().to_owned();
            let length = body.len();
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    let key = alice.header();
    let post = format!("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n{key}\r\nGET ");
    client.send(get("/a", &key) + &post + &get("/c", "") + &get("/d", &key));
    assert_eq!(client.answer().text(), "/a");
    assert_eq!(client.answer().text(), "/b");
    assert_eq!(client.answer().status(), 401);
    assert_eq!(client.answer().text(), "/d");
    assert_eq!(stage.app.targets(), ["/a", "/b", "/d"]);
}

#[test]
fn a_client_that_has_closed_its_half_still_gets_its_answer() {
    let (closed, may_answer) = signal();
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        wait(&may_answer);
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    client.send(get("/", &alice.header()));
    client.half_close();
    closed.send(()).expect("the script waits");
    let answer = client.answer();
    assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
}

#[test]
fn an_interim_answer_does_not_take_the_place_of_the_final_one() {
    let (stage, alice) = stage(Upstream::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ));
    let mut client = stage.kw.connect();
    for _ in 0..2 {
        client.send(get("/", &alice.header()));
        let mut answer = client.answer();
        while answer.status() < 200 {
            answer = client.answer();
        }
        assert_eq!((answer.status(), answer.text().as_str()), (200, "hello"));
    }
}

#[test]
fn an_answer_before_the_end_of_the_upload_reaches_the_client() {
    let app = Upstream::scripted(|connection| {
        connection.head()?;
        connection.send("HTTP/1.1 409 Conflict\r\nContent-Length: 4\r\n\r\nstop")?;
        connection.wait_for_close()
    });
    let (stage, alice) = stage(app);
    for framing in ["Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let mut client = stage.kw.connect();
        client.send(post(&alice, framing) + "5\r\nfirst\r\n");
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (409, "stop"), "{framing}");
    }
}

#[test]
fn a_truncated_answer_is_not_ended_as_if_it_were_whole() {
    for (framing, is_chunked) in [
        ("Content-Length: 10\r\n\r\nhello", false),
        ("Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", true),
        ("Transfer-Encoding: chunked\r\n\r\na\r\nhello", true),
    ] {
        let app = Upstream::scripted(move |connection| {
            connection.request()?;
            connection.send(format!("HTTP/1.1 200 OK\r\n{framing}"))
        });
        let (stage, alice) = stage(app);
        let mut client = stage.kw.connect();
        client.send(get("/", &alice.header()));
        match client.try_answer_head() {
            // Noticed before the head went out.
            Err(_) => {}
            Ok(head) if head.status() == 502 => {}
            Ok(head) => {
                assert_eq!(head.status(), 200);
                let rest = String::from_utf8_lossy(&client.rest()).into_owned();
                assert!(rest.len() < 10 || is_chunked, "{rest:?}");
                assert!(!rest.ends_with("0\r\n\r\n"), "ended as if it were whole: {rest:?}");
            }
        }
    }
}

#[test]
fn an_answer_that_ends_with_its_connection_arrives_whole() {
    let app = Upstream::scripted(|connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
    });
    let (stage, alice) = stage(app);
    assert_eq!(stage.kw.get("/", &alice).text(), "until the end");
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let (stage, alice) = stage(Upstream::answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ));
    let mut client = stage.kw.connect();
    client.send(format!("GET / HTTP/1.0\r\nHost: a\r\n{}\r\n", alice.header()));
    let head = client.answer_head();
    assert_eq!(head.field("transfer-encoding"), None, "{}", head.head);
    assert_eq!(client.rest(), b"hello");
    assert!(stage.app.only_request().first_line.ends_with("HTTP/1.1"));
}

#[test]
fn a_client_that_resets_its_connection_takes_its_request_with_it() {
    let (left, has_left) = signal();
    let (began, has_begun) = signal();
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        began.send(()).expect("the test waits");
        connection.wait_for_close()?;
        left.send(()).map_err(io::Error::other)
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    client.send(get("/", &alice.header()));
    wait(&has_begun);
    client.reset();
    wait(&has_left);
    stage.kw.wait_for_record("the request whose client left", |record| record["path"] == "/");
}

#[test]
fn a_download_whose_client_leaves_is_given_up() {
    let (left, has_left) = signal();
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        while connection.send("5\r\nhello\r\n").is_ok() {}
        left.send(()).map_err(io::Error::other)
    });
    let (stage, alice) = stage(app);
    let mut client = stage.kw.connect();
    client.send(get("/", &alice.header()));
    assert_eq!(client.answer_head().status(), 200);
    drop(client);
    wait(&has_left);
    stage.kw.wait_for_record("the request whose client left", |record| record["path"] == "/");
}

#[test]
fn many_requests_at_once_get_their_own_answers() {
    let app = Upstream::unrecorded(|connection| {
        while let Some(request) = connection.request()? {
            let body =
                format!("{} {}", request.target(), request.field("x-auth-user").unwrap_or("-"));
            let length = body.len();
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"))?;
        }
        Ok(())
    });
    let (stage, actors) = Stage::new(app, |setup| {
        (0..8).map(|i| setup.key(&format!("user{i}"), "viewer")).collect::<Vec<_>>()
    });
    thread::scope(|scope| {
        for actor in &actors {
            let kw = &stage.kw;
            scope.spawn(move || {
                let mut client = kw.connect();
                for i in 0..200 {
                    let target = format!("/{}/{i}", actor.user);
                    client.send(get(&target, &actor.header()));
                    assert_eq!(client.answer().text(), format!("{target} {}", actor.user));
                }
            });
        }
    });
}
