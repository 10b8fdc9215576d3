//! gRPC end to end: a client and a server that programs use, and the proxy between them.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::uri::PathAndQuery;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::server::StreamingService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};

use crate::harness::certificates::Authority;
use crate::harness::setup::write;
use crate::harness::wait::{signal, wait};
use crate::harness::{Actor, DEADLINE, Keyward, Setup};

/// Messages as they are: what they mean is between the two ends.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// Longer than any other message, and than every window on the way.
const LARGE: usize = 20 << 20;

type Messages = BoxStream<'static, Result<Bytes, Status>>;

/// The server; it stops when dropped.
struct Server {
    address: SocketAddr,
    /// A call of `/t.T/Wait` has come.
    is_asked: Mutex<Receiver<()>>,
    /// And is over, without an answer.
    is_cancelled: Mutex<Receiver<()>>,
    _stop: oneshot::Sender<()>,
}

#[derive(Clone)]
struct Service {
    method: String,
    asked: SyncSender<()>,
    cancelled: SyncSender<()>,
}

/// Tells that a call is over.
struct OnDrop(SyncSender<()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        // A test that does not wait has ended.
        let _ = self.0.try_send(());
    }
}

impl StreamingService<Bytes> for Service {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let seen = request.metadata().clone();
            let mut response = Response::new(service.answer(request.into_inner()).await?);
            for (name, told) in [("x-auth-user", "x-saw-user"), ("x-api-key", "x-saw-key")] {
                if let Some(value) = seen.get(name) {
                    response.metadata_mut().insert(told, value.clone());
                }
            }
            Ok(response)
        })
    }
}

impl Service {
    async fn answer(self, mut calls: Streaming<Bytes>) -> Result<Messages, Status> {
        match self.method.as_str() {
            // One message to one, and many to many.
            "/t.T/Echo" => Ok(calls.boxed()),
            "/t.T/Collect" => {
                let mut all = Vec::new();
                while let Some(message) = calls.message().await? {
                    all.extend_from_slice(&message);
                }
                Ok(stream::iter([Ok(Bytes::from(all))]).boxed())
            }
            "/t.T/Repeat" => {
                let message = calls.message().await?.unwrap_or_default();
                Ok(stream::iter((0..1000).map(move |_| Ok(message.clone()))).boxed())
            }
            "/t.T/Fail" => {
                let mut metadata = MetadataMap::new();
                metadata.insert("x-detail", "in the trailers".parse().expect("a value"));
                let status = Status::with_metadata(Code::DataLoss, "lost: é %", metadata);
                Ok(stream::iter([Ok(Bytes::from_static(b"before")), Err(status)]).boxed())
            }
            "/t.T/Wait" => {
                let _told_when_cancelled = OnDrop(self.cancelled);
                self.asked.send(()).expect("the test waits");
                std::future::pending().await
            }
            "/t.T/Watch" => {
                let told_when_cancelled = OnDrop(self.cancelled);
                let first = stream::iter([Ok(Bytes::from_static(b"first"))]);
                let rest = stream::once(async move {
                    let _told_when_cancelled = told_when_cancelled;
                    std::future::pending().await
                });
                Ok(first.chain(rest).boxed())
            }
            _ => Err(Status::unimplemented("no such method")),
        }
    }
}

impl Server {
    fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound listener has an address");
        listener.set_nonblocking(true).expect("an open socket takes options");
        let ((asked, is_asked), (cancelled, is_cancelled)) = (signal(), signal());
        let (stop, is_stopped) = oneshot::channel();
        thread::spawn(move || {
            let service = Service { method: String::new(), asked, cancelled };
            run(async {
                tokio::select! {
                    () = serve(TcpListener::from_std(listener).expect("within a runtime"), service) => {}
                    _dropped = is_stopped => {}
                }
            });
        });
        Self { address, is_asked, is_cancelled, _stop: stop }
    }
}

async fn serve(listener: TcpListener, service: Service) {
    loop {
        let (stream, _) = listener.accept().await.expect("a loopback connection can be accepted");
        stream.set_nodelay(true).expect("an open socket takes options");
        let service = service.clone();
        let answer = service_fn(move |request: http::Request<Incoming>| {
            let service = Service { method: request.uri().path().to_owned(), ..service.clone() };
            async move {
                let mut server = tonic::server::Grpc::new(Raw).max_decoding_message_size(2 * LARGE);
                Ok::<_, Infallible>(server.streaming(service, request).await)
            }
        });
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(
            async move { drop(http.serve_connection(TokioIo::new(stream), answer).await) },
        );
    }
}

fn run(work: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().build().expect("a runtime");
    runtime.block_on(work);
    runtime.shutdown_background();
}

