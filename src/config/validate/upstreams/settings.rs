//! How the endpoints of `[upstreams.NAME]` are used.
//!
//! Never here: the endpoints.

use std::ops::RangeInclusive;

use http::HeaderValue;
use serde_spanned::Spanned;

use super::url;
use crate::config::check::Check;
use crate::config::limits::{self, Bounds};
use crate::config::raw::{self, Field, Section};
use crate::upstream::settings::{
    Balance, Ejection, Health, Host, Limits, ProxyProtocol, Retries, Settings, WhenNoneIsUp,
};

/// The settings of the upstream `name`.
pub(super) fn settings(check: &mut Check<'_>, name: &str, fields: raw::Upstream) -> Settings {
    let limits = Limits {
        connections: most(check, fields.max_connections, limits::MAX_CONNECTIONS),
        pending: number(check, fields.max_pending, &limits::MAX_PENDING) as usize,
        in_flight: most(check, fields.max_in_flight, limits::MAX_IN_FLIGHT),
    };
    Settings {
        limits,
        balance: balance(check, fields.balance),
        host: host(check, fields.host),
        proxy_protocol: check.one_of(
            fields.proxy_protocol,
            None,
            &[("v1", Some(ProxyProtocol::V1)), ("v2", Some(ProxyProtocol::V2))],
        ),
        http2: check.field(fields.http2).is_some_and(Spanned::into_inner),
        dns_refresh: check.duration(fields.dns_refresh, &limits::DNS_REFRESH),
        when_none_is_up: check.one_of(
            fields.when_none_is_up,
            WhenNoneIsUp::default(),
            &[("try", WhenNoneIsUp::Try), ("refuse", WhenNoneIsUp::Refuse)],
        ),
        slow_start: check.duration(fields.slow_start, &limits::SLOW_START),
        ejection: ejection(check, name, fields.ejection),
        retries: retries(check, name, fields.retries),
        health: health(check, name, fields.health),
    }
}

fn balance(check: &mut Check<'_>, field: Field<String>) -> Balance {
    check.one_of(
        field,
        Balance::default(),
        &[
            ("round_robin", Balance::RoundRobin),
            ("least_request", Balance::LeastRequest),
            ("hash_user", Balance::HashUser),
        ],
    )
}

fn host(check: &mut Check<'_>, field: Field<String>) -> Host {
    let Some(text) = check.text(field) else { return Host::Keep };
    match text.value.as_str() {
        "keep" => Host::Keep,
        "endpoint" => Host::Endpoint,
        other => match HeaderValue::try_from(other) {
            Ok(host) if url::is_authority(other) => Host::Literal(host),
            _ => {
                let message = format!("{} cannot stand in Host", text.shown);
                let help = "write \"keep\", \"endpoint\", or a name such as \"app.example\"";
                check.fault(text.span, message, help);
                Host::Keep
            }
        },
    }
}

fn ejection(check: &mut Check<'_>, name: &str, section: Section<raw::Ejection>) -> Ejection {
    let raw = check.section(&format!("upstreams.{name}.ejection"), section);
    let after = number(check, raw.after, &limits::EJECTION_AFTER);
    let back_off = check.duration(raw.back_off, &limits::BACK_OFF);
    let given = raw.max_back_off.0.as_ref().map(|given| given.0.span());
    let max_back_off = check.duration(raw.max_back_off, &limits::MAX_BACK_OFF);
    if let Some(span) = given.filter(|_| max_back_off < back_off) {
        let help = format!(
            "write {} or more, or a shorter back_off",
            humantime::format_duration(back_off)
        );
        check.fault(span, "the longest back-off is shorter than the first", help);
    }
    Ejection { after, back_off, max_back_off: max_back_off.max(back_off) }
}

fn retries(check: &mut Check<'_>, name: &str, section: Section<raw::Retries>) -> Retries {
    let raw = check.section(&format!("upstreams.{name}.retries"), section);
    Retries {
        attempts: number(check, raw.attempts, &limits::ATTEMPTS),
        budget_percent: number(check, raw.budget_percent, &limits::BUDGET_PERCENT),
        budget_min: number(check, raw.budget_min, &limits::BUDGET_MIN),
    }
}

/// With the section, endpoints are checked; it has to say with what.
fn health(check: &mut Check<'_>, name: &str, section: Section<raw::Health>) -> Option<Health> {
    let table = check.table(&format!("upstreams.{name}.health"), section.0?)?;
    let (span, raw) = (table.span(), table.into_inner());
    if raw.path.0.is_none() {
        let message = "it is not said what the health checks ask for";
        check.fault(span, message, "write path = \"/health\"");
    }
    let path = check.text(raw.path).map(|text| {
        let prints = |byte: u8| byte.is_ascii_graphic() && byte != b'#';
        let is_path = text.value.starts_with('/') && text.value.bytes().all(prints);
        if !is_path || text.value.len() > limits::HEALTH_PATH_BYTES_MAX {
            let message = format!("{} cannot be asked for", text.shown);
            check.fault(text.span, message, "write a path such as \"/health\"");
        }
        text.value
    });
    Some(Health {
        path: path.unwrap_or_default(),
        interval: check.duration(raw.interval, &limits::HEALTH_INTERVAL),
        timeout: check.duration(raw.timeout, &limits::HEALTH_TIMEOUT),
        healthy_after: number(check, raw.healthy_after, &limits::HEALTHY_AFTER),
        unhealthy_after: number(check, raw.unhealthy_after, &limits::UNHEALTHY_AFTER),
    })
}

fn most(check: &mut Check<'_>, field: Field<i64>, range: RangeInclusive<u64>) -> Option<usize> {
    let number = check.number(field, *range.start(), *range.end())?;
    Some(usize::try_from(number).expect("every maximum of these fits in 32 bits"))
}

fn number(check: &mut Check<'_>, field: Field<i64>, bounds: &Bounds<u64>) -> u32 {
    let number = check.number(field, bounds.min, bounds.max).unwrap_or(bounds.default);
    u32::try_from(number).expect("every maximum of these fits in 32 bits")
}
