//! One process of this program takes over from another, so that a new version loses no request:
//!
//! ```text
//! the running process                              the next one
//! starts the program anew ───────────────────────▶ its standard input is one end of a pair of sockets
//! sends the listening sockets ── SCM_RIGHTS ─────▶ uses those that its configuration names
//!                             ◀── READY ────────── serves, beside the running one
//! lets requests in flight end ─── GO ────────────▶ is on its own
//! ```
//!
//! Both sides hold the same listening sockets, so no connection is refused meanwhile. Until GO the next one can fail in
//! whatever way, and the running one goes on as if nothing had been.
//!
//! Never here: when that is wanted, or what is done with a listening socket.

use std::env;
use std::ffi::OsString;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::io::FdFlags;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use tokio::sync::oneshot;

/// Set for a process that is to take over.
const VARIABLE: &str = "KEYWARD_TAKES_OVER";
/// How long the next process may take until it serves: a million keys are read in seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// What Linux sends in one message (`SCM_MAX_FD`); more than a configuration may listen on.
const LISTENERS_MAX: usize = 253;

const LISTENERS: u8 = b'L';
const READY: u8 = b'R';
const GO: u8 = b'G';

/// The process that this one takes over from.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// The process that started this one for that, and its listening sockets; `None` for one that was started as usual.
    ///
    /// # Errors
    /// The process is gone, or does not hand over what is expected.
    pub fn find() -> io::Result<Option<(Self, Vec<TcpListener>)>> {
        if env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let explain = |error: io::Error| {
            let message = format!("{VARIABLE} is set, but nobody hands over: {error}");
            io::Error::new(error.kind(), message)
        };
        let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let listeners = receive(&socket).map_err(explain)?;
        Ok(Some((Self(socket), listeners)))
    }

    /// Says that this process serves, and waits for the word that it is on its own.
    ///
    /// # Errors
    /// The other process has changed its mind, or is gone.
    pub fn take_over(mut self) -> io::Result<()> {
        self.0.write_all(&[READY])?;
        let mut word = [0];
        self.0.read_exact(&mut word).map_err(|error| {
            io::Error::new(
                error.kind(),
                "the process that was to hand over goes on itself, or is gone",
            )
        })
    }
}

/// A takeover that has begun. Dropped, it is called off.
#[derive(Debug)]
pub struct Handover {
    socket: UnixStream,
    outcome: oneshot::Receiver<io::Result<Successor>>,
}

/// A process that serves, and waits for the word that it is on its own.
#[derive(Debug)]
pub struct Successor {
    socket: UnixStream,
    pid: u32,
}

impl Handover {
    /// Starts the program once more, from the path and with the arguments that this process was started with, and
    /// hands it `listeners`.
    ///
    /// # Errors
    /// The program cannot be started. This process is the first of its container, which would end with it.
    pub fn begin(listeners: Vec<TcpListener>) -> io::Result<Self> {
        if process::id() == 1 {
            return Err(io::Error::other(
                "this is process 1, and all others end with it: run it below an init, or replace the container",
            ));
        }
        let (socket, other) = UnixStream::pair()?;
        let mut words = env::args_os();
        let program = words.next().map_or_else(|| env::current_exe().map(OsString::from), Ok)?;
        let child = Command::new(program)
            .args(words)
            .env(VARIABLE, "1")
            .stdin(Stdio::from(OwnedFd::from(other)))
            .spawn()?;
        let (sender, outcome) = oneshot::channel();
        let waiting = socket.try_clone()?;
        let wait = move || {
            // Nobody listens any more if it was called off: then the socket closes, and the child ends.
            let _ = sender.send(wait(child, waiting, &listeners));
        };
        thread::Builder::new().name("takeover".to_owned()).spawn(wait)?;
        Ok(Self { socket, outcome })
    }

    /// The next process, as soon as it serves.
    ///
    /// # Errors
    /// It has failed, and is gone.
    pub async fn outcome(&mut self) -> io::Result<Successor> {
        (&mut self.outcome).await.unwrap_or_else(|_| Err(io::Error::other("nobody waits for it")))
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        // The end of a child that is not ready yet; for one that is, its socket stays as it is.
        if self.outcome.is_terminated() {
            return;
        }
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Successor {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it go on by itself.
    ///
    /// # Errors
    /// It is gone.
    pub fn go(mut self) -> io::Result<()> {
        self.socket.write_all(&[GO])
    }
}

/// Hands `listeners` to `child` and waits until it serves; ends it if it does not.
fn wait(
    mut child: Child,
    mut socket: UnixStream,
    listeners: &[TcpListener],
) -> io::Result<Successor> {
    let mut word = [0];
    let heard = send(&socket, listeners).and_then(|()| {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.read(&mut word)
    });
    if matches!(heard, Ok(1)) && word == [READY] {
        return Ok(Successor { socket, pid: child.id() });
    }
    // In vain for a child that has ended by itself, and is what we want to know about.
    let _ = child.kill();
    let status = child.wait()?;
    Err(io::Error::other(match heard {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            format!("it did not serve within {} s", PATIENCE.as_secs())
        }
        _ => format!("it ended ({status})"),
    }))
}

fn send(socket: &UnixStream, listeners: &[TcpListener]) -> io::Result<()> {
    let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(|listener| listener.as_fd()).collect();
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LISTENERS_MAX))];
    let mut buffer = SendAncillaryBuffer::new(&mut space);
    if !buffer.push(SendAncillaryMessage::ScmRights(&sockets)) {
        return Err(io::Error::other("there are too many listening sockets for one message"));
    }
    rustix::net::sendmsg(socket, &[IoSlice::new(&[LISTENERS])], &mut buffer, SendFlags::empty())?;
    Ok(())
}

fn receive(socket: &UnixStream) -> io::Result<Vec<TcpListener>> {
    let mut word = [0];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(LISTENERS_MAX))];
    let mut buffer = RecvAncillaryBuffer::new(&mut space);
    let mut data = [IoSliceMut::new(&mut word)];
    let received = rustix::net::recvmsg(socket, &mut data, &mut buffer, RecvFlags::empty())?;
    if received.bytes != 1 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut listeners = Vec::new();
    for message in buffer.drain() {
        let RecvAncillaryMessage::ScmRights(sockets) = message else { continue };
        for socket in sockets {
            // Not for the next process: it gets them in the same way.
            rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
            listeners.push(TcpListener::from(socket));
        }
    }
    Ok(listeners)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_arrive_as_what_they_are() {
        let (one, other) = UnixStream::pair().expect("a pair of sockets");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let address = listener.local_addr().expect("it is bound");
        send(&one, &[listener]).expect("there is room");
        let received = receive(&other).expect("they were sent");
        let addresses: Vec<_> = received.iter().map(TcpListener::local_addr).collect();
        assert!(matches!(addresses[..], [Ok(bound)] if bound == address), "{addresses:?}");
        let flags = rustix::io::fcntl_getfd(&received[0]).expect("it is open");
        assert!(flags.contains(FdFlags::CLOEXEC));
        std::net::TcpStream::connect(address).expect("it still listens");
    }

    #[test]
    fn who_hangs_up_hands_nothing_over() {
        let (one, other) = UnixStream::pair().expect("a pair of sockets");
        drop(one);
        assert_eq!(receive(&other).expect_err("nothing came").kind(), io::ErrorKind::UnexpectedEof);
    }
}
