//! The hostile side, in a process of its own: so many connections, from a hundred addresses as a botnet has, that do
//! what a flood says. One that the proxy closes is opened again after a second, or up to one later, so that they do not come
//! in unison.
//!
//! Nothing that comes is checked: what became of the flood is what the proxy did with it.

use std::io::{self, BufRead as _, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Registry, Token};
use rustls::{ClientConfig, ClientConnection};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Socket, Type};

use crate::cases::{Flood, Hostile, Protocol, Reads};
use crate::part::READY;
use crate::support::Failure;
use crate::tls;

/// How long a connection stays away that was closed: the first for this, the last for twice as long.
const AWAY: Duration = Duration::from_secs(1);
/// How often it is looked who is due: what is sent at once has to be waited for by whoever comes behind it.
const TICK: Duration = Duration::from_millis(1);
/// How many connections may begin in a tick: 4,000 a second.
const BEGINNINGS: usize = 4;
/// How long it may take until all have begun: who is refused never does.
const GATHER: Duration = Duration::from_secs(8);
/// Source addresses.
const ADDRESSES: u32 = 100;
/// What a slow reader reads at once, and the buffer it leaves to the kernel.
const LITTLE_BYTES: usize = 1024;

/// What is told.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) flood: String,
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    /// The folder of the certificate.
    pub(crate) pair: String,
    pub(crate) connections: u64,
}

/// What is said at the end.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Connections that were made.
    pub(crate) made: u64,
    /// Those that the proxy closed, or refused.
    pub(crate) closed: u64,
    /// Pieces that were sent; of frames, there are many in one.
    pub(crate) pieces: u64,
    /// Bytes that the kernel took.
    pub(crate) bytes: u64,
}

/// Does what the order says, which is JSON, until a line comes.
pub(crate) fn run(order: &str) -> Result<(), Failure> {
    let order: Order = serde_json::from_str(order)?;
    let flood = Flood::named(&order.flood)?;
    let is_over = Arc::new(AtomicBool::new(false));
    thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            // Its end is a word, too.
            let _ = io::stdin().lock().read_line(&mut String::new());
            is_over.store(true, Ordering::Relaxed);
        }
    });
    let tls = |alpn: &[u8]| tls::client(Path::new(&order.pair), alpn, false);
    let tls = match flood.protocol {
        Protocol::Clear | Protocol::RawTls => None,
        Protocol::Tls => Some(tls(b"http/1.1")?),
        Protocol::Http2 => Some(tls(b"h2")?),
    };
    let hostile = (flood.make)(&order.key);
    let mut botnet = Botnet { hostile, address: order.address, tls, outcome: Outcome::default() };
    botnet.run(order.connections as usize, &is_over)?;
    writeln!(io::stdout(), "{}", serde_json::to_string(&botnet.outcome)?)?;
    Ok(())
}

struct Botnet {
    hostile: Hostile,
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    outcome: Outcome,
}

/// A connection, or the place of one.
struct Place {
    link: Option<Link>,
    /// When it is to do something next.
    due: Instant,
    /// How long it stays away when it is closed.
    away: Duration,
    has_begun: bool,
}

struct Link {
    stream: TcpStream,
    tls: Option<Box<ClientConnection>>,
    unsent: Vec<u8>,
    is_open: bool,
    pieces: u32,
}

