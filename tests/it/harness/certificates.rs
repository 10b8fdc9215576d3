//! An authority, and the certificates it makes for servers and clients.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PKCS_RSA_SHA256,
    SanType, date_time_ymd,
};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Whom certificates are from.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) private_key: String,
}

impl Authority {
    /// One that nobody knows yet.
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "test authority");
        Self(CertifiedIssuer::self_signed(params, new_key()).expect("an authority can be made"))
    }

    /// Its own certificate, in PEM.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// What a client that trusts it alone holds against servers.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("it is an authority");
        roots
    }

    /// A certificate for `hosts`, with a key for ECDSA.
    pub(crate) fn server(&self, hosts: &[&str]) -> Pair {
        self.issue(&params(hosts), &new_key())
    }

    /// The same with a key of RSA.
    pub(crate) fn server_with_rsa(&self, hosts: &[&str]) -> Pair {
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).expect("the system has randomness");
        self.issue(&params(hosts), &key)
    }

    /// One that is good from some days before now to some days after.
    pub(crate) fn server_in_days(&self, from: i64, to: i64) -> Pair {
        let mut params = params(&["app.example"]);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock that is set");
        let day = |days: i64| {
            let then = now.as_secs().checked_add_signed(days * 24 * 60 * 60);
            date_time_ymd(1970, 1, 1) + Duration::from_secs(then.expect("not before 1970"))
        };
        (params.not_before, params.not_after) = (day(from), day(to));
        self.issue(&params, &new_key())
    }

    /// A client's certificate with a common name and a URI.
    pub(crate) fn client(&self, common_name: &str, uri: &str) -> Pair {
        let mut params = params(&[]);
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ASCII")));
        self.issue(&params, &new_key())
    }

    fn issue(&self, params: &CertificateParams, key: &KeyPair) -> Pair {
        let certificate = params.signed_by(key, &self.0).expect("the parameters are whole");
        Pair { certificate: certificate.pem(), private_key: key.serialize_pem() }
    }
}

impl Pair {
    /// The certificate, as it is sent in a handshake.
    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("it was made as PEM")
    }

    /// The key, as a library takes it.
    pub(crate) fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.private_key.as_bytes()).expect("it was made as PEM")
    }
}

fn new_key() -> KeyPair {
    KeyPair::generate().expect("the system has randomness")
}

fn params(hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    CertificateParams::new(hosts).expect("names in ASCII")
}
