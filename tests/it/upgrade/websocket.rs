//! WebSocket as programs speak it: a library on both sides, in HTTP/1 and HTTP/2, in clear and over TLS.

use std::io::{self, Read, Write};
use std::thread;

use tungstenite::client::IntoClientRequest as _;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role};
use tungstenite::{Error, Message, WebSocket};

use super::ROUTES;
use super::connect::asking;
use crate::harness::certificates::Authority;
use crate::harness::setup::write;
use crate::harness::tls::TlsClients;
use crate::harness::{Actor, Connection, Http2, Setup, Stage, Upstream};

const HOST: &str = "app.example";
const MIB: usize = 1 << 20;

/// A stream that a library speaks over.
trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Accepts, and gives the WebSocket to `script`.
fn accepting(
    script: impl Fn(&mut WebSocket<&mut Connection>) -> Result<(), Error> + Send + Sync + 'static,
) -> Upstream {
    Upstream::scripted(move |connection| {
        let accepted = tungstenite::accept(connection);
        let mut socket = accepted.map_err(|error| io::Error::other(error.to_string()))?;
        match script(&mut socket) {
            Ok(()) | Err(Error::ConnectionClosed) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    })
}

/// Sends every message back. The library answers pings and closes by itself.
fn echo() -> Upstream {
    accepting(|socket| {
        loop {
            let message = socket.read()?;
            if message.is_text() || message.is_binary() {
                socket.send(message)?;
            }
        }
    })
}

/// Connects to the service in HTTP/1 and HTTP/2, each in clear and over TLS, and gives each WebSocket to `talk`.
fn check(app: impl Fn() -> Upstream, talk: impl Fn(&mut WebSocket<Box<dyn Stream>>)) {
    let (stage, alice) = Stage::new(app(), prepare);
    talk(&mut connect(Box::new(stage.kw.connect()), &alice));
    talk(&mut connect_on_stream(&Http2::connect(stage.kw.address()), &alice));
    let authority = Authority::new();
    let (stage, alice) = Stage::new(app(), |setup| {
        let pair = authority.server(&[HOST]);
        write(&setup.folder.path().join("server.pem"), &pair.certificate);
        write(&setup.folder.path().join("server.key"), &pair.private_key);
        setup.set("server.tls", "certificate = \"server.pem\"\nprivate_key = \"server.key\"");
        prepare(setup)
    });
    let (clients, address) = (TlsClients::of(&authority), stage.kw.address());
    talk(&mut connect(Box::new(clients.connect(address, HOST)), &alice));
    talk(&mut connect_on_stream(&Http2::connect_tls(address, clients, HOST), &alice));
}

fn prepare(setup: &mut Setup) -> Actor {
    setup.routes(ROUTES);
    setup.key("alice", "viewer")
}

fn connect(stream: Box<dyn Stream>, alice: &Actor) -> WebSocket<Box<dyn Stream>> {
    let mut request = format!("ws://{HOST}/chat").into_client_request().expect("a request");
    let key = alice.key.parse().expect("a value");
    request.headers_mut().insert("x-api-key", key);
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => socket,
        Err(error) => panic!("no WebSocket: {error}"),
    }
}

/// By an extended CONNECT (RFC 8441).
fn connect_on_stream(client: &Http2, alice: &Actor) -> WebSocket<Box<dyn Stream>> {
    let begun = client.connect_to("websocket", asking("/chat", alice));
    assert_eq!(begun.status(), 200);
    WebSocket::from_raw_socket(Box::new(begun.into_stream()), Role::Client, None)
}

/// Reads until the other side has closed, too.
fn finish(socket: &mut WebSocket<Box<dyn Stream>>) {
    loop {
        match socket.read() {
            Ok(_) => {}
            Err(Error::ConnectionClosed) => return,
            Err(error) => panic!("closed without a word: {error}"),
        }
    }
}

