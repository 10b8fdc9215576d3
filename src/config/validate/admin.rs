//! `[admin]`: where keys are managed, and under which names.
//!
//! Never here: a listener that others can reach in clear. What is said there are keys.

use super::upstreams::url;
use super::{server, tls};
use crate::config::check::{Check, Text};
use crate::config::raw::{self, Given, Table};
use crate::config::{Admin, Server, limits};

/// `None` only with a fault.
pub(super) fn admin(
    check: &mut Check<'_>,
    given: Given<Table<raw::Admin>>,
    server: &Server,
) -> Option<Admin> {
    let table = check.table("admin", given)?;
    let span = table.span();
    let raw = table.into_inner();
    if raw.listen.0.is_none() {
        let help = "write listen = \"127.0.0.1:9901\", or remove the table";
        check.fault(span, "it is not said where keys are managed", help);
    }
    let has_tls = raw.tls.0.is_some();
    let tls = raw.tls.0.and_then(|given| tls::tls(check, "admin.tls", given));
    let text = check.text(raw.listen);
    let listen = text.as_ref().and_then(|text| server::address(check, text));
    if let (Some(address), Some(text)) = (listen, text) {
        let redirecting = server.redirect.iter().flat_map(|redirect| &redirect.listen);
        if address.port() != 0 && server.listen.iter().chain(redirecting).any(|&a| a == address) {
            let message = format!("{} is where clients are served", text.shown);
            check.fault(text.span, message, "choose another port");
        } else if !has_tls && !address.ip().is_loopback() {
            let message = format!(
                "{} can be reached by others, and keys would go there in clear",
                text.shown
            );
            let help = "write a loopback address such as \"127.0.0.1:9901\", or [admin.tls] with a certificate \
                        and its private_key";
            check.fault(text.span, message, help);
        }
    }
    let hosts = check.texts(raw.hosts, limits::ADMIN_HOSTS_MAX);
    let hosts = hosts.map(|hosts| hosts.into_inner()).unwrap_or_default();
    let hosts = hosts.into_iter().filter_map(|text| host(check, text)).collect();
    let session_idle = check.duration(raw.session_idle, &limits::SESSION_IDLE);
    Some(Admin { listen: listen?, hosts, session_idle, tls })
}

/// A name without a port, in lower case; `None` only with a fault.
fn host(check: &mut Check<'_>, text: Text) -> Option<String> {
    let host = text.value.to_ascii_lowercase();
    if url::is_host(&host) {
        return Some(host);
    }
    let message = format!("{} is no name under which keyward could be reached", text.shown);
    check.fault(text.span, message, "write a host without a port, such as \"keys.example.com\"");
    None
}
