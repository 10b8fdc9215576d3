//! Who the client is, told to endpoints in a header of the PROXY protocol: the one that each connection begins with.

use std::io::{self, Read as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};

use rustls::version::TLS13;

use crate::harness::certificates::Authority;
use crate::harness::keyward::get;
use crate::harness::setup::{replace, write};
use crate::harness::{
    Actor, Client, Connection, Keyward, Setup, Socket, TlsService, Upstream, wait_for,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

type Headers = Arc<Mutex<Vec<Vec<u8>>>>;

/// Reads the header that `socket` begins with, and no more.
fn header(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut header = vec![0; 12];
    socket.read_exact(&mut header)?;
    if header == SIGNATURE {
        header.resize(16, 0);
        socket.read_exact(&mut header[12..])?;
        let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
        header.resize(16 + length, 0);
        socket.read_exact(&mut header[16..])?;
    }
    while header[..12] != *SIGNATURE && !header.ends_with(b"\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        header.extend(byte);
    }
    Ok(header)
}

/// Keeps the header of each connection, and answers every request with the number of the connection.
fn numbered(tls: Option<TlsService>) -> (Upstream, Headers) {
    let headers = Headers::default();
    let kept = Arc::clone(&headers);
    let open = move |mut socket: TcpStream| {
        let header = header(&mut socket)?;
        kept.lock().expect("no panic").push(header);
        Ok(match &tls {
            Some(tls) => tls.accept(socket),
            None => Socket::Plain(socket),
        })
    };
    let script = |connection: &mut Connection| {
        while let Some(_request) = connection.request()? {
            let number = connection.index;
            connection.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}"))?;
        }
        Ok(())
    };
    (Upstream::opened(open, script), headers)
}

/// With one worker, so that there is one pool, and behind a balancer that says who the clients are.
fn prepare(url: &str, lines: &str) -> (Setup, Actor) {
    let mut setup = Setup::with_endpoint("127.0.0.1:1".parse().expect("an address"));
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    setup.set("server", "trusted_proxies = [\"127.0.0.1/32\"]\nproxy_protocol = true");
    setup.endpoints(&[format!("\"{url}\"")], lines);
    let alice = setup.key("alice", "viewer");
    (setup, alice)
}

/// A connection for the client that `line` names.
fn from(kw: &Keyward, line: &str) -> Client {
    let mut client = kw.connect();
    client.send(line);
    client
}

fn ask(client: &mut Client, alice: &Actor) -> String {
    client.send(get("/", &alice.header()));
    client.answer().text()
}

fn seen(headers: &Headers) -> Vec<Vec<u8>> {
    headers.lock().expect("no panic").clone()
}

const FIRST: &str = "PROXY TCP4 198.51.100.7 192.0.2.1 4711 80\r\n";
const SECOND: &str = "PROXY TCP4 198.51.100.8 192.0.2.1 4711 80\r\n";
const THIRD: &str = "PROXY TCP6 2001:db8::7 2001:db8::1 4711 80\r\n";

#[test]
fn both_versions_name_the_client_and_our_address() {
    for version in ["v1", "v2"] {
        let (app, headers) = numbered(None);
        let (setup, alice) = prepare(&app.url(), &format!("proxy_protocol = \"{version}\""));
        let kw = setup.start();
        let port = kw.address().port();
        assert_eq!(ask(&mut from(&kw, FIRST), &alice), "0");
        assert_eq!(ask(&mut from(&kw, THIRD), &alice), "1");
        let expected = match version {
            "v1" => [
                format!("PROXY TCP4 198.51.100.7 127.0.0.1 4711 {port}\r\n").into_bytes(),
                format!("PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 4711 {port}\r\n").into_bytes(),
            ],
            _ => {
                let ports = [&4711_u16.to_be_bytes()[..], &port.to_be_bytes()].concat();
                let v4 = b"\x21\x11\0\x0c\xc6\x33\x64\x07\x7f\0\0\x01";
                let v6 = b"\x21\x21\0\x24\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07\
                           \0\0\0\0\0\0\0\0\0\0\xff\xff\x7f\0\0\x01";
                [
                    [SIGNATURE, v4, ports.as_slice()].concat(),
                    [SIGNATURE, v6, ports.as_slice()].concat(),
                ]
            }
        };
        assert_eq!(seen(&headers), expected, "{version}");
    }
}

