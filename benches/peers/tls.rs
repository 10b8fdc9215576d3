//! TLS: the one certificate of all contestants, and how the load shakes hands.
//!
//! One version, one cipher suite and one group for keys are offered, so that all contestants do the same work; what was
//! agreed on is checked where it matters, on every connection. The certificate is compared, not verified, and neither is
//! what it has signed: what the load needs not do, it leaves to the contestants' core.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};

use crate::support::Failure;

/// The name in the certificate.
const HOST: &str = "bench.example";

/// Puts a certificate (ECDSA P-256) and its key into a folder of their own; gives it back.
pub(crate) fn make_pair(folder: &Path) -> Result<PathBuf, Failure> {
    let pair = folder.join("pair");
    fs::create_dir(&pair)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateParams::new(vec![HOST.to_owned()])?.self_signed(&key)?;
    fs::write(certificate_in(&pair), certificate.pem())?;
    let mut options = OpenOptions::new();
    let mut file =
        options.write(true).create_new(true).mode(0o600).open(pair.join("server.pem.key"))?;
    file.write_all(key.serialize_pem().as_bytes())?;
    Ok(pair)
}

fn certificate_in(pair: &Path) -> PathBuf {
    pair.join("server.pem")
}

/// The name that clients ask for.
pub(crate) fn host() -> ServerName<'static> {
    ServerName::try_from(HOST).expect("a host name")
}

/// A client that trusts the certificate in `pair` alone and asks for one protocol. What it resumes is its own.
pub(crate) fn client(
    pair: &Path,
    alpn: &[u8],
    resumes: bool,
) -> Result<Arc<ClientConfig>, Failure> {
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let expected = CertificateDer::from_pem_file(certificate_in(pair))?;
    let mut client = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned(expected)))
        .with_no_client_auth();
    client.alpn_protocols = vec![alpn.to_vec()];
    client.resumption = match resumes {
        true => Resumption::in_memory_sessions(1),
        false => Resumption::disabled(),
    };
    Ok(Arc::new(client))
}

/// A session of `client` over a connection, for whoever reads and writes without a runtime; hands are shaken with the first
/// bytes.
pub(crate) fn over(
    client: &Arc<ClientConfig>,
    socket: TcpStream,
) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let session = ClientConnection::new(Arc::clone(client), host()).map_err(io::Error::other)?;
    Ok(StreamOwned::new(session, socket))
}

/// Takes this one certificate, whatever it has signed.
#[derive(Debug)]
struct Pinned(CertificateDer<'static>);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match *end_entity == self.0 {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::General("another certificate".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
