//! Whatever an endpoint does wrong, the client gets the answer that is specified for it or sees that the answer broke
//! off, and what comes behind on any connection is right.

use std::io;
use std::net::Shutdown;

use crate::harness::keyward::get;
use crate::harness::setup::replace;
use crate::harness::{Actor, Client, Connection, Keyward, Message, Setup, Upstream, wait_for};

/// What a client must see of the fault.
#[derive(Clone, Copy)]
enum Expect {
    /// A refusal of ours.
    Code(u16, &'static str),
    /// This answer of the endpoint, whole.
    Whole(&'static str),
    /// An answer that visibly has no end.
    Broken,
}
use Expect::{Broken, Code, Whole};

const BROKE_OFF: Expect = Code(502, "upstream_protocol");
const TOO_SLOW: Expect = Code(504, "upstream_timeout");

/// Does something wrong in place of an answer; the connection ends behind it.
type Fault = fn(&mut Connection) -> io::Result<()>;

/// Answers every request with its own target, but `/fault` with `fault`.
fn faulty(fault: Fault) -> Upstream {
    Upstream::unrecorded(move |connection| {
        while let Some(mut request) = connection.head()? {
            if request.target() == "/fault" {
                return fault(connection);
            }
            connection.body(&mut request)?;
            echo(connection, &request)?;
        }
        Ok(())
    })
}

fn echo(connection: &mut Connection, request: &Message) -> io::Result<()> {
    let target = request.target();
    let length = target.len();
    connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}"))
}

/// One worker, so that there is one pool.
fn start(endpoint: &str, timeouts: &str) -> (Keyward, Actor) {
    let mut setup = Setup::with_endpoint("127.0.0.1:1".parse().expect("an address"));
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    setup.set("server.timeouts", timeouts);
    setup.endpoints(&[format!("\"{endpoint}\"")], "");
    let alice = setup.key("alice", "author");
    (setup.start(), alice)
}

#[track_caller]
fn check(client: &mut Client, expect: Expect, what: &str) {
    match (client.try_answer(), expect) {
        (Ok(answer), Code(status, code)) => {
            assert_eq!((answer.status(), answer.code().as_str()), (status, code), "{what}");
        }
        (Ok(answer), Whole(text)) => assert_eq!(answer.text(), text, "{what}: {}", answer.head),
        (Err(_), Broken) => {}
        (Ok(answer), Broken) => panic!("{what} seems to end: {}{}", answer.head, answer.text()),
        (Err(error), _) => panic!("{what}: {error}"),
    }
}

/// The next 1,000 requests, on several connections, each get their own answer.
#[track_caller]
fn check_what_follows(kw: &Keyward, alice: &Actor, what: &str) {
    let mut clients: Vec<Client> = (0..4).map(|_| kw.connect()).collect();
    for round in 0..250 {
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(get(&format!("/{number}/{round}"), &alice.header()));
        }
        for (number, client) in clients.iter_mut().enumerate() {
            let answer = client.answer();
            let expected = (200, format!("/{number}/{round}"));
            assert_eq!((answer.status(), answer.text()), expected, "behind {what}");
        }
    }
}

/// Both on a new connection and on one that was used before.
#[track_caller]
fn check_fault(what: &str, expect: Expect, fault: Fault) {
    let app = faulty(fault);
    let (kw, alice) = start(&app.url(), "");
    let ask = || {
        let mut client = kw.connect();
        client.send(get("/fault", &alice.header()));
        client
    };
    check(&mut ask(), expect, what);
    assert_eq!(kw.get("/between", &alice).text(), "/between");
    check(&mut ask(), expect, what);
    check_what_follows(&kw, &alice, what);
}