/// A proxy in front of a server, and who may call it.
fn start(endpoint: SocketAddr, prepare: impl FnOnce(&mut Setup)) -> (Keyward, Actor) {
    let mut setup = Setup::with_endpoint(endpoint);
    setup.set("upstreams.app", "http2 = true");
    setup.routes(
        "[[routes]]\npath = \"/t.T/{*rest}\"\nroles = [\"viewer\"]\n[[routes]]\npath = \"/admin.A/{*rest}\"\nroles = [\"admin\"]\n",
    );
    prepare(&mut setup);
    let alice = setup.key("alice", "viewer");
    (setup.start(), alice)
}

/// Runs `test` with a client of `kw`, in clear.
fn run_with<T: Future<Output = ()>>(kw: &Keyward, actor: &Actor, test: impl FnOnce(Caller) -> T) {
    let endpoint = Endpoint::from_shared(format!("http://{}", kw.address())).expect("an address");
    run_at(endpoint, actor, test);
}

fn run_at<T: Future<Output = ()>>(
    endpoint: Endpoint,
    actor: &Actor,
    test: impl FnOnce(Caller) -> T,
) {
    run(async {
        let channel = endpoint.connect().await.expect("it listens");
        let grpc = Grpc::new(channel).max_decoding_message_size(2 * LARGE);
        let test = test(Caller { grpc, key: actor.key.clone() });
        tokio::time::timeout(DEADLINE, test).await.expect("the test ends in time");
    });
}

/// A client.
struct Caller {
    grpc: Grpc<Channel>,
    key: String,
}

impl Caller {
    /// What carries the key, and `message`, once it can be sent.
    async fn request<T>(&mut self, message: T) -> Request<T> {
        self.grpc.ready().await.expect("a connection");
        let mut request = Request::new(message);
        if !self.key.is_empty() {
            request.metadata_mut().insert("x-api-key", self.key.parse().expect("a value"));
        }
        request
    }

    async fn unary(
        &mut self,
        method: &'static str,
        message: Bytes,
    ) -> Result<Response<Bytes>, Status> {
        let request = self.request(message).await;
        self.grpc.unary(request, PathAndQuery::from_static(method), Raw).await
    }
}

async fn collect(mut messages: Streaming<Bytes>) -> Result<Vec<Bytes>, Status> {
    let mut all = Vec::new();
    while let Some(message) = messages.message().await? {
        all.push(message);
    }
    Ok(all)
}

/// Every kind of call there is.
async fn call(mut caller: Caller) {
    let path = PathAndQuery::from_static;
    let answer = caller.unary("/t.T/Echo", Bytes::from_static(b"hello")).await.expect("an answer");
    let metadata = answer.metadata();
    assert_eq!(metadata.get("x-saw-user").expect("an identity"), "alice");
    assert!(metadata.get("x-saw-key").is_none() && metadata.get("x-request-id").is_some());
    assert_eq!(answer.into_inner(), "hello");

    let parts = stream::iter(["a", "b", "c"].map(Bytes::from));
    let request = caller.request(parts).await;
    let answer = caller.grpc.client_streaming(request, path("/t.T/Collect"), Raw).await;
    assert_eq!(answer.expect("an answer").into_inner(), "abc");

    let request = caller.request(Bytes::from_static(b"again")).await;
    let answer = caller.grpc.server_streaming(request, path("/t.T/Repeat"), Raw).await;
    let messages = collect(answer.expect("an answer").into_inner()).await.expect("a good end");
    assert!(messages.len() == 1000 && messages.iter().all(|message| message == "again"));

    let (say, said) = tokio::sync::mpsc::channel::<Bytes>(1);
    let said = stream::unfold(said, |mut said| async { Some((said.recv().await?, said)) });
    let request = caller.request(said).await;
    say.send(Bytes::from_static(b"0")).await.expect("it is taken");
    let answer = caller.grpc.streaming(request, path("/t.T/Echo"), Raw).await;
    let mut answers = answer.expect("an answer").into_inner();
    for number in 1..10 {
        let last = answers.message().await.expect("an answer").expect("an answer");
        assert_eq!(last, (number - 1).to_string(), "each is answered before the next is said");
        say.send(number.to_string().into()).await.expect("it is taken");
    }
    drop(say);
    assert_eq!(collect(answers).await.expect("a good end"), ["9"]);

    let large = Bytes::from(vec![b'x'; LARGE]);
    let answer = caller.unary("/t.T/Echo", large.clone()).await.expect("an answer");
    assert!(answer.into_inner() == large);

    let request = caller.request(Bytes::new()).await;
    let answer = caller.grpc.server_streaming(request, path("/t.T/Fail"), Raw).await;
    let mut messages = answer.expect("an answer").into_inner();
    assert_eq!(messages.message().await.expect("a message").expect("a message"), "before");
    let status = messages.message().await.expect_err("the call fails");
    assert_eq!((status.code(), status.message()), (Code::DataLoss, "lost: é %"));
    assert_eq!(status.metadata().get("x-detail").expect("a detail"), "in the trailers");
    let status = caller.unary("/t.T/Other", Bytes::new()).await.expect_err("there is none");
    assert_eq!((status.code(), status.message()), (Code::Unimplemented, "no such method"));
}

