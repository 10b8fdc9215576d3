//! The legitimate client, in a process of its own: a few connections that are kept, and requests at moments that were
//! fixed before. How long one took is counted from its moment, not from when it was sent: one that is held up holds up
//! those behind it, and they tell (no coordinated omission).
//!
//! As many go to the upstream without a proxy: what becomes of them is the machine's doing, whose core they share with the
//! flood.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread::{self, ScopedJoinHandle};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use serde::{Deserialize, Serialize};

use crate::support::client::Client;
use crate::support::stats::sorted;
use crate::support::{Failure, pause};
use crate::tls;

/// Connections; each has its turn when the others had theirs.
const CONNECTIONS: u32 = 8;
/// Requests a second on all of them: a twentieth of what a core can do, so that nothing queues by itself.
pub(crate) const RATE: u32 = 500;
/// How long behind the last moment answers are waited for.
const GRACE: Duration = Duration::from_secs(2);

/// What is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) address: SocketAddr,
    /// Where the same is answered without a proxy, in clear.
    pub(crate) upstream: SocketAddr,
    /// A file with a key a line.
    pub(crate) keys: String,
    /// The folder of the certificate, where TLS is spoken.
    pub(crate) pair: Option<String>,
    pub(crate) duration_ms: u64,
}

/// What is said at the end.
#[derive(Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) proxied: Times,
    pub(crate) direct: Times,
}

/// How long the requests of one way took.
#[derive(Serialize, Deserialize)]
pub(crate) struct Times {
    /// Good answers.
    pub(crate) answered: u64,
    /// Requests that got another answer, or none, or could not be sent in time.
    pub(crate) failed: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

trait Stream: Read + Write {}
impl<S: Read + Write> Stream for S {}

/// Does what the order says, which is JSON.
pub(crate) fn run(order: &str) -> Result<(), Failure> {
    let order: Order = serde_json::from_str(order)?;
    let keys: Vec<String> = fs::read_to_string(&order.keys)?.lines().map(str::to_owned).collect();
    let tls = order.pair.as_ref().map(|pair| tls::client(Path::new(pair), b"http/1.1", false));
    let tls = tls.transpose()?;
    let duration = Duration::from_millis(order.duration_ms);
    let begin = Barrier::new(2 * CONNECTIONS as usize);
    let (proxied, direct) = thread::scope(|scope| {
        let start = |address, tls: Option<&Arc<ClientConfig>>| -> Vec<_> {
            let turn = |number| {
                let turn = Turn { number, address, tls: tls.cloned(), keys: &keys };
                let begin = &begin;
                scope.spawn(move || turn.run(duration, begin))
            };
            (0..CONNECTIONS).map(turn).collect()
        };
        let (proxied, direct) = (start(order.address, tls.as_ref()), start(order.upstream, None));
        Ok::<_, Failure>((Times::of(proxied, duration)?, Times::of(direct, duration)?))
    })?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&Outcome { proxied, direct })?)?;
    Ok(())
}

impl Times {
    /// What `turns` come to.
    fn of(
        turns: Vec<ScopedJoinHandle<'_, (Vec<f64>, u64)>>,
        duration: Duration,
    ) -> Result<Self, Failure> {
        let (mut micros, mut failed) = (Vec::new(), 0);
        for turn in turns {
            let (of_it, failures) = turn.join().map_err(|_| "a thread panicked")?;
            micros.extend(of_it);
            failed += failures;
        }
        let micros = sorted(micros);
        let quantile = |share: f64| {
            let place = (micros.len() as f64 * share).ceil() as usize;
            micros.get(place.max(1) - 1).copied().unwrap_or((duration + GRACE).as_secs_f64() * 1e6)
        };
        Ok(Self {
            answered: micros.len() as u64,
            failed,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            max_us: quantile(1.0),
        })
    }
}

/// One of the connections.
struct Turn<'a> {
    number: u32,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    keys: &'a [String],
}

impl Turn<'_> {
    /// How long each request took, in microseconds, and how many failed.
    fn run(&self, duration: Duration, begin: &Barrier) -> (Vec<f64>, u64) {
        // The handshake is none of the request's time.
        let mut client = self.connect().ok();
        if client.as_mut().is_some_and(|client| self.ask(client, 0).is_err()) {
            client = None;
        }
        begin.wait();
        let start = Instant::now();
        let moments = (0..).map(|turn| (turn * CONNECTIONS + self.number) * 1_000_000 / RATE);
        let moments = moments.map(|micros| Duration::from_micros(micros.into()));
        let (mut micros, mut failed) = (Vec::new(), 0);
        for (turn, moment) in moments.enumerate().take_while(|(_, moment)| *moment < duration) {
            pause((start + moment).saturating_duration_since(Instant::now()));
            let is_answered = start.elapsed() < duration + GRACE && {
                // Whoever says that an answer is the last may be left.
                let again = client.take().map(|mut client| (self.ask(&mut client, turn), client));
                let (asked, kept) = match again {
                    Some((Err(error), _)) if error.kind() != io::ErrorKind::NotConnected => {
                        (Err(error), None)
                    }
                    Some((Ok(()), kept)) => (Ok(()), Some(kept)),
                    _ => match self.connect() {
                        Ok(mut new) => (self.ask(&mut new, turn), Some(new)),
                        Err(error) => (Err(error), None),
                    },
                };
                client = kept.filter(|_| asked.is_ok());
                asked.is_ok()
            };
            match is_answered {
                true => micros.push((start + moment).elapsed().as_secs_f64() * 1e6),
                false => failed += 1,
            }
        }
        (micros, failed)
    }

    fn connect(&self) -> io::Result<Client<Box<dyn Stream>>> {
        Client::connect(self.address, |socket: TcpStream| -> io::Result<Box<dyn Stream>> {
            let Some(tls) = &self.tls else { return Ok(Box::new(socket)) };
            Ok(Box::new(tls::over(tls, socket)?))
        })
    }

    fn ask(&self, client: &mut Client<Box<dyn Stream>>, turn: usize) -> io::Result<()> {
        let key =
            &self.keys[(turn * CONNECTIONS as usize + self.number as usize) % self.keys.len()];
        match client.get("/orders/42", &format!("x-api-key: {key}\r\n"))?.status {
            200 => Ok(()),
            status => Err(io::Error::other(format!("answered with {status}"))),
        }
    }
}
