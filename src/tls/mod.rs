//! TLS: from the files that `[server.tls]` or `[admin.tls]` names to what a handshake with a client needs; with
//! endpoints, see [`upstreams`].
//!
//! [`load`] reads certificates, keys and authorities, finds every fault, and gives one [`ServerConfig`] that
//! all workers share. It is made anew by every reload; only [`Tickets`] stay, so that a session that began
//! before a reload, or on another worker, is resumed.
//!
//! Never here: sockets, a private key that is shown, or data before the handshake has ended (0-RTT): it could
//! be replayed.

mod certificate;
mod choice;
mod files;
pub mod upstreams;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::CertificateDer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ProducesTickets, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ALL_VERSIONS, Error, InconsistentKeys, RootCertStore};

use crate::config::{ClientCertificates, PairFiles, Tls, TlsVersion};
use crate::diagnostics::{Fault, Report, Source};
pub use certificate::subject_names;
use choice::Choice;
pub use rustls::ServerConfig;

/// What may be spoken over TLS, the preferred first. This is what ALPN (RFC 7301) offers, and the one place to
/// offer more.
const PROTOCOLS: [(&[u8], Protocol); 2] =
    [(b"h2", Protocol::Http2), (b"http/1.1", Protocol::Http1)];

/// A section of the configuration that says how TLS is spoken to clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// `[server.tls]`
    Server,
    /// `[admin.tls]`: HTTP/1.1 alone is spoken there.
    Admin,
}

impl Section {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "[server.tls]",
            Self::Admin => "[admin.tls]",
        }
    }

    fn protocols(self) -> &'static [(&'static [u8], Protocol)] {
        match self {
            Self::Server => &PROTOCOLS,
            Self::Admin => &PROTOCOLS[1..],
        }
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 and 1.0.
    Http1,
    /// HTTP/2.
    Http2,
}

impl Protocol {
    /// The one that `alpn` names; HTTP/1.1 with a client that does not ask.
    pub fn negotiated(alpn: Option<&[u8]>) -> Self {
        let named = PROTOCOLS.iter().find(|(name, _)| Some(*name) == alpn);
        named.map_or(Self::Http1, |&(_, protocol)| protocol)
    }
}

/// The keys that session tickets are sealed with: made with the first TLS configuration, then kept for the
/// life of the process and changed by themselves. A ticket is good for 12 hours.
#[derive(Clone, Debug, Default)]
pub struct Tickets(Arc<OnceLock<Arc<dyn ProducesTickets>>>);

impl Tickets {
    fn keys(&self) -> Result<Arc<dyn ProducesTickets>, Error> {
        if self.0.get().is_none() {
            let _ = self.0.set(Ticketer::new()?);
        }
        Ok(Arc::clone(self.0.get().expect("it was set")))
    }
}

/// What handshakes need, and what is odd about it.
#[derive(Debug)]
pub struct Loaded {
    /// For every TLS connection.
    pub server: Arc<ServerConfig>,
    /// Certificates that have expired, or soon will; keys that others may read.
    pub warnings: Report,
}

/// Reads every file that `tls`, which stands in `section`, names.
///
/// # Errors
/// Every fault in them, and what is odd.
pub fn load(
    tls: &Tls,
    section: Section,
    tickets: &Tickets,
    now: Timestamp,
) -> Result<Loaded, Report> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut findings = Findings::of(section.name().to_owned());
    let pairs: Vec<_> = tls
        .pairs
        .iter()
        .filter_map(|pair| read_pair(pair, &provider, now, &mut findings))
        .collect();
    let verifier = match &tls.clients {
        Some(clients) => verifier(clients, &provider, &mut findings),
        None => Some(WebPkiClientVerifier::no_client_auth()),
    };
    let (Some(verifier), false) = (verifier, findings.faults.has_errors()) else {
        findings.faults.merge(findings.warnings);
        return Err(findings.faults);
    };
    for (files, (hosts, _)) in tls.pairs.iter().zip(&pairs).skip(1) {
        if hosts.is_empty() {
            let fault = Fault::whole("the certificate names no host, so no client is given it");
            let help = "use one with DNS names, or make it the first";
            findings.warn(&files.certificate, fault.with_help(help));
        }
    }
    let versions = match tls.min_version {
        TlsVersion::V1_2 => ALL_VERSIONS,
        TlsVersion::V1_3 => &[&TLS13],
    };
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("the provider has cipher suites for every version")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Choice::new(pairs)));
    server.alpn_protocols = section.protocols().iter().map(|(name, _)| name.to_vec()).collect();
    // Tickets keep the session with the client: nothing grows here, and workers share no lock.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    // A resumed session is not verified again: it would outlive the client's certificate and the trust in
    // its authority. So whoever shows one, shows it on every connection.
    if tls.clients.is_none() {
        server.ticketer = tickets.keys().map_err(|error| {
            let fault = Fault::whole(format!("no keys for session tickets can be made: {error}"));
            Report::error(source(&tls.pairs[0].certificate), vec![fault])
        })?;
    }
    Ok(Loaded { server: Arc::new(server), warnings: findings.warnings })
}

