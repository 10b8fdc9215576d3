//! An endpoint that speaks HTTP/2, by the h2 library, and answers each request by a script of its own.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Response};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// It stops when dropped.
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    _stop: oneshot::Sender<()>,
}

/// What came.
#[derive(Default)]
struct Seen {
    connections: Vec<Load>,
    heads: Vec<Parts>,
}

/// The requests of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Load {
    now: usize,
    pub(super) most: usize,
    is_closed: bool,
}

/// A request that is to be answered.
pub(super) struct Call {
    pub(super) head: Parts,
    pub(super) body: RecvStream,
    respond: SendResponse<Bytes>,
    _open: Open,
}

/// Counts a request of a connection.
struct Open(Arc<Mutex<Seen>>, usize);

impl Open {
    fn new(all: &Arc<Mutex<Seen>>, place: usize, head: &Parts) -> Self {
        let mut seen = lock(all);
        seen.heads.push(head.clone());
        let load = &mut seen.connections[place];
        load.now += 1;
        load.most = load.most.max(load.now);
        Self(Arc::clone(all), place)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        lock(&self.0).connections[self.1].now -= 1;
    }
}

impl Call {
    /// 200 and what is in `headers`; the body is to follow.
    pub(super) fn begin(&mut self, headers: &[(&'static str, &'static str)]) -> SendStream<Bytes> {
        let mut response = Response::new(());
        for (name, value) in headers {
            response.headers_mut().append(*name, value.parse().expect("a value"));
        }
        self.respond.send_response(response, false).expect("it is wanted")
    }

    /// 200 and `text`.
    pub(super) fn answer(mut self, text: impl Into<Bytes>) {
        let mut stream = self.begin(&[]);
        // The proxy may have left.
        let _ = stream.send_data(text.into(), true);
    }

    /// An answer without a body.
    pub(super) fn answer_with(mut self, status: u16) {
        let mut response = Response::new(());
        *response.status_mut() = status.try_into().expect("a status");
        self.respond.send_response(response, true).expect("it is wanted");
    }

    /// All of the request's body, and its trailers.
    pub(super) async fn read(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let mut text = Vec::new();
        while let Some(piece) = self.body.data().await {
            let piece = piece.expect("the body goes on");
            text.extend_from_slice(&piece);
            self.body.flow_control().release_capacity(piece.len()).expect("what came");
        }
        (text, self.body.trailers().await.expect("a whole body"))
    }
}

impl Endpoint {
    /// Gives each request to `script`.
    pub(super) fn start<F>(script: impl Fn(Call) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::with(Builder::new(), script)
    }

    /// The same, with other settings than the usual.
    pub(super) fn with<F>(
        settings: Builder,
        script: impl Fn(Call) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("a bound listener has an address");
        listener.set_nonblocking(true).expect("an open socket takes options");
        let seen = Arc::new(Mutex::new(Seen::default()));
        let (stop, is_stopped) = oneshot::channel::<()>();
        let served = Arc::clone(&seen);
        thread::spawn(move || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = builder.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("within a runtime");
                tokio::select! {
                    () = accept(listener, settings, Arc::new(script), served) => {}
                    _dropped = is_stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, seen, _stop: stop }
    }

    /// How many requests each connection had at once.
    pub(super) fn loads(&self) -> Vec<Load> {
        lock(&self.seen).connections.clone()
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.loads().iter().filter(|load| !load.is_closed).count()
    }

    /// The heads of all requests, in order.
    pub(super) fn heads(&self) -> Vec<Parts> {
        lock(&self.seen).heads.clone()
    }
}

async fn accept<F>(
    listener: TcpListener,
    settings: Builder,
    script: Arc<impl Fn(Call) -> F + Send + Sync + 'static>,
    seen: Arc<Mutex<Seen>>,
) where
    F: Future<Output = ()> + Send + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.expect("a loopback connection can be accepted");
        stream.set_nodelay(true).expect("an open socket takes options");
        let (settings, script, seen) = (settings.clone(), Arc::clone(&script), Arc::clone(&seen));
        tokio::spawn(async move {
            let place = lock(&seen).connections.len();
            lock(&seen).connections.push(Load::default());
            let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
            while let Some(Ok((request, respond))) = connection.accept().await {
                let (head, body) = request.into_parts();
                let open = Open::new(&seen, place, &head);
                tokio::spawn(script(Call { head, body, respond, _open: open }));
            }
            lock(&seen).connections[place].is_closed = true;
        });
    }
}

/// A test that fails elsewhere must not hide what was seen.
fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
