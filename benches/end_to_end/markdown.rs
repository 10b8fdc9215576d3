//! The figures as a page that a reader sees: what CPU a request takes and how many there are a second, each case a line;
//! latencies at a fixed rate; what keyward is to reach; and the plots.

use std::fmt::{self, Write as _};

use crate::cases::{ALL, MAIN, with_commas};
use crate::figures::{Figures, Row};
use crate::peers::options::Options;
use crate::report::Report;
use crate::support::stats::Spread;

/// The page, with pictures, each a title and a file beside it.
pub(crate) fn page(report: &Report, options: &Options, pictures: &[(&str, String)]) -> String {
    let mut text = String::new();
    write(&mut text, report, options, pictures).expect("a string takes all");
    text
}

fn write(
    to: &mut String,
    report: &Report,
    options: &Options,
    pictures: &[(&str, String)],
) -> fmt::Result {
    writeln!(to, "# From end to end\n")?;
    writeln!(
        to,
        "What `make bench` has measured. Written by the bench `end_to_end`: change nothing here.\n"
    )?;
    let rounds = options.rounds;
    let seconds = options.duration.as_secs();
    let [cpu, kernel, at] = ["cpu", "kernel", "measured_at"]
        .map(|name| report.machine[name].as_str().unwrap_or_default());
    writeln!(
        to,
        "{cpu}, Linux {kernel}, {at}; medians of {rounds} rounds of {seconds} s, lowest and highest in brackets.\n"
    )?;
    for (name, version) in &report.versions {
        writeln!(to, "- {name}: {version}")?;
    }
    if let Some(warning) = report.warning() {
        writeln!(to, "\n**{}**", warning.trim_end().replace('\n', " "))?;
    }
    for (title, file) in pictures {
        writeln!(to, "\n![{title}]({file})")?;
    }
    let is_closed = |row: &&Row| row.case.percent.is_none();
    let closed: Vec<&Row> = report.rows.iter().filter(is_closed).collect();
    writeln!(to, "\n## CPU a request, µs\n")?;
    table(to, &closed, |figures| figures.cpu.as_ref().map(|cpu| range(cpu.us)))?;
    writeln!(to, "\n## Requests a second, each asked when the last was answered\n")?;
    table(to, &closed, |figures| Some(range(figures.rate)))?;
    latencies(to, report)?;
    targets(to, report)
}

/// A line for each case, with what `cell` says of each contestant.
fn table(to: &mut String, rows: &[&Row], cell: impl Fn(&Figures) -> Option<String>) -> fmt::Result {
    let takes_part = |name: &&&str| rows.iter().any(|row| row.of(name).and_then(&cell).is_some());
    let names: Vec<&str> = ALL.iter().filter(takes_part).copied().collect();
    writeln!(to, "| | {} |", names.join(" | "))?;
    writeln!(to, "|---|{}", "---|".repeat(names.len()))?;
    for row in rows {
        write!(to, "| {} |", row.case.what())?;
        for name in &names {
            write!(to, " {} |", row.of(name).and_then(&cell).unwrap_or_else(|| "–".to_owned()))?;
        }
        writeln!(to)?;
    }
    Ok(())
}

/// Those of each contestant when it was saturated, and at fixed rates.
fn latencies(to: &mut String, report: &Report) -> fmt::Result {
    writeln!(to, "\n## Latency, ms\n")?;
    writeln!(
        to,
        "At a fixed rate a request's time begins when it is due, whether or not it could be sent then.\n"
    )?;
    writeln!(to, "| | | p50 | p99 | p99.9 |\n|---|---|---|---|---|")?;
    let is_one = |row: &&Row| row.case.percent.is_some() || row.case.name == MAIN;
    for row in report.rows.iter().filter(is_one) {
        let load = match row.case.percent {
            Some(percent) => format!("at {percent} % of the slowest peer's rate"),
            None => "saturated".to_owned(),
        };
        for figures in &row.figures {
            let [p50, p99, p999] = [figures.p50_us, figures.p99_us, figures.p999_us].map(ms);
            writeln!(to, "| {load} | {} | {p50} | {p99} | {p999} |", figures.name)?;
        }
    }
    Ok(())
}

fn targets(to: &mut String, report: &Report) -> fmt::Result {
    writeln!(to, "\n## What keyward is to reach\n")?;
    writeln!(to, "| | demanded | median of the ratios within a round | |\n|---|---|---|---|")?;
    for row in &report.rows {
        for verdict in &row.verdicts {
            let Spread { median, min, max } = verdict.ratio;
            let is_met = if verdict.is_met { "met" } else { "**missed**" };
            let (what, demand) = (row.case.what(), verdict.demand());
            writeln!(to, "| {what} | {demand} | {median:.2} ({min:.2}–{max:.2}) | {is_met} |")?;
        }
    }
    Ok(())
}

/// `median (min–max)`, with as many places as tell something.
fn range(spread: Spread) -> String {
    let [median, min, max] = [spread.median, spread.min, spread.max].map(|value| match value {
        ..100.0 => format!("{value:.1}"),
        _ => with_commas(value.round() as usize),
    });
    format!("{median} ({min}–{max})")
}

fn ms(us: Spread) -> String {
    let [median, min, max] = [us.median, us.min, us.max].map(|us| us / 1e3);
    format!("{median:.2} ({min:.2}–{max:.2})")
}
