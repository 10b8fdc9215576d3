//! Who sends or takes a little within every longest wait is ended all the same, and a request as a whole may have an end.

use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

use h2::Reason;
use http::Request;
use serde_json::Value;
use socket2::SockRef;

use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Actor, Client, DEADLINE, Http2, Setup, Stage, Upstream};

/// Between two pieces of a client that takes its time.
const PAUSE: Duration = Duration::from_millis(50);

fn stage(app: Upstream, prepare: impl FnOnce(&mut Setup)) -> (Stage, Actor) {
    Stage::new(app, |setup| {
        prepare(setup);
        setup.key("alice", "viewer")
    })
}

/// The head of a request whose body is `length` bytes, which are still to be sent.
fn post(target: &str, length: usize, actor: &Actor) -> String {
    let key = actor.header();
    format!("POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n{key}\r\n")
}

/// Waits a little for the beginning of an answer, or for the end.
fn hears_something(client: &Client) -> bool {
    let socket = client.socket();
    socket.set_read_timeout(Some(PAUSE)).expect("an open socket takes options");
    let heard = socket.peek(&mut [0]);
    socket.set_read_timeout(Some(DEADLINE)).expect("an open socket takes options");
    !heard.is_err_and(|error| matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}

#[test]
fn a_body_that_drips_is_408_and_one_that_is_slow_is_not() {
    let (stage, alice) = stage(Upstream::hello(), |setup| {
        setup.set("server.timeouts", "request_body_idle = \"5s\"");
    });
    let piece = [b'x'; 1000];
    let mut slow = stage.kw.connect();
    // As many pieces as it is waited for the other, and one more.
    let most = (DEADLINE.as_millis() / PAUSE.as_millis()) as usize;
    slow.send(format!(
        "POST /slow HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{}\r\n",
        alice.header()
    ));
    let mut dripping = stage.kw.connect();
    dripping.send(post("/dripping", 1_000_000, &alice));
    let began = Instant::now();
    for sent in 0.. {
        if hears_something(&dripping) {
            break;
        }
        assert!(sent < most, "it drips and drips");
        dripping.send("x");
        slow.send(format!("{:x}\r\n", piece.len()));
        slow.send(piece);
        slow.send("\r\n");
    }
    assert!(began.elapsed() >= Duration::from_secs(4), "it has the grace of the longest wait");
    let answer = dripping.answer();
    assert_eq!((answer.status(), answer.code().as_str()), (408, "request_timeout"));
    assert_eq!(answer.field("connection"), Some("close"));
    assert_eq!(dripping.rest(), b"");
    slow.send("0\r\n\r\n");
    assert_eq!(slow.answer().text(), "hello");
    stage.kw.wait_for_record("the one that dripped", |record| record["code"] == "request_timeout");
}

#[test]
fn an_endpoint_that_takes_nothing_does_not_end_the_client() {
    let (began, has_begun) = signal();
    let (go_on, may_go_on) = signal();
    let app = Upstream::scripted(move |connection| {
        while let Some(mut request) = connection.head()? {
            if request.target() == "/held" {
                began.send(()).expect("the test waits");
                wait(&may_go_on);
            }
            connection.body(&mut request)?;
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app, |setup| {
        setup.set("server.timeouts", "request_body_idle = \"3s\"");
        setup.set("server.limits", "request_body_min_rate = \"1GiB/s\"");
    });
    // More than what all the buffers on the way hold.
    let length = 64 << 20;
    let head = post("/held", length, &alice);
    let mut held = stage.kw.connect();
    held.send(head);
    // From here on the client is waited for, until it sends more than the endpoint takes.
    wait(&has_begun);
    let sender = held.socket().try_clone().expect("a socket can be shared");
    let sending = std::thread::spawn(move || {
        use std::io::Write as _;
        let mut sender = &sender;
        sender.write_all(&vec![b'x'; length - 1])
    });
    // Two that one may wait for are ended, one after the other.
    for _ in 0..2 {
        let mut dripping = stage.kw.connect();
        dripping.send(post("/dripping", 1_000_000, &alice));
        while !hears_something(&dripping) {
            dripping.send("x");
        }
        assert_eq!(dripping.answer().status(), 408);
    }
    go_on.send(()).expect("the script waits");
    sending.join().expect("it does not panic").expect("the body was taken");
    // It is waited for once more, and still has time.
    assert!(!hears_something(&held));
    held.send("x");
    assert_eq!(held.answer().text(), "hello");
}

/// An answer without an end, to a client with a small window, so that its pace is seen on the other side.
fn endless() -> Upstream {
    Upstream::unrecorded(|connection| {
        connection.head()?;
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
        while connection.send(&chunk).is_ok() {}
        Ok(())
    })
}

/// Asks for an answer without an end.
fn downloading(stage: &Stage, actor: &Actor) -> Client {
    let mut client = stage.kw.connect();
    SockRef::from(client.socket()).set_recv_buffer_size(32 << 10).expect("an open socket");
    client.send(get("/endless", &actor.header()));
    assert_eq!(client.answer_head().status(), 200);
    client
}

/// Reads slowly from both: `strict` cuts the one off, and the other goes on.
#[track_caller]
fn check_cut(cut: &mut impl Read, kept: &mut impl Read, strict: &Stage) {
    let mut piece = vec![0; 32 << 10];
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < DEADLINE, "it drips and drips");
        kept.read_exact(&mut piece).expect("it is taken fast enough");
        if cut.read_exact(&mut piece).is_err() {
            break;
        }
        pause();
    }
    kept.read_exact(&mut piece).expect("it goes on");
    let is_cut = |record: &Value| record["path"] == "/endless";
    let record = strict.kw.wait_for_record("the one that was cut", is_cut);
    assert_eq!(record["code"], "client_stalled");
}

#[test]
fn an_answer_that_is_taken_too_slowly_is_cut_off_and_one_taken_slowly_is_not() {
    let at_least = |rate: &'static str| {
        stage(endless(), move |setup| {
            setup.set("server.timeouts", "response_body_idle = \"5s\"");
            setup.set("server.limits", &format!("response_body_min_rate = \"{rate}\""));
        })
    };
    let (strict, alice) = at_least("1GiB/s");
    let (lenient, bert) = at_least("1KiB/s");
    let mut cut = downloading(&strict, &alice);
    let mut kept = downloading(&lenient, &bert);
    check_cut(&mut cut, &mut kept, &strict);
}

