//! HTTP/2 from clients: what passes over it, what is refused, and that one stream does not hold up the others.

use std::future::Future;
use std::process::Command;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Version};

use crate::harness::certificates::Authority;
use crate::harness::setup::write;
use crate::harness::wait::{signal, wait};
use crate::harness::{Actor, DEADLINE, Http2, Keyward, Stage, Upstream, wait_for};

fn stage(app: Upstream) -> (Stage, Actor) {
    Stage::new(app, |setup| setup.key("alice", "viewer"))
}

/// Runs `test` with a connection to the proxy of `stage`.
fn run<T: Future<Output = ()>>(stage: &Stage, test: impl FnOnce(Client) -> T) {
    run_on(&stage.kw, test);
}

/// Runs `test` with a connection to `kw`.
pub(crate) fn run_on<T: Future<Output = ()>>(kw: &Keyward, test: impl FnOnce(Client) -> T) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(kw.address()).await.expect("it listens");
        // Room for more than one stream that the test does not read.
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let (send, connection) = builder.handshake(stream).await.expect("a connection");
        let driver = tokio::spawn(async { drop(connection.await) });
        tokio::time::timeout(DEADLINE, test(Client(send))).await.expect("the test ends in time");
        driver.abort();
    });
}

#[derive(Clone)]
pub(crate) struct Client(SendRequest<Bytes>);

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Client {
    /// Sends a request; with `body` what is in it, or else it stays open.
    pub(crate) async fn send(
        &mut self,
        request: Request<()>,
        body: Option<&'static str>,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.0.clone().ready().await.expect("room for a stream");
        let (answer, mut stream) =
            ready.send_request(request, body == Some("")).expect("a request that can be sent");
        if let Some(body) = body.filter(|body| !body.is_empty()) {
            stream.send_data(Bytes::from_static(body.as_bytes()), true).expect("a body");
        }
        (answer, stream)
    }

    pub(crate) async fn ask(&mut self, request: Request<()>) -> Answer {
        let (answer, _stream) = self.send(request, Some("")).await;
        read(answer).await
    }
}

pub(crate) async fn read(answer: ResponseFuture) -> Answer {
    let (head, mut body) = answer.await.expect("an answer").into_parts();
    let text = read_body(&mut body).await.expect("a whole body");
    let trailers = body.trailers().await.expect("a well-formed end");
    Answer { status: head.status.as_u16(), headers: head.headers, text, trailers }
}

pub(crate) async fn read_body(body: &mut RecvStream) -> Result<String, h2::Error> {
    let mut text = Vec::new();
    while let Some(piece) = body.data().await {
        let piece = piece?;
        text.extend_from_slice(&piece);
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(String::from_utf8(text).expect("text"))
}

pub(crate) fn get(target: &str, actor: &Actor) -> http::request::Builder {
    let uri = format!("http://app.example{target}");
    Request::builder().version(Version::HTTP_2).uri(uri).header("x-api-key", &actor.key)
}

pub(crate) fn request(builder: http::request::Builder) -> Request<()> {
    builder.body(()).expect("a well-formed request")
}

/// Answers with the target of the request.
fn mirror() -> Upstream {
    Upstream::scripted(|connection| {
        while let Some(request) = connection.request()? {
            let target = request.target();
            let length = target.len();
            connection
                .send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{target}"))?;
        }
        Ok(())
    })
}

fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-s", "-m", "20"]).args(arguments).output();
    String::from_utf8_lossy(&output.expect("curl is installed").stdout).into_owned()
}

#[test]
fn curl_is_served_in_clear_and_refused_without_a_key() {
    let (stage, alice) = stage(Upstream::hello());
    let url = format!("http://{}/orders?a=b", stage.kw.address());
    let shown = "\n%{http_version} %{http_code}";
    let key = alice.header();
    let key = key.trim_end();
    let answer = curl(&["--http2-prior-knowledge", "-H", key, "-w", shown, &url]);
    assert_eq!(answer, "hello\n2 200");
    let received = stage.app.only_request();
    assert_eq!(received.target(), "/orders?a=b");
    assert_eq!(received.field("host"), Some(stage.kw.address().to_string().as_str()));
    assert_eq!(received.field("x-auth-user"), Some("alice"));
    assert_eq!(received.field("x-api-key"), None);
    let answer = curl(&["--http2-prior-knowledge", "-w", shown, &url]);
    assert!(answer.contains("\"missing_key\"") && answer.ends_with("\n2 401"), "{answer}");
    for version in ["--http1.1", "--http2"] {
        // Without prior knowledge HTTP/2 is only offered, which is ignored.
        let answer = curl(&[version, "-H", key, "-w", shown, &url]);
        assert_eq!(answer, "hello\n1.1 200", "{version}");
    }
    assert_eq!(stage.app.requests().len(), 3);
}

