//! The smallest, largest and default value of everything that is a number, in one table.
//!
//! Never here: what is limited, or how.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::limit::failures;

/// What a setting may be, ends included.
pub(super) struct Bounds<T> {
    pub(super) default: T,
    pub(super) min: T,
    pub(super) max: T,
}

const fn bounds<T>(default: T, min: T, max: T) -> Bounds<T> {
    Bounds { default, min, max }
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const fn s(s: u64) -> Duration {
    Duration::from_secs(s)
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
const HOUR_S: u64 = 60 * 60;
const DAY_S: u64 = 24 * HOUR_S;

// Timeouts. Below 10 ms a busy machine alone would run into them.
pub(super) const TLS_HANDSHAKE: Bounds<Duration> = bounds(s(10), ms(10), s(5 * 60));
pub(super) const REQUEST_HEADER: Bounds<Duration> = bounds(s(10), ms(10), s(10 * 60));
pub(super) const REQUEST_BODY_IDLE: Bounds<Duration> = bounds(s(30), ms(10), s(HOUR_S));
pub(super) const RESPONSE_BODY_IDLE: Bounds<Duration> = bounds(s(60), ms(10), s(HOUR_S));
pub(super) const KEEP_ALIVE: Bounds<Duration> = bounds(s(75), ms(10), s(DAY_S));
pub(super) const UPSTREAM_CONNECT: Bounds<Duration> = bounds(s(5), ms(10), s(5 * 60));
pub(super) const UPSTREAM_RESPONSE: Bounds<Duration> = bounds(s(60), ms(10), s(DAY_S));
/// Event streams are silent between events.
pub(super) const UPSTREAM_BODY_IDLE: Bounds<Duration> = bounds(s(5 * 60), ms(10), s(DAY_S));
pub(super) const UPSTREAM_KEEP_ALIVE: Bounds<Duration> = bounds(s(60), ms(10), s(DAY_S));
pub(super) const TUNNEL_IDLE: Bounds<Duration> = bounds(s(10 * 60), ms(10), s(DAY_S));
/// How much a power failure or a `kill -9` may take.
pub(super) const USAGE_INTERVAL: Bounds<Duration> = bounds(s(30), s(1), s(HOUR_S));
/// A desk that is left for lunch is locked.
pub(super) const SESSION_IDLE: Bounds<Duration> = bounds(s(30 * 60), s(1), s(12 * HOUR_S));
/// How many somebody with a wrong clipboard, or a script with an old key, may need.
pub(super) const FAILURES: Bounds<u64> = bounds(20, 1, 1_000_000);
pub(super) const FAILURE_WINDOW: Bounds<Duration> = bounds(s(60), s(1), s(DAY_S));
pub(super) const FAILURE_BAN: Bounds<Duration> = bounds(s(5 * 60), s(1), s(7 * DAY_S));
/// 1.5 MiB; a million take 24 MB.
pub(super) const FAILURE_ADDRESSES: Bounds<u64> =
    bounds(65_536, failures::ADDRESSES_MIN as u64, 1_000_000);
/// Without a default: downloads and event streams may take for ever.
pub(super) const REQUEST: RangeInclusive<Duration> = ms(10)..=s(7 * DAY_S);
/// Nothing at all is a choice here: cut at once.
pub(super) const SHUTDOWN: Bounds<Duration> = bounds(s(30), s(0), s(HOUR_S));
/// Long downloads and streams end by themselves, but not all of them.
pub(super) const TAKEOVER: Bounds<Duration> = bounds(s(10 * 60), s(0), s(7 * DAY_S));

// Limits.
pub(super) const CONNECTIONS: Bounds<u64> = bounds(16_384, 1, 1_000_000);
pub(super) const CONNECTIONS_PER_CLIENT: Bounds<u64> = bounds(1_024, 1, 1_000_000);
/// A quarter of the connections: tunnels stay for hours, and must leave room for requests.
pub(super) const TUNNELS: Bounds<u64> = bounds(4_096, 1, 1_000_000);
/// The parser's smallest buffer; and what one connection may make us hold.
pub(super) const HEADER_BYTES: Bounds<u64> = bounds(32 * KIB, 8 * KIB, MIB);
/// A browser sends about 20.
pub(super) const HEADERS: Bounds<u64> = bounds(100, 16, 1_000);
/// What TOML can write.
pub(super) const BODY_BYTES_MAX: u64 = i64::MAX.cast_unsigned();
/// What Apache's mod_reqtimeout takes; a modem of 1990 is faster. 0 is no limit.
pub(super) const BODY_MIN_RATE: Bounds<u64> = bounds(500, 0, 1024 * MIB);
/// The least that RFC 9113 §6.5.2 advises is the default: a page loads at once, and each stream costs memory.
pub(super) const H2_STREAMS: Bounds<u64> = bounds(100, 1, 10_000);
pub(super) const UPSTREAM_IDLE: Bounds<u64> = bounds(256, 0, 65_536);
/// Beyond a hundredfold, a server wants an upstream of its own.
pub(super) const WEIGHT: Bounds<u64> = bounds(1, 1, 100);
pub(super) const DNS_REFRESH: Bounds<Duration> = bounds(s(30), s(1), s(DAY_S));
/// Without a default: there is no limit.
pub(super) const MAX_CONNECTIONS: RangeInclusive<u64> = 1..=1_000_000;
pub(super) const MAX_IN_FLIGHT: RangeInclusive<u64> = 1..=1_000_000;
pub(super) const MAX_PENDING: Bounds<u64> = bounds(100, 0, 1_000_000);
/// Nothing at all is a choice here.
pub(super) const SLOW_START: Bounds<Duration> = bounds(s(10), s(0), s(10 * 60));
/// 0 is never.
pub(super) const EJECTION_AFTER: Bounds<u64> = bounds(5, 0, 1_000);
pub(super) const BACK_OFF: Bounds<Duration> = bounds(s(1), ms(10), s(HOUR_S));
pub(super) const MAX_BACK_OFF: Bounds<Duration> = bounds(s(60), ms(10), s(HOUR_S));
pub(super) const ATTEMPTS: Bounds<u64> = bounds(3, 1, 10);
pub(super) const BUDGET_PERCENT: Bounds<u64> = bounds(20, 0, 100);
pub(super) const BUDGET_MIN: Bounds<u64> = bounds(10, 0, 1_000_000);
pub(super) const HEALTH_INTERVAL: Bounds<Duration> = bounds(s(5), ms(10), s(HOUR_S));
pub(super) const HEALTH_TIMEOUT: Bounds<Duration> = bounds(s(2), ms(10), s(5 * 60));
pub(super) const HEALTHY_AFTER: Bounds<u64> = bounds(2, 1, 100);
pub(super) const UNHEALTHY_AFTER: Bounds<u64> = bounds(3, 1, 100);
/// The default is the cores this process may use.
pub(super) const WORKERS_MAX: u64 = 1_024;

// How long lists and texts may be: beyond it, something wrote the file by mistake.
pub(super) const FILE_BYTES_MAX: u64 = 4 * MIB;
pub(super) const REALM_BYTES_MAX: usize = 128;
pub(super) const LISTEN_MAX: usize = 64;
pub(super) const ADMIN_HOSTS_MAX: usize = 64;
pub(super) const TRUSTED_PROXIES_MAX: usize = 1_024;
/// Beside the default pair.
pub(super) const CERTIFICATES_MAX: usize = 1_024;
pub(super) const KEY_SOURCES_MAX: usize = 16;
pub(super) const UPSTREAMS_MAX: usize = 256;
pub(super) const ENDPOINTS_MAX: usize = 256;
pub(super) const ROUTES_MAX: usize = 10_000;
pub(super) const CLIENT_SUBJECTS_MAX: usize = 256;
pub(super) const UPGRADES_MAX: usize = 16;
pub(super) const HEALTH_PATH_BYTES_MAX: usize = 1_024;
/// unix(7): what fits into an address, with a zero behind it.
pub(super) const SOCKET_PATH_BYTES_MAX: usize = 107;
/// RFC 1035 §2.3.4.
pub(super) const HOST_BYTES_MAX: usize = 253;