#[test]
fn refused() {
    let app = Upstream::named_at("/", "127.0.36.1:0");
    let (url, address) = (app.url(), app.address().to_string());
    drop(app);
    let (kw, alice) = start(&url, "");
    let mut client = kw.connect();
    client.send(get("/", &alice.header()));
    check(&mut client, Code(502, "upstream_connect"), "refused");
    let _revived = Upstream::named_at("revived", &address);
    client.send(get("/", &alice.header()));
    check(&mut client, Whole("revived"), "the next request on the same connection");
}

#[test]
fn reset_at_every_phase() {
    check_fault("reset before the head", BROKE_OFF, Connection::reset);
    check_fault("reset in the status line", BROKE_OFF, |connection| {
        connection.send("HTTP/1.1 20")?;
        connection.reset()
    });
    check_fault("reset in the head", BROKE_OFF, |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-")?;
        connection.reset()
    });
    check_fault("reset before the body", Broken, |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?;
        connection.reset()
    });
    check_fault("reset in the body", Broken, |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel")?;
        connection.reset()
    });
    check_fault("reset in a body without a length", Broken, |connection| {
        connection.send("HTTP/1.1 200 OK\r\n\r\nhel")?;
        connection.reset()
    });
}

#[test]
fn closed_at_every_phase() {
    check_fault("closed before the head", BROKE_OFF, |_| Ok(()));
    check_fault("closed in the head", BROKE_OFF, |c| c.send("HTTP/1.1 200 OK\r\nContent-Le"));
    check_fault("a body shorter than its length", Broken, |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello")
    });
    check_fault("half-closed without an answer", BROKE_OFF, |connection| {
        connection.socket().shutdown(Shutdown::Write)?;
        connection.wait_for_close()
    });
    check_fault("half-closed behind an answer", Whole("hello"), |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        connection.socket().shutdown(Shutdown::Write)?;
        connection.wait_for_close()
    });
    check_fault("half-closed as the end of a body", Whole("hello"), |connection| {
        connection.send("HTTP/1.1 200 OK\r\n\r\nhello")?;
        connection.socket().shutdown(Shutdown::Write)?;
        connection.wait_for_close()
    });
}

/// What of a large body is passed on in other ways than a small one.
#[test]
fn a_large_body_that_breaks_off_or_is_too_long() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    static PART: [u8; 400_000] = [b'x'; 400_000];
    check_fault("reset in a large body", Broken, |connection| {
        connection.send(HEAD)?;
        connection.send(PART)?;
        connection.reset()
    });
    check_fault("a large body shorter than its length", Broken, |connection| {
        connection.send(HEAD)?;
        connection.send(PART)
    });
    static WHOLE: [u8; 1_000_000] = [b'x'; 1_000_000];
    static TEXT: &str = match std::str::from_utf8(&WHOLE) {
        Ok(text) => text,
        Err(_) => unreachable!(),
    };
    check_fault("more than the length of a large body", Whole(TEXT), |connection| {
        let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
        connection.send(format!("{HEAD}{TEXT}{evil}"))?;
        connection.wait_for_close()
    });
}

#[test]
fn garbage() {
    check_fault("another protocol", BROKE_OFF, |c| c.send("SSH-2.0-OpenSSH_9.2\r\n"));
    check_fault("noise", BROKE_OFF, |c| c.send([0, 255, 13, 10, 13, 10]));
    check_fault("a length that is none", BROKE_OFF, |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello")
    });
    check_fault("two lengths", BROKE_OFF, |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!")
    });
    check_fault("more than the length says", Whole("hello"), |connection| {
        // At once: what comes when the next request is on its way can only be taken for the answer to that.
        connection.send(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello\
             HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
        )?;
        connection.wait_for_close()
    });
}

#[test]
fn chunks_without_an_end() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    check_fault("a truncated chunk", Broken, |c| c.send(format!("{HEAD}5\r\nhel")));
    check_fault("a truncated size", Broken, |c| c.send(format!("{HEAD}5\r\nhello\r\n1")));
    check_fault("no last chunk", Broken, |c| c.send(format!("{HEAD}5\r\nhello\r\n")));
    check_fault("no end behind the last chunk", Broken, |c| c.send(format!("{HEAD}0\r\n")));
    check_fault("a size that is none", Broken, |c| c.send(format!("{HEAD}5\r\nhello\r\nzz\r\n")));
    check_fault("a chunk longer than its size", Broken, |c| {
        c.send(format!("{HEAD}3\r\nhello\r\n"))
    });
}

