//! What the samples say: medians over rounds, and of ratios within a round, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::cases::Flood;
use crate::client::RATE;
use crate::peers::{Contestant, KEYS, KEYWARD, LOAD_CORE, PROXY_CORE, meter};
use crate::support::machine;
use crate::support::stats::Spread;
use crate::{Sample, Series, Settings};

/// What keyward is to reach: the p99 in the flood in relation to that without it, and memory.
const RATIO_TARGET: f64 = 2.0;
const MEMORY_TARGET_MIB: f64 = 256.0;

/// One contestant's figures in one flood.
struct Figures {
    name: &'static str,
    quiet_p99_us: Spread,
    flood_p99_us: Spread,
    flood_max_us: Spread,
    /// Of the two p99 of a round.
    ratio: Spread,
    /// The same of requests without a proxy.
    direct_ratio: Spread,
    /// Legitimate requests in all rounds that were not answered as they should.
    failed: u64,
    memory_mib: Spread,
    busy: Spread,
    others: Spread,
    made: Spread,
    closed: Spread,
    pieces: Spread,
    bytes: Spread,
}

/// All floods.
pub(crate) struct Report {
    versions: Vec<(&'static str, String)>,
    rows: Vec<(Flood, Vec<Figures>)>,
}

impl Report {
    /// `series` hold samples for each contestant, in their order.
    pub(crate) fn new(contestants: &[Contestant], series: &[Series]) -> Report {
        let versions = contestants.iter().map(|one| (one.name, one.version.clone())).collect();
        let row = |Series { flood, rounds }: &Series| {
            let figures = contestants.iter().enumerate().filter_map(|(column, contestant)| {
                let of = |value: fn(&Sample) -> f64| {
                    Spread::of(rounds.iter().map(|samples| value(&samples[column])))
                };
                Some(Figures {
                    name: contestant.name,
                    quiet_p99_us: of(|sample| sample.quiet.proxied.p99_us)?,
                    flood_p99_us: of(|sample| sample.flooded.proxied.p99_us)?,
                    flood_max_us: of(|sample| sample.flooded.proxied.max_us)?,
                    ratio: of(|Sample { quiet, flooded, .. }| {
                        flooded.proxied.p99_us / quiet.proxied.p99_us
                    })?,
                    direct_ratio: of(|Sample { quiet, flooded, .. }| {
                        flooded.direct.p99_us / quiet.direct.p99_us
                    })?,
                    failed: rounds.iter().map(|samples| samples[column].failed()).sum(),
                    memory_mib: of(|sample| sample.memory_bytes as f64 / f64::from(1 << 20))?,
                    busy: of(|sample| sample.busy)?,
                    others: of(|sample| sample.others_cores)?,
                    made: of(|sample| sample.hostile.made as f64)?,
                    closed: of(|sample| sample.hostile.closed as f64)?,
                    pieces: of(|sample| sample.hostile.pieces as f64)?,
                    bytes: of(|sample| sample.hostile.bytes as f64)?,
                })
            });
            (*flood, figures.collect())
        };
        Report { versions, rows: series.iter().map(row).collect() }
    }

    /// What others had of the machine in the worst round, in cores.
    fn most_by_others(&self) -> f64 {
        let all = self.rows.iter().flat_map(|(_, figures)| figures);
        all.map(|figures| figures.others.max).fold(0.0, f64::max)
    }

    /// The figures and all that they depend on.
    pub(crate) fn to_json(&self, settings: &Settings) -> Value {
        let versions =
            self.versions.iter().map(|(name, version)| (name.to_string(), json!(version)));
        let row = |(flood, figures): &(Flood, Vec<Figures>)| {
            let figures = figures.iter().map(|one| (one.name.to_owned(), one.to_json()));
            json!({
                "name": flood.name,
                "what": flood.what,
                "hostile_connections": settings.connections * flood.times,
                "contestants": figures.collect::<serde_json::Map<_, _>>(),
            })
        };
        json!({
            "bench": "floods",
            "machine": machine::describe(),
            "keys": KEYS,
            "proxy_core": PROXY_CORE,
            "load_core": LOAD_CORE,
            "legitimate_requests_per_second": RATE,
            "rounds": settings.rounds,
            "seconds": settings.duration.as_secs_f64(),
            "ratio_target": RATIO_TARGET,
            "memory_target_mib": MEMORY_TARGET_MIB,
            "contestants": versions.collect::<serde_json::Map<_, _>>(),
            "floods": self.rows.iter().map(row).collect::<Vec<Value>>(),
        })
    }
}

impl Figures {
    fn to_json(&self) -> Value {
        json!({
            "p99_quiet_us": self.quiet_p99_us.to_json(),
            "p99_flooded_us": self.flood_p99_us.to_json(),
            "max_flooded_us": self.flood_max_us.to_json(),
            "ratio_of_p99": self.ratio.to_json(),
            "ratio_of_p99_without_a_proxy": self.direct_ratio.to_json(),
            "legitimate_requests_failed": self.failed,
            "peak_memory_mib": self.memory_mib.to_json(),
            "core_busy": self.busy.to_json(),
            "cores_taken_by_others": self.others.to_json(),
            "hostile_connections_made": self.made.to_json(),
            "hostile_connections_closed_by_the_proxy": self.closed.to_json(),
            "hostile_pieces_sent": self.pieces.to_json(),
            "hostile_bytes_sent": self.bytes.to_json(),
        })
    }

    fn is_met(&self) -> bool {
        let is_fast = self.ratio.median <= RATIO_TARGET;
        is_fast && self.failed == 0 && self.memory_mib.max <= MEMORY_TARGET_MIB
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:16} {:8} {:>22} {:>20} {:>7} {:>7} {:>7} {:>5} {:>8} {:>8} {:>9}",
            "",
            "",
            "p99 in µs, quiet, flood",
            "ratio",
            "direct",
            "failed",
            "MiB",
            "busy",
            "made",
            "closed",
            "pieces"
        )?;
        for (flood, figures) in &self.rows {
            for one in figures {
                let Spread { median, min, max } = one.ratio;
                let verdict = match (one.name, one.is_met()) {
                    (KEYWARD, true) => "  met",
                    (KEYWARD, false) => "  MISSED",
                    _ => "",
                };
                writeln!(
                    f,
                    "{:16} {:8} {:>10.0} {:>11.0} {:>20} {:>7.2} {:>7} {:>7.0} {:>5.2} {:>8.0} {:>8.0} {:>9.0}{verdict}",
                    flood.name,
                    one.name,
                    one.quiet_p99_us.median,
                    one.flood_p99_us.median,
                    format!("{median:.2} ({min:.2}..{max:.2})"),
                    one.direct_ratio.median,
                    one.failed,
                    one.memory_mib.max,
                    one.busy.median,
                    one.made.median,
                    one.closed.median,
                    one.pieces.median,
                )?;
            }
        }
        writeln!(
            f,
            "keyward's target: a ratio of {RATIO_TARGET} at most, no failed request, {MEMORY_TARGET_MIB} MiB at most.\n\
             direct: the same ratio of requests that go to the upstream without a proxy."
        )?;
        for (flood, _) in &self.rows {
            writeln!(f, "{:16} {}", flood.name, flood.what)?;
        }
        f.write_str(&meter::warning(self.most_by_others()).unwrap_or_default())
    }
}
