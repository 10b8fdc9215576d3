//! What a certificate says: for which hosts, how long, and whose it is. The only user of x509-cert.
//!
//! Never here: whether a certificate is to be trusted; rustls verifies those of clients.

use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::time::Time;

use crate::diagnostics::Fault;

/// Before its end a certificate has so long to be renewed. Automatic renewal begins 30 days before the end:
/// what is warned of is that it did not happen.
const EXPIRES_SOON: SignedDuration = SignedDuration::from_hours(30 * 24);

/// What a certificate of ours says.
#[derive(Debug)]
pub(super) struct Facts {
    /// Its DNS names in lower case; the first label of one may be `*`.
    pub(super) hosts: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// Reads a certificate of ours.
pub(super) fn read(der: &CertificateDer<'_>) -> Result<Facts, Fault> {
    let unreadable = || {
        Fault::whole("the certificate cannot be read as one of X.509")
            .with_help("see what `openssl x509 -noout -text` says of it")
    };
    let certificate = Certificate::from_der(der).map_err(|_| unreadable())?;
    let names = alternative_names(&certificate).ok_or_else(unreadable)?;
    let hosts = names.iter().filter_map(|name| match name {
        GeneralName::DnsName(host) => Some(host.as_str().to_ascii_lowercase()),
        _ => None,
    });
    let validity = certificate.tbs_certificate().validity();
    Ok(Facts {
        hosts: hosts.collect(),
        not_before: timestamp(&validity.not_before).ok_or_else(unreadable)?,
        not_after: timestamp(&validity.not_after).ok_or_else(unreadable)?,
    })
}

impl Facts {
    /// What is odd about its time, if anything is.
    pub(super) fn odd_validity(&self, now: Timestamp) -> Option<Fault> {
        let Self { not_before, not_after, .. } = self;
        let left = not_after.duration_since(now);
        if left.is_negative() {
            let fault = Fault::whole(format!("the certificate expired at {not_after}"));
            return Some(fault.with_help("renew it: it is refused"));
        }
        if *not_before > now {
            let fault = Fault::whole(format!("the certificate begins only at {not_before}"));
            return Some(fault.with_help("see that it is the right one, and the clock too"));
        }
        let days = left.as_hours() / 24;
        (left < EXPIRES_SOON).then(|| {
            Fault::whole(format!("the certificate expires at {not_after}, in {days} days"))
                .with_help("renew it; the new one is used as soon as it is in place")
        })
    }
}

/// The names a client's certificate gives its owner: the common name of its subject, and its DNS names, e-mail
/// addresses and URIs. None if it cannot be read.
pub fn subject_names(der: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(der) else { return Vec::new() };
    let common_name = certificate.tbs_certificate().subject().common_name().ok().flatten();
    let common_name = common_name.map(|name| name.value().into_owned());
    let others = alternative_names(&certificate).unwrap_or_default().into_iter();
    let others = others.filter_map(|name| match name {
        GeneralName::DnsName(text)
        | GeneralName::Rfc822Name(text)
        | GeneralName::UniformResourceIdentifier(text) => Some(text.as_str().to_owned()),
        _ => None,
    });
    common_name.into_iter().chain(others).collect()
}

/// Its subject alternative names; `None` if they cannot be read.
fn alternative_names(certificate: &Certificate) -> Option<Vec<GeneralName>> {
    let found = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok()?;
    Some(found.map(|(_, names)| names.0).unwrap_or_default())
}

fn timestamp(time: &Time) -> Option<Timestamp> {
    Timestamp::from_second(i64::try_from(time.to_unix_duration().as_secs()).ok()?).ok()
}