#[test]
fn every_kind_of_call_passes_in_clear() {
    let server = Server::start();
    let (kw, alice) = start(server.address, |_| {});
    run_with(&kw, &alice, call);
}

#[test]
fn every_kind_of_call_passes_from_a_client_over_tls() {
    let authority = Authority::new();
    let server = Server::start();
    let (kw, alice) = start(server.address, |setup| {
        let pair = authority.server(&["app.example"]);
        let folder = setup.folder.path();
        write(&folder.join("server.pem"), &pair.certificate);
        write(&folder.join("server.key"), &pair.private_key);
        setup.set("server.tls", "certificate = \"server.pem\"\nprivate_key = \"server.key\"");
    });
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(authority.pem()))
        .domain_name("app.example");
    let endpoint = Endpoint::from_shared(format!("https://{}", kw.address())).expect("an address");
    run_at(endpoint.tls_config(tls).expect("a configuration"), &alice, call);
}

#[test]
fn a_call_whose_deadline_passes_is_cancelled_at_the_server() {
    let server = Server::start();
    let (kw, alice) = start(server.address, |_| {});
    run_with(&kw, &alice, |mut caller| async move {
        let mut request = caller.request(Bytes::new()).await;
        request.set_timeout(Duration::from_secs(2));
        let answer = caller.grpc.unary(request, PathAndQuery::from_static("/t.T/Wait"), Raw).await;
        let status = answer.expect_err("it is never answered");
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        let Server { is_asked, is_cancelled, _stop, .. } = server;
        let wait = move || {
            wait(&is_asked);
            wait(&is_cancelled);
        };
        tokio::task::spawn_blocking(wait).await.expect("the server sees it");
        let answer = caller.unary("/t.T/Echo", Bytes::from_static(b"on")).await;
        assert_eq!(answer.expect("the connection goes on").into_inner(), "on");
    });
    kw.wait_for_record("the call", |record| record["code"] == "client_left");
}

#[test]
fn a_stream_that_its_client_drops_is_cancelled_at_the_server() {
    let server = Server::start();
    let (kw, alice) = start(server.address, |_| {});
    run_with(&kw, &alice, |mut caller| async move {
        let request = caller.request(Bytes::new()).await;
        let watch = PathAndQuery::from_static("/t.T/Watch");
        let answer = caller.grpc.server_streaming(request, watch, Raw).await;
        let mut messages = answer.expect("an answer").into_inner();
        assert_eq!(messages.message().await.expect("a message").expect("a message"), "first");
        drop(messages);
        let is_cancelled = server.is_cancelled;
        let wait = move || wait(&is_cancelled);
        tokio::task::spawn_blocking(wait).await.expect("the server sees it");
    });
}

#[test]
fn refusals_are_statuses_that_clients_know() {
    let server = Server::start();
    let (kw, alice) = start(server.address, |_| {});
    let nobody = Actor { key: String::new(), ..alice.clone() };
    let stranger = Actor::new("eve", "viewer");
    for (actor, method, code) in [
        (&nobody, "/t.T/Echo", Code::Unauthenticated),
        (&stranger, "/t.T/Echo", Code::Unauthenticated),
        (&alice, "/admin.A/Echo", Code::PermissionDenied),
    ] {
        run_with(&kw, actor, |mut caller| async move {
            let status = caller.unary(method, Bytes::new()).await.expect_err("it is refused");
            assert_eq!(status.code(), code, "{status:?}");
            assert!(!status.message().is_empty());
        });
    }
    let unused = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
    let (kw, alice) = start(unused.expect("a free port"), |_| {});
    run_with(&kw, &alice, |mut caller| async move {
        let status = caller.unary("/t.T/Echo", Bytes::new()).await.expect_err("nobody listens");
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    });
}

#[test]
fn one_call_too_many_is_resource_exhausted() {
    let server = Server::start();
    let bob = Actor::new("bob", "viewer").with("rate = \"1/h\"");
    let (kw, _) = start(server.address, |setup| drop(setup.add(bob.clone())));
    run_with(&kw, &bob, |mut caller| async move {
        caller.unary("/t.T/Echo", Bytes::new()).await.expect("the first may pass");
        let status = caller.unary("/t.T/Echo", Bytes::new()).await.expect_err("it is refused");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.metadata().get("retry-after").is_some(), "{status:?}");
    });
}