#[test]
fn over_tls_it_is_agreed_on() {
    let authority = Authority::new();
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        let pair = authority.server(&["app.example"]);
        let folder = setup.folder.path();
        write(&folder.join("server.pem"), &pair.certificate);
        write(&folder.join("server.key"), &pair.private_key);
        write(&folder.join("ca.pem"), &authority.pem());
        setup.set("server.tls", "certificate = \"server.pem\"\nprivate_key = \"server.key\"");
        setup.key("alice", "viewer")
    });
    let address = stage.kw.address();
    let ca = stage.kw.path("ca.pem");
    let answer = curl(&[
        "--cacert",
        ca.to_str().expect("a path"),
        "--connect-to",
        &format!("app.example:443:{address}"),
        "-H",
        alice.header().trim_end(),
        "-w",
        " %{http_version}",
        "https://app.example/",
    ]);
    assert_eq!(answer, "hello 2");
    assert_eq!(stage.app.only_request().field("x-forwarded-proto"), Some("https"));
}

#[test]
fn many_requests_at_once_get_their_own_answers() {
    let (stage, alice) = stage(mirror());
    run(&stage, |mut client| async move {
        let mut answers = Vec::new();
        for number in 0..90 {
            let (answer, _) =
                client.send(request(get(&format!("/{number}"), &alice)), Some("")).await;
            answers.push(answer);
        }
        for (number, answer) in answers.into_iter().enumerate() {
            assert_eq!(read(answer).await.text, format!("/{number}"));
        }
    });
}

#[test]
fn what_has_two_meanings_is_refused() {
    let (stage, alice) = stage(Upstream::hello());
    let requests = stage.app.requests().len();
    run(&stage, |mut client| async move {
        for (builder, status, code) in [
            (get("/", &alice).header("host", "other.example"), 400, "bad_request"),
            (get("/a/../b", &alice), 400, "ambiguous_path"),
            (get("/", &alice).header("content_length", "1"), 400, "bad_request"),
            (get("/", &alice).method(Method::TRACE), 501, "method_not_supported"),
            (
                get("/", &alice).header("authorization", "Bearer it-other-key"),
                400,
                "ambiguous_credentials",
            ),
        ] {
            let answer = client.ask(request(builder)).await;
            assert_eq!(answer.status, status, "{}", answer.text);
            assert!(answer.text.contains(code), "{}", answer.text);
            assert_eq!(answer.headers["content-type"], "application/problem+json");
        }
        let many =
            (0..200).fold(get("/", &alice), |builder, n| builder.header(format!("x-{n}"), "a"));
        assert_eq!(client.ask(request(many)).await.status, 431);
        let answer = client.ask(request(get("/", &alice).header("x-auth-user", "root"))).await;
        assert_eq!(answer.status, 200, "the connection goes on");
    });
    let received = stage.app.requests();
    assert_eq!(received.len(), requests + 1);
    assert_eq!(received[requests].fields("x-auth-user"), ["alice"]);
}

#[test]
fn a_cookie_in_pieces_reaches_the_endpoint_whole() {
    let (stage, alice) = stage(Upstream::hello());
    run(&stage, |mut client| async move {
        let builder = get("/", &alice).header("cookie", "a=1").header("cookie", "b=2");
        assert_eq!(client.ask(request(builder)).await.status, 200);
    });
    assert_eq!(stage.app.only_request().fields("cookie"), ["a=1; b=2"]);
}

