//! A service behind the proxy that records the bytes it receives and answers by a script.
//!
//! A script is a closure that is given each accepted connection; what paces it are channels, never time.

use std::io::{self, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::ServerConnection;
use socket2::SockRef;

use super::wait::{signal, wait};
use super::{DEADLINE, Message, Socket, TlsService};

/// A service on loopback; it stops when dropped.
pub(crate) struct Upstream {
    address: SocketAddr,
    record: Arc<Record>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Record {
    requests: Mutex<Vec<Message>>,
    bytes: Mutex<Vec<u8>>,
    /// Every accepted socket, but for those that are reset.
    sockets: Mutex<Vec<Option<TcpStream>>>,
    is_stopping: AtomicBool,
    /// Whether requests and bytes are kept; connections are counted all the same.
    is_kept: bool,
}

/// The requests that [`Upstream::holding`] does not answer yet.
pub(crate) struct Held {
    is_asked: Mutex<Receiver<()>>,
    go_on: SyncSender<()>,
}

impl Held {
    /// Waits until one has arrived.
    pub(crate) fn wait(&self) {
        wait(&self.is_asked);
    }

    /// Lets it be answered.
    pub(crate) fn let_go(&self) {
        self.go_on.send(()).expect("the script waits");
    }
}

impl Upstream {
    /// Reads each request whole and answers it with `answer`.
    pub(crate) fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = answer.into();
        Self::scripted(move |connection| {
            while let Some(_request) = connection.request()? {
                connection.send(&answer)?;
            }
            Ok(())
        })
    }

    /// Answers every request with 200 and a short text.
    pub(crate) fn hello() -> Self {
        Self::scripted(|connection| {
            while let Some(request) = connection.request()? {
                match request.method() {
                    "HEAD" => connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")?,
                    _ => connection.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")?,
                }
            }
            Ok(())
        })
    }

    /// Answers every request with 200 and `text`; those for `target` only when they are let go.
    pub(crate) fn holding(target: &'static str, text: &'static str) -> (Self, Held) {
        Self::stopping(target, ["", &ok(text)], text)
    }

    /// Answers every request with 200 and `text`; those for `target` with `first-then`, of which `-then` comes only when
    /// they are let go.
    pub(crate) fn halting(target: &'static str, text: &'static str) -> (Self, Held) {
        let whole = ok("first-then");
        let (begin, end) = whole.split_at(whole.len() - "-then".len());
        Self::stopping(target, [begin, end], text)
    }

    /// Stops within its answer to `target`.
    fn stopping(target: &'static str, answer: [&str; 2], text: &'static str) -> (Self, Held) {
        let (asked, is_asked) = signal();
        let (go_on, may_go_on) = signal();
        let [begin, end] = answer.map(str::to_owned);
        let app = Self::scripted(move |connection| {
            while let Some(request) = connection.request()? {
                if request.target() != target {
                    connection.send(ok(text))?;
                    continue;
                }
                connection.send(&begin)?;
                asked.send(()).expect("the test waits");
                wait(&may_go_on);
                connection.send(&end)?;
            }
            Ok(())
        });
        (app, Held { is_asked, go_on })
    }

    /// Answers every request with 200 and `name`.
    pub(crate) fn named(name: &str) -> Self {
        Self::named_at(name, "127.0.0.1:0")
    }

    /// Gives each connection to `script`, on a thread of its own. An error ends the connection: the
    /// proxy may leave whenever it wants.
    pub(crate) fn scripted(
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(script, true)
    }

    /// Like [`Upstream::scripted`], for more requests than should be kept: none is recorded.
    pub(crate) fn unrecorded(
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::start(script, false)
    }

    /// Like [`Upstream::named`], on `address`.
    pub(crate) fn named_at(name: &str, address: &str) -> Self {
        let answer = ok(name);
        Self::scripted_at(address, move |connection| {
            while let Some(_request) = connection.request()? {
                connection.send(&answer)?;
            }
            Ok(())
        })
    }

    /// Like [`Upstream::scripted`], on `address`. Of 127.0.0.1 nobody can be sure to get a port once more.
    pub(crate) fn scripted_at(
        address: &str,
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).expect("nobody else uses this address");
        Self::on(listener, plain, script, true)
    }

    /// Like [`Upstream::scripted`], over TLS.
    pub(crate) fn tls(
        service: TlsService,
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::opened(move |socket| Ok(service.accept(socket)), script)
    }

    /// Like [`Upstream::scripted`], with what comes before the script done by `open`.
    pub(crate) fn opened(
        open: impl Fn(TcpStream) -> io::Result<Socket> + Send + Sync + 'static,
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        Self::on(listener, open, script, true)
    }

    fn start(
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
        is_kept: bool,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        Self::on(listener, plain, script, is_kept)
    }

    fn on(
        listener: TcpListener,
        open: impl Fn(TcpStream) -> io::Result<Socket> + Send + Sync + 'static,
        script: impl Fn(&mut Connection) -> io::Result<()> + Send + Sync + 'static,
        is_kept: bool,
    ) -> Self {
        let address = listener.local_addr().expect("a bound listener has an address");
        let record = Arc::new(Record { is_kept, ..Record::default() });
        let acceptor = thread::spawn({
            let record = Arc::clone(&record);
            move || accept(&listener, &record, Arc::new(open), Arc::new(script))
        });
        Self { address, record, acceptor: Some(acceptor) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `[upstreams.…] endpoints` calls it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Every request whose head arrived, in order; with its content if the script read that.
    pub(crate) fn requests(&self) -> Vec<Message> {
        lock(&self.record.requests).clone()
    }

    /// The only request there was.
    pub(crate) fn only_request(&self) -> Message {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "requests that reached the upstream: {requests:#?}");
        requests.remove(0)
    }

    /// The targets of all requests, in order.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.requests().iter().map(|request| request.target().to_owned()).collect()
    }

    /// Every byte that arrived, on all connections.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        lock(&self.record.bytes).clone()
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        lock(&self.record.sockets).len()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.record.is_stopping.store(true, Ordering::SeqCst);
        // Wakes the acceptor; if it cannot be reached it has ended already.
        let _ = TcpStream::connect(self.address);
        for socket in lock(&self.record.sockets).iter().flatten() {
            // A socket its peer has closed is no longer connected; nothing is left to do then.
            let _ = socket.shutdown(Shutdown::Both);
        }
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().expect("the acceptor does not panic");
        }
    }
}

