//! The load's end of HTTP/1.1: one request after the other on a connection, each answer read to its end and checked.

use std::io;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::generator::Stream;

const HEAD_END: &[u8] = b"\r\n\r\n";
/// More than the head of any answer here.
const HEAD_BYTES_MAX: usize = 4 * 1024;
/// How much of a large answer is read at once.
const PART_BYTES: usize = 64 * 1024;

/// A connection.
pub(crate) struct Http1 {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    body_bytes: usize,
}

/// The bytes of a request with this key.
pub(crate) fn request(path: &str, key: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: bench\r\nuser-agent: bench/1.0\r\naccept: application/json\r\n\
         x-api-key: {key}\r\n\r\n"
    )
    .into_bytes()
}

/// How many bytes are worth reading at once.
pub(crate) fn buffer_bytes(body_bytes: usize) -> usize {
    HEAD_BYTES_MAX + body_bytes.min(PART_BYTES)
}

impl Http1 {
    pub(crate) fn new(stream: Box<dyn Stream>, body_bytes: usize) -> Http1 {
        let buffer = vec![0; buffer_bytes(body_bytes)];
        Http1 { stream, buffer, body_bytes }
    }

    /// Sends `request`; an error unless the whole of a good answer comes.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> io::Result<()> {
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let mut filled = 0;
        let head_bytes = loop {
            filled += self.read(filled).await?;
            if let Some(at) = memmem::find(&self.buffer[..filled], HEAD_END) {
                break at + HEAD_END.len();
            }
        };
        self.check(head_bytes)?;
        let mut body_bytes = filled - head_bytes;
        while body_bytes < self.body_bytes {
            body_bytes += self.read(0).await?;
        }
        match body_bytes == self.body_bytes {
            true => Ok(()),
            false => Err(io::Error::other("bytes behind an answer")),
        }
    }

    /// Closes as clients do: says so in TLS, and is gone.
    pub(crate) async fn close(mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    async fn read(&mut self, from: usize) -> io::Result<usize> {
        match self.stream.read(&mut self.buffer[from..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }

    fn check(&self, head_bytes: usize) -> io::Result<()> {
        let head = &self.buffer[..head_bytes];
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut answer = httparse::Response::new(&mut fields);
        answer.parse(head).map_err(io::Error::other)?;
        let length =
            answer.headers.iter().find(|field| field.name.eq_ignore_ascii_case("content-length"));
        let length =
            length.and_then(|field| str::from_utf8(field.value).ok()?.parse::<usize>().ok());
        match (answer.code, length) {
            (Some(200), Some(length)) if length == self.body_bytes => Ok(()),
            _ => {
                Err(io::Error::other(format!("a wrong answer: {}", String::from_utf8_lossy(head))))
            }
        }
    }
}
