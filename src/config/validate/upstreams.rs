//! `[upstreams.NAME]`: the services behind keyward.

mod settings;
pub(super) mod url;

use serde_spanned::Spanned;

use super::tls;
use crate::config::check::{Check, Span, Text};
use crate::config::limits::{Bounds, ENDPOINTS_MAX, UPSTREAMS_MAX, WEIGHT};
use crate::config::raw::{self, Field, Given, Named, Table};
use crate::config::{Endpoint, Upstream};
use crate::diagnostics::Fault;
use crate::identity::MAX_NAME_BYTES;

/// Every upstream that is named, in the order of the names; a faulty one has no endpoints.
pub(super) fn upstreams(
    check: &mut Check<'_>,
    field: Field<Named<Table<raw::Upstream>>>,
) -> Vec<Upstream> {
    let is_left_out = field.0.is_none();
    let named = check.field(field);
    if is_left_out || named.as_ref().is_some_and(|named| named.get_ref().0.is_empty()) {
        let help = "write [upstreams.app] and below it endpoints = [\"http://127.0.0.1:3000\"]";
        check.push(Fault {
            span: named.as_ref().map(|named| named.span()),
            message: "there is no upstream to forward requests to".to_owned(),
            help: Some(help.to_owned()),
        });
    }
    let Some(named) = named else { return Vec::new() };
    check.at_most(&named.span(), named.get_ref().0.len(), UPSTREAMS_MAX);
    let mut upstreams = Vec::new();
    for (name, given) in named.into_inner().0 {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let text = name.get_ref();
        if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.chars().all(allowed) {
            let message = format!("{text:?} cannot name an upstream");
            let help =
                format!("write ASCII letters, digits, '_', '-' and '.', {MAX_NAME_BYTES} at most");
            check.fault(name.span(), message, help);
        }
        let (endpoints, settings, tls) = match check.table(&format!("upstreams.{text}"), given) {
            Some(table) => {
                let (span, mut fields) = (table.span(), table.into_inner());
                let listed = std::mem::take(&mut fields.endpoints);
                let tls = std::mem::take(&mut fields.tls);
                let endpoints = endpoints(check, text, &span, listed);
                let settings = settings::settings(check, text, fields);
                let is_tls = |endpoint: &Endpoint| endpoint.tls_host().is_some();
                let tls = tls::upstream(check, text, tls, endpoints.iter().any(is_tls));
                (endpoints, settings, tls)
            }
            None => Default::default(),
        };
        upstreams.push(Upstream { name: name.into_inner(), endpoints, settings, tls });
    }
    upstreams
}

fn endpoints(
    check: &mut Check<'_>,
    upstream: &str,
    span: &Span,
    field: Field<Vec<Given<raw::Endpoint>>>,
) -> Vec<Endpoint> {
    let help = "write [\"http://127.0.0.1:3000\"]";
    if field.0.is_none() {
        let message = format!("the upstream {upstream:?} has no endpoint");
        check.fault(span.clone(), message, format!("write endpoints = {}", &help[6..]));
    }
    let Some(array) = check.field(field) else { return Vec::new() };
    if array.get_ref().is_empty() {
        check.fault(array.span(), "there is no endpoint", help);
    }
    check.at_most(&array.span(), array.get_ref().len(), ENDPOINTS_MAX);
    let mut endpoints: Vec<Endpoint> = Vec::with_capacity(array.get_ref().len());
    for given in array.into_inner() {
        let Some((text, weight)) = endpoint(check, given) else { continue };
        let Some((address, text)) = url::address(check, text) else { continue };
        if endpoints.iter().any(|other| other.address == address) {
            let message = format!("{} is listed twice", text.shown);
            check.fault(text.span, message, "remove one of the two");
        } else {
            endpoints.push(Endpoint { address, weight });
        }
    }
    endpoints
}

/// The URL of an endpoint in either form, and its weight.
fn endpoint(check: &mut Check<'_>, given: Given<raw::Endpoint>) -> Option<(Text, u32)> {
    let given = check.given(given)?;
    let span = given.span();
    match given.into_inner() {
        raw::Endpoint::Url(url) => Some((check.replaced(&Spanned::new(span, url))?, 1)),
        raw::Endpoint::Table(table) => {
            let fields = check.fields("upstreams.endpoints", table);
            if fields.url.0.is_none() {
                let help = "write url = \"http://127.0.0.1:3000\"";
                check.fault(span, "this endpoint does not say where it is", help);
            }
            let Bounds { default, min, max } = WEIGHT;
            let weight = check.number(fields.weight, min, max).unwrap_or(default);
            let weight = u32::try_from(weight).expect("the most is 100");
            Some((check.text(fields.url)?, weight))
        }
    }
}
