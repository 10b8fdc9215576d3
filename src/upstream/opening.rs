//! What a new connection to an endpoint begins with: who the client is (the PROXY protocol), then the TLS handshake.
//!
//! A pooled connection remembers how it was opened, and is used again only for what would be opened the same way: not
//! after a reload that trusts others, and not for another client than the one it was introduced with.
//!
//! Never here: whom to trust (`tls` makes the [`ClientConfig`]), deadlines, or requests.

use std::io;
use std::sync::Arc;

use http::uri::Scheme;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::introduction::Introduction;
use super::settings::ProxyProtocol;
use super::stream::Stream;

/// What connections to an endpoint begin with.
#[derive(Clone, Debug)]
pub struct Opening {
    proxy_protocol: Option<ProxyProtocol>,
    /// The name is what the certificate must be for, and what is asked for (SNI).
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// The same only with the very same [`ClientConfig`]: what it trusts cannot be compared.
impl PartialEq for Opening {
    fn eq(&self, other: &Self) -> bool {
        let is_same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some((config, name)), Some((other, other_name))) => {
                Arc::ptr_eq(config, other) && name == other_name
            }
            _ => false,
        };
        is_same_tls && self.proxy_protocol == other.proxy_protocol
    }
}

impl Eq for Opening {}

impl Opening {
    /// `None` where connections begin with the first request.
    pub fn new(
        proxy_protocol: Option<ProxyProtocol>,
        tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    ) -> Option<Arc<Self>> {
        let opening = Self { proxy_protocol, tls };
        (proxy_protocol.is_some() || opening.is_secure()).then(|| Arc::new(opening))
    }

    /// Whether endpoints are told who the client is.
    pub fn introduces(&self) -> bool {
        self.proxy_protocol.is_some()
    }

    /// Whether TLS is spoken.
    pub(super) fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Opens `stream` for `client`; for nobody but ourselves without one.
    pub(super) async fn open(
        &self,
        mut stream: Stream,
        client: Option<&Introduction>,
    ) -> io::Result<Stream> {
        if let Some(version) = self.proxy_protocol {
            stream.write_all(&Introduction::header(client, version)?).await?;
        }
        match (stream, &self.tls) {
            (stream, None) => Ok(stream),
            (Stream::Tcp(tcp), Some((config, name))) => {
                let stream = shake_hands(tcp, config, name).await;
                Ok(Stream::Tls(Box::new(stream.map_err(|error| explain(error, name))?)))
            }
            (_, Some(_)) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

/// What is asked for over a connection that begins with `opening`.
pub(super) fn scheme(opening: Option<&Arc<Opening>>) -> Scheme {
    let is_secure = opening.is_some_and(|opening| opening.is_secure());
    if is_secure { Scheme::HTTPS } else { Scheme::HTTP }
}

async fn shake_hands(
    tcp: TcpStream,
    config: &Arc<ClientConfig>,
    name: &ServerName<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    TlsConnector::from(Arc::clone(config)).connect(name.clone(), tcp).await
}

/// Why a handshake failed, for whoever runs the endpoint.
fn explain(error: io::Error, name: &ServerName<'_>) -> io::Error {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    let reason = match cause {
        Some(Error::InvalidCertificate(Expired | ExpiredContext { .. })) => {
            "its certificate has expired".to_owned()
        }
        Some(Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
            "its certificate is not valid yet".to_owned()
        }
        Some(Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => {
            format!("its certificate is not for {:?}", name.to_str())
        }
        // The latter where somebody bears the name of one that is trusted.
        Some(Error::InvalidCertificate(UnknownIssuer | BadSignature)) => {
            "no authority that is trusted vouches for its certificate".to_owned()
        }
        Some(Error::AlertReceived(alert)) => format!("it refused the TLS handshake: {alert:?}"),
        Some(Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        _ => format!("TLS handshake: {error}"),
    };
    io::Error::new(error.kind(), reason)
}
