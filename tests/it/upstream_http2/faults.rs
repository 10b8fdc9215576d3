//! What becomes of a request whose stream, connection or endpoint fails: it goes out again where that is safe, and
//! never where it is not; no answer that broke off looks like a whole one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use h2::Reason;
use http::Method;

use super::frames::{
    CANCEL, DATA, END_STREAM, INTERNAL_ERROR, NO_ERROR, OK, REFUSED_STREAM, RST_STREAM, Request,
    Wire, ok_with_length,
};
use super::{post, start};
use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Connection, Upstream, wait_for};
use crate::http2::{self, request, run_on};

/// Gives each connection to `script`, with its number from 0.
fn wired(
    script: impl Fn(&mut Wire<'_>, usize) -> io::Result<()> + Send + Sync + 'static,
) -> Upstream {
    Upstream::unrecorded(move |connection| {
        let index = connection.index;
        let mut wire = Wire(connection);
        wire.start(&[])?;
        script(&mut wire, index)
    })
}

/// Answers every request with `name` and the beginning of the body it came with.
fn answer_all(wire: &mut Wire<'_>, name: &str) -> io::Result<()> {
    loop {
        let Request { stream, mut body } = wire.request()?;
        body.truncate(10);
        wire.answer(stream, &format!("{name} {}", String::from_utf8_lossy(&body)))?;
    }
}

fn named(name: &'static str) -> Upstream {
    wired(move |wire, _| answer_all(wire, name))
}

#[test]
fn what_a_leaving_connection_refused_goes_out_again_whatever_it_is() {
    let app = wired(|wire, connection| {
        if connection == 0 {
            let first = wire.request()?;
            wire.answer(first.stream, "first")?;
            wire.request()?;
            return wire.go_away(first.stream);
        }
        answer_all(wire, "second")
    });
    let (kw, alice) = start(&[app.address()], |setup| {
        setup.set("upstreams.app", "ejection = { after = 1 }");
    });
    assert_eq!(kw.get("/", &alice).text(), "first");
    assert_eq!(kw.ask(post("/", &alice, "payload")).text(), "second payload");
    assert_eq!(app.connections(), 2);
    assert_eq!(kw.count_events("endpoint is left out after failures in a row"), 0);
}

#[test]
fn what_a_leaving_connection_began_with_it_brings_to_its_end() {
    let app = wired(|wire, connection| {
        if connection == 0 {
            let request = wire.request()?;
            wire.head(request.stream, OK)?;
            wire.go_away(request.stream)?;
            wire.send(DATA, END_STREAM, request.stream, b"last")?;
            return wire.wait_for(|_| false).map(drop);
        }
        answer_all(wire, "next")
    });
    let (kw, alice) = start(&[app.address()], |_| {});
    assert_eq!(kw.get("/", &alice).text(), "last");
    assert_eq!(kw.get("/", &alice).text(), "next ");
}

#[test]
fn what_may_have_been_done_goes_out_again_only_if_that_is_harmless() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&requests);
    let app = wired(move |wire, _| {
        let first = wire.request()?;
        count.fetch_add(1, Ordering::SeqCst);
        wire.answer(first.stream, "first")?;
        let second = wire.request()?;
        count.fetch_add(1, Ordering::SeqCst);
        wire.go_away(second.stream) // and closes
    });
    let (kw, alice) = start(&[app.address()], |_| {});
    assert_eq!(kw.get("/", &alice).text(), "first");
    let answer = kw.ask(post("/", &alice, "once"));
    assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_protocol"));
    assert_eq!((requests.load(Ordering::SeqCst), app.connections()), (2, 1));
    assert_eq!(kw.get("/", &alice).text(), "first");
    assert_eq!(kw.get("/", &alice).text(), "first", "a GET goes out again");
    assert_eq!((requests.load(Ordering::SeqCst), app.connections()), (5, 3));
}