#[test]
fn who_comes_without_a_balancer_is_named_by_its_own_address() {
    let (app, headers) = numbered(None);
    let (mut setup, alice) = prepare(&app.url(), "proxy_protocol = \"v1\"");
    setup.replace("server", "listen = [\"[::1]:0\"]\nworkers = 1");
    let kw = setup.start();
    let mut client = kw.connect();
    assert_eq!(ask(&mut client, &alice), "0");
    let (own, port) = (client.socket().local_addr().expect("connected"), kw.address().port());
    let expected = format!("PROXY TCP6 ::1 ::1 {} {port}\r\n", own.port());
    assert_eq!(seen(&headers), [expected.into_bytes()]);
}

/// Two clients that take turns, each with a connection of its own that is used again.
#[track_caller]
fn check_apart(kw: &Keyward, alice: &Actor, app: &Upstream, headers: &Headers) {
    let (mut first, mut second) = (from(kw, FIRST), from(kw, SECOND));
    for _ in 0..3 {
        assert_eq!(ask(&mut first, alice), "0");
        assert_eq!(ask(&mut second, alice), "1");
    }
    // The same host on another connection is not the same client.
    assert_eq!(ask(&mut from(kw, &FIRST.replace("4711", "4712")), alice), "2");
    // And whoever comes back as the very same is.
    assert_eq!(ask(&mut from(kw, FIRST), alice), "0");
    assert_eq!((app.connections(), seen(headers).len()), (3, 3));
}

#[test]
fn two_clients_never_share_a_connection() {
    let (app, headers) = numbered(None);
    let (setup, alice) = prepare(&app.url(), "proxy_protocol = \"v1\"");
    check_apart(&setup.start(), &alice, &app, &headers);
}

#[test]
fn the_header_goes_before_tls() {
    let authority = Authority::new();
    let service = TlsService::new(&authority.server(&["127.0.0.1"]), &[&TLS13]);
    let (app, headers) = numbered(Some(service));
    let url = format!("https://{}", app.address());
    let (mut setup, alice) = prepare(&url, "proxy_protocol = \"v2\"");
    write(&setup.folder.path().join("ca.pem"), &authority.pem());
    setup.set("upstreams.app.tls", "ca = \"ca.pem\"");
    check_apart(&setup.start(), &alice, &app, &headers);
}

#[test]
fn a_health_check_is_our_own() {
    for (version, expected) in
        [("v1", &b"PROXY UNKNOWN\r\n"[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")]
    {
        let (app, headers) = numbered(None);
        let checks = "health = { path = \"/up\", interval = \"10ms\" }";
        let (setup, _) = prepare(&app.url(), &format!("proxy_protocol = \"{version}\"\n{checks}"));
        let _kw = setup.start();
        wait_for("checks", || (app.requests().len() > 2).then_some(()));
        assert!(seen(&headers).iter().all(|header| header == expected), "{:?}", seen(&headers));
    }
}

#[test]
fn a_connection_from_before_a_reload_is_not_used_without_its_header() {
    let app = Upstream::scripted(|connection| {
        // In clear as long as there is no header; then the header is no request.
        while let Some(_request) = connection.request()? {
            connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?;
        }
        Ok(())
    });
    let (mut setup, alice) = prepare(&app.url(), "");
    setup.replace("server", "listen = [\"127.0.0.1:0\"]\nworkers = 1");
    let mut kw = setup.start();
    assert_eq!(kw.get("/", &alice).text(), "hello");
    let (introduced, headers) = numbered(None);
    for (app, lines) in
        [(&introduced, "proxy_protocol = \"v1\""), (&app, "proxy_protocol = \"v1\"")]
    {
        kw.setup().endpoints(&[format!("\"{}\"", app.url())], lines);
        let (text, before) = (kw.setup().config(), kw.count_events("reloaded"));
        replace(&kw.path("keyward.toml"), &text);
        kw.wait_for_another("reloaded", before);
        let _answer = kw.get("/", &alice);
    }
    assert_eq!(seen(&headers).len(), 1);
    assert_eq!(app.connections(), 2, "the one in clear was not used again");
}