impl Botnet {
    fn run(&mut self, connections: usize, is_over: &AtomicBool) -> Result<(), Failure> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(1024);
        let start = Instant::now();
        // Spread over the period, so that what they send comes evenly.
        let share = |of: Duration, number: usize| of * number as u32 / connections as u32;
        let place = |number| Place {
            link: None,
            due: start + share(self.hostile.period, number),
            away: AWAY + share(AWAY, number),
            has_begun: false,
        };
        let mut places: Vec<Place> = (0..connections).map(place).collect();
        let (mut is_ready, mut next_tick) = (false, start);
        while !is_over.load(Ordering::Relaxed) {
            match poll.poll(&mut events, Some(TICK)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                let place = &mut places[event.token().0];
                let is_gone = event.is_error() || event.is_read_closed();
                self.drive(place, |link, hostile| match hostile.reads {
                    Reads::All => link.read_all(),
                    Reads::Little if is_gone => Err(io::ErrorKind::ConnectionReset.into()),
                    Reads::Little => Ok(()),
                });
            }
            let (now, mut beginnings) = (Instant::now(), 0);
            if now < next_tick {
                continue;
            }
            next_tick = now + TICK;
            for (number, place) in places.iter_mut().enumerate() {
                if place.due > now {
                    continue;
                }
                if place.link.is_some() {
                    self.send_next(place, now);
                } else if beginnings < BEGINNINGS {
                    beginnings += 1;
                    self.begin(place, number, now, poll.registry())?;
                }
            }
            let have_begun = || places.iter().all(|place| place.has_begun);
            if !is_ready && (start.elapsed() > GATHER || have_begun()) {
                is_ready = true;
                writeln!(io::stdout(), "{READY}")?;
            }
        }
        Ok(())
    }

    fn begin(
        &mut self,
        place: &mut Place,
        number: usize,
        now: Instant,
        registry: &Registry,
    ) -> Result<(), Failure> {
        let from =
            Ipv4Addr::from_bits(Ipv4Addr::LOCALHOST.to_bits() + 1 + number as u32 % ADDRESSES);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if self.hostile.reads == Reads::Little {
            socket.set_recv_buffer_size(LITTLE_BYTES)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((from, 0)).into())?;
        // It is connected when there is room to write.
        let _ = socket.connect(&self.address.into());
        let mut stream = TcpStream::from_std(socket.into());
        registry.register(&mut stream, Token(number), Interest::READABLE | Interest::WRITABLE)?;
        let tls = match &self.tls {
            Some(tls) => Some(Box::new(ClientConnection::new(Arc::clone(tls), tls::host())?)),
            None => None,
        };
        place.link = Some(Link { stream, tls, unsent: Vec::new(), is_open: false, pieces: 0 });
        place.due = now + self.hostile.period;
        self.outcome.made += 1;
        Ok(())
    }

    /// Reads by `read`, sends what waits, and begins once that is possible.
    fn drive(
        &mut self,
        place: &mut Place,
        read: impl FnOnce(&mut Link, &Hostile) -> io::Result<()>,
    ) {
        let Some(link) = &mut place.link else { return };
        let mut driven = read(link, &self.hostile).and_then(|()| link.flush());
        if driven.is_ok() && !link.is_open && link.may_begin() {
            link.is_open = true;
            place.has_begun = true;
            link.unsent.extend_from_slice(&self.hostile.begin);
            driven = link.flush();
        }
        match driven {
            Ok(written) => self.outcome.bytes += written as u64,
            Err(_) => {
                self.outcome.closed += 1;
                place.has_begun = true;
                self.leave(place, place.away);
            }
        }
    }

    fn leave(&self, place: &mut Place, away: Duration) {
        // Closing takes it out of epoll, too.
        place.link = None;
        place.due = Instant::now() + away;
    }

    /// It is due.
    fn send_next(&mut self, place: &mut Place, now: Instant) {
        // Without drift, or more and more of them would be due in one tick.
        place.due = (place.due + self.hostile.period).max(now);
        let Some(link) = &mut place.link else { return };
        if self.hostile.leaves {
            place.has_begun = true;
            return self.leave(place, Duration::ZERO);
        }
        if link.is_open && link.unsent.is_empty() {
            let piece = (self.hostile.piece)(link.pieces);
            link.pieces += 1;
            self.outcome.pieces += u64::from(!piece.is_empty());
            link.unsent = piece;
        }
        self.drive(place, |link, hostile| match hostile.reads {
            Reads::All => Ok(()),
            Reads::Little => link.read_once(LITTLE_BYTES).map(drop),
        });
    }
}

impl Link {
    /// Whether it is connected, and has shaken hands.
    fn may_begin(&self) -> bool {
        let is_secure = self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking());
        is_secure && self.stream.peer_addr().is_ok()
    }

    fn read_all(&mut self) -> io::Result<()> {
        while self.read_once(16 << 10)? {}
        Ok(())
    }

    /// Whether there may be more.
    fn read_once(&mut self, most: usize) -> io::Result<bool> {
        let read = match &mut self.tls {
            None => self.stream.read(&mut vec![0; most]),
            Some(tls) => {
                let read = tls.read_tls(&mut (&mut self.stream).take(most as u64));
                if read.is_ok() {
                    tls.process_new_packets().map_err(io::Error::other)?;
                    // What is left is nothing, or the end.
                    let _ = io::copy(&mut tls.reader(), &mut io::sink());
                }
                read
            }
        };
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(true),
            Err(error) if is_not_now(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends what the kernel takes; how many bytes that was.
    fn flush(&mut self) -> io::Result<usize> {
        let mut written = 0;
        loop {
            let taken = match &mut self.tls {
                None if self.unsent.is_empty() => return Ok(written),
                None => self
                    .stream
                    .write(&self.unsent)
                    .inspect(|&taken| drop(self.unsent.drain(..taken))),
                Some(tls) => {
                    if !tls.is_handshaking() && !self.unsent.is_empty() {
                        let taken = tls.writer().write(&self.unsent)?;
                        self.unsent.drain(..taken);
                    }
                    if !tls.wants_write() {
                        return Ok(written);
                    }
                    tls.write_tls(&mut self.stream)
                }
            };
            match taken {
                Ok(taken) => written += taken,
                Err(error) if is_not_now(&error) => return Ok(written),
                Err(error) => return Err(error),
            }
        }
    }
}

/// Whether the kernel has no room, or nothing to read, or is still connecting.
fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected)
}
