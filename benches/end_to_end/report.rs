//! What the samples say: medians over rounds and of ratios within a round, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::Sample;
use crate::contestants::RELAY;
use crate::load::Load;
use crate::peers::options::Options;
use crate::peers::{Contestant, KEYS, LOAD_CORE, NGINX, PROXY_CORE, meter};
use crate::support::machine;
use crate::support::stats::Spread;

/// One contestant's figures.
struct Row {
    name: &'static str,
    version: String,
    /// CPU microseconds a request; none without a proxy.
    cpu_us: Option<Spread>,
    /// Share of its core that the proxy was on: near 1, the proxy is what limits the rate.
    busy: Option<Spread>,
    /// Cores that processes which are none of ours had in the meantime.
    others: Spread,
    /// Requests a second.
    rate: Spread,
    p50_us: Spread,
    p99_us: Spread,
    /// CPU a request in relation to nginx's and to the relay's of the same round.
    to_nginx: Option<Spread>,
    to_relay: Option<Spread>,
    log_bytes: Spread,
}

/// All contestants' figures.
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// `rounds` hold a sample for each contestant, in their order.
    pub(crate) fn new(contestants: &[Contestant], rounds: &[Vec<Sample>]) -> Report {
        let position = |name| contestants.iter().position(|contestant| contestant.name == name);
        let (nginx, relay) = (position(NGINX), position(RELAY));
        let row = |(column, contestant): (usize, &Contestant)| {
            let over_rounds = |value: &dyn Fn(&[Sample]) -> f64| {
                Spread::of(rounds.iter().map(|samples| value(samples)))
            };
            let of_sample =
                |value: fn(&Sample) -> f64| over_rounds(&|samples| value(&samples[column]));
            let ratio_to = |other: Option<usize>| {
                let other = other?;
                over_rounds(&|samples| samples[column].cpu_us() / samples[other].cpu_us())
            };
            let proxy = contestant.child.is_some();
            Some(Row {
                name: contestant.name,
                version: contestant.version.clone(),
                cpu_us: of_sample(Sample::cpu_us).filter(|_| proxy),
                busy: of_sample(Sample::busy).filter(|_| proxy),
                others: of_sample(|sample| sample.cost.others_cores)?,
                rate: of_sample(Sample::rate)?,
                p50_us: of_sample(|sample| sample.outcome.p50_us as f64)?,
                p99_us: of_sample(|sample| sample.outcome.p99_us as f64)?,
                to_nginx: ratio_to(nginx).filter(|_| proxy),
                to_relay: ratio_to(relay).filter(|_| proxy),
                log_bytes: of_sample(|sample| {
                    sample.cost.log_bytes as f64 / sample.outcome.requests as f64
                })?,
            })
        };
        Report { rows: contestants.iter().enumerate().filter_map(row).collect() }
    }

    /// What others had of the machine in the worst round, in cores.
    fn most_by_others(&self) -> f64 {
        self.rows.iter().map(|row| row.others.max).fold(0.0, f64::max)
    }

    /// The figures and all that they depend on.
    pub(crate) fn to_json(&self, options: &Options, load: &Load) -> Value {
        json!({
            "bench": "end_to_end",
            "machine": machine::describe(),
            "quiet_machine": meter::warning(self.most_by_others()).is_none(),
            "keys": KEYS,
            "proxy_core": PROXY_CORE,
            "load_core": LOAD_CORE,
            "load": load.describe(),
            "rounds": options.rounds,
            "seconds": options.duration.as_secs(),
            "contestants": self.rows.iter().map(Row::to_json).collect::<Vec<Value>>(),
        })
    }
}

impl Sample {
    fn cpu_us(&self) -> f64 {
        self.cost.cpu_ns as f64 / 1e3 / self.outcome.requests as f64
    }

    fn busy(&self) -> f64 {
        self.cost.cpu_ns as f64 / 1e3 / self.outcome.duration_us as f64
    }

    fn rate(&self) -> f64 {
        self.outcome.requests as f64 * 1e6 / self.outcome.duration_us as f64
    }
}

impl Row {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "version": self.version,
            "cpu_us_per_request": self.cpu_us.map(Spread::to_json),
            "core_busy": self.busy.map(Spread::to_json),
            "cores_taken_by_others": self.others.to_json(),
            "requests_per_second": self.rate.to_json(),
            "p50_us": self.p50_us.to_json(),
            "p99_us": self.p99_us.to_json(),
            "ratio_to_nginx": self.to_nginx.map(Spread::to_json),
            "ratio_to_relay": self.to_relay.map(Spread::to_json),
            "access_log_bytes_per_request": self.log_bytes.to_json(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:8} {:>20} {:>20} {:>20} {:>8} {:>8} {:>8} {:>6}",
            "", "CPU µs/request", "× nginx", "× relay", "req/s", "p50 µs", "p99 µs", "busy"
        )?;
        for row in &self.rows {
            writeln!(
                f,
                "{:8} {:>20} {:>20} {:>20} {:>8.0} {:>8.0} {:>8.0} {:>6}",
                row.name,
                spread(row.cpu_us),
                spread(row.to_nginx),
                spread(row.to_relay),
                row.rate.median,
                row.p50_us.median,
                row.p99_us.median,
                row.busy
                    .map_or_else(|| "–".to_owned(), |busy| format!("{:.0}%", busy.median * 100.0)),
            )?;
        }
        f.write_str(&meter::warning(self.most_by_others()).unwrap_or_default())
    }
}

/// `median (min..max)`, or a dash.
fn spread(spread: Option<Spread>) -> String {
    match spread {
        Some(Spread { median, min, max }) => format!("{median:.2} ({min:.2}..{max:.2})"),
        None => "–".to_owned(),
    }
}
