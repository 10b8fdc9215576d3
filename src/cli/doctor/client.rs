//! The doctor's client: sends the bytes of a request as they are, and gives back all that comes.
//!
//! Never here: what they mean.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use socket2::{Domain, Socket, Type};

use super::upstream::push_fields;

/// The longest wait for anything: the doctor's keyward waits for less.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes that are kept of an answer.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// How a request is sent.
#[derive(Clone, Debug)]
pub(super) enum Wire {
    /// These bytes, and nothing more; the answer is read to its end.
    Http1(Vec<u8>),
    /// These bytes, and then the client is gone.
    Leaving(Vec<u8>),
    /// Over HTTP/2, with this body.
    Http2(Box<Request<()>>, Bytes),
}

/// Sends it to `address`; all that came back. What is not answered gives nothing.
pub(super) fn send(wire: &Wire, address: SocketAddr, from: Ipv4Addr) -> Vec<u8> {
    // A proxy that closes early has answered early, and one that does not answer may be meant to.
    let mut received = Vec::new();
    let _ = match wire {
        Wire::Http1(bytes) => exchange(bytes, address, from, &mut received),
        Wire::Leaving(bytes) => {
            connect(address, from).and_then(|mut stream| stream.write_all(bytes))
        }
        Wire::Http2(request, body) => http2(request, body, address, from, &mut received),
    };
    received
}

/// The status of an answer: its first number of three digits.
pub(super) fn status(answer: &[u8]) -> Option<u16> {
    let line = answer.split(|&byte| byte == b'\r').next()?;
    let word = line.strip_prefix(b"HTTP/")?.split(|&byte| byte == b' ').nth(1)?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn connect(address: SocketAddr, from: Ipv4Addr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.ip().is_loopback() {
        // Each request is another client's: what is counted by address would refuse the later ones. Where
        // loopback is one address only, they are all the same client.
        let _ = socket.bind(&SocketAddr::from((from, 0)).into());
    }
    socket.connect_timeout(&address.into(), PATIENCE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn exchange(
    bytes: &[u8],
    address: SocketAddr,
    from: Ipv4Addr,
    received: &mut Vec<u8>,
) -> io::Result<()> {
    let mut stream = connect(address, from)?;
    // What is refused early is answered before it is sent whole.
    let _ = stream.write_all(bytes);
    stream.take(ANSWER_BYTES_MAX).read_to_end(received).map(drop)
}

fn http2(
    request: &Request<()>,
    body: &Bytes,
    address: SocketAddr,
    from: Ipv4Addr,
    received: &mut Vec<u8>,
) -> io::Result<()> {
    let stream = connect(address, from)?;
    stream.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let asked = ask(stream, request.clone(), body.clone(), received);
        tokio::time::timeout(PATIENCE, asked).await?.map_err(io::Error::other)
    })
}

async fn ask(
    stream: tokio::net::TcpStream,
    request: Request<()>,
    body: Bytes,
    received: &mut Vec<u8>,
) -> Result<(), h2::Error> {
    let (client, connection) = h2::client::handshake(stream).await?;
    let driver = tokio::spawn(connection);
    let mut client = client.ready().await?;
    let (answer, mut sending) = client.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        sending.send_data(body, true)?;
    }
    let (head, mut body) = answer.await?.into_parts();
    received.extend(format!("HTTP/2 {}\r\n", head.status.as_u16()).into_bytes());
    push_fields(received, &head.headers);
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        received.extend(&data);
    }
    if let Some(trailers) = body.trailers().await? {
        push_fields(received, &trailers);
    }
    driver.abort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_from_the_first_line() {
        assert_eq!(status(b"HTTP/1.1 404 Not Found\r\n\r\n 200 "), Some(404));
        assert_eq!(status(b"HTTP/2 200\r\n"), Some(200));
        assert_eq!(status(b"HTTP/1.1\r\n"), None);
        assert_eq!(status(b""), None);
    }
}
