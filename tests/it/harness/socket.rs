//! The upstream's end of a connection: TCP in clear, or TLS over it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};

use super::certificates::{Authority, Pair};

/// What a script reads from and writes to.
pub(crate) enum Socket {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ServerConnection, TcpStream>>),
}

impl Socket {
    /// The TCP that it is, or is over.
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// What is known of the session, once something was read.
    pub(crate) fn session(&self) -> &ServerConnection {
        match self {
            Self::Plain(_) => panic!("a socket in clear has no session"),
            Self::Tls(stream) => &stream.conn,
        }
    }

    /// Says that this is the end, which closing alone does not over TLS.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => {
                stream.conn.send_close_notify();
                stream.flush()
            }
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(socket) => socket.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// How an upstream speaks TLS.
#[derive(Clone)]
pub(crate) struct TlsService(Arc<ServerConfig>);

impl TlsService {
    /// With this certificate, in one of these versions.
    pub(crate) fn new(pair: &Pair, versions: &[&'static SupportedProtocolVersion]) -> Self {
        Self::with(pair, versions, None)
    }

    /// Only with who shows a certificate of `authority`.
    pub(crate) fn for_clients_of(
        authority: &Authority,
        pair: &Pair,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        Self::with(pair, versions, Some(authority))
    }

    fn with(
        pair: &Pair,
        versions: &[&'static SupportedProtocolVersion],
        clients: Option<&Authority>,
    ) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = match clients {
            None => WebPkiClientVerifier::no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
                builder.build().expect("there is an authority")
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .expect("the provider speaks them")
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![pair.der()], pair.key_der())
            .expect("the two belong together");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self(Arc::new(config))
    }

    /// A new session over `socket`.
    pub(crate) fn accept(&self, socket: TcpStream) -> Socket {
        let session = ServerConnection::new(Arc::clone(&self.0)).expect("a whole configuration");
        Socket::Tls(Box::new(StreamOwned::new(session, socket)))
    }
}
