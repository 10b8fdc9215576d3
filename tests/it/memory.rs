//! Bodies of any length pass in bounded memory: who does not read holds back who sends.

use std::io::{self, ErrorKind, Write as _};
use std::time::Duration;

use crate::harness::keyward::get;
use crate::harness::wait::{signal, wait};
use crate::harness::{Actor, Connection, Keyward, Stage, Upstream};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// What the proxy's memory may grow by, however long a body is.
const MEMORY_GROWTH_BYTES: u64 = 8 * MIB;
static BLOCK: [u8; 64 << 10] = [b'x'; 64 << 10];

fn stage(app: Upstream) -> (Stage, Actor) {
    Stage::new(app, |setup| {
        // Its memory is measured.
        setup.set("server", "core_dumps = true");
        setup.key("alice", "viewer")
    })
}

fn upload_of(bytes: u64, alice: &Actor) -> String {
    let head = "POST /upload HTTP/1.1\r\nHost: a\r\n";
    format!("{head}{}Content-Length: {bytes}\r\n\r\n", alice.header())
}

/// Runs `transfer`, and holds the proxy to its memory.
fn check_memory(kw: &Keyward, transfer: impl FnOnce()) {
    kw.forget_memory_peak();
    let before = kw.memory_bytes();
    transfer();
    let growth = kw.memory_peak_bytes().saturating_sub(before);
    assert!(growth < MEMORY_GROWTH_BYTES, "the proxy grew by {growth} bytes");
}

