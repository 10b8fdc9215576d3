//! Many requests share a connection, none holds up the others, and connections come and go as they are needed.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use bytes::Bytes;
use h2::Reason;
use http::Method;
use tokio::sync::Semaphore;

use super::endpoint::{Call, Endpoint};
use super::start;
use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Client, wait_for};
use crate::http2::{self, request, run_on};

/// Answers with the target, once it may; the requests of `/now` at once.
fn holding(settings: h2::server::Builder) -> (Endpoint, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let may_go_on = Arc::clone(&gate);
    let app = Endpoint::with(settings, move |call: Call| {
        let may_go_on = Arc::clone(&may_go_on);
        async move {
            let target = call.head.uri.path().to_owned();
            if target != "/now" {
                may_go_on.acquire().await.expect("it is never closed").forget();
            }
            call.answer(target);
        }
    });
    (app, gate)
}

#[test]
fn clients_of_both_protocols_share_one_connection() {
    let (app, gate) = holding(h2::server::Builder::new());
    let (kw, alice) = start(&[app.address], |_| {});
    assert_eq!(kw.get("/now", &alice).text(), "/now");
    let mut clients: Vec<Client> = (0..10).map(|_| kw.connect()).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(get(&format!("/old/{number}"), &alice.header()));
    }
    run_on(&kw, |mut client| {
        let (app, gate, alice) = (&app, &gate, &alice);
        async move {
            let mut answers = Vec::new();
            for number in 0..10 {
                let get = http2::get(&format!("/new/{number}"), alice);
                answers.push(client.send(request(get), Some("")).await.0);
            }
            while app.loads()[0].most < 20 {
                tokio::task::yield_now().await;
            }
            gate.add_permits(20);
            for (number, answer) in answers.into_iter().enumerate() {
                assert_eq!(http2::read(answer).await.text, format!("/new/{number}"));
            }
        }
    });
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.answer().text(), format!("/old/{number}"));
    }
    assert_eq!(app.loads().len(), 1);
}

#[test]
fn no_connection_gets_more_requests_at_once_than_its_endpoint_takes() {
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(3);
    let (app, gate) = holding(settings);
    let (kw, alice) = start(&[app.address], |_| {});
    let mut clients: Vec<Client> = (0..7).map(|_| kw.connect()).collect();
    for client in &mut clients {
        client.send(get("/", &alice.header()));
    }
    wait_for("all requests", || (app.heads().len() == 7).then_some(()));
    gate.add_permits(7);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "/");
    }
    let most: Vec<usize> = app.loads().iter().map(|load| load.most).collect();
    assert_eq!(most.len(), 3, "{most:?}");
    assert!(most.iter().all(|&most| most <= 3), "{most:?}");
}

#[test]
fn a_connection_that_was_not_used_for_long_is_closed() {
    let (app, _gate) = holding(h2::server::Builder::new());
    let (kw, alice) = start(&[app.address], |setup| {
        setup.set("server.timeouts", "upstream_keep_alive = \"10ms\"");
    });
    for round in 1..=2 {
        assert_eq!(kw.get("/now", &alice).text(), "/now");
        wait_for("the close", || (app.open() == 0).then_some(()));
        assert_eq!(app.loads().len(), round);
    }
}

#[test]
fn requests_to_an_endpoint_are_limited_like_connections_of_http1() {
    let (app, gate) = holding(h2::server::Builder::new());
    let (kw, alice) = start(&[app.address], |setup| {
        setup.set("upstreams.app", "max_connections = 2\nmax_pending = 1");
    });
    let mut clients: Vec<Client> = (0..3).map(|_| kw.connect()).collect();
    for client in &mut clients[..2] {
        client.send(get("/", &alice.header()));
    }
    wait_for("two requests", || (app.heads().len() == 2).then_some(()));
    clients[2].send(get("/", &alice.header()));
    wait_for("the third to wait", || (kw.get("/", &alice).status() == 503).then_some(()));
    assert_eq!(app.heads().len(), 2);
    gate.add_permits(3);
    for client in &mut clients {
        assert_eq!(client.answer().status(), 200);
    }
}

/// Far more than all windows and buffers on the way hold.
const ENDLESS: usize = 64 << 20;

