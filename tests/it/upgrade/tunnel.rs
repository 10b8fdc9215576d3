//! What goes through a tunnel arrives, in both directions, and it ends as it should: with its sides, for want of
//! anything that goes over it, or with the process.

use std::io::{self, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use socket2::SockRef;

use super::{GRANTED, ROUTES, asking, echo, granting, open, stage, stage_with};
use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Message, Setup, Upstream, wait_for};

#[test]
fn bytes_go_both_ways_as_they_come() {
    let (stage, alice) = stage(echo());
    let mut client = open(&stage.kw, asking("/chat", &alice));
    for message in ["one", "GET / HTTP/1.1\r\n\r\n", "\0\r\n"] {
        client.send(message);
        assert_eq!(client.read_bytes(message.len()), message.as_bytes());
    }
}

#[test]
fn bytes_sent_before_the_101_arrive_behind_it_and_are_no_request() {
    let (stage, alice) = stage(echo());
    let behind = "GET /behind HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = open(&stage.kw, asking("/chat", &alice) + behind);
    assert_eq!(client.read_bytes(behind.len()), behind.as_bytes());
    assert_eq!(stage.app.targets(), ["/chat"]);
}

#[test]
fn bytes_that_come_with_the_101_arrive_behind_it() {
    let app = Upstream::scripted(|connection| {
        connection.request()?;
        connection.send(GRANTED.to_owned() + "first words")?;
        connection.wait_for_close()
    });
    let (stage, alice) = stage(app);
    assert_eq!(open(&stage.kw, asking("/chat", &alice)).read_bytes(11), b"first words");
}

#[test]
fn a_side_that_has_said_all_still_hears_the_other() {
    let (stage, alice) = stage(granting(|connection| {
        let mut said = Vec::new();
        connection.read_to_end(&mut said)?;
        connection.send(b"you said: ")?;
        connection.send(said)
    }));
    let mut client = open(&stage.kw, asking("/chat", &alice));
    client.send("all there is");
    client.half_close();
    assert_eq!(client.rest(), b"you said: all there is");
}

#[test]
fn an_endpoint_that_has_said_all_still_hears_the_client() {
    let (heard, is_heard) = signal();
    let (stage, alice) = stage(granting(move |connection| {
        connection.send("that is all")?;
        connection.socket().shutdown(Shutdown::Write)?;
        let mut said = Vec::new();
        connection.read_to_end(&mut said)?;
        assert_eq!(said, b"well then");
        heard.send(()).map_err(io::Error::other)
    }));
    let mut client = open(&stage.kw, asking("/chat", &alice));
    assert_eq!(client.rest(), b"that is all");
    client.send("well then");
    client.half_close();
    wait(&is_heard);
    let record = stage.kw.wait_for_record("the tunnel", |record| record["path"] == "/chat");
    assert_eq!(record["code"], Value::Null, "{record}");
}

#[test]
fn an_endpoint_that_breaks_off_takes_the_client_along() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound listener has an address");
    let endpoint = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("the proxy connects");
        let mut stream = BufReader::new(socket);
        Message::read_head(&mut stream).expect("a request");
        stream.get_mut().write_all(GRANTED.as_bytes()).expect("the proxy reads");
        stream.read_exact(&mut [0; 4]).expect("a word");
        let socket = SockRef::from(stream.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("an open socket takes options");
    });
    let mut setup = Setup::with_endpoint(address);
    setup.routes(ROUTES);
    let alice = setup.key("alice", "viewer");
    let kw = setup.start();
    let mut client = open(&kw, asking("/chat", &alice));
    client.send("die!");
    let error = client.read(&mut [0]).expect_err("no end of bytes");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    endpoint.join().expect("it did what it should");
    let record = kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    assert_eq!(record["code"], "upstream_protocol");
}

#[test]
fn a_client_that_breaks_off_takes_the_endpoint_along() {
    let (left, has_left) = signal();
    let (stage, alice) = stage(granting(move |connection| {
        let error = connection.read_to_end(&mut Vec::new()).expect_err("no end of bytes");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        left.send(()).map_err(io::Error::other)
    }));
    open(&stage.kw, asking("/chat", &alice)).reset();
    wait(&has_left);
    let record = stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    assert_eq!(record["code"], "client_left");
}

#[test]
fn a_tunnel_is_one_record_that_counts_its_bytes() {
    let (stage, alice) = stage(echo());
    let mut client = open(&stage.kw, asking("/chat?token=secret", &alice) + "hello");
    client.send(" again");
    assert_eq!(client.read_bytes(11), b"hello again");
    assert!(stage.kw.access_log().is_empty(), "the record comes at the end");
    drop(client);
    let record = stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    assert_eq!((&record["bytes_in"], &record["bytes_out"]), (&11.into(), &11.into()), "{record}");
    assert_eq!(record["user"], "alice");
    assert_eq!(record["route"], "/{*rest}");
    assert_eq!(record["endpoint"], stage.app.address().to_string());
    assert!(record["upstream_ms"].as_f64() <= record["duration_ms"].as_f64(), "{record}");
    assert_eq!(record["code"], Value::Null, "{record}");
}

#[test]
fn the_key_stays_out_of_the_tunnel_and_of_the_log() {
    let (stage, alice) = stage_with(echo(), |setup| {
        setup.set("auth", "key_sources = [{ header = \"x-api-key\" }, { query = \"api_key\" }]");
    });
    let target = format!("/chat?api_key={}&room=1", alice.key);
    let request = asking(&target, &alice).replace(&alice.header(), "");
    let mut client = open(&stage.kw, request);
    client.send("hello");
    assert_eq!(client.read_bytes(5), b"hello");
    drop(client);
    stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    assert_eq!(stage.app.only_request().target(), "/chat?room=1");
    let everything = [
        String::from_utf8_lossy(&stage.app.bytes()).into_owned(),
        stage.kw.stderr(),
        format!("{:?}", stage.kw.access_log()),
    ];
    for text in everything {
        assert!(!text.contains(&alice.key), "{text}");
    }
}