#[test]
fn a_stream_that_is_taken_too_slowly_is_reset_and_one_taken_slowly_is_not() {
    let at_least = |rate: &'static str| {
        stage(endless(), move |setup| {
            setup.set("server.timeouts", "response_body_idle = \"3s\"");
            setup.set("server.limits", &format!("response_body_min_rate = \"{rate}\""));
        })
    };
    let begin = |(stage, actor): &(Stage, Actor)| {
        let request = Request::get("http://a.test/endless").header("x-api-key", &actor.key);
        Http2::connect(stage.kw.address()).send(request).into_stream()
    };
    let (strict, lenient) = (at_least("1GiB/s"), at_least("1KiB/s"));
    let (mut cut, mut kept) = (begin(&strict), begin(&lenient));
    check_cut(&mut cut, &mut kept, &strict.0);
}

#[test]
fn a_stream_that_nobody_takes_ends_with_the_time_of_its_request() {
    let (stage, alice) = stage(endless(), |setup| {
        setup.set("server.timeouts", "request = \"1s\"");
    });
    let request = Request::get("http://a.test/endless").header("x-api-key", &alice.key);
    let client = Http2::connect(stage.kw.address());
    let mut stalled = client.send(request).into_stream();
    let is_it = |record: &Value| record["path"] == "/endless";
    let record = stage.kw.wait_for_record("the one that nobody takes", is_it);
    assert_eq!((&record["status"], &record["code"]), (&200.into(), &"request_deadline".into()));
    assert_eq!(stalled.reason(), Reason::CANCEL);
}

