//! Who a connection is from, said by a balancer in front: believed of those that are trusted, and of nobody else.

use crate::harness::keyward::get;
use crate::harness::{Actor, Client, Keyward, Setup, Upstream, wait_for};

const V1: &[u8] = b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n";
/// The same in binary, with an addition (PP2_TYPE_NOOP) that nobody reads.
const V2: &[u8] =
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11\xc6\x33\x64\x07\xc0\0\x02\x01\x12\x67\0\x50\x04\0\x02ab";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn start(app: &Upstream, trusted: &str) -> (Keyward, Actor) {
    let mut setup = Setup::new(app);
    setup.set("server", &format!("trusted_proxies = [\"{trusted}\"]\nproxy_protocol = true"));
    let alice = setup.key("alice", "viewer");
    (setup.start(), alice)
}

#[test]
fn the_client_is_whom_a_trusted_balancer_names() {
    let app = Upstream::hello();
    let (kw, alice) = start(&app, "127.0.0.0/8");
    for (header, expected) in [(V1, "198.51.100.7"), (V2, "198.51.100.7"), (LOCAL, "127.0.0.1")] {
        let mut client = Client::connect(kw.address());
        let request = get("/", &alice.header());
        client.send([header, request.as_bytes(), request.as_bytes()].concat());
        for _ in 0..2 {
            assert_eq!(
                client.answer().text(),
                "hello",
                "behind the header the stream is the client's"
            );
        }
        let received = app.requests().pop().expect("it was forwarded");
        assert_eq!(received.fields("x-forwarded-for"), [expected]);
    }
    wait_for("the records", || (kw.access_log().len() == 6).then_some(()));
    let named = kw.access_log().iter().filter(|record| record["client"] == "198.51.100.7").count();
    assert_eq!(named, 4);
}

#[test]
fn a_header_that_comes_in_pieces_is_read_all_the_same() {
    let app = Upstream::hello();
    let (kw, alice) = start(&app, "127.0.0.0/8");
    for header in [V1, V2] {
        let mut client = Client::connect(kw.address());
        for byte in header {
            client.send([*byte]);
        }
        client.send(get("/", &alice.header()));
        assert_eq!(client.answer().text(), "hello");
    }
}

#[test]
fn a_trusted_balancer_that_sends_none_is_not_served() {
    let app = Upstream::hello();
    let (kw, alice) = start(&app, "127.0.0.0/8");
    for beginning in [
        get("/", &alice.header()).into_bytes(),
        b"PROXY TCP4 198.51.100.7 4711\r\n".to_vec(),
        b"PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\n".to_vec(),
        [b"PROXY ", [b'x'; 200].as_slice(), b"\r\n"].concat(),
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
    ] {
        let mut client = Client::connect(kw.address());
        let _it_may_be_closed_already = client.try_send(&beginning);
        assert!(client.try_answer_head().is_err(), "{}", String::from_utf8_lossy(&beginning));
    }
    assert!(app.requests().is_empty());
}

#[test]
fn a_strangers_header_is_no_request() {
    let app = Upstream::hello();
    let (kw, alice) = start(&app, "203.0.113.0/24");
    let mut client = Client::connect(kw.address());
    client.send([V1, get("/", &alice.header()).as_bytes()].concat());
    assert_eq!(client.answer().status(), 400);
    assert_eq!(kw.get("/", &alice).text(), "hello", "who is not behind a balancer needs none");
    assert_eq!(app.only_request().fields("x-forwarded-for"), ["127.0.0.1"]);
}
