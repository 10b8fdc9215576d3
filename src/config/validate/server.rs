//! `[server]`: addresses, workers, whom to believe, timeouts and limits.
//!
//! `[server.tls]` is read by [`tls`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;

use ipnet::IpNet;

use super::tls;
use crate::config::check::{Check, Text};
use crate::config::limits::{self, Bounds};
use crate::config::raw::{self, Field, Given, Section, Table};
use crate::config::{Limits, Redirect, Server, Timeouts};

/// RFC 9110 §4.2.2.
const HTTPS_PORT: u16 = 443;

pub(super) fn server(check: &mut Check<'_>, section: Section<raw::Server>) -> Server {
    let raw = check.section("server", section);
    let listen = addresses(check, raw.listen, &[])
        .unwrap_or_else(|| vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))]);
    let tls = raw.tls.0.and_then(|given| tls::tls(check, "server.tls", given));
    let redirect = raw.redirect.0.and_then(|given| redirect(check, given, &listen, tls.is_some()));
    let trusted_proxies = trusted_proxies(check, raw.trusted_proxies);
    Server {
        listen,
        workers: workers(check, raw.workers),
        proxy_protocol: proxy_protocol(check, raw.proxy_protocol, &trusted_proxies),
        trusted_proxies,
        core_dumps: core_dumps(check, raw.core_dumps),
        tls,
        redirect,
        timeouts: timeouts(check, raw.timeouts),
        limits: limits(check, raw.limits),
    }
}

/// Addresses to listen on, none of which is among `others`; `None` when the field is missing or wrong.
fn addresses(
    check: &mut Check<'_>,
    field: Field<Vec<Given<String>>>,
    others: &[SocketAddr],
) -> Option<Vec<SocketAddr>> {
    let texts = check.some_texts(
        field,
        limits::LISTEN_MAX,
        "there is no address to listen on",
        "write [\"127.0.0.1:8080\"]",
    )?;
    let is_known =
        |ours: &[SocketAddr], address| ours.contains(&address) || others.contains(&address);
    let mut addresses = Vec::with_capacity(texts.get_ref().len());
    for text in texts.into_inner() {
        match address(check, &text) {
            Some(address) if address.port() != 0 && is_known(&addresses, address) => {
                let message = format!("{} is listed twice", text.shown);
                check.fault(text.span, message, "remove one of the two");
            }
            Some(address) => addresses.push(address),
            None => {}
        }
    }
    Some(addresses)
}

/// An address to listen on; `None` only with a fault.
pub(super) fn address(check: &mut Check<'_>, text: &Text) -> Option<SocketAddr> {
    let address = text.value.parse().ok();
    if address.is_none() {
        let message = format!("{} is no address to listen on", text.shown);
        check.fault(text.span.clone(), message, listen_help(text));
    }
    address
}

fn proxy_protocol(check: &mut Check<'_>, field: Field<bool>, trusted: &[IpNet]) -> bool {
    let Some(given) = check.field(field) else { return false };
    if *given.get_ref() && trusted.is_empty() {
        check.fault(
            given.span(),
            "nobody is trusted to send a PROXY header",
            "list the addresses of the balancers in trusted_proxies",
        );
    }
    given.into_inner()
}

fn core_dumps(check: &mut Check<'_>, field: Field<bool>) -> bool {
    let Some(given) = check.field(field) else { return false };
    if *given.get_ref() {
        check.warn(
            given.span(),
            "core dumps are allowed, and hold keys in clear",
            "remove this when the fault is found",
        );
    }
    given.into_inner()
}

/// `None` only with a fault.
fn redirect(
    check: &mut Check<'_>,
    given: Given<Table<raw::Redirect>>,
    others: &[SocketAddr],
    has_tls: bool,
) -> Option<Redirect> {
    let table = check.table("server.redirect", given)?;
    let span = table.span();
    let raw = table.into_inner();
    if !has_tls {
        let help = "write [server.tls] with a certificate and its private_key, or remove this";
        check.fault(span.clone(), "there is no https to redirect to", help);
    }
    if raw.listen.0.is_none() {
        let message = "it is not said where plain HTTP is to be redirected";
        check.fault(span, message, "write listen = [\"0.0.0.0:80\"]");
    }
    let listen = addresses(check, raw.listen, others);
    let port =
        check.number(raw.port, 1, u64::from(u16::MAX)).and_then(|port| u16::try_from(port).ok());
    Some(Redirect { listen: listen?, port: port.unwrap_or(HTTPS_PORT) })
}

/// What to write instead of the forms that other programs take.
fn listen_help(text: &Text) -> String {
    let general = "write an address and a port: \"127.0.0.1:8080\" or \"[::1]:8080\"".to_owned();
    if !text.is_literal() {
        return general;
    }
    let value = text.value.as_str();
    if let Ok(address) = value.parse::<IpAddr>() {
        return format!("add the port: \"{}\"", SocketAddr::new(address, 8080));
    }
    match value.rsplit_once(':').unwrap_or(("", value)) {
        ("" | "*", port) if port.parse::<u16>().is_ok() => format!(
            "write \"127.0.0.1:{port}\" for this machine only, or \"0.0.0.0:{port}\" or \"[::]:{port}\" for everybody"
        ),
        ("localhost", port) if port.parse::<u16>().is_ok() => format!("write \"127.0.0.1:{port}\""),
        _ => general,
    }
}

