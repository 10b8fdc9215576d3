//! The settings of a configuration as names and values, to compare two of them.
//!
//! Never here: a secret, or what is no plain setting (roles, routes).

use std::fmt::Display;
use std::path::Path;
use std::time::Duration;

use crate::auth::credentials::{KeySource, Scheme};
use crate::config::{
    AccessLog, Admin, Audit, Auth, Config, Limits, Log, LogFormat, OnOverflow, Server, Timeouts,
    Tls, TlsVersion,
};
use crate::identity::IdentityHeaders;
use crate::limit::failures::Rule;

/// Every setting, by `[section] field`.
///
/// Each structure is taken apart by name, so that a field that is added cannot be forgotten here.
pub(super) fn settings(config: &Config) -> Vec<(&'static str, String)> {
    let Config {
        path: _,
        realm,
        server,
        keys,
        audit,
        auth,
        identity,
        roles: _,
        upstreams: _,
        routes: _,
        admin,
        log,
        metrics,
        warnings: _,
    } = config;
    let mut settings = vec![("realm", realm.clone())];
    settings.extend(server_settings(server));
    settings.extend([
        ("[keys] store", keys.store.display().to_string()),
        ("[keys] prefix", keys.prefix.as_str().to_owned()),
        ("[keys] usage", usage(keys.usage.path.as_deref())),
        ("[keys] usage_interval", humantime::format_duration(keys.usage.interval).to_string()),
        (PEPPER, if keys.pepper.is_some() { "set" } else { "not set" }.to_owned()),
    ]);
    let Audit { file } = audit;
    settings.push(("[audit] file", file.display().to_string()));
    let Auth { key_sources, hide_credentials, forward_preflight, failures } = auth;
    settings.extend([
        ("[auth] key_sources", list(key_sources.iter().map(key_source))),
        ("[auth] hide_credentials", hide_credentials.to_string()),
        ("[auth] preflight", if *forward_preflight { "forward" } else { "refuse" }.to_owned()),
        ("[auth] failures", failures.as_ref().map_or("off".to_owned(), failure_rule)),
    ]);
    let IdentityHeaders { user, role, key_id } = identity;
    settings.extend([
        ("[identity] user", user.to_string()),
        ("[identity] role", role.to_string()),
        ("[identity] key_id", key_id.to_string()),
    ]);
    settings.extend(admin_settings(admin.as_ref()));
    settings.extend(log_settings(log));
    settings.push(("[metrics] per_key", metrics.per_key.to_string()));
    settings
}

fn usage(path: Option<&Path>) -> String {
    path.map_or_else(|| "off".to_owned(), |path| path.display().to_string())
}

/// The setting whose value is a secret.
pub(super) const PEPPER: &str = "[keys] pepper";

fn server_settings(server: &Server) -> Vec<(&'static str, String)> {
    let Server {
        listen,
        workers,
        trusted_proxies,
        proxy_protocol,
        core_dumps,
        tls,
        redirect,
        timeouts,
        limits,
    } = server;
    let Timeouts {
        tls_handshake,
        request_header,
        request_body_idle,
        response_body_idle,
        keep_alive,
        request,
        upstream_connect,
        upstream_response,
        upstream_body_idle,
        upstream_keep_alive,
        tunnel_idle,
        shutdown,
        takeover,
    } = timeouts;
    let Limits {
        connections,
        connections_per_client,
        tunnels,
        header_bytes,
        headers,
        body_bytes,
        request_body_min_rate,
        response_body_min_rate,
        h2_streams,
        upstream_idle,
    } = limits;
    let time = |time: &Duration| humantime::format_duration(*time).to_string();
    let mut settings = vec![
        ("[server] listen", list(listen)),
        ("[server] workers", workers.to_string()),
        ("[server] trusted_proxies", list(trusted_proxies)),
        ("[server] proxy_protocol", proxy_protocol.to_string()),
        ("[server] core_dumps", core_dumps.to_string()),
        ("[server.redirect] listen", list(redirect.iter().flat_map(|redirect| &redirect.listen))),
        ("[server.redirect] port", list(redirect.iter().map(|redirect| redirect.port))),
        ("[server.timeouts] tls_handshake", time(tls_handshake)),
        ("[server.timeouts] request_header", time(request_header)),
        ("[server.timeouts] request_body_idle", time(request_body_idle)),
        ("[server.timeouts] response_body_idle", time(response_body_idle)),
        ("[server.timeouts] keep_alive", time(keep_alive)),
        ("[server.timeouts] request", request.as_ref().map_or("none".to_owned(), time)),
        ("[server.timeouts] upstream_connect", time(upstream_connect)),
        ("[server.timeouts] upstream_response", time(upstream_response)),
        ("[server.timeouts] upstream_body_idle", time(upstream_body_idle)),
        ("[server.timeouts] upstream_keep_alive", time(upstream_keep_alive)),
        ("[server.timeouts] tunnel_idle", time(tunnel_idle)),
        ("[server.timeouts] shutdown", time(shutdown)),
        ("[server.timeouts] takeover", time(takeover)),
        ("[server.limits] connections", connections.to_string()),
        ("[server.limits] connections_per_client", connections_per_client.to_string()),
        ("[server.limits] tunnels", tunnels.to_string()),
        ("[server.limits] header_bytes", header_bytes.to_string()),
        ("[server.limits] headers", headers.to_string()),
        ("[server.limits] body_bytes", body_bytes.map_or("none".to_owned(), |n| n.to_string())),
        ("[server.limits] request_body_min_rate", request_body_min_rate.to_string()),
        ("[server.limits] response_body_min_rate", response_body_min_rate.to_string()),
        ("[server.limits] h2_streams", h2_streams.to_string()),
        ("[server.limits] upstream_idle", upstream_idle.to_string()),
    ];
    let names = [
        "[server.tls] certificates",
        "[server.tls] client_ca",
        "[server.tls] client_certificates",
        "[server.tls] min_version",
    ];
    settings.extend(tls_settings(names, tls.as_ref()));
    settings
}