#[test]
fn a_tunnel_over_which_nothing_goes_is_closed() {
    let (left, has_left) = signal();
    let (stage, alice) = stage_with(
        granting(move |connection| {
            connection.wait_for_close()?;
            left.send(()).map_err(io::Error::other)
        }),
        |setup| {
            setup.set("server.timeouts", "tunnel_idle = \"300ms\"");
        },
    );
    let mut client = open(&stage.kw, asking("/chat", &alice));
    assert_eq!(client.rest(), b"");
    wait(&has_left);
    let record = stage.kw.wait_for_record("the tunnel", |record| record["status"] == 101);
    assert_eq!(record["code"], "tunnel_idle");
}

#[test]
fn there_are_so_many_tunnels_and_no_more() {
    let (stage, alice) = stage_with(echo(), |setup| {
        setup.set("server.limits", "tunnels = 2");
    });
    let first = open(&stage.kw, asking("/chat", &alice));
    let mut second = open(&stage.kw, asking("/chat", &alice));
    let answer = stage.refuses(asking("/chat", &alice), 503, "overloaded");
    assert!(answer.field("retry-after").is_some_and(|value| value.parse::<u32>().is_ok()));
    stage.passes(get("/", &alice.header()));
    drop(first);
    wait_for("the place of the one that left", || {
        let mut client = stage.kw.connect();
        client.send(asking("/chat", &alice));
        (client.answer().status() == 101).then_some(())
    });
    second.send("still there");
    assert_eq!(second.read_bytes(11), b"still there");
}

#[test]
fn an_upgrade_that_is_not_granted_takes_no_place() {
    let (go_on, may_go_on) = signal();
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")?;
            if request.target() == "/held" {
                wait(&may_go_on);
            }
            connection.send("lo")?;
        }
        Ok(())
    });
    let (stage, alice) = stage_with(app, |setup| {
        setup.set("server.limits", "tunnels = 1");
    });
    let mut held = stage.kw.connect();
    held.send(asking("/held", &alice));
    assert_eq!(held.answer_head().status(), 200);
    assert_eq!(stage.kw.ask(asking("/chat", &alice)).text(), "hello");
    go_on.send(()).expect("the script waits");
    assert_eq!(held.read_bytes(5), b"hello");
}

#[test]
fn a_tunnel_goes_on_while_the_process_drains() {
    let (stage, alice) = stage(echo());
    let mut client = open(&stage.kw, asking("/chat", &alice));
    stage.kw.signal("TERM");
    stage.kw.wait_for_event("stopping: no new connections, requests in flight end", |_| true);
    client.send("still here");
    assert_eq!(client.read_bytes(10), b"still here");
    client.half_close();
    assert_eq!(client.rest(), b"");
    assert_eq!(stage.kw.wait_for_exit().code(), Some(0));
    let record = &stage.kw.access_log()[0];
    assert_eq!((&record["status"], &record["code"]), (&101.into(), &Value::Null));
}

#[test]
fn a_tunnel_is_cut_when_draining_takes_too_long() {
    let (stage, alice) = stage_with(echo(), |setup| {
        setup.set("server.timeouts", "shutdown = \"300ms\"");
    });
    let mut client = open(&stage.kw, asking("/chat", &alice));
    client.send("hello");
    assert_eq!(client.read_bytes(5), b"hello");
    stage.kw.signal("TERM");
    assert_eq!(client.rest(), b"");
    assert_eq!(stage.kw.wait_for_exit().code(), Some(0));
    let records = stage.kw.access_log();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!((&records[0]["code"], &records[0]["bytes_in"]), (&"tunnel_cut".into(), &5.into()));
}

#[test]
fn many_tunnels_keep_their_bytes_apart() {
    let (stage, alice) = stage(echo());
    thread::scope(|scope| {
        for number in 0..8_u8 {
            let (stage, alice) = (&stage, &alice);
            scope.spawn(move || {
                let mut client = open(&stage.kw, asking("/chat", alice));
                let block = vec![number; 10_000];
                for _ in 0..50 {
                    client.write_all(&block).expect("the tunnel is open");
                    assert_eq!(client.read_bytes(block.len()), block);
                }
            });
        }
    });
}

#[test]
fn a_tunnel_outlives_the_time_of_a_request() {
    let (stage, alice) = stage_with(
        Upstream::scripted(|connection| {
            let Some(request) = connection.request()? else { return Ok(()) };
            if request.field("upgrade").is_none() {
                return connection.wait_for_close();
            }
            connection.send(GRANTED)?;
            io::copy(connection, &mut io::sink())?;
            connection.send("all of it")
        }),
        |setup| {
            setup.set("server.timeouts", "request = \"1s\"");
        },
    );
    let mut client = open(&stage.kw, asking("/chat", &alice));
    let silent = stage.kw.get("/silent", &alice);
    assert_eq!((silent.status(), silent.code().as_str()), (504, "request_deadline"));
    client.send("after that");
    client.half_close();
    assert_eq!(client.rest(), b"all of it");
    let record = stage.kw.wait_for_record("the tunnel", |record| record["path"] == "/chat");
    assert_eq!(record["code"], Value::Null);
}
