//! The files of TLS, to clients and to endpoints.
//!
//! Never here: what is in them (see [`tls`](crate::tls)).

use std::path::{Path, PathBuf};

/// `[server.tls]`: the files, which are read by [`tls`](crate::tls).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Never empty; the first is for clients that ask for no host, or for one that no certificate names.
    pub pairs: Vec<PairFiles>,
    /// Whether and by whom clients must be known.
    pub clients: Option<ClientCertificates>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
}

impl Tls {
    /// Every file that is read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pairs = self.pairs.iter().flat_map(|pair| [&pair.certificate, &pair.private_key]);
        let authorities = self.clients.iter().map(|clients| &clients.authorities);
        pairs.chain(authorities).map(PathBuf::as_path)
    }
}

/// A certificate and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairFiles {
    /// The server's certificate, then those between it and its authority.
    pub certificate: PathBuf,
    /// The key of the first certificate.
    pub private_key: PathBuf,
}

/// `client_ca` and `client_certificates`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificates {
    /// The certificates of the authorities that vouch for clients, in PEM.
    pub authorities: PathBuf,
    /// Whether a client without a certificate is refused. One whose certificate is not good always is.
    pub are_required: bool,
}

/// `min_version`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246; nothing older is spoken.
    #[default]
    V1_2,
    /// RFC 8446.
    V1_3,
}

/// `[upstreams.NAME.tls]`: the files, which are read by [`tls`](crate::tls).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// The certificates of the only authorities that are trusted, in PEM; `None`: those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// What the endpoints' certificate must be for; `None`: the host of each.
    pub server_name: Option<String>,
    /// What endpoints are shown.
    pub pair: Option<PairFiles>,
}

impl UpstreamTls {
    /// Every file that is read.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let pair = self.pair.iter().flat_map(|pair| [&pair.certificate, &pair.private_key]);
        self.authorities.iter().chain(pair).map(PathBuf::as_path)
    }
}
