//! A browser in front of the proxy: a page with all it is made of, and a WebSocket, over one connection of HTTP/2.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tungstenite::protocol::Role;
use tungstenite::{Message, WebSocket};

use crate::harness::certificates::Authority;
use crate::harness::setup::write;
use crate::harness::wait::{signal, wait};
use crate::harness::{Browser, Connection, Stage, Upstream, wait_for};
use crate::upgrade::granted;

/// What the page is made of, besides itself.
const RESOURCES: usize = 100;
/// More than a browser sends before its first request: a key for post-quantum exchange is the most of it. A hundred
/// requests are several times that.
const HANDSHAKE_BYTES: usize = 4096;

/// The page. Browsers put a key into no field by themselves: what tags load has it in the query, and what the script
/// loads in a field. Then the WebSocket has its say, and with its end comes the last picture, so that everything is there
/// when the page reports what it got.
fn page(key: &str) -> String {
    let mut page = format!(
        "<!doctype html><script>
         const fetched = [];
         const load = (path) => fetched.push(
           fetch(path, {{ headers: {{ 'x-api-key': '{key}' }} }}).then((answer) => answer.text()));
         let heard = 'nothing';
         const talk = () => {{
           const socket = new WebSocket(`wss://${{location.host}}/chat?api_key={key}`);
           socket.onopen = () => socket.send('hello');
           socket.onmessage = (event) => {{ heard = event.data; socket.close(1000); }};
         }};
         window.onload = () => {{
           const entries = performance.getEntriesByType('resource')
             .filter((entry) => new URL(entry.name).pathname.startsWith('/r/'));
           const protocols = new Set(entries.map((entry) => entry.nextHopProtocol));
           const whole = entries.filter((entry) => entry.responseStatus === 200).length;
           load(`/report/${{whole}}-by-${{[...protocols]}}-and-heard-${{heard}}`);
         }};
         </script>"
    );
    for number in 0..RESOURCES {
        let with_key = |name: &str| format!("\"/r/{number}.{name}?api_key={key}\"");
        page += &match number % 4 {
            0 => format!("<script src={}></script>", with_key("js")),
            1 => format!("<link rel=stylesheet href={}>", with_key("css")),
            2 => format!("<img src={}>", with_key("svg")),
            _ => format!("<script>load('/r/{number}.txt')</script>"),
        };
    }
    page += "<script>Promise.all(fetched).then(talk)</script>";
    page + &format!("<img src=\"/last.svg?api_key={key}\">")
}

/// A small site.
fn site(page: impl Fn() -> String + Send + Sync + 'static) -> Upstream {
    let (closed, is_closed) = signal();
    Upstream::scripted(move |connection| {
        while let Some(request) = connection.request()? {
            if request.field("upgrade").is_some() {
                connection.send(granted(&request))?;
                echo(connection);
                closed.send(()).expect("the last picture waits");
                return Ok(());
            }
            let (kind, text) = match request.target().rsplit_once('.') {
                _ if request.target() == "/" => ("text/html", page()),
                Some((_, "js")) => ("text/javascript", "0;".to_owned()),
                Some((_, "css")) => ("text/css", "b { color: red }".to_owned()),
                Some((name, "svg")) => {
                    if name == "/last" {
                        wait(&is_closed);
                    }
                    let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\"/>";
                    ("image/svg+xml", svg.to_owned())
                }
                _ => ("text/plain", "text".to_owned()),
            };
            let length = text.len();
            connection.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{text}"
            ))?;
        }
        Ok(())
    })
}

/// Sends back what comes, until the browser closes.
fn echo(connection: &mut Connection) {
    let mut socket = WebSocket::from_raw_socket(connection, Role::Server, None);
    while let Ok(message) = socket.read() {
        if let Message::Text(text) = message {
            socket.send(Message::Text(text)).expect("the browser listens");
        }
    }
}

/// How many bytes the browser sent over each connection.
type Sent = Arc<Mutex<Vec<Arc<AtomicUsize>>>>;

/// Passes bytes on, and counts those of the browser.
fn relay(to: SocketAddr) -> (SocketAddr, Sent) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    let address = listener.local_addr().expect("a bound listener has an address");
    let sent = Sent::default();
    let connections = Arc::clone(&sent);
    thread::spawn(move || {
        for client in listener.incoming() {
            let count = Arc::new(AtomicUsize::new(0));
            connections.lock().expect("no panic").push(Arc::clone(&count));
            let client = client.expect("a loopback connection can be accepted");
            let server = TcpStream::connect(to).expect("the proxy listens");
            pass_on(&client, &server, count);
            pass_on(&server, &client, Arc::default());
        }
    });
    (address, sent)
}

fn pass_on(from: &TcpStream, to: &TcpStream, count: Arc<AtomicUsize>) {
    let share = |socket: &TcpStream| socket.try_clone().expect("a socket can be shared");
    let (mut from, mut to) = (share(from), share(to));
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            count.fetch_add(read, Ordering::SeqCst);
            if to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        // However one side ends, the other has to know. It may have gone.
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[test]
fn a_page_and_its_websocket_come_over_one_connection() {
    let authority = Authority::new();
    let key = Arc::new(Mutex::new(String::new()));
    let of_page = Arc::clone(&key);
    let app = site(move || page(&of_page.lock().expect("no panic")));
    let (stage, alice) = Stage::new(app, |setup| {
        let pair = authority.server(&["localhost"]);
        write(&setup.folder.path().join("server.pem"), &pair.certificate);
        write(&setup.folder.path().join("server.key"), &pair.private_key);
        setup.set("server.tls", "certificate = \"server.pem\"\nprivate_key = \"server.key\"");
        setup.set("auth", "key_sources = [{ header = \"x-api-key\" }, { query = \"api_key\" }]");
        setup.routes("[[routes]]\npath = \"/{*rest}\"\nupgrades = [\"websocket\"]\n");
        setup.key("alice", "viewer")
    });
    alice.key.clone_into(&mut key.lock().expect("no panic"));
    let (address, sent) = relay(stage.kw.address());
    let url = format!("https://localhost:{}/?api_key={}", address.port(), alice.key);
    let _browser = Browser::open(&url);
    let report = wait_for("the report of the page", || {
        stage.app.targets().into_iter().find(|target| target.starts_with("/report/"))
    });
    assert_eq!(report, format!("/report/{RESOURCES}-by-h2-and-heard-hello"));

    let mut asked: BTreeMap<String, usize> = BTreeMap::new();
    for request in stage.app.requests() {
        assert_eq!(request.fields("x-auth-user"), ["alice"], "{}", request.head);
        *asked.entry(request.target().to_owned()).or_default() += 1;
    }
    let resources = asked.iter().filter(|(target, _)| target.starts_with("/r/"));
    assert_eq!(resources.clone().count(), RESOURCES, "{asked:?}");
    assert!(resources.clone().all(|(_, &times)| times == 1), "{asked:?}");
    assert_eq!(asked["/chat"], 1);
    // A browser may open another one ahead, and not use it.
    let sent = sent.lock().expect("no panic");
    let sent: Vec<usize> = sent.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    let used = sent.iter().filter(|&&bytes| bytes > HANDSHAKE_BYTES).count();
    assert_eq!(used, 1, "bytes over each connection of the browser: {sent:?}");
    let record = stage.kw.wait_for_record("the WebSocket", |record| record["status"] == 101);
    assert_eq!(record["code"], serde_json::Value::Null, "{record}");
}
