//! What the samples say: medians over rounds and of ratios within a round, as a table and as JSON.

use std::fmt;

use serde_json::{Value, json};

use crate::cases::Case;
use crate::peers::options::Options;
use crate::peers::{Contestant, HAPROXY, KEYS, KEYWARD, LOAD_CORE, NGINX, PROXY_CORE, meter};
use crate::support::machine;
use crate::support::stats::Spread;
use crate::{Sample, Series};

/// In the order of the table.
const NAMES: [&str; 3] = [KEYWARD, NGINX, HAPROXY];

/// One contestant's figures in one case.
struct Figures {
    name: &'static str,
    /// CPU microseconds a request.
    cpu_us: Spread,
    /// Share of its core that the proxy was on: near 1, the proxy is what limits the rate.
    busy: Spread,
    /// Requests a second.
    rate: Spread,
    /// Cores that processes which are none of ours had in the meantime.
    others: Spread,
    log_bytes: Spread,
}

/// One case.
struct Row {
    case: Case,
    figures: Vec<Figures>,
    /// keyward's CPU a request in relation to that of others in the same round.
    to_nginx: Option<Spread>,
    to_haproxy: Option<Spread>,
    /// To whichever of them took less in that round.
    to_better: Option<Spread>,
}

/// All cases.
pub(crate) struct Report {
    versions: Vec<(&'static str, String)>,
    rows: Vec<Row>,
}

impl Report {
    /// `series` hold samples for each contestant, in their order.
    pub(crate) fn new(contestants: &[Contestant], series: &[Series]) -> Report {
        let versions = contestants.iter().map(|one| (one.name, one.version.clone())).collect();
        let position = |name| contestants.iter().position(|contestant| contestant.name == name);
        let row = |Series { case, rounds }: &Series| {
            let figures = contestants.iter().enumerate().filter_map(|(column, contestant)| {
                let of = |value: fn(&Sample) -> f64| {
                    Spread::of(rounds.iter().map(|samples| value(&samples[column])))
                };
                Some(Figures {
                    name: contestant.name,
                    cpu_us: of(Sample::cpu_us)?,
                    busy: of(Sample::busy)?,
                    rate: of(Sample::rate)?,
                    others: of(|sample| sample.cost.others_cores)?,
                    log_bytes: of(|sample| {
                        sample.cost.log_bytes as f64 / sample.outcome.requests as f64
                    })?,
                })
            });
            let ratio_to = |others: &[&'static str]| {
                let ours = position(KEYWARD)?;
                let others: Vec<usize> = others.iter().filter_map(|name| position(name)).collect();
                let ratio = |samples: &Vec<Sample>| {
                    let costs = others.iter().map(|other| samples[*other].cpu_us());
                    Some(samples[ours].cpu_us() / costs.reduce(f64::min)?)
                };
                Spread::of(rounds.iter().filter_map(ratio))
            };
            Row {
                case: *case,
                figures: figures.collect(),
                to_nginx: ratio_to(&[NGINX]),
                to_haproxy: ratio_to(&[HAPROXY]),
                to_better: ratio_to(&[NGINX, HAPROXY]),
            }
        };
        Report { versions, rows: series.iter().map(row).collect() }
    }

    /// What others had of the machine in the worst round, in cores.
    fn most_by_others(&self) -> f64 {
        let all = self.rows.iter().flat_map(|row| &row.figures);
        all.map(|figures| figures.others.max).fold(0.0, f64::max)
    }

    /// The figures and all that they depend on.
    pub(crate) fn to_json(&self, options: &Options) -> Value {
        let versions =
            self.versions.iter().map(|(name, version)| (name.to_string(), json!(version)));
        json!({
            "bench": "protocols",
            "machine": machine::describe(),
            "quiet_machine": meter::warning(self.most_by_others()).is_none(),
            "keys": KEYS,
            "proxy_core": PROXY_CORE,
            "load_core": LOAD_CORE,
            "connections": options.connections,
            "rounds": options.rounds,
            "seconds": options.duration.as_secs(),
            "contestants": versions.collect::<serde_json::Map<_, _>>(),
            "cases": self.rows.iter().map(|row| row.to_json(options)).collect::<Vec<Value>>(),
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
    fn to_json(&self, options: &Options) -> Value {
        let figures = self.figures.iter().map(|figures| {
            let of_one = json!({
                "cpu_us_per_request": figures.cpu_us.to_json(),
                "core_busy": figures.busy.to_json(),
                "requests_per_second": figures.rate.to_json(),
                "cores_taken_by_others": figures.others.to_json(),
                "access_log_bytes_per_request": figures.log_bytes.to_json(),
            });
            (figures.name.to_owned(), of_one)
        });
        json!({
            "name": self.case.name,
            "what": self.case.what,
            "connections": self.case.connections(options.connections),
            "contestants": figures.collect::<serde_json::Map<_, _>>(),
            "ratio_to_nginx": self.to_nginx.map(Spread::to_json),
            "ratio_to_haproxy": self.to_haproxy.map(Spread::to_json),
            "ratio_to_the_better": self.to_better.map(Spread::to_json),
            "target": self.case.target,
        })
    }

    fn cpu_us(&self, name: &str) -> String {
        let figures = self.figures.iter().find(|figures| figures.name == name);
        figures.map_or_else(dash, |figures| format!("{:.1}", figures.cpu_us.median))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:10} {:>29}  keyward in relation to", "", "CPU µs/request")?;
        write!(f, "{:10}", "")?;
        for name in NAMES {
            write!(f, " {name:>9}")?;
        }
        let others = ["nginx", "haproxy", "the better"];
        writeln!(f, " {:>18} {:>18} {:>18}  target", others[0], others[1], others[2])?;
        for row in &self.rows {
            write!(f, "{:10}", row.case.name)?;
            for name in NAMES {
                write!(f, " {:>9}", row.cpu_us(name))?;
            }
            for ratio in [row.to_nginx, row.to_haproxy, row.to_better] {
                write!(f, " {:>18}", spread(ratio))?;
            }
            let is_met = row.to_better.map(|ratio| ratio.median <= row.case.target);
            let verdict = is_met.map_or("", |is_met| if is_met { "met" } else { "missed" });
            writeln!(f, "  ≤ {:.2} {verdict}", row.case.target)?;
        }
        for row in &self.rows {
            writeln!(f, "{:10} {}", row.case.name, row.case.what)?;
        }
        f.write_str(&meter::warning(self.most_by_others()).unwrap_or_default())
    }
}

/// `median (min..max)`, or a dash.
fn spread(spread: Option<Spread>) -> String {
    spread.map_or_else(dash, |Spread { median, min, max }| {
        format!("{median:.2} ({min:.2}..{max:.2})")
    })
}

fn dash() -> String {
    "–".to_owned()
}
