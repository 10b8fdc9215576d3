//! Bytes on their way from one socket to another within the kernel (splice(2)), copied neither to us nor back.
//!
//! A pipe is needed only while something is in it, so a few of them serve all connections of a worker. Where there is
//! none left, the caller copies.
//!
//! Never here: what the bytes mean, or how many of them belong to a message.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// How much a pipe holds: as much as Linux lets everybody have. The more, the fewer calls for a large body.
const PIPE_BYTES: usize = 1024 * 1024;
/// Pipes of a worker. Those of two workers are what Linux lets one user have before it makes pipes small (64 MiB).
const MAX_PIPES: usize = 32;

/// The pipes of a worker.
#[derive(Debug, Default)]
pub struct Pipes {
    idle: RefCell<Vec<Ends>>,
    in_use: Cell<usize>,
}

#[derive(Debug)]
struct Ends {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Ends {
    fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // One that stays small works as well.
        let _ = fcntl_setpipe_size(&writer, PIPE_BYTES);
        Ok(Self { reader, writer })
    }
}

impl Pipes {
    /// An empty pipe, if there is one left.
    pub fn take(self: &Rc<Self>) -> Option<Pipe> {
        let idle = self.idle.borrow_mut().pop();
        let has_room = self.in_use.get() < MAX_PIPES;
        let ends = idle.or_else(|| has_room.then(Ends::new)?.ok())?;
        self.in_use.set(self.in_use.get() + 1);
        Some(Pipe { ends: Some(ends), bytes: 0, pipes: Rc::clone(self) })
    }
}

/// A pipe in use. Dropped empty, it serves others; what is left in it is gone with it.
#[derive(Debug)]
pub struct Pipe {
    /// There until the drop.
    ends: Option<Ends>,
    /// How much is in it.
    bytes: usize,
    pipes: Rc<Pipes>,
}

impl Pipe {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes in at most `most` bytes that came over `from`; it must be empty, or one that is full would look like a
    /// socket that nothing comes from. 0 is the end of the stream.
    pub fn poll_fill(
        &mut self,
        from: &TcpStream,
        most: u64,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert!(self.is_empty(), "what is in it goes first");
        let most = usize::try_from(most).map_or(PIPE_BYTES, |most| most.min(PIPE_BYTES));
        let Some(Ends { writer, .. }) = &self.ends else { return Poll::Pending };
        let moved = loop {
            ready!(from.poll_read_ready(cx))?;
            match from.try_io(Interest::READABLE, || transfer(from, writer, most)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => break moved?,
            }
        };
        self.bytes = moved;
        Poll::Ready(Ok(moved))
    }

    /// Sends over `to` what it takes.
    pub fn poll_drain(&mut self, to: &TcpStream, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(Ends { reader, .. }) = &self.ends else { return Poll::Pending };
        let moved = loop {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || transfer(reader, to, self.bytes)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                moved => break moved?,
            }
        };
        self.bytes -= moved;
        Poll::Ready(Ok(moved))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.pipes.in_use.set(self.pipes.in_use.get() - 1);
        if let Some(ends) = self.ends.take().filter(|_| self.is_empty()) {
            self.pipes.idle.borrow_mut().push(ends);
        }
    }
}

fn transfer(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, most, SpliceFlags::NONBLOCK)?)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let near = TcpStream::connect(listener.local_addr().expect("bound")).await;
        (near.expect("a connection"), listener.accept().await.expect("a connection").0)
    }

    #[tokio::test]
    async fn bytes_pass_in_order_and_the_end_is_told() {
        let ((mut source, from), (to, mut sink)) = (pair().await, pair().await);
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|place| (place % 251) as u8).collect();
        let sent = bytes.clone();
        let sending = tokio::spawn(async move { source.write_all(&sent).await });
        let receiving = tokio::spawn(async move {
            let mut received = Vec::new();
            sink.read_to_end(&mut received).await.map(|_| received)
        });
        let mut pipe = Rc::new(Pipes::default()).take().expect("a pipe");
        let mut left = bytes.len() as u64;
        while left > 0 {
            let moved = poll_fn(|cx| pipe.poll_fill(&from, left, cx)).await.expect("bytes");
            assert!(moved > 0, "{left} bytes are missing");
            left -= moved as u64;
            while !pipe.is_empty() {
                poll_fn(|cx| pipe.poll_drain(&to, cx)).await.expect("taken");
            }
        }
        sending.await.expect("no panic").expect("all sent");
        assert_eq!(poll_fn(|cx| pipe.poll_fill(&from, 1, cx)).await.expect("the end"), 0);
        drop(to);
        assert!(receiving.await.expect("no panic").expect("all received") == bytes);
    }

    #[tokio::test]
    async fn only_empty_pipes_serve_others_and_there_are_not_many() {
        let (mut source, from) = pair().await;
        source.write_all(b"x").await.expect("sent");
        let pipes = Rc::new(Pipes::default());
        let mut all: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(all.len(), MAX_PIPES);
        poll_fn(|cx| all[0].poll_fill(&from, 1, cx)).await.expect("a byte");
        drop(all);
        assert_eq!((pipes.idle.borrow().len(), pipes.in_use.get()), (MAX_PIPES - 1, 0));
        let all: Vec<_> = std::iter::from_fn(|| pipes.take()).collect();
        assert_eq!(all.len(), MAX_PIPES);
    }
}