#[test]
fn a_gibibyte_goes_up_and_down_without_gathering_in_memory() {
    let app = Upstream::scripted(|connection| {
        while let Some(request) = connection.head()? {
            if let Some(length) = request.field("content-length") {
                connection.skip(length.parse().map_err(io::Error::other)?)?;
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nthat")?;
            } else {
                connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {GIB}\r\n\r\n"))?;
                for _ in 0..GIB / BLOCK.len() as u64 {
                    connection.send(BLOCK)?;
                }
            }
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    let upload = |bytes: u64| {
        let mut client = stage.kw.connect();
        client.send(upload_of(bytes, &alice));
        for _ in 0..bytes / BLOCK.len() as u64 {
            client.send(BLOCK);
        }
        assert_eq!(client.answer().text(), "that");
    };
    upload(MIB);
    check_memory(&stage.kw, || upload(GIB));
    check_memory(&stage.kw, || {
        let mut client = stage.kw.connect();
        client.send(get("/", &alice.header()));
        assert_eq!(client.answer_head().status(), 200);
        client.skip(GIB).expect("all of it");
    });
}

/// How much is offered to a peer that does not read: more than all the buffers of the kernel on the way.
const OFFER: u64 = 256 * MIB;
/// A write that makes no progress for so long is held back. Too short on a slow machine it would only be
/// noticed early; a proxy that takes everything never holds a write back at all.
const HELD_BACK: Duration = Duration::from_millis(500);

/// Writes `OFFER` bytes; calls `held_back` once, when the other side takes no more for a while.
fn offer(mut socket: &std::net::TcpStream, held_back: impl FnOnce()) -> io::Result<()> {
    socket.set_write_timeout(Some(HELD_BACK))?;
    let mut held_back = Some(held_back);
    let mut left = OFFER;
    while left > 0 {
        match socket.write(&BLOCK[..BLOCK.len().min(left as usize)]) {
            Ok(written) => left -= written as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if let Some(call) = held_back.take() {
                    call();
                }
            }
            Err(error) => return Err(error),
        }
    }
    assert!(held_back.is_none(), "{OFFER} bytes were taken though nobody read them");
    Ok(())
}

#[test]
fn a_client_that_does_not_read_holds_the_upstream_back() {
    let (held_back, is_held_back) = signal();
    let app = Upstream::scripted(move |connection: &mut Connection| {
        while let Some(request) = connection.request()? {
            if request.target() == "/warm" {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
                continue;
            }
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {OFFER}\r\n\r\n"))?;
            offer(connection.socket(), || held_back.send(()).expect("the test waits"))?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    stage.kw.get("/warm", &alice);
    check_memory(&stage.kw, || {
        let mut client = stage.kw.connect();
        client.send(get("/", &alice.header()));
        wait(&is_held_back);
        assert_eq!(client.answer_head().status(), 200);
        client.skip(OFFER).expect("all of it, in the end");
    });
}

#[test]
fn a_tunnel_holds_back_whoever_sends_to_one_who_does_not_read() {
    let (go_on, may_read) = signal();
    let (held_back, is_held_back) = signal();
    let app = Upstream::unrecorded(move |connection: &mut Connection| {
        let Some(request) = connection.request()? else { return Ok(()) };
        connection.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n")?;
        if request.target() == "/warm" {
            return Ok(());
        }
        if request.target() == "/down" {
            return offer(connection.socket(), || held_back.send(()).expect("the test waits"));
        }
        wait(&may_read);
        connection.skip(OFFER)?;
        connection.send("that")
    });
    let (stage, alice) = Stage::new(app, |setup| {
        setup.routes("[[routes]]\npath = \"/{*rest}\"\nupgrades = [\"foo\"]\n");
        setup.key("alice", "viewer")
    });
    let open = |target: &str| {
        let mut client = stage.kw.connect();
        let lines = format!("{}Connection: upgrade\r\nUpgrade: foo\r\n", alice.header());
        client.send(get(target, &lines));
        assert_eq!(client.answer().status(), 101);
        client
    };
    drop(open("/warm"));
    check_memory(&stage.kw, || {
        let mut client = open("/up");
        let release = || go_on.send(()).expect("the script waits");
        offer(client.socket(), release).expect("the proxy takes it, in the end");
        assert_eq!(client.read_bytes(4), b"that");
    });
    check_memory(&stage.kw, || {
        let mut client = open("/down");
        wait(&is_held_back);
        client.skip(OFFER).expect("all of it, in the end");
    });
}

#[test]
fn an_upstream_that_does_not_read_holds_the_client_back() {
    let (go_on, may_read) = signal();
    let app = Upstream::scripted(move |connection| {
        while let Some(request) = connection.head()? {
            if request.target() == "/upload" {
                wait(&may_read);
                connection.skip(OFFER)?;
            }
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    stage.kw.get("/warm", &alice);
    check_memory(&stage.kw, || {
        let mut client = stage.kw.connect();
        client.send(upload_of(OFFER, &alice));
        let release = || go_on.send(()).expect("the script waits");
        offer(client.socket(), release).expect("the proxy takes it, in the end");
        assert_eq!(client.answer().status(), 200);
    });
}

/// How many keys there are, and how often they are read again while tunnels are open.
const KEYS: u64 = 5000;
const GENERATIONS: u64 = 60;
/// What a key costs at least (see README.md).
const KEY_BYTES: u64 = 160;

#[test]
fn an_open_tunnel_does_not_keep_the_keys_of_its_generation() {
    let app = Upstream::unrecorded(|connection: &mut Connection| {
        connection.request()?;
        connection.send("HTTP/1.1 101 Switching Protocols\r\nUpgrade: foo\r\n\r\n")?;
        connection.wait_for_close()
    });
    let (stage, alice) = Stage::new(app, |setup| {
        setup.routes("[[routes]]\npath = \"/{*rest}\"\nupgrades = [\"foo\"]\n");
        (0..KEYS).for_each(|number| drop(setup.key(&format!("user{number}"), "viewer")));
        setup.key("alice", "viewer")
    });
    let open = || {
        let mut client = stage.kw.connect();
        let lines = format!("{}Connection: upgrade\r\nUpgrade: foo\r\n", alice.header());
        client.send(get("/", &lines));
        assert_eq!(client.answer().status(), 101);
        client
    };
    let reload = || {
        let before = stage.kw.count_events("reloaded");
        stage.kw.signal("HUP");
        stage.kw.wait_for_another("reloaded", before);
    };
    (0..3).for_each(|_| reload());
    let before = stage.kw.memory_bytes();
    let open_and_reload = |_| {
        let client = open();
        reload();
        client
    };
    let tunnels: Vec<_> = (0..GENERATIONS).map(open_and_reload).collect();
    let kept = GENERATIONS * KEYS * KEY_BYTES;
    // Some is the tunnels' own, and some the allocator's, which gives memory back as it is asked for more.
    let is_let_go = (0..GENERATIONS).any(|_| {
        let growth = stage.kw.memory_bytes().saturating_sub(before);
        growth < kept / 2 || {
            reload();
            false
        }
    });
    assert!(is_let_go, "{} tunnels keep more than half of {kept} bytes", tunnels.len());
}