type Open = dyn Fn(TcpStream) -> io::Result<Socket> + Send + Sync;
type Script = dyn Fn(&mut Connection) -> io::Result<()> + Send + Sync;

fn plain(socket: TcpStream) -> io::Result<Socket> {
    Ok(Socket::Plain(socket))
}

fn accept(listener: &TcpListener, record: &Arc<Record>, open: Arc<Open>, script: Arc<Script>) {
    for socket in listener.incoming() {
        let socket = socket.expect("a loopback connection can be accepted");
        if record.is_stopping.load(Ordering::SeqCst) {
            return;
        }
        let index = {
            let mut sockets = lock(&record.sockets);
            sockets.push(Some(socket.try_clone().expect("a socket can be shared")));
            sockets.len() - 1
        };
        socket.set_nodelay(true).expect("an open socket takes options");
        socket.set_read_timeout(Some(DEADLINE)).expect("an open socket takes options");
        let record = Arc::clone(record);
        let (open, script) = (Arc::clone(&open), Arc::clone(&script));
        thread::spawn(move || {
            let Ok(socket) = open(socket) else { return };
            let stream = BufReader::new(socket);
            let mut connection = Connection { stream, index, record };
            // An error is the proxy's leave; what it did before is in the record.
            let _ = script(&mut connection);
            if lock(&connection.record.sockets)[index].is_some() {
                let _ = connection.socket().shutdown(Shutdown::Both);
            }
        });
    }
}

/// One accepted connection, for a script.
pub(crate) struct Connection {
    stream: BufReader<Socket>,
    /// Its place among the connections of this upstream, from 0.
    pub(crate) index: usize,
    record: Arc<Record>,
}

impl Connection {
    /// The next request, content and all; `None` when the proxy has closed.
    pub(crate) fn request(&mut self) -> io::Result<Option<Message>> {
        let Some((place, mut request)) = self.recorded_head()? else { return Ok(None) };
        self.body(&mut request)?;
        if let Some(recorded) = lock(&self.record.requests).get_mut(place) {
            recorded.clone_from(&request);
        }
        Ok(Some(request))
    }

    /// The head of the next request, recorded at once.
    pub(crate) fn head(&mut self) -> io::Result<Option<Message>> {
        Ok(self.recorded_head()?.map(|(_, head)| head))
    }

    fn recorded_head(&mut self) -> io::Result<Option<(usize, Message)>> {
        let Some(head) = Message::read_head(&mut self.stream)? else { return Ok(None) };
        let mut requests = lock(&self.record.requests);
        let place = requests.len();
        if self.record.is_kept {
            lock(&self.record.bytes).extend(head.head.as_bytes());
            requests.push(head.clone());
        }
        Ok(Some((place, head)))
    }

    /// Reads the content of `request`, whose head is read.
    pub(crate) fn body(&mut self, request: &mut Message) -> io::Result<()> {
        request.read_body(&mut self.stream)?;
        if self.record.is_kept {
            let mut bytes = lock(&self.record.bytes);
            bytes.extend(&request.body);
            for (name, value) in &request.trailers {
                bytes.extend(format!("{name}: {value}\r\n").as_bytes());
            }
        }
        Ok(())
    }

    /// The next chunk of a request whose head is read; `None` after the last.
    pub(crate) fn chunk(&mut self, request: &mut Message) -> io::Result<Option<Vec<u8>>> {
        request.read_chunk(&mut self.stream)
    }

    /// Reads exactly `length` bytes of content and throws them away.
    pub(crate) fn skip(&mut self, length: u64) -> io::Result<()> {
        let copied = io::copy(&mut (&mut self.stream).take(length), &mut io::sink())?;
        if copied == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Waits until the proxy closes this connection; what it still sends is thrown away.
    pub(crate) fn wait_for_close(&mut self) -> io::Result<()> {
        match io::copy(&mut self.stream, &mut io::sink()) {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
            other => other.map(drop),
        }
    }

    /// Writes `bytes`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())?;
        self.stream.get_mut().flush()
    }

    /// Says that this is the end, which closing alone does not over TLS.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        self.stream.get_mut().end()
    }

    /// What is known of the TLS session, once something was read.
    pub(crate) fn session(&self) -> &ServerConnection {
        self.stream.get_ref().session()
    }

    /// The socket, for what only a socket can do.
    pub(crate) fn socket(&self) -> &TcpStream {
        self.stream.get_ref().tcp()
    }

    /// Makes the coming close a reset.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        // The last handle has to be ours, or nothing is closed when the script ends.
        lock(&self.record.sockets)[self.index] = None;
        SockRef::from(self.socket()).set_linger(Some(Duration::ZERO))
    }
}

/// What is no HTTP, after an upgrade; recorded like the rest.
impl Read for Connection {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        if self.record.is_kept {
            lock(&self.record.bytes).extend(&buffer[..read]);
        }
        Ok(read)
    }
}

impl Write for Connection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.get_mut().flush()
    }
}

/// A test that fails elsewhere must not hide what was recorded.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An answer with 200 and `text`.
fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len())
}