#[test]
fn who_does_not_take_that_the_time_of_a_request_is_over_is_waited_for_no_longer_than_others() {
    let app = Upstream::scripted(|connection| {
        connection.head()?;
        connection.wait_for_close()
    });
    let (stage, alice) = stage(app, |setup| {
        setup.set("server.timeouts", "request = \"300ms\"\nresponse_body_idle = \"5s\"");
    });
    let client = Http2::connect_with_window(stage.kw.address(), 3);
    let ask = |target: &str| {
        let uri = format!("http://a.test{target}");
        client.send(Request::get(uri).header("x-api-key", &alice.key))
    };
    let answer = ask("/taken").read();
    assert_eq!(answer.status, 504);
    assert!(answer.text.contains("\"request_deadline\""), "{}", answer.text);
    let mut stalled = ask("/stalled").into_stream();
    let is_it = |record: &Value| record["path"] == "/stalled";
    let record = stage.kw.wait_for_record("the one that nobody takes", is_it);
    assert_eq!((&record["status"], &record["code"]), (&504.into(), &"request_deadline".into()));
    assert_eq!(stalled.reason(), Reason::CANCEL);
}

#[expect(clippy::disallowed_methods, reason = "the client's own pace, not a wait for the proxy")]
fn pause() {
    std::thread::sleep(PAUSE);
}

#[test]
fn a_request_has_an_end_whoever_is_waited_for() {
    let app = Upstream::scripted(|connection| {
        while let Some(mut request) = connection.head()? {
            match request.target() {
                "/silent" => return connection.wait_for_close(),
                "/begun" => {
                    connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                    while connection.send("1\r\nx\r\n").is_ok() {
                        pause();
                    }
                    return Ok(());
                }
                "/endless" => {
                    connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                    let chunk = [b"4000\r\n".as_slice(), &[b'x'; 0x4000], b"\r\n"].concat();
                    while connection.send(&chunk).is_ok() {}
                    return Ok(());
                }
                _ => {
                    connection.body(&mut request)?;
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
                }
            }
        }
        Ok(())
    });
    let (stage, alice) = stage(app, |setup| {
        setup.set("server.timeouts", "request = \"2s\"");
    });
    let code_of = |target: &str| {
        let record = stage.kw.wait_for_record(target, |record| record["path"] == target);
        record["code"].as_str().unwrap_or_default().to_owned()
    };
    let mut kept = stage.kw.connect();
    kept.send(get("/", &alice.header()));
    assert_eq!(kept.answer().text(), "hello");
    let began = Instant::now();
    // Nothing of an answer: who is waited for decides what is said.
    let mut dripping = stage.kw.connect();
    dripping.send(post("/dripping", 1_000_000, &alice));
    let silent = stage.kw.get("/silent", &alice);
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert_eq!((silent.status(), silent.code().as_str()), (504, "request_deadline"));
    assert_eq!(code_of("/silent"), "request_deadline");
    let answer = dripping.answer();
    assert_eq!((answer.status(), answer.code().as_str()), (408, "request_timeout"));
    // An answer that moves, one that is taken as it comes, and one that is not taken.
    for target in ["/begun", "/endless"] {
        let mut client = stage.kw.connect();
        client.send(get(target, &alice.header()));
        let mut answer = client.answer_head();
        while client.chunk(&mut answer).is_ok_and(|chunk| !chunk.expect("it has no end").is_empty())
        {
        }
        assert_eq!(code_of(target), "request_deadline");
    }
    let stalled = downloading(&stage, &alice);
    let is_second = || {
        let records = stage.kw.access_log().into_iter();
        let of_it = records.filter(|record| record["path"] == "/endless").collect::<Vec<_>>();
        of_it.get(1).map(|record| record["code"].clone())
    };
    let code = crate::harness::wait_for("the one that takes nothing", is_second);
    assert_eq!(code, "request_deadline");
    drop(stalled);
    // Between requests, and for each anew, there is time.
    kept.send(get("/", &alice.header()));
    assert_eq!(kept.answer().text(), "hello");
}
