//! What makes the load, in a process of its own on the load core: connections are made and have carried a request before
//! it says that it is ready; then it waits to be told, asks until its time is over, says how often it was answered, and
//! waits once more.
//!
//! In a closed loop each connection asks again when it was answered. In an open one requests are due at a fixed rate,
//! whether or not answers come, and what is counted is the time since each was due: one that waits for a connection
//! counts in full (there is no coordinated omission).
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

use crate::cases::Protocol;
use crate::handshake;
use crate::http1::{self, Http1};
use crate::http2::{self, Http2};
use crate::latencies::Latencies;
use crate::peers::tls;
use crate::schedule;
use crate::support::Failure;

/// What is said when all connections are made.
pub(crate) const READY: &str = "ready";
/// What the first and the last answers may take: a thousand handshakes, or a thousand times 1 MiB.
const GRACE: Duration = Duration::from_secs(30);

/// What the generator is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) protocol: Protocol,
    pub(crate) path: String,
    pub(crate) body_bytes: usize,
    /// The folder of the certificate, where TLS is spoken.
    pub(crate) pair: Option<String>,
    pub(crate) address: SocketAddr,
    /// A file with a key a line.
    pub(crate) keys: String,
    pub(crate) connections: usize,
    /// Requests a second in an open loop; none for a closed one.
    pub(crate) rate: Option<f64>,
    pub(crate) duration_ms: u64,
}

/// What it says at the end.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Good answers; there were no others.
    pub(crate) requests: u64,
    /// How long it took, in microseconds.
    pub(crate) duration_us: u64,
    /// The times that half, 99 of 100 and 999 of 1,000 answers came within, in microseconds.
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
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
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let clients = async { tokio::time::timeout(GRACE, begin(&order)).await };
    let clients = runtime.block_on(clients).map_err(|_| "the first answers did not come")??;
    writeln!(io::stdout(), "{READY}")?;
    io::stdin().lock().read_line(&mut String::new())?;
    let start = Instant::now();
    let duration = Duration::from_millis(order.duration_ms);
    let latencies = Latencies::new()?;
    let all = async {
        let mut tasks = JoinSet::new();
        match order.rate {
            Some(rate) => {
                let mut dues = schedule::begin(clients.len(), rate, start, duration).into_iter();
                for client in clients {
                    let due = dues.next().ok_or("a schedule for each")?;
                    tasks.spawn(client.run_open(due, latencies.clone()));
                }
            }
            None => {
                for client in clients {
                    tasks.spawn(client.run(start + duration, latencies.clone()));
                }
            }
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        Ok::<_, Failure>(())
    };
    let all = async { tokio::time::timeout(duration + GRACE, all).await };
    runtime.block_on(all).map_err(|_| "the last answers did not come")??;
    let outcome = latencies.outcome(start.elapsed());
    writeln!(io::stdout(), "{}", serde_json::to_string(&outcome)?)?;
    // Its CPU time is read once more, so it must not be gone: the end of its input says that it was.
    io::stdin().lock().read_line(&mut String::new())?;
    Ok(())
}

/// Makes all clients, each with one request that was answered.
async fn begin(order: &Order) -> Result<Vec<Client>, Failure> {
    let is_http2 = matches!(order.protocol, Protocol::Http2 { .. });
    let request = |key: &str| match is_http2 {
        true => http2::key_field(key),
        false => http1::request(&order.path, key),
    };
    let all: Arc<[Vec<u8>]> = fs::read_to_string(&order.keys)?.lines().map(request).collect();
    let mut clients = Vec::new();
    for number in 0..order.connections {
        let at = number * all.len() / order.connections;
        let mut requests = Requests { all: Arc::clone(&all), at };
        let opening = Opening::new(order, number)?;
        let stream = opening.open(HandshakeKind::Full).await?;
        if is_http2 {
            let streams = order.protocol.streams();
            let http = Http2::begin(stream, requests, streams, &order.path, order.body_bytes);
            clients.push(Client::Streams(http.await?));
            continue;
        }
        let mut http = Http1::new(stream, order.body_bytes);
        http.ask(requests.next()).await?;
        clients.push(match order.protocol {
            Protocol::Http1 | Protocol::Tls => Client::Kept(http, requests),
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
    /// Asks until the deadline, each time when it was answered.
    async fn run(self, deadline: Instant, latencies: Latencies) -> io::Result<()> {
        let mut now = Instant::now();
        match self {
            Client::Kept(mut http, mut requests) => {
                while now < deadline {
                    http.ask(requests.next()).await?;
                    now = latencies.record(now);
                }
            }
            Client::New(opening, mut requests) => {
                let kind = match opening.protocol {
                    Protocol::Resumed => HandshakeKind::Resumed,
                    _ => HandshakeKind::Full,
                };
                while now < deadline {
                    let mut http = Http1::new(opening.open(kind).await?, opening.body_bytes);
                    http.ask(requests.next()).await?;
                    http.close().await?;
                    now = latencies.record(now);
                }
            }
            Client::Streams(http) => http.run(deadline, latencies).await?,
        }
        Ok(())
    }

    /// Asks when it is due, until nothing is any more.
    async fn run_open(self, mut due: schedule::Dues, latencies: Latencies) -> io::Result<()> {
        let Client::Kept(mut http, mut requests) = self else {
            return Err(io::Error::other("only kept connections have a fixed rate"));
        };
        while let Some(due) = due.recv().await {
            http.ask(requests.next()).await?;
            latencies.record(due);
        }
        Ok(())
    }
}

/// How a client's connections begin.
struct Opening {
    protocol: Protocol,
    body_bytes: usize,
    address: SocketAddr,
    /// Each client has an address of its own below 127/8: a closed connection keeps its port for a while, and one address
    /// has too few of them.
    from: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Opening {
    fn new(order: &Order, number: usize) -> Result<Opening, Failure> {
        let Order { protocol, body_bytes, address, .. } = *order;
        let from = Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + number as u32);
        let resumes = protocol == Protocol::Resumed;
        let tls = |pair: &String| tls::client(Path::new(pair), protocol.alpn(), resumes);
        let tls = order.pair.as_ref().map(tls).transpose()?;
        Ok(Opening { protocol, body_bytes, address, from: (from, 0).into(), tls })
    }

    async fn open(&self, kind: HandshakeKind) -> io::Result<Box<dyn Stream>> {
        let socket = TcpSocket::new_v4()?;
        socket.set_nodelay(true)?;
        socket.bind(self.from)?;
        let stream = socket.connect(self.address).await?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        // rustls reads 4 KiB at a time: from memory, rather than from the kernel.
        let stream = BufReader::with_capacity(http1::buffer_bytes(self.body_bytes), stream);
        let stream = TlsConnector::from(Arc::clone(tls)).connect(tls::host(), stream).await?;
        handshake::check(stream.get_ref().1, self.protocol.alpn(), kind)?;
        Ok(Box::new(stream))
    }
}
