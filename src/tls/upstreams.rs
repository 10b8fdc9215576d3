//! TLS to endpoints: from what `[upstreams.NAME.tls]` says to what a handshake needs.
//!
//! What a reload finds unchanged stays the very same [`ClientConfig`]: connections and sessions of before are good
//! for as long as nobody else is trusted, and no other certificate shown.
//!
//! Never here: sockets, or a way to trust whoever answers.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ALL_VERSIONS, ClientConfig, RootCertStore};

use super::{Findings, files, read_pair, roots};
use crate::config::{Upstream, UpstreamTls};
use crate::diagnostics::{Fault, Report};

/// What is spoken to endpoints: what ALPN (RFC 7301) offers.
const HTTP1: &[&[u8]] = &[b"http/1.1"];
const HTTP2: &[&[u8]] = &[b"h2"];

/// What the handshakes with an endpoint need: how, and the name that its certificate must be for.
pub type Target = (Arc<ClientConfig>, ServerName<'static>);

/// For each upstream, in the order of the configuration, and in it for each endpoint; `None`: in clear.
pub type Targets = Vec<Vec<Option<Target>>>;

/// What handshakes need, and what is odd about it.
#[derive(Debug)]
pub struct LoadedUpstreams {
    /// For every endpoint.
    pub targets: Arc<Targets>,
    /// Certificates that have expired, or soon will; keys that others may read.
    pub warnings: Report,
}

/// What was read before. The authorities that the system trusts are read once, when an upstream first needs them.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<Mutex<Before>>);

#[derive(Debug, Default)]
struct Before {
    system_roots: Option<Arc<RootCertStore>>,
    configs: Vec<(Material, Arc<ClientConfig>)>,
}

/// What makes two configurations the same. A key need not be compared: its certificate names it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Material {
    /// `None`: those that the system trusts.
    authorities: Option<Vec<CertificateDer<'static>>>,
    chain: Vec<CertificateDer<'static>>,
    protocols: &'static [&'static [u8]],
}

/// Reads every file that the TLS of `upstreams` names; `path` is the file they are configured in.
///
/// # Errors
/// Every fault in them, and what is odd.
pub fn load(
    upstreams: &[Upstream],
    known: &Known,
    path: &Path,
    now: Timestamp,
) -> Result<LoadedUpstreams, Report> {
    let mut before = known.0.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut faults, mut warnings) = (Report::default(), Report::default());
    let mut targets = Targets::with_capacity(upstreams.len());
    let mut used = Vec::new();
    for upstream in upstreams {
        let mut findings = Findings::of(format!("[upstreams.{}.tls]", upstream.name));
        let protocols = if upstream.settings.http2 { HTTP2 } else { HTTP1 };
        let loaded = match &upstream.tls {
            None => Some(vec![None; upstream.endpoints.len()]),
            Some(tls) => {
                client(tls, protocols, &mut before, path, now, &mut findings).and_then(|client| {
                    let targets = name_all(upstream, tls, &client.1, path, &mut findings);
                    used.push(client);
                    targets
                })
            }
        };
        targets.extend(loaded);
        faults.merge(findings.faults);
        warnings.merge(findings.warnings);
    }
    if faults.has_errors() {
        faults.merge(warnings);
        return Err(faults);
    }
    before.configs = used;
    Ok(LoadedUpstreams { targets: Arc::new(targets), warnings })
}

/// What handshakes need; the same as before if nothing has changed. `None` only with a fault.
fn client(
    tls: &UpstreamTls,
    protocols: &'static [&'static [u8]],
    before: &mut Before,
    path: &Path,
    now: Timestamp,
    findings: &mut Findings,
) -> Option<(Material, Arc<ClientConfig>)> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let authorities = tls.authorities.as_deref();
    let authorities = authorities.map(|file| findings.read(file, files::certificates));
    let pair = tls.pair.as_ref().map(|pair| read_pair(pair, &provider, now, findings));
    let (authorities, pair) = (transpose(authorities)?, transpose(pair)?);
    let trusted = match (&tls.authorities, &authorities) {
        (Some(file), Some(authorities)) => {
            let read = roots(authorities.clone());
            Arc::new(findings.take(file, read)?)
        }
        _ => findings.take(path, system_roots(before))?,
    };
    let key = pair.map(|(_, key)| key);
    let chain = key.as_ref().map(|key| key.cert.clone()).unwrap_or_default();
    let material = Material { authorities, chain, protocols };
    let same = before.configs.iter().find(|(other, _)| *other == material);
    let config = same.map(|(_, config)| Arc::clone(config));
    let config = config.unwrap_or_else(|| Arc::new(new_client(trusted, key, protocols)));
    Some((material, config))
}

/// One that trusts `roots` alone, shows `key`, and offers `protocols`. Sessions are kept by it for all workers, and
/// resumed.
fn new_client(
    roots: Arc<RootCertStore>,
    key: Option<Arc<CertifiedKey>>,
    protocols: &[&[u8]],
) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(ALL_VERSIONS)
        .expect("the provider has cipher suites for every version")
        .with_root_certificates(roots);
    let mut config = match key {
        Some(key) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key))),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config
}

/// The name that each endpoint's certificate must be for. `None` only with a fault.
fn name_all(
    upstream: &Upstream,
    tls: &UpstreamTls,
    config: &Arc<ClientConfig>,
    path: &Path,
    findings: &mut Findings,
) -> Option<Vec<Option<Target>>> {
    let name = |host: &str| {
        let host = tls.server_name.as_deref().unwrap_or(host);
        ServerName::try_from(host.to_owned()).map_err(|_| {
            let name = &upstream.name;
            Fault::whole(format!("no certificate could be for {host:?}, in the upstream {name:?}"))
                .with_help("write server_name = \"…\", with the name in the endpoint's certificate")
        })
    };
    let target = |endpoint: &crate::config::Endpoint| match endpoint.tls_host() {
        None => Some(None),
        Some(host) => Some(Some((Arc::clone(config), findings.take(path, name(host))?))),
    };
    upstream.endpoints.iter().map(target).collect()
}

/// The authorities that the system trusts.
fn system_roots(before: &mut Before) -> Result<Arc<RootCertStore>, Fault> {
    if let Some(roots) = &before.system_roots {
        return Ok(Arc::clone(roots));
    }
    let mut roots = RootCertStore::empty();
    // Some of the system's may be older than what is checked today: those are left out.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let fault =
            Fault::whole("this system trusts no authority, so no endpoint could be trusted");
        let help = "install the package ca-certificates, set SSL_CERT_FILE, or write ca = \"….pem\" in \
                    [upstreams.NAME.tls]";
        return Err(fault.with_help(help));
    }
    Ok(Arc::clone(before.system_roots.insert(Arc::new(roots))))
}

/// What was not asked for is no fault.
fn transpose<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    match read {
        None => Some(None),
        Some(read) => read.map(Some),
    }
}
