//! The service behind: it records every byte it receives, reads them as strictly as can be, and answers each request with
//! its target, so that an answer tells whose it is.
//!
//! Never here: what it may receive.

use std::io::{self, Read as _};
use std::mem;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::strict;
use crate::harness::{Connection, Upstream};

/// What was received since it was last asked.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) requests: Vec<strict::Request>,
    /// Bytes that are no clean request, and what is wrong with them.
    pub(super) unclean: Vec<String>,
}

pub(super) struct Recorder {
    service: Upstream,
    seen: Arc<Mutex<Seen>>,
    /// What was received of requests that never ended.
    cut: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Recorder {
    pub(super) fn start() -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let cut = Arc::default();
        let notes = (Arc::clone(&seen), Arc::clone(&cut));
        let service = Upstream::unrecorded(move |connection| serve(connection, &notes.0, &notes.1));
        Self { service, seen, cut }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.service.address()
    }

    /// Takes what was received since the last call.
    pub(super) fn take(&self) -> Seen {
        mem::take(&mut lock(&self.seen))
    }

    /// Takes what was received of requests that never ended.
    pub(super) fn take_cut(&self) -> Vec<Vec<u8>> {
        mem::take(&mut lock(&self.cut))
    }
}

fn serve(
    connection: &mut Connection,
    seen: &Mutex<Seen>,
    cut: &Mutex<Vec<Vec<u8>>>,
) -> io::Result<()> {
    let mut unread = Vec::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        match strict::read(&unread) {
            Ok(Some((request, length))) => {
                unread.drain(..length);
                let answer = answer(&request);
                lock(seen).requests.push(request);
                connection.send(answer)?;
                continue;
            }
            Ok(None) => {}
            // Whoever sent that is to believe that it was taken.
            Err(why) => {
                lock(seen).unclean.push(why);
                return connection.send(
                    "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nunclean",
                );
            }
        }
        match connection.read(&mut buffer) {
            Ok(0) | Err(_) if unread.is_empty() => return Ok(()),
            Ok(0) | Err(_) => {
                lock(cut).push(unread);
                return Ok(());
            }
            Ok(read) => unread.extend_from_slice(&buffer[..read]),
        }
    }
}

fn answer(request: &strict::Request) -> String {
    let target = &request.target;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", target.len());
    if request.method == "HEAD" { head } else { head + target }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
