//! Where an endpoint is, read from `http://HOST[:PORT]`, `https://HOST[:PORT]` or `unix:PATH`.
//!
//! Never here: what else an endpoint may have.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::config::check::{Check, Text};
use crate::config::limits::{HOST_BYTES_MAX, SOCKET_PATH_BYTES_MAX};
use crate::upstream::settings::Address;

const HTTP_PORT: u16 = 80;
const HTTPS_PORT: u16 = 443;

/// Why a text is no endpoint. `Display` would hide which remedy fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    Scheme,
    Unix,
    UserInfo,
    Path,
    Host,
    Port,
}

/// Reads where an endpoint is; anything else is a fault.
pub(super) fn address(check: &mut Check<'_>, text: Text) -> Option<(Address, Text)> {
    let found = match text.value.strip_prefix("unix:") {
        Some(path) => socket(check, path),
        None => parse(&text.value),
    };
    match found {
        Ok(address) => Some((address, text)),
        Err(problem) => {
            refuse(check, text, problem);
            None
        }
    }
}

/// A socket's path, relative to the file's folder.
fn socket(check: &Check<'_>, path: &str) -> Result<Address, Problem> {
    let is_path = !path.is_empty() && !path.starts_with("//") && !path.contains('\0');
    let path = check.in_folder(path);
    let fits = path.as_os_str().len() <= SOCKET_PATH_BYTES_MAX;
    if is_path && fits { Ok(Address::Unix(path)) } else { Err(Problem::Unix) }
}

fn refuse(check: &mut Check<'_>, text: Text, problem: Problem) {
    let form = match parse(&format!("http://{}", text.value)) {
        Ok(_) if text.is_literal() => format!("write \"http://{}\"", text.value),
        _ => "write \"http://HOST\" or \"http://HOST:PORT\"".to_owned(),
    };
    let form = form.as_str();
    let (message, help) = match problem {
        // What is shown must not hold a password.
        Problem::UserInfo => ("an endpoint takes no user and password".to_owned(), form),
        Problem::Unix => (
            format!("{} names no Unix socket", text.shown),
            "write \"unix:/run/app.sock\", with a path of 107 bytes at most",
        ),
        Problem::Path => (
            format!("{} says more than host and port", text.shown),
            "end it behind the port: the client's path and query are forwarded as they are",
        ),
        Problem::Scheme => {
            (format!("{} does not begin with http:// or https://", text.shown), form)
        }
        Problem::Host => (format!("{} names no host", text.shown), form),
        Problem::Port => (format!("{} has no port from 1 to 65535", text.shown), form),
    };
    check.fault(text.span, message, help);
}

/// Whether `text` can stand in `Host`: `HOST[:PORT]`.
pub(super) fn is_authority(text: &str) -> bool {
    parse(&format!("http://{text}")).is_ok()
}

/// Whether `text` is a name or an address (IPv6 without brackets).
pub(in crate::config::validate) fn is_host(text: &str) -> bool {
    is_name_or_ipv4(text) || text.parse::<Ipv6Addr>().is_ok()
}

/// Reads `http://HOST[:PORT]`, with or without `s` (RFC 3986 §3.2 without user information).
fn parse(text: &str) -> Result<Address, Problem> {
    let (scheme, rest) = text.split_once("://").ok_or(match text.contains('@') {
        true => Problem::UserInfo,
        false if text.starts_with('/') => Problem::Unix,
        false => Problem::Scheme,
    })?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if rest.contains('@') {
        return Err(Problem::UserInfo);
    }
    let is_tls = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return Err(Problem::Scheme),
    };
    if authority.len() != rest.len() {
        return Err(Problem::Path);
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => {
            let (address, port) = literal.split_once(']').ok_or(Problem::Host)?;
            address.parse::<Ipv6Addr>().map_err(|_| Problem::Host)?;
            (address, port)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if !host.contains(':') && !is_name_or_ipv4(host) {
        return Err(Problem::Host);
    }
    let host = host.to_owned();
    Ok(match is_tls {
        false => Address::Tcp { host, port: parse_port(port, HTTP_PORT)? },
        true => Address::Tls { host, port: parse_port(port, HTTPS_PORT)? },
    })
}

/// `port` is empty, or a colon and a number.
fn parse_port(port: &str, default: u16) -> Result<u16, Problem> {
    if port.is_empty() {
        return Ok(default);
    }
    let digits = port.strip_prefix(':').ok_or(Problem::Host)?;
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    match digits.parse() {
        Ok(port) if is_number && port > 0 => Ok(port),
        _ => Err(Problem::Port),
    }
}

/// A name whose last label is a number would be taken for an IPv4 address by some, and by others not.
fn is_name_or_ipv4(host: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let is_numeric = match last.strip_prefix("0x").or_else(|| last.strip_prefix("0X")) {
        Some(hex) => hex.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => last.bytes().all(|byte| byte.is_ascii_digit()),
    };
    let is_name = host.len() <= HOST_BYTES_MAX
        && host.chars().all(allowed)
        && host.trim_end_matches('.').split('.').all(|label| !label.is_empty());
    is_name && (!is_numeric || host.parse::<Ipv4Addr>().is_ok())
}
