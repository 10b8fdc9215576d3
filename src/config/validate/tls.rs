//! `[server.tls]`, `[admin.tls]` and `[upstreams.NAME.tls]`: certificates, keys, and who must show one.
//!
//! Never here: what is in the files (see [`tls`](crate::tls)).

use std::path::PathBuf;

use super::upstreams::url;
use crate::config::check::{Check, Span};
use crate::config::limits::CERTIFICATES_MAX;
use crate::config::raw::{self, Field, Given, Section, Table};
use crate::config::{ClientCertificates, PairFiles, Tls, TlsVersion, UpstreamTls};

/// What PEM begins with (RFC 7468 §2), where the name of its file belongs.
const PEM_BEGIN: &str = "-----BEGIN";

/// The table called `name`; `None` only with a fault.
pub(super) fn tls(check: &mut Check<'_>, name: &str, given: Given<Table<raw::Tls>>) -> Option<Tls> {
    let table = check.table(name, given)?;
    let span = table.span();
    let raw = table.into_inner();
    let default = pair(check, &span, raw.certificate, raw.private_key);
    let further = check.field(raw.certificates);
    let mut pairs: Vec<PairFiles> = default.into_iter().collect();
    if let Some(further) = further {
        check.at_most(&further.span(), further.get_ref().len(), CERTIFICATES_MAX);
        for given in further.into_inner() {
            let Some(table) = check.table(&format!("{name}.certificates"), given) else { continue };
            let span = table.span();
            let raw::Pair { certificate, private_key } = table.into_inner();
            pairs.extend(pair(check, &span, certificate, private_key));
        }
    }
    let clients = clients(check, raw.client_ca, raw.client_certificates);
    let min_version = check.one_of(
        raw.min_version,
        TlsVersion::default(),
        &[("1.2", TlsVersion::V1_2), ("1.3", TlsVersion::V1_3)],
    );
    Some(Tls { pairs, clients, min_version })
}

/// `None` only with a fault.
fn pair(
    check: &mut Check<'_>,
    table: &Span,
    certificate: Field<String>,
    private_key: Field<String>,
) -> Option<PairFiles> {
    for (field, name) in [(&certificate, "certificate"), (&private_key, "private_key")] {
        if field.0.is_none() {
            let help = format!("write {name} = \"….pem\", or remove the table");
            check.fault(table.clone(), format!("there is no {name}"), help);
        }
    }
    let (certificate, private_key) = (file(check, certificate), file(check, private_key));
    Some(PairFiles { certificate: certificate?, private_key: private_key? })
}

fn clients(
    check: &mut Check<'_>,
    client_ca: Field<String>,
    client_certificates: Field<String>,
) -> Option<ClientCertificates> {
    if client_ca.0.is_none()
        && let Some(Given(choice)) = &client_certificates.0
    {
        let help =
            "write client_ca = \"….pem\" with the authorities that vouch for them, or remove this";
        check.fault(choice.span(), "nobody vouches for the certificates of clients", help);
    }
    let choices = [("required", true), ("optional", false)];
    let are_required = check.one_of(client_certificates, true, &choices);
    Some(ClientCertificates { authorities: file(check, client_ca)?, are_required })
}

/// `[upstreams.NAME.tls]`, for an upstream with or without endpoints that TLS is spoken to.
pub(super) fn upstream(
    check: &mut Check<'_>,
    name: &str,
    section: Section<raw::UpstreamTls>,
    is_spoken: bool,
) -> Option<UpstreamTls> {
    let Some(given) = section.0 else { return is_spoken.then(UpstreamTls::default) };
    let table = check.table(&format!("upstreams.{name}.tls"), given)?;
    let (span, raw) = (table.span(), table.into_inner());
    if !is_spoken {
        let message = format!("TLS is spoken to no endpoint of the upstream {name:?}");
        let help = "write \"https://HOST\" for its endpoints, or remove the table: what goes over a Unix \
                    socket does not leave the machine, and is in clear";
        check.fault(span.clone(), message, help);
    }
    let server_name = check.text(raw.server_name).map(|text| {
        if !url::is_host(&text.value) {
            let message = format!("{} is no name that a certificate could be for", text.shown);
            check.fault(text.span, message, "write a host such as \"app.internal\"");
        }
        text.value
    });
    let has_pair = raw.certificate.0.is_some() || raw.private_key.0.is_some();
    Some(UpstreamTls {
        authorities: file(check, raw.ca),
        server_name,
        pair: has_pair.then(|| pair(check, &span, raw.certificate, raw.private_key)).flatten(),
    })
}

/// The name of a file in PEM. A key that stands here itself goes no further, for paths are shown.
fn file(check: &mut Check<'_>, field: Field<String>) -> Option<PathBuf> {
    let text = check.text(field)?;
    if text.value.contains(PEM_BEGIN) {
        let help = "put it into a file of its own, and write the file's name here";
        check.fault(text.span, "this is no name of a file, but what belongs into one", help);
        return None;
    }
    Some(check.path(&text))
}