#[test]
fn bodies_stream_both_ways_and_trailers_pass_without_an_identity() {
    let (arrived, first_piece) = signal();
    let received = Arc::new(Mutex::new(String::new()));
    let notes = Arc::clone(&received);
    let app = Upstream::scripted(move |connection| {
        while let Some(mut request) = connection.head()? {
            while let Some(chunk) = connection.chunk(&mut request)? {
                *notes.lock().expect("no panic") += &String::from_utf8_lossy(&chunk);
                let _nobody_waits_for_the_second = arrived.try_send(());
            }
            *notes.lock().expect("no panic") += &format!(" {:?}", request.trailers);
            connection.send(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
            )?;
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    run(&stage, |mut client| async move {
        let post = get("/", &alice).method(Method::POST).header("te", "trailers");
        let (answer, mut body) = client.send(request(post), None).await;
        body.send_data(Bytes::from_static(b"first"), false).expect("a piece");
        tokio::task::spawn_blocking(move || wait(&first_piece)).await.expect("it arrives alone");
        body.send_data(Bytes::from_static(b"second"), false).expect("a piece");
        let mut trailers = HeaderMap::new();
        trailers.insert("x-count", "2".parse().expect("a value"));
        trailers.insert("x-auth-user", "root".parse().expect("a value"));
        body.send_trailers(trailers).expect("trailers");
        let answer = read(answer).await;
        assert_eq!((answer.status, answer.text.as_str()), (200, "ok"));
        assert_eq!(answer.trailers.expect("trailers")["x-sum"], "1");
    });
    let received = received.lock().expect("no panic");
    assert_eq!(*received, r#"firstsecond [("x-count", "2")]"#);
}

#[test]
fn streams_that_nobody_reads_leave_the_others_alone() {
    let app = Upstream::unrecorded(|connection| {
        while let Some(request) = connection.head()? {
            match request.target() {
                // Never read to its end.
                "/upload" => return connection.wait_for_close(),
                "/download" => {
                    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
                    while connection.send([b'x'; 65536]).is_ok() {}
                    return Ok(());
                }
                _ => connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?,
            }
        }
        Ok(())
    });
    let (stage, alice) = stage(app);
    run(&stage, |mut client| async move {
        let (download, _stream) = client.send(request(get("/download", &alice)), Some("")).await;
        let stalled = download.await.expect("a head");
        let mut uploads = Vec::new();
        for _ in 0..4 {
            let post = get("/upload", &alice).method(Method::POST);
            let (_, mut body) = client.send(request(post), None).await;
            body.send_data(Bytes::from(vec![b'x'; 200_000]), false).expect("a piece");
            uploads.push(body);
        }
        for _ in 0..50 {
            assert_eq!(client.ask(request(get("/", &alice))).await.text, "ok");
        }
        drop((stalled, uploads));
    });
}

#[test]
fn a_stream_whose_client_takes_nothing_is_reset_alone() {
    let (closed, is_closed) = signal();
    let app = Upstream::unrecorded(move |connection| {
        while let Some(request) = connection.head()? {
            if request.target() != "/download" {
                connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
                continue;
            }
            connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            let chunk = [&b"10000\r\n"[..], &[b'x'; 65536], b"\r\n"].concat();
            while connection.send(&chunk).is_ok() {}
            closed.send(()).expect("the test waits");
            return Ok(());
        }
        Ok(())
    });
    let (stage, alice) = Stage::new(app, |setup| {
        setup.set("server.timeouts", "response_body_idle = \"300ms\"");
        setup.key("alice", "viewer")
    });
    let client = Http2::connect(stage.kw.address());
    let mut stalled = client.send(get("/download", &alice)).into_stream();
    // Its endpoint is free again, while other streams go on.
    let mut others = 0;
    wait_for("the end of the connection to the endpoint", || {
        others += 1;
        assert_eq!(client.send(get("/", &alice)).read().text, "ok");
        is_closed.lock().expect("nobody else waits").try_recv().ok()
    });
    assert!(others > 1);
    assert_eq!(stalled.reason(), Reason::CANCEL);
    assert_eq!(client.send(get("/", &alice)).read().text, "ok", "the connection goes on");
    let record = stage.kw.wait_for_record("the stream", |record| record["path"] == "/download");
    assert_eq!((&record["status"], &record["code"]), (&200.into(), &"client_stalled".into()));
    let bytes = record["bytes_out"].as_u64().expect("a count");
    assert!(bytes <= 2 * 65_536, "{bytes} bytes: more than its window and a piece that waits");
}

#[test]
fn the_last_bytes_of_an_answer_are_waited_for_no_longer() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.set("server.timeouts", "response_body_idle = \"300ms\"");
        setup.key("alice", "viewer")
    });
    let client = Http2::connect_with_window(stage.kw.address(), 3);
    let mut stalled = client.send(get("/", &alice)).into_stream();
    let record = stage.kw.wait_for_record("the stream", |record| record["path"] == "/");
    assert_eq!((&record["status"], &record["code"]), (&200.into(), &"client_stalled".into()));
    assert_eq!(stalled.frame().as_deref(), Some(&b"hel"[..]));
    assert_eq!(stalled.reason(), Reason::CANCEL);
    // Who takes little by little gets all.
    assert_eq!(client.send(get("/", &alice)).read().text, "hello");
}

#[test]
fn an_answer_to_head_has_no_body_whosever_it_is() {
    let (stage, alice) = stage(Upstream::hello());
    let client = Http2::connect(stage.kw.address());
    let head = |actor: &Actor| get("/", actor).method(Method::HEAD);
    let answer = client.send(head(&alice)).read();
    assert_eq!((answer.status, answer.text.as_str()), (200, ""));
    assert_eq!(answer.headers["content-length"], "5");
    let answer = client.send(head(&Actor::new("mallory", "viewer"))).read();
    assert_eq!((answer.status, answer.text.as_str()), (401, ""));
    assert_ne!(answer.headers["content-length"], "0");
}

#[test]
fn a_call_of_grpc_is_refused_in_its_own_words() {
    let (stage, alice) = Stage::new(Upstream::hello(), |setup| {
        setup.routes("[[routes]]\npath = \"/admin/{*rest}\"\nroles = [\"admin\"]\n[[routes]]\npath = \"/{*rest}\"\n");
        setup.key("alice", "viewer")
    });
    run(&stage, |mut client| async move {
        let call = |target, key: &str| {
            let call = Request::builder().method(Method::POST).uri(format!("http://a{target}"));
            request(call.header("content-type", "application/grpc+proto").header("x-api-key", key))
        };
        for (target, key, status) in [
            ("/a.B/C", "", "16"),
            ("/a.B/C", "it-not-a-key", "16"),
            ("/admin/a.B/C", &alice.key, "7"),
        ] {
            let answer = client.ask(call(target, key)).await;
            assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{target}");
            assert_eq!(answer.headers["grpc-status"], status, "{target}");
            assert_eq!(answer.headers["content-type"], "application/grpc");
            assert!(answer.headers.contains_key("grpc-message"));
        }
    });
    let record = stage.kw.wait_for_record("the refusal", |record| record["code"] == "forbidden");
    assert_eq!(record["status"], 403);
    assert!(stage.app.requests().is_empty());
}

#[test]
fn a_stream_that_its_client_resets_is_over_for_the_endpoint_too() {
    let (asked, is_asked) = signal();
    let (closed, is_closed) = signal();
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        asked.send(()).expect("the test waits");
        connection.wait_for_close()?;
        closed.send(()).expect("the test waits");
        Ok(())
    });
    let (stage, alice) = stage(app);
    run(&stage, |mut client| async move {
        let (answer, mut stream) = client.send(request(get("/slow", &alice)), Some("")).await;
        tokio::task::spawn_blocking(move || wait(&is_asked)).await.expect("it is asked");
        stream.send_reset(Reason::CANCEL);
        drop(answer);
        tokio::task::spawn_blocking(move || wait(&is_closed)).await.expect("it is closed");
    });
    let record = stage.kw.wait_for_record("the request", |record| record["path"] == "/slow");
    assert_eq!(record["code"], "client_left");
}

#[test]
fn a_draining_proxy_lets_streams_end_and_takes_no_more() {
    let (asked, is_asked) = signal();
    let (go_on, may_go_on) = signal();
    let app = Upstream::scripted(move |connection| {
        connection.request()?;
        asked.send(()).expect("the test waits");
        wait(&may_go_on);
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast")
    });
    let (stage, alice) = stage(app);
    run(&stage, |mut client| {
        let kw = &stage.kw;
        async move {
            let (answer, _stream) = client.send(request(get("/", &alice)), Some("")).await;
            tokio::task::spawn_blocking(move || wait(&is_asked)).await.expect("it is asked");
            kw.signal("TERM");
            kw.wait_for_event("stopping: no new connections, requests in flight end", |_| true);
            go_on.send(()).expect("the script waits");
            assert_eq!(read(answer).await.text, "last");
        }
    });
    assert!(stage.kw.wait_for_exit().success());
}