#[test]
fn a_refused_stream_goes_to_another_endpoint_whatever_it_is() {
    let refused = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&refused);
    let refusing = wired(move |wire, _| {
        loop {
            let request = wire.request()?;
            count.fetch_add(1, Ordering::SeqCst);
            wire.reset(request.stream, REFUSED_STREAM)?;
        }
    });
    let app = named("app");
    let (kw, alice) = start(&[refusing.address(), app.address()], |setup| {
        setup.set("upstreams.app", "ejection = { after = 0 }");
    });
    for _ in 0..6 {
        assert_eq!(kw.ask(post("/", &alice, "payload")).text(), "app payload");
    }
    assert_eq!((refused.load(Ordering::SeqCst), refusing.connections()), (3, 1));
    let large = "x".repeat(200_000);
    let statuses: Vec<u16> = (0..2).map(|_| kw.ask(post("/", &alice, &large)).status()).collect();
    assert!(statuses.contains(&502), "what was not kept cannot be sent again: {statuses:?}");
}

#[test]
fn a_stream_that_was_given_up_goes_out_again_only_if_that_is_harmless() {
    let failing = wired(|wire, _| {
        loop {
            let request = wire.request()?;
            wire.reset(request.stream, INTERNAL_ERROR)?;
        }
    });
    let app = named("app");
    let (kw, alice) = start(&[failing.address(), app.address()], |setup| {
        setup.set("upstreams.app", "ejection = { after = 0 }");
    });
    let posted: Vec<u16> = (0..2).map(|_| kw.ask(post("/", &alice, "a")).status()).collect();
    assert!(posted == [200, 502] || posted == [502, 200], "{posted:?}");
    for _ in 0..4 {
        assert_eq!(kw.get("/", &alice).text(), "app ");
    }
    let record = kw.wait_for_record("the failure", |record| record["status"] == 502);
    assert_eq!(record["code"], "upstream_protocol");
}

#[test]
fn an_answer_that_broke_off_does_not_look_whole() {
    type Break = fn(&mut Wire<'_>, u32) -> io::Result<()>;
    let cases: [(&str, Break); 5] = [
        ("reset", |wire, stream| {
            wire.head(stream, OK)?;
            wire.send(DATA, 0, stream, b"part")?;
            wire.reset(stream, INTERNAL_ERROR)
        }),
        ("closed", |wire, stream| {
            wire.head(stream, OK)?;
            wire.send(DATA, 0, stream, b"part")?;
            Err(io::ErrorKind::Other.into())
        }),
        ("too short", |wire, stream| {
            wire.head(stream, &ok_with_length("5"))?;
            wire.send(DATA, END_STREAM, stream, b"part")
        }),
        ("too long", |wire, stream| {
            wire.head(stream, &ok_with_length("5"))?;
            wire.send(DATA, 0, stream, b"part")?;
            wire.send(DATA, END_STREAM, stream, b"and more")
        }),
        ("cancelled", |wire, stream| {
            wire.head(stream, &ok_with_length("5"))?;
            wire.send(DATA, 0, stream, b"part")?;
            wire.reset(stream, CANCEL)
        }),
    ];
    for (name, break_off) in cases {
        let app = wired(move |wire, _| {
            loop {
                let request = wire.request()?;
                break_off(wire, request.stream)?;
            }
        });
        let (kw, alice) = start(&[app.address()], |_| {});
        let mut client = kw.connect();
        client.send(get("/", &alice.header()));
        let answer = client.try_answer();
        assert!(
            answer.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::UnexpectedEof)
                || answer.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::ConnectionReset)
                || answer.as_ref().is_ok_and(|answer| answer.status() == 502),
            "{name}: {answer:?}"
        );
        run_on(&kw, |mut client| {
            let get = request(http2::get("/", &alice));
            async move {
                let (answer, _) = client.send(get, Some("")).await;
                // The reset may overtake the head.
                let error = match answer.await {
                    Ok(answer) if answer.status() == 502 => return,
                    Ok(answer) => http2::read_body(&mut answer.into_body()).await.expect_err(name),
                    Err(error) => error,
                };
                assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{name}");
            }
        });
        kw.wait_for_record(name, |record| record["code"] == "upstream_protocol");
    }
}