#[test]
fn a_thousand_messages_come_back() {
    check(echo, |socket| {
        for number in 0..1000 {
            let message = Message::text(format!("message {number}"));
            socket.send(message.clone()).expect("the tunnel is open");
            assert_eq!(socket.read().expect("the message"), message);
        }
        socket.close(None).expect("the tunnel is open");
        finish(socket);
    });
}

#[test]
fn large_messages_come_back() {
    check(echo, |socket| {
        for bytes in [0, 125, 126, 65_535, 65_536, MIB, 5 * MIB] {
            let content: Vec<u8> = (0..bytes).map(|i| ((i * 7919) >> 5) as u8).collect();
            let message = Message::binary(content);
            socket.send(message.clone()).expect("the tunnel is open");
            assert!(socket.read().expect("the message") == message, "{bytes} bytes");
        }
    });
}

#[test]
fn a_message_in_fragments_comes_back_whole() {
    check(echo, |socket| {
        let fragments = [
            (OpCode::Data(Data::Text), "one, ", false),
            (OpCode::Data(Data::Continue), "two, ", false),
            (OpCode::Data(Data::Continue), "three", true),
        ];
        for (code, text, is_last) in fragments {
            let frame = Frame::message(text.as_bytes().to_vec(), code, is_last);
            socket.send(Message::Frame(frame)).expect("the tunnel is open");
        }
        assert_eq!(socket.read().expect("the message"), Message::text("one, two, three"));
    });
}

#[test]
fn pings_are_answered_from_side_to_side() {
    let app = || {
        accepting(|socket| {
            socket.send(Message::Ping("from the endpoint".into()))?;
            assert_eq!(socket.read()?, Message::Ping("from the client".into()));
            assert_eq!(socket.read()?, Message::Pong("from the endpoint".into()));
            socket.send(Message::text("both"))?;
            socket.read().map(drop)
        })
    };
    check(app, |socket| {
        socket.send(Message::Ping("from the client".into())).expect("the tunnel is open");
        assert_eq!(socket.read().expect("a ping"), Message::Ping("from the endpoint".into()));
        assert_eq!(socket.read().expect("a pong"), Message::Pong("from the client".into()));
        assert_eq!(socket.read().expect("a message"), Message::text("both"));
    });
}

#[test]
fn a_close_by_the_client_arrives_with_its_code() {
    let app = || {
        accepting(|socket| {
            let Message::Close(Some(frame)) = socket.read()? else { panic!("no close") };
            assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Away, "lunch"));
            loop {
                socket.read()?;
            }
        })
    };
    check(app, |socket| {
        let frame = CloseFrame { code: CloseCode::Away, reason: "lunch".into() };
        socket.close(Some(frame.clone())).expect("the tunnel is open");
        assert_eq!(socket.read().expect("the answer"), Message::Close(Some(frame)));
        finish(socket);
    });
}

#[test]
fn a_close_by_the_endpoint_arrives_with_its_code() {
    let app = || {
        accepting(|socket| {
            let frame = CloseFrame { code: CloseCode::Library(4001), reason: "moved".into() };
            socket.close(Some(frame))?;
            loop {
                socket.read()?;
            }
        })
    };
    check(app, |socket| {
        let Message::Close(Some(frame)) = socket.read().expect("a close") else {
            panic!("no close")
        };
        assert_eq!((frame.code, frame.reason.as_str()), (CloseCode::Library(4001), "moved"));
        finish(socket);
    });
}

#[test]
fn many_talk_at_once() {
    let (stage, alice) = Stage::new(echo(), prepare);
    thread::scope(|scope| {
        for talker in 0..16 {
            let (kw, alice) = (&stage.kw, &alice);
            scope.spawn(move || {
                let mut socket = connect(Box::new(kw.connect()), alice);
                for number in 0..100 {
                    let message = Message::text(format!("{talker}: {number}"));
                    socket.send(message.clone()).expect("the tunnel is open");
                    assert_eq!(socket.read().expect("the message"), message);
                }
            });
        }
    });
}