/// Sends without end to whoever asks for `/endless`, and `ok` to the others.
fn generous() -> Endpoint {
    Endpoint::start(|mut call: Call| async move {
        if call.head.uri.path() != "/endless" {
            return call.answer("ok");
        }
        let mut stream = call.begin(&[]);
        for _ in 0..ENDLESS / (16 << 10) {
            stream.reserve_capacity(16 << 10);
            while stream.capacity() < 16 << 10 {
                let more = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
                if !matches!(more, Some(Ok(_))) {
                    return; // its client left
                }
            }
            if stream.send_data(Bytes::from_static(&[b'x'; 16 << 10]), false).is_err() {
                return;
            }
        }
        let _ = stream.send_data(Bytes::new(), true);
    })
}

#[test]
fn clients_that_do_not_read_leave_the_others_alone() {
    let app = generous();
    let (kw, alice) = start(&[app.address], |_| {});
    run_on(&kw, |mut client| {
        let (kw, alice) = (&kw, &alice);
        async move {
            let mut stalled = Vec::new();
            for _ in 0..60 {
                let get = request(http2::get("/endless", alice));
                let (answer, _) = client.send(get, Some("")).await;
                stalled.push(answer.await.expect("a head"));
            }
            for _ in 0..50 {
                let answer = kw.get("/", alice);
                assert_eq!(answer.text(), "ok");
            }
            drop(stalled);
        }
    });
    assert_eq!(app.loads().len(), 1);
}

#[test]
fn a_connection_bears_any_number_of_clients_that_leave() {
    let app = generous();
    let (kw, alice) = start(&[app.address], |_| {});
    // Of the client's own library no connection bears so many.
    for _ in 0..5 {
        run_on(&kw, |mut client| {
            let alice = &alice;
            async move {
                for _ in 0..300 {
                    let get = request(http2::get("/endless", alice));
                    let (answer, _) = client.send(get, Some("")).await;
                    drop(answer.await.expect("a head"));
                }
                assert_eq!(client.ask(request(http2::get("/", alice))).await.text, "ok");
            }
        });
    }
    assert_eq!(app.loads().len(), 1);
}

#[test]
fn a_client_that_leaves_ends_its_own_stream_and_no_other() {
    let (asked, is_asked) = signal();
    let (left, has_left) = signal();
    let (go_on, may_go_on) = sync_channel::<()>(1);
    let may_go_on = Arc::new(std::sync::Mutex::new(may_go_on));
    let app = Endpoint::start(move |mut call: Call| {
        let (asked, left, may_go_on) = (asked.clone(), left.clone(), Arc::clone(&may_go_on));
        async move {
            match call.head.uri.path() {
                "/left" => {
                    asked.send(()).expect("the test waits");
                    let mut stream = call.begin(&[]);
                    let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
                    assert_eq!(reason.expect("a reset"), Reason::CANCEL);
                    left.send(()).expect("the test waits");
                }
                _ => {
                    let mut stream = call.begin(&[]);
                    stream.send_data(Bytes::from_static(b"first "), false).expect("it is wanted");
                    asked.send(()).expect("the test waits");
                    let wait = move || may_go_on.lock().expect("no panic").recv();
                    tokio::task::spawn_blocking(wait).await.expect("no panic").expect("a signal");
                    stream.send_data(Bytes::from_static(b"last"), true).expect("it is wanted");
                }
            }
        }
    });
    let (kw, alice) = start(&[app.address], |_| {});
    let mut stays = kw.connect();
    stays.send(get("/", &alice.header()));
    wait(&is_asked);
    let mut leaves = kw.connect();
    leaves.send(get("/left", &alice.header()));
    wait(&is_asked);
    leaves.reset();
    wait(&has_left);
    run_on(&kw, |mut client| async move {
        let post = request(http2::get("/left", &alice).method(Method::POST));
        let (answer, mut stream) = client.send(post, None).await;
        tokio::task::spawn_blocking(move || wait(&is_asked)).await.expect("it is asked");
        stream.send_reset(Reason::CANCEL);
        drop(answer);
        tokio::task::spawn_blocking(move || wait(&has_left)).await.expect("it has left");
    });
    go_on.send(()).expect("the script waits");
    assert_eq!(stays.answer().text(), "first last");
    assert_eq!(app.loads().len(), 1);
}
