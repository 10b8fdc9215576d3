//! What the bench tells: a table on the standard output, all figures as JSON, and beside that file what a reader sees, a
//! page of tables and its plots.

use std::fmt;
use std::fs;

use serde_json::{Map, Value, json};

use crate::Series;
use crate::figures::{self, Figures, Row, Verdict};
use crate::peers::options::Options;
use crate::peers::{LOAD_CORE, PROXY_CORE, meter};
use crate::support::stats::Spread;
use crate::support::{Failure, machine, settings};
use crate::{markdown, plots};

const BENCH: &str = "end_to_end";

/// All cases, with what the contestants say of themselves.
pub(crate) struct Report {
    pub(crate) versions: Vec<(&'static str, String)>,
    pub(crate) rows: Vec<Row>,
    pub(crate) machine: Value,
}

impl Report {
    pub(crate) fn new(versions: Vec<(&'static str, String)>, series: &[Series]) -> Report {
        Report { versions, rows: figures::rows(series), machine: machine::describe() }
    }

    /// Writes all files, where figures are kept at all.
    pub(crate) fn keep(&self, options: &Options) -> Result<(), Failure> {
        settings::keep(BENCH, &self.to_json(options))?;
        let Some(path) = settings::path(BENCH) else { return Ok(()) };
        let stem = path.file_stem().unwrap_or_default().display();
        let mut pictures = Vec::new();
        for plot in plots::draw(&self.rows) {
            let file = format!("{stem}_{}.svg", plot.name);
            fs::write(path.with_file_name(&file), plot.svg)?;
            pictures.push((plot.title, file));
        }
        Ok(fs::write(path.with_extension("md"), markdown::page(self, options, &pictures))?)
    }

    /// Why the figures cannot be trusted, if others had too much of the machine in the worst round.
    pub(crate) fn warning(&self) -> Option<String> {
        let all = self.rows.iter().flat_map(|row| &row.figures);
        meter::warning(all.map(|figures| figures.others.max).fold(0.0, f64::max))
    }

    /// The figures and all that they depend on.
    fn to_json(&self, options: &Options) -> Value {
        let versions =
            self.versions.iter().map(|(name, version)| (name.to_string(), json!(version)));
        json!({
            "bench": BENCH,
            "machine": self.machine,
            "quiet_machine": self.warning().is_none(),
            "proxy_core": PROXY_CORE,
            "load_core": LOAD_CORE,
            "rounds": options.rounds,
            "seconds": options.duration.as_secs(),
            "contestants": versions.collect::<Map<_, _>>(),
            "cases": self.rows.iter().map(Row::to_json).collect::<Vec<Value>>(),
        })
    }
}

impl Row {
    fn to_json(&self) -> Value {
        let figures = self.figures.iter().map(|one| (one.name.to_owned(), one.to_json()));
        let case = &self.case;
        json!({
            "name": case.name,
            "what": case.what(),
            "protocol": case.protocol,
            "body_bytes": case.body_bytes,
            "connections": case.connections,
            "streams": case.protocol.streams(),
            "percent_of_the_slowest": case.percent,
            "keys": case.stage.keys,
            "access_logs": case.stage.logs,
            "workers": case.stage.workers,
            "contestants": figures.collect::<Map<_, _>>(),
            "targets": self.verdicts.iter().map(Verdict::to_json).collect::<Vec<Value>>(),
        })
    }
}

impl Figures {
    fn to_json(&self) -> Value {
        let cpu = self.cpu.as_ref();
        json!({
            "cpu_us_per_request": cpu.map(|cpu| cpu.us.to_json()),
            "cpu_in_relation_to_keyward": cpu.and_then(|cpu| cpu.to_keyward).map(Spread::to_json),
            "cores_busy": cpu.map(|cpu| cpu.busy.to_json()),
            "requests_per_second": self.rate.to_json(),
            "p50_us": self.p50_us.to_json(),
            "p99_us": self.p99_us.to_json(),
            "p999_us": self.p999_us.to_json(),
            "cores_taken_by_others": self.others.to_json(),
            "access_log_bytes_per_request": self.log_bytes.to_json(),
        })
    }
}

impl Verdict {
    fn to_json(&self) -> Value {
        json!({ "demand": self.demand(), "ratio": self.ratio.to_json(), "is_met": self.is_met })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for row in &self.rows {
            writeln!(f, "{}: {}", row.case.name, row.case.what())?;
            for figures in &row.figures {
                writeln!(f, "{figures}")?;
            }
            for verdict in &row.verdicts {
                let Spread { median, min, max } = verdict.ratio;
                let is_met = if verdict.is_met { "met" } else { "MISSED" };
                let demand = verdict.demand();
                writeln!(f, "  {demand}: {median:.2} ({min:.2}..{max:.2}), {is_met}")?;
            }
        }
        f.write_str(&self.warning().unwrap_or_default())
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cpu, busy) = match &self.cpu {
            Some(cpu) => {
                let Spread { median, min, max } = cpu.us;
                let busy = format!("{:.0} %", cpu.busy.median * 100.0);
                (format!("{median:.1} ({min:.1}..{max:.1})"), busy)
            }
            None => ("–".to_owned(), "–".to_owned()),
        };
        let [rate, p50, p99, p999] =
            [self.rate, self.p50_us, self.p99_us, self.p999_us].map(|spread| spread.median);
        let name = self.name;
        write!(f, "  {name:8} CPU {cpu:>24} µs, {busy:>5} busy, {rate:>7.0}/s, ")?;
        write!(f, "p50 {p50:>6.0}, p99 {p99:>6.0}, p99.9 {p999:>6.0} µs")
    }
}