/// What was found in the files.
struct Findings {
    /// The section of the configuration that names the files.
    section: String,
    faults: Report,
    warnings: Report,
}

impl Findings {
    fn of(section: String) -> Self {
        Self { section, faults: Report::default(), warnings: Report::default() }
    }

    fn fault(&mut self, path: &Path, fault: Fault) {
        self.faults.merge(Report::error(source(path), vec![fault]));
    }

    fn warn(&mut self, path: &Path, fault: Fault) {
        self.warnings.merge(Report::warning(source(path), vec![fault]));
    }

    /// What `read` makes of the file at `path`; or `None`, and why.
    fn read<T>(&mut self, path: &Path, read: fn(&Path, &str) -> Result<T, Fault>) -> Option<T> {
        let read = read(path, &self.section);
        self.take(path, read)
    }

    /// What was read; or `None`, and why.
    fn take<T>(&mut self, path: &Path, read: Result<T, Fault>) -> Option<T> {
        read.map_err(|fault| self.fault(path, fault)).ok()
    }
}

/// The file at `path`, without a line of its text: it may hold a key.
fn source(path: &Path) -> Source {
    Source { path: path.to_owned(), text: String::new() }
}

/// A certificate with the hosts it is for, and its key; `None` only with a fault.
fn read_pair(
    files: &PairFiles,
    provider: &CryptoProvider,
    now: Timestamp,
    findings: &mut Findings,
) -> Option<(Vec<String>, Arc<CertifiedKey>)> {
    let PairFiles { certificate, private_key } = files;
    let chain = findings.read(certificate, files::certificates);
    let key = findings.read(private_key, files::private_key);
    if let Some(warning) = files::readable_by_all(private_key) {
        findings.warn(private_key, warning);
    }
    let (chain, key) = (chain?, key?);
    let facts = findings.take(certificate, certificate::read(&chain[0]))?;
    if let Some(warning) = facts.odd_validity(now) {
        findings.warn(certificate, warning);
    }
    let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let key = private_key.display();
            let fault = Fault::whole(format!("this certificate does not belong to the key in {key}"));
            let help = "name the two files that were made together; the first certificate in the \
                        file must be the one for the key, not its authority's";
            findings.fault(certificate, fault.with_help(help));
        }
        // Its text is about the kind of key, never about the key.
        error => {
            let fault = Fault::whole(format!("the private key cannot be used: {error}"));
            let help = "use an RSA key of 2048 bits or more, or one for ECDSA (P-256, P-384, P-521) or Ed25519";
            findings.fault(private_key, fault.with_help(help));
        }
    });
    Some((facts.hosts, Arc::new(certified.ok()?)))
}

/// Who says which clients are known; `None` only with a fault.
fn verifier(
    clients: &ClientCertificates,
    provider: &Arc<CryptoProvider>,
    findings: &mut Findings,
) -> Option<Arc<dyn ClientCertVerifier>> {
    let path = &clients.authorities;
    let authorities = findings.read(path, files::certificates)?;
    let roots = findings.take(path, roots(authorities))?;
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if clients.are_required { builder } else { builder.allow_unauthenticated() };
    let verifier = builder
        .build()
        .map_err(|error| Fault::whole(format!("these authorities cannot verify clients: {error}")));
    findings.take(path, verifier)
}

fn roots(authorities: Vec<CertificateDer<'static>>) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for (place, authority) in authorities.into_iter().enumerate() {
        roots.add(authority).map_err(|error| {
            Fault::whole(format!("certificate {} cannot be an authority: {error}", place + 1))
        })?;
    }
    Ok(roots)
}