fn admin_settings(admin: Option<&Admin>) -> Vec<(&'static str, String)> {
    let tls = admin.and_then(|admin| {
        let Admin { listen: _, hosts: _, session_idle: _, tls } = admin;
        tls.as_ref()
    });
    let names = [
        "[admin.tls] certificates",
        "[admin.tls] client_ca",
        "[admin.tls] client_certificates",
        "[admin.tls] min_version",
    ];
    let mut settings = vec![
        ("[admin] listen", list(admin.map(|admin| admin.listen))),
        ("[admin] hosts", list(admin.iter().flat_map(|admin| &admin.hosts))),
        (
            "[admin] session_idle",
            list(admin.map(|admin| humantime::format_duration(admin.session_idle))),
        ),
    ];
    settings.extend(tls_settings(names, tls));
    settings
}

/// Named by `names`: certificates, authorities of clients, whether these are required, the oldest version.
fn tls_settings(names: [&'static str; 4], tls: Option<&Tls>) -> [(&'static str, String); 4] {
    let pairs = tls
        .iter()
        .flat_map(|tls| &tls.pairs)
        .map(|pair| format!("{} with {}", pair.certificate.display(), pair.private_key.display()));
    let clients = tls.and_then(|tls| tls.clients.as_ref());
    let required = clients.map(|clients| match clients.are_required {
        true => "required",
        false => "optional",
    });
    let min_version = tls.map(|tls| match tls.min_version {
        TlsVersion::V1_2 => "1.2",
        TlsVersion::V1_3 => "1.3",
    });
    let [certificates, client_ca, client_certificates, oldest] = names;
    [
        (certificates, list(pairs)),
        (client_ca, list(clients.map(|clients| clients.authorities.display()))),
        (client_certificates, list(required)),
        (oldest, list(min_version)),
    ]
}

fn log_settings(log: &Log) -> [(&'static str, String); 3] {
    let Log { access, format, on_overflow } = log;
    let access = match access {
        AccessLog::Off => "off".to_owned(),
        AccessLog::Stdout => "stdout".to_owned(),
        AccessLog::Stderr => "stderr".to_owned(),
        AccessLog::File(path) => path.display().to_string(),
    };
    let format = match format {
        LogFormat::Auto => "auto",
        LogFormat::Json => "json",
        LogFormat::Text => "text",
    };
    let on_overflow = match on_overflow {
        OnOverflow::Block => "block",
        OnOverflow::Drop => "drop",
    };
    [
        ("[log] access", access),
        ("[log] format", format.to_owned()),
        ("[log] on_overflow", on_overflow.to_owned()),
    ]
}

fn key_source(source: &KeySource) -> String {
    match source {
        KeySource::Header { name, scheme: Scheme::Bare } => name.to_string(),
        KeySource::Header { name, scheme: Scheme::Token(scheme) } => format!("{name}: {scheme}"),
        KeySource::Header { name, scheme: Scheme::Basic } => format!("{name}: Basic"),
        KeySource::Query(parameter) => format!("?{parameter}"),
    }
}

fn failure_rule(rule: &Rule) -> String {
    let Rule { limit, window, ban, addresses } = rule;
    let [window, ban] = [window, ban].map(|time| humantime::format_duration(*time).to_string());
    format!("limit = {limit}, window = {window}, ban = {ban}, addresses = {addresses}")
}

fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() { "none".to_owned() } else { values.join(", ") }
}
