//! What a connection begins with before HTTP/2: TLS, and the PROXY protocol.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::version::TLS13;

use super::frames::Wire;
use super::start;
use crate::harness::certificates::Authority;
use crate::harness::keyward::get;
use crate::harness::setup::write;
use crate::harness::{TlsService, Upstream};

#[test]
fn over_tls_http2_is_agreed_on() {
    let authority = Authority::new();
    let service = TlsService::new(&authority.server(&["localhost"]), &[&TLS13]);
    let app = Upstream::tls(service, |connection| {
        Wire(connection).start(&[])?;
        let mut request = Wire(connection).request()?;
        assert_eq!(connection.session().alpn_protocol(), Some(&b"h2"[..]));
        loop {
            Wire(connection).answer(request.stream, "over TLS")?;
            request = Wire(connection).request()?;
        }
    });
    let (kw, alice) = start(&[app.address()], |setup| {
        let endpoint = format!("\"https://localhost:{}\"", app.address().port());
        setup.endpoints(&[endpoint], "http2 = true");
        write(&setup.folder.path().join("ca.pem"), &authority.pem());
        setup.set("upstreams.app.tls", "ca = \"ca.pem\"");
    });
    for _ in 0..3 {
        assert_eq!(kw.get("/", &alice).text(), "over TLS");
    }
    assert_eq!(app.connections(), 1);
}

#[test]
fn an_endpoint_that_speaks_http1_over_tls_all_the_same_gets_no_request() {
    let authority = Authority::new();
    let service = TlsService::new(&authority.server(&["localhost"]), &[&TLS13]);
    let app = Upstream::tls(service, |connection| {
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        connection.wait_for_close()
    });
    let (kw, alice) = start(&[app.address()], |setup| {
        let endpoint = format!("\"https://localhost:{}\"", app.address().port());
        setup.endpoints(&[endpoint], "http2 = true");
        write(&setup.folder.path().join("ca.pem"), &authority.pem());
        setup.set("upstreams.app.tls", "ca = \"ca.pem\"");
    });
    assert_eq!(kw.get("/", &alice).code(), "upstream_connect");
}

#[test]
fn a_connection_that_introduces_a_client_is_its_own() {
    let introduced = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&introduced);
    let app = Upstream::unrecorded(move |connection| {
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            connection.read_exact(&mut byte)?;
            line.extend(byte);
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        told.lock().expect("no panic").push(line.clone());
        let mut wire = Wire(connection);
        wire.start(&[])?;
        loop {
            let request = wire.request()?;
            wire.answer(request.stream, &line)?;
        }
    });
    let (kw, alice) = start(&[app.address()], |setup| {
        setup.set("upstreams.app", "proxy_protocol = \"v1\"");
    });
    let mut clients = [kw.connect(), kw.connect()];
    for _ in 0..2 {
        for client in &mut clients {
            client.send(get("/", &alice.header()));
            let SocketAddr::V4(address) = client.socket().local_addr().expect("it is connected")
            else {
                panic!("another family");
            };
            let expected = format!(" {} {}", address.port(), kw.address().port());
            let line = client.answer().text();
            assert!(
                line.starts_with("PROXY TCP4 127.0.0.1 ") && line.ends_with(&expected),
                "{line}"
            );
        }
    }
    assert_eq!(introduced.lock().expect("no panic").len(), 2);
}