#[test]
fn a_slow_drip_is_an_answer() {
    check_fault("byte by byte", Whole("hello"), |connection| {
        for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello" {
            connection.send([*byte])?;
        }
        Ok(())
    });
    check_fault("chunk by chunk", Whole("hello"), |connection| {
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for byte in b"1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n" {
            connection.send([*byte])?;
        }
        Ok(())
    });
}

/// The timeout is a short one for the fault alone: what follows may take as long as the machine likes.
#[track_caller]
fn check_silence(what: &str, fault: Fault) {
    let app = faulty(fault);
    let (mut kw, alice) = start(&app.url(), "upstream_response = \"300ms\"");
    let mut client = kw.connect();
    client.send(get("/fault", &alice.header()));
    check(&mut client, TOO_SLOW, what);
    kw.setup().replace("server.timeouts", "");
    let text = kw.setup().config();
    replace(&kw.path("keyward.toml"), &text);
    kw.wait_for_event("reloaded", |_| true);
    check_what_follows(&kw, &alice, what);
}

#[test]
fn silence() {
    check_silence("accepted and silent", Connection::wait_for_close);
    check_silence("silent in the head", |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-")?;
        connection.wait_for_close()
    });
    check_silence("nothing but interim answers", |connection| {
        connection.send("HTTP/1.1 102 Processing\r\n\r\n")?;
        connection.wait_for_close()
    });
}

#[test]
fn an_early_answer_to_an_unfinished_upload() {
    let faults: [(&str, Fault); 3] = [
        ("kept open", |connection| {
            connection.send("HTTP/1.1 413 No\r\nContent-Length: 5\r\n\r\nlarge")?;
            connection.wait_for_close()
        }),
        ("closed", |connection| {
            connection
                .send("HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge")
        }),
        ("half-closed", |connection| {
            connection.send("HTTP/1.1 413 No\r\nContent-Length: 5\r\n\r\nlarge")?;
            connection.socket().shutdown(Shutdown::Write)?;
            connection.wait_for_close()
        }),
    ];
    for (what, fault) in faults {
        let app = faulty(fault);
        let (kw, alice) = start(&app.url(), "");
        let mut client = kw.connect();
        let key = alice.header();
        client.send(format!(
            "POST /fault HTTP/1.1\r\nHost: a\r\n{key}Content-Length: 1000\r\n\r\nbegin"
        ));
        let answer = client.answer();
        assert_eq!((answer.status(), answer.text().as_str()), (413, "large"), "{what}");
        check_what_follows(&kw, &alice, what);
    }
}

#[test]
fn who_leaves_in_the_middle_leaves_nothing_to_others() {
    let app = Upstream::unrecorded(|connection| {
        while let Some(request) = connection.request()? {
            match request.target() {
                "/long" => {
                    let part = vec![b'x'; 64 * 1024];
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n")?;
                    while connection.send(&part).is_ok() {}
                    return Ok(());
                }
                _ => echo(connection, &request)?,
            }
        }
        Ok(())
    });
    let (kw, alice) = start(&app.url(), "");
    for _ in 0..4 {
        let mut client = kw.connect();
        client.send(get("/long", &alice.header()));
        assert_eq!(client.answer_head().status(), 200);
        client.skip(1000).expect("the beginning of the answer");
        client.reset();
    }
    check_what_follows(&kw, &alice, "four that left");
    wait_for("their records", || {
        let left = kw.access_log().iter().filter(|record| record["path"] == "/long").count();
        (left == 4).then_some(())
    });
}
