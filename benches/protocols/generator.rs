//! What makes the load, in a process of its own on the load core: connections are made and have carried a request before
//! it says that it is ready; then it waits to be told, asks until its time is over, says how often it was answered, and
//! waits once more.
//!
//! Every answer and every handshake is checked; the first that is wrong ends it with an error.

use std::fs;
use std::io::{self, BufRead as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, HandshakeKind};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::TcpSocket;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::cases::{Case, Kind};
use crate::http1::{self, Http1};
use crate::http2::{self, Http2};
use crate::support::Failure;
use crate::tls;

/// What is said when all connections are made.
pub(crate) const READY: &str = "ready";
/// What the first and the last answers may take.
const GRACE: Duration = Duration::from_secs(10);

/// What the generator is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) case: String,
    pub(crate) address: SocketAddr,
    /// A file with a key a line.
    pub(crate) keys: String,
    /// The folder of the certificate.
    pub(crate) pair: String,
    pub(crate) connections: u64,
    pub(crate) duration_ms: u64,
}

/// What it says at the end.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Good answers; there were no others.
    pub(crate) requests: u64,
    /// How long it took, in microseconds.
    pub(crate) duration_us: u64,
}

/// A connection in clear, or TLS over it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A request for each key, or what differs in it, built once: asking costs one look-up. Each connection begins elsewhere.
pub(crate) struct Requests {
    all: Arc<[Vec<u8>]>,
    at: usize,
}

impl Requests {
    /// The next one.
    pub(crate) fn next(&mut self) -> &[u8] {
        self.at = (self.at + 1) % self.all.len();
        &self.all[self.at]
    }
}

/// Does what the order says, which is JSON.
pub(crate) fn run(order: &str) -> Result<(), Failure> {
    let order: Order = serde_json::from_str(order)?;
    let case = Case::named(&order.case)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let clients = async { tokio::time::timeout(GRACE, begin(&order, case)).await };
    let clients = runtime.block_on(clients).map_err(|_| "the first answers did not come")??;
    writeln!(io::stdout(), "{READY}")?;
    io::stdin().lock().read_line(&mut String::new())?;
    let start = Instant::now();
    let duration = Duration::from_millis(order.duration_ms);
    let all = async {
        let (mut tasks, mut requests) = (JoinSet::new(), 0);
        clients.into_iter().for_each(|client| drop(tasks.spawn(client.run(start + duration))));
        while let Some(done) = tasks.join_next().await {
            requests += done??;
        }
        Ok::<_, Failure>(requests)
    };
    let all = async { tokio::time::timeout(duration + GRACE, all).await };
    let requests = runtime.block_on(all).map_err(|_| "the last answers did not come")??;
    let outcome = Outcome { requests, duration_us: start.elapsed().as_micros() as u64 };
    writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    // Its CPU time is read once more, so it must not be gone: the end of its input says that it was.
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// Makes all clients, each with one request that was answered.
async fn begin(order: &Order, case: Case) -> Result<Vec<Client>, Failure> {
    let request = |key: &str| match case.kind {
        Kind::Http2 => http2::key_field(key),
        _ => http1::request(case.answer.path, key),
    };
    let all: Arc<[Vec<u8>]> = fs::read_to_string(&order.keys)?.lines().map(request).collect();
    let mut clients = Vec::new();
    for number in 0..order.connections {
        let at = number as usize * all.len() / order.connections as usize;
        let mut requests = Requests { all: Arc::clone(&all), at };
        let opening = Opening::new(order, case, number)?;
        let stream = opening.open(HandshakeKind::Full).await?;
        if case.kind == Kind::Http2 {
            let http = Http2::begin(stream, requests, case.answer.path, case.answer.body_bytes);
            clients.push(Client::Streams(http.await?));
            continue;
        }
        let mut http = Http1::new(stream, &case.answer);
        http.ask(requests.next()).await?;
        clients.push(match case.kind {
            Kind::KeepAlive => Client::Kept(http, requests),
            _ => Client::New(opening, requests),
        });
    }
    Ok(clients)
}

/// One of the connections, or of those who make a new one for each request.
enum Client {
    Kept(Http1, Requests),
    New(Opening, Requests),
    Streams(Http2),
}

impl Client {
    /// Asks until the deadline; how often it was answered.
    async fn run(self, deadline: Instant) -> io::Result<u64> {
        let mut count = 0;
        match self {
            Client::Kept(mut http, mut requests) => {
                while Instant::now() < deadline {
                    http.ask(requests.next()).await?;
                    count += 1;
                }
            }
            Client::New(opening, mut requests) => {
                let kind = match opening.case.kind {
                    Kind::Resumed => HandshakeKind::Resumed,
                    _ => HandshakeKind::Full,
                };
                while Instant::now() < deadline {
                    let mut http = Http1::new(opening.open(kind).await?, &opening.case.answer);
                    http.ask(requests.next()).await?;
                    http.close().await?;
                    count += 1;
                }
            }
            Client::Streams(http) => count = http.run(deadline).await?,
        }
        Ok(count)
    }
}

/// How a client's connections begin.
struct Opening {
    case: Case,
    address: SocketAddr,
    /// Each client has an address of its own below 127/8: a closed connection keeps its port for a while, and one address
    /// has too few of them.
    from: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Opening {
    fn new(order: &Order, case: Case, number: u64) -> Result<Opening, Failure> {
        let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + number as u32);
        let resumes = case.kind == Kind::Resumed;
        let tls = || tls::client(Path::new(&order.pair), alpn(case.kind), resumes);
        let tls = case.is_tls.then(tls).transpose()?;
        Ok(Opening { case, address: order.address, from: (from, 0).into(), tls })
    }

    async fn open(&self, kind: HandshakeKind) -> io::Result<Box<dyn Stream>> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.bind(self.from)?;
        let stream = socket.connect(self.address).await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        // rustls reads 4 KiB at a time: from memory, rather than from the kernel.
        let stream = BufReader::with_capacity(http1::buffer_bytes(&self.case.answer), stream);
        let stream = TlsConnector::from(Arc::clone(tls)).connect(tls::host(), stream).await?;
        tls::check(stream.get_ref().1, alpn(self.case.kind), kind)?;
        Ok(Box::new(stream))
    }
}

fn alpn(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Http2 => b"h2",
        _ => b"http/1.1",
    }
}
