//! How an upstream is used, as names and values, to compare two of them.
//!
//! Never here: its endpoints.

use std::time::Duration;

use crate::config::{PairFiles, UpstreamTls};
use crate::upstream::settings::{
    Balance, Ejection, Health, Host, Limits, ProxyProtocol, Retries, Settings, WhenNoneIsUp,
};

/// Every setting of an upstream, by field. Each structure is taken apart by name, so that a field that is added
/// cannot be forgotten here.
pub(super) fn upstream_settings(
    settings: &Settings,
    tls: Option<&UpstreamTls>,
) -> Vec<(&'static str, String)> {
    let Settings {
        balance,
        host,
        proxy_protocol,
        http2,
        dns_refresh,
        when_none_is_up,
        slow_start,
        ejection,
        retries,
        health,
        limits,
    } = settings;
    let Limits { connections, pending, in_flight } = limits;
    let most = |most: &Option<usize>| most.map_or("none".to_owned(), |most| most.to_string());
    let Ejection { after, back_off, max_back_off } = ejection;
    let Retries { attempts, budget_percent, budget_min } = retries;
    let balance = match balance {
        Balance::RoundRobin => "round_robin",
        Balance::LeastRequest => "least_request",
        Balance::HashUser => "hash_user",
    };
    let host = match host {
        Host::Keep => "keep".to_owned(),
        Host::Endpoint => "endpoint".to_owned(),
        Host::Literal(host) => String::from_utf8_lossy(host.as_bytes()).into_owned(),
    };
    let proxy_protocol = match proxy_protocol {
        None => "none",
        Some(ProxyProtocol::V1) => "v1",
        Some(ProxyProtocol::V2) => "v2",
    };
    let when_none_is_up = match when_none_is_up {
        WhenNoneIsUp::Try => "try",
        WhenNoneIsUp::Refuse => "refuse",
    };
    let health = health.as_ref().map_or("none".to_owned(), |health| {
        let Health { path, interval, timeout, healthy_after, unhealthy_after } = health;
        let (interval, timeout) = (time(interval), time(timeout));
        format!("{path} every {interval} within {timeout}, back after {healthy_after}, out after {unhealthy_after}")
    });
    let mut all = vec![
        ("balance", balance.to_owned()),
        ("host", host),
        ("proxy_protocol", proxy_protocol.to_owned()),
        ("http2", http2.to_string()),
        ("dns_refresh", time(dns_refresh)),
        ("when_none_is_up", when_none_is_up.to_owned()),
        ("max_connections", most(connections)),
        ("max_pending", pending.to_string()),
        ("max_in_flight", most(in_flight)),
        ("slow_start", time(slow_start)),
        ("ejection.after", after.to_string()),
        ("ejection.back_off", time(back_off)),
        ("ejection.max_back_off", time(max_back_off)),
        ("retries.attempts", attempts.to_string()),
        ("retries.budget_percent", budget_percent.to_string()),
        ("retries.budget_min", budget_min.to_string()),
        ("health", health),
    ];
    all.extend(tls_settings(tls));
    all
}

fn tls_settings(tls: Option<&UpstreamTls>) -> [(&'static str, String); 3] {
    let none = || "none".to_owned();
    let Some(UpstreamTls { authorities, server_name, pair }) = tls else {
        return [("tls.ca", none()), ("tls.server_name", none()), ("tls.certificate", none())];
    };
    let ca = authorities.as_ref().map_or("the system's".to_owned(), |ca| ca.display().to_string());
    let pair = pair.as_ref().map_or_else(none, |PairFiles { certificate, private_key }| {
        format!("{} with {}", certificate.display(), private_key.display())
    });
    let server_name = server_name.clone().unwrap_or_else(|| "each endpoint's host".to_owned());
    [("tls.ca", ca), ("tls.server_name", server_name), ("tls.certificate", pair)]
}

fn time(time: &Duration) -> String {
    humantime::format_duration(*time).to_string()
}
