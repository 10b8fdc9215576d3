//! A client that speaks TLS and, through it, the bytes it is given.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, StreamOwned};

use super::certificates::{Authority, Pair};
use super::{DEADLINE, Message};

/// How clients connect; those of one `TlsClients` know each other's sessions.
#[derive(Clone)]
pub(crate) struct TlsClients(ClientConfig);

impl TlsClients {
    /// Those that trust `authority` and speak every version.
    pub(crate) fn of(authority: &Authority) -> Self {
        Self::with(authority, &[&TLS12, &TLS13], None)
    }

    /// Those that speak 1.2 alone.
    pub(crate) fn of_1_2(authority: &Authority) -> Self {
        Self::with(authority, &[&TLS12], None)
    }

    /// Those that speak 1.3 alone.
    pub(crate) fn of_1_3(authority: &Authority) -> Self {
        Self::with(authority, &[&TLS13], None)
    }

    /// Those of 1.2 that can verify RSA alone.
    pub(crate) fn of_rsa(authority: &Authority) -> Self {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_protocol_versions(&[&TLS12]).expect("the suites are of 1.2");
        Self(builder.with_root_certificates(authority.roots()).with_no_client_auth())
    }

    /// Those that show `pair`.
    pub(crate) fn showing(authority: &Authority, pair: &Pair) -> Self {
        Self::with(authority, &[&TLS12, &TLS13], Some(pair))
    }

    fn with(
        authority: &Authority,
        versions: &[&'static rustls::SupportedProtocolVersion],
        pair: Option<&Pair>,
    ) -> Self {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("the provider speaks them")
            .with_root_certificates(authority.roots());
        Self(match pair {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(vec![pair.der()], pair.key_der())
                .expect("the two belong together"),
        })
    }

    /// The same, offering `protocols` by ALPN.
    pub(crate) fn offering(mut self, protocols: &[&str]) -> Self {
        self.0.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// The same, not saying which host they want.
    pub(crate) fn without_sni(mut self) -> Self {
        self.0.enable_sni = false;
        self
    }

    /// For a library that connects by itself.
    pub(crate) fn into_config(self) -> ClientConfig {
        self.0
    }

    /// Connects to `address` for `host`.
    pub(crate) fn connect(&self, address: SocketAddr, host: &str) -> TlsClient {
        self.try_connect(address, host).expect("the handshake succeeds")
    }

    /// Connects, unless the handshake fails on this side.
    pub(crate) fn try_connect(&self, address: SocketAddr, host: &str) -> io::Result<TlsClient> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let host = ServerName::try_from(host.to_owned()).expect("a host name");
        let session = ClientConnection::new(Arc::new(self.0.clone()), host);
        let session = session.map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, Tap { socket, received: Vec::new() });
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(TlsClient { stream: BufReader::new(stream) })
    }
}

/// One connection.
pub(crate) struct TlsClient {
    stream: BufReader<StreamOwned<ClientConnection, Tap>>,
}

impl TlsClient {
    /// Writes `bytes`.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let stream = self.stream.get_mut();
        stream.write_all(bytes.as_ref()).expect("the proxy takes the bytes");
        stream.flush().expect("the proxy takes the bytes");
    }

    /// Sends `request` and reads the answer.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Message {
        self.try_ask(request).expect("an answer")
    }

    /// The answer; or why there is none: that is when a client of TLS 1.3 hears that its certificate was refused.
    pub(crate) fn try_ask(&mut self, request: impl AsRef<[u8]>) -> io::Result<Message> {
        let stream = self.stream.get_mut();
        stream.write_all(request.as_ref())?;
        stream.flush()?;
        let mut answer =
            Message::read_head(&mut self.stream)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        answer.read_body(&mut self.stream)?;
        Ok(answer)
    }

    /// Everything until the end, which must be one that an attacker cannot make (`close_notify`).
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// The certificate that was shown.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        let certificates = self.session().peer_certificates().expect("the handshake is over");
        certificates[0].clone().into_owned()
    }

    /// The version that is spoken.
    pub(crate) fn version(&self) -> ProtocolVersion {
        self.session().protocol_version().expect("the handshake is over")
    }

    /// The protocol that was agreed on.
    pub(crate) fn protocol(&self) -> Option<&[u8]> {
        self.session().alpn_protocol()
    }

    /// Whether the session is one of before.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// How many records of application data (type 23, RFC 8446 §5.1) came since the last call.
    pub(crate) fn records(&mut self) -> usize {
        let received = std::mem::take(&mut self.stream.get_mut().sock.received);
        let mut rest = received.as_slice();
        let mut records = 0;
        while let [kind, _, _, high, low, behind @ ..] = rest {
            records += usize::from(*kind == 23);
            rest = &behind[usize::from(u16::from_be_bytes([*high, *low]))..];
        }
        records
    }

    fn session(&self) -> &ClientConnection {
        &self.stream.get_ref().conn
    }
}

impl Read for TlsClient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.read(buffer)
    }
}

impl Write for TlsClient {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.get_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.get_mut().flush()
    }
}

/// A socket that keeps what came.
struct Tap {
    socket: TcpStream,
    received: Vec<u8>,
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.socket.read(buffer)?;
        self.received.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}

impl Write for Tap {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.socket.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}