#[test]
fn an_early_answer_ends_the_upload() {
    let (told, is_told) = signal();
    let app = wired(move |wire, _| {
        let first = wire.wait_for(|frame| frame.kind == DATA)?;
        wire.answer(first.stream, "enough")?;
        wire.reset(first.stream, NO_ERROR)?;
        wire.wait_for(|frame| frame.stream > first.stream)?;
        told.send(()).expect("the test waits");
        wire.answer(first.stream + 2, "next")?;
        answer_all(wire, "more")
    });
    let (kw, alice) = start(&[app.address()], |_| {});
    run_on(&kw, |mut client| {
        let alice = &alice;
        async move {
            let post = request(http2::get("/", alice).method(Method::POST));
            let (answer, mut body) = client.send(post, None).await;
            body.send_data("first".into(), false).expect("a piece");
            let answer = http2::read(answer).await;
            assert_eq!((answer.status, answer.text.as_str()), (200, "enough"));
            assert_eq!(client.ask(request(http2::get("/", alice))).await.text, "next");
        }
    });
    wait(&is_told);
    assert_eq!(app.connections(), 1);
}

#[test]
fn the_upload_of_a_client_that_leaves_is_reset() {
    let (asked, is_asked) = signal();
    let (told, is_told) = signal();
    let app = wired(move |wire, _| {
        let first = wire.wait_for(|frame| frame.kind == DATA)?;
        asked.send(()).expect("the test waits");
        let reset = wire.wait_for(|frame| frame.kind == RST_STREAM)?;
        assert_eq!((reset.stream, reset.code()), (first.stream, CANCEL));
        told.send(()).expect("the test waits");
        answer_all(wire, "next")
    });
    let (kw, alice) = start(&[app.address()], |_| {});
    let mut client = kw.connect();
    let whole = post("/", &alice, "only a part of this");
    client.send(&whole[..whole.len() - 10]);
    wait(&is_asked);
    client.reset();
    wait(&is_told);
    assert_eq!(kw.get("/", &alice).text(), "next ");
    assert_eq!(app.connections(), 1);
}

#[test]
fn what_is_no_answer_of_http2_is_refused() {
    // `connection: close`, `:status: 20`, and a field before the status.
    let blocks: [&[u8]; 3] =
        [b"\x88\x00\x0aconnection\x05close", b"\x08\x0220", b"\x00\x01a\x01b\x88"];
    for block in blocks {
        let app = wired(move |wire, _| {
            let request = wire.request()?;
            wire.head(request.stream, block)?;
            wire.wait_for(|_| false).map(drop)
        });
        let (kw, alice) = start(&[app.address()], |_| {});
        let answer = kw.ask(post("/", &alice, "a"));
        assert_eq!((answer.status(), answer.code().as_str()), (502, "upstream_protocol"));
    }
}

#[test]
fn an_endpoint_that_speaks_http1_is_not_reachable_in_http2() {
    let app =
        Upstream::unrecorded(|connection| connection.send("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let (kw, alice) = start(&[app.address()], |_| {});
    assert_eq!(kw.get("/", &alice).code(), "upstream_connect");
    let silent = Upstream::unrecorded(Connection::wait_for_close);
    let (kw, alice) = start(&[silent.address()], |setup| {
        setup.set("server.timeouts", "upstream_connect = \"50ms\"");
    });
    assert_eq!(kw.get("/", &alice).code(), "upstream_timeout");
}

#[test]
fn an_endpoint_that_was_killed_gets_requests_when_it_is_back() {
    const ADDRESS: &str = "127.0.31.2:4210";
    let serve = |name: &'static str| {
        Upstream::scripted_at(ADDRESS, move |connection| {
            let mut wire = Wire(connection);
            wire.start(&[])?;
            answer_all(&mut wire, name)
        })
    };
    let address = ADDRESS.parse().expect("an address");
    let first = serve("first");
    let (kw, alice) = start(&[address], |_| {});
    assert_eq!(kw.get("/", &alice).text(), "first ");
    drop(first);
    wait_for("the refusal", || (kw.get("/", &alice).code() == "upstream_connect").then_some(()));
    let _second = serve("second");
    wait_for("the answer", || (kw.get("/", &alice).text() == "second ").then_some(()));
}