fn workers(check: &mut Check<'_>, field: Field<i64>) -> NonZeroUsize {
    check
        .number(field, 1, limits::WORKERS_MAX)
        .and_then(|workers| usize::try_from(workers).ok())
        .and_then(NonZeroUsize::new)
        .or_else(|| std::thread::available_parallelism().ok())
        .unwrap_or(NonZeroUsize::MIN)
}

fn trusted_proxies(check: &mut Check<'_>, field: Field<Vec<Given<String>>>) -> Vec<IpNet> {
    let Some(texts) = check.texts(field, limits::TRUSTED_PROXIES_MAX) else { return Vec::new() };
    let mut networks = Vec::with_capacity(texts.get_ref().len());
    for text in texts.into_inner() {
        let address = text.value.parse::<IpAddr>().map(IpNet::from);
        match address.or_else(|_| text.value.parse::<IpNet>()) {
            Ok(network) if network != network.trunc() => {
                let message = format!("{} has bits beyond its prefix", text.shown);
                let help = match text.is_literal() {
                    true => format!(
                        "write \"{}\" for the network, or \"{}\" for the one address",
                        network.trunc(),
                        network.addr()
                    ),
                    false => "write the network's first address".to_owned(),
                };
                check.fault(text.span, message, help);
            }
            Ok(network) => {
                if network.prefix_len() == 0 {
                    let message =
                        "everybody's Forwarded, X-Forwarded-* and x-request-id are believed";
                    check.warn(text.span, message, "name the networks of your own proxies");
                }
                networks.push(network);
            }
            Err(_) => {
                let message = format!("{} is no network", text.shown);
                check.fault(
                    text.span,
                    message,
                    "write \"10.0.0.0/8\", \"fd00::/8\" or one address",
                );
            }
        }
    }
    networks
}

fn timeouts(check: &mut Check<'_>, section: Section<raw::Timeouts>) -> Timeouts {
    let raw = check.section("server.timeouts", section);
    Timeouts {
        tls_handshake: check.duration(raw.tls_handshake, &limits::TLS_HANDSHAKE),
        request_header: check.duration(raw.request_header, &limits::REQUEST_HEADER),
        request_body_idle: check.duration(raw.request_body_idle, &limits::REQUEST_BODY_IDLE),
        response_body_idle: check.duration(raw.response_body_idle, &limits::RESPONSE_BODY_IDLE),
        keep_alive: check.duration(raw.keep_alive, &limits::KEEP_ALIVE),
        request: check.duration_within(raw.request, &limits::REQUEST),
        upstream_connect: check.duration(raw.upstream_connect, &limits::UPSTREAM_CONNECT),
        upstream_response: check.duration(raw.upstream_response, &limits::UPSTREAM_RESPONSE),
        upstream_body_idle: check.duration(raw.upstream_body_idle, &limits::UPSTREAM_BODY_IDLE),
        upstream_keep_alive: check.duration(raw.upstream_keep_alive, &limits::UPSTREAM_KEEP_ALIVE),
        tunnel_idle: check.duration(raw.tunnel_idle, &limits::TUNNEL_IDLE),
        shutdown: check.duration(raw.shutdown, &limits::SHUTDOWN),
        takeover: check.duration(raw.takeover, &limits::TAKEOVER),
    }
}

fn limits(check: &mut Check<'_>, section: Section<raw::Limits>) -> Limits {
    let raw = check.section("server.limits", section);
    let header = &limits::HEADER_BYTES;
    let header_bytes =
        check.size(raw.header_bytes, header.min, header.max).unwrap_or(header.default);
    Limits {
        connections: count(check, raw.connections, &limits::CONNECTIONS),
        connections_per_client: count(
            check,
            raw.connections_per_client,
            &limits::CONNECTIONS_PER_CLIENT,
        ),
        tunnels: count(check, raw.tunnels, &limits::TUNNELS),
        header_bytes: to_usize(header_bytes),
        headers: count(check, raw.headers, &limits::HEADERS),
        body_bytes: check.size(raw.body_bytes, 0, limits::BODY_BYTES_MAX),
        request_body_min_rate: min_rate(check, raw.request_body_min_rate),
        response_body_min_rate: min_rate(check, raw.response_body_min_rate),
        h2_streams: count(check, raw.h2_streams, &limits::H2_STREAMS) as u32,
        upstream_idle: count(check, raw.upstream_idle, &limits::UPSTREAM_IDLE),
    }
}

fn min_rate(check: &mut Check<'_>, field: Field<raw::Size>) -> u64 {
    let bounds = &limits::BODY_MIN_RATE;
    check.rate(field, bounds.min, bounds.max).unwrap_or(bounds.default)
}

fn count(check: &mut Check<'_>, field: Field<i64>, bounds: &Bounds<u64>) -> usize {
    to_usize(check.number(field, bounds.min, bounds.max).unwrap_or(bounds.default))
}

fn to_usize(value: u64) -> usize {
    usize::try_from(value).expect("every maximum of these fits in 32 bits")
}
