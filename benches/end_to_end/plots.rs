//! Which plots there are: CPU in relation to keyward's, requests a second, and latencies at fixed rates.

use crate::cases::MAIN;
use crate::figures::{Figures, Row};
use crate::support::stats::Spread;
use crate::svg::{Bar, Chart, Group};

/// Bars beyond so many times keyward's CPU, and beyond such a latency, are cut off.
const RATIO_END: f64 = 4.0;
const LATENCY_END_MS: f64 = 20.0;

/// One of a contestant's latencies, in microseconds.
type Latency = fn(&Figures) -> Spread;

/// A picture.
pub(crate) struct Plot {
    /// The end of its file's name.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) svg: String,
}

/// All for which something was measured.
pub(crate) fn draw(rows: &[Row]) -> Vec<Plot> {
    [("cpu", cpu(rows)), ("rate", rate(rows)), ("latency", latency(rows))]
        .into_iter()
        .filter(|(_, chart)| !chart.groups.is_empty())
        .map(|(name, chart)| Plot { name, title: chart.title, svg: chart.to_svg() })
        .collect()
}

fn cpu(rows: &[Row]) -> Chart {
    let of = |figures: &Figures| figures.cpu.as_ref()?.to_keyward;
    let closed = rows.iter().filter(|row| row.case.is_plotted && row.case.percent.is_none());
    let groups = closed.filter_map(|row| group(row.case.what(), row, of)).collect();
    let title = "CPU a request in relation to keyward's; less is better";
    Chart { title, places: 2, end: Some(RATIO_END), groups }
}

fn rate(rows: &[Row]) -> Chart {
    let of = |figures: &Figures| Some(figures.rate);
    let main = rows.iter().filter(|row| row.case.name == MAIN);
    let groups = main.filter_map(|row| group(row.case.what(), row, of)).collect();
    Chart { title: "Requests a second on one core; more is better", places: 0, end: None, groups }
}

fn latency(rows: &[Row]) -> Chart {
    let of: [(&str, Latency); 3] = [
        ("p50", |figures| figures.p50_us),
        ("p99", |figures| figures.p99_us),
        ("p99.9", |figures| figures.p999_us),
    ];
    let mut groups = Vec::new();
    for row in rows {
        let Some(percent) = row.case.percent else { continue };
        for (name, us) in of {
            let label = format!("{name} at {percent} % of the slowest peer's rate");
            groups.extend(group(label, row, |figures| Some(in_ms(us(figures)))));
        }
    }
    Chart {
        title: "Latency at a fixed rate, ms; less is better",
        places: 2,
        end: Some(LATENCY_END_MS),
        groups,
    }
}

/// `None` if there is nothing of anybody.
fn group(label: String, row: &Row, value: impl Fn(&Figures) -> Option<Spread>) -> Option<Group> {
    let bar = |figures: &Figures| Some(Bar { name: figures.name, value: value(figures)? });
    let bars: Vec<Bar> = row.figures.iter().filter_map(bar).collect();
    (!bars.is_empty()).then_some(Group { label, bars })
}

fn in_ms(us: Spread) -> Spread {
    Spread { median: us.median / 1e3, min: us.min / 1e3, max: us.max / 1e3 }
}
