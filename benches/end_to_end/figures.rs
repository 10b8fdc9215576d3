//! What the samples say: medians over rounds, medians of ratios within a round, and whether keyward reaches what it is to.
//!
//! Never here: how any of it is shown.

use crate::cases::{Against, Case, Figure, Target};
use crate::peers::KEYWARD;
use crate::support::stats::Spread;
use crate::{Sample, Series};

/// One case.
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) figures: Vec<Figures>,
    pub(crate) verdicts: Vec<Verdict>,
}

/// One contestant's figures in one case.
pub(crate) struct Figures {
    pub(crate) name: &'static str,
    /// What a proxy costs; none without one.
    pub(crate) cpu: Option<Cpu>,
    /// Requests a second.
    pub(crate) rate: Spread,
    pub(crate) p50_us: Spread,
    pub(crate) p99_us: Spread,
    pub(crate) p999_us: Spread,
    /// Cores that processes which are none of ours had in the meantime.
    pub(crate) others: Spread,
    pub(crate) log_bytes: Spread,
}

/// What a proxy costs.
pub(crate) struct Cpu {
    /// Microseconds a request.
    pub(crate) us: Spread,
    /// The same in relation to keyward's of the same round.
    pub(crate) to_keyward: Option<Spread>,
    /// Cores that it was on: near 1 with one worker, the proxy is what limits the rate.
    pub(crate) busy: Spread,
}

/// How keyward does at one of its targets.
pub(crate) struct Verdict {
    pub(crate) figure: Figure,
    /// With whom it is compared, in words.
    pub(crate) against: String,
    /// Its figure in relation to the other's of the same round.
    pub(crate) ratio: Spread,
    pub(crate) limit: f64,
    pub(crate) is_met: bool,
}

/// The rows of all cases, in their order.
pub(crate) fn rows(all: &[Series]) -> Vec<Row> {
    let row = |one: &Series| {
        let figures = one.names.iter().enumerate();
        let figures = figures.filter_map(|(column, name)| figures_of(one, column, name));
        let verdicts = one.case.targets.iter().filter_map(|target| verdict(target, one, all));
        Row { case: one.case.clone(), figures: figures.collect(), verdicts: verdicts.collect() }
    };
    all.iter().map(row).collect()
}

fn figures_of(series: &Series, column: usize, name: &'static str) -> Option<Figures> {
    let of = |value: fn(&Sample) -> f64| {
        Spread::of(series.rounds.iter().map(|samples| value(&samples[column])))
    };
    let to_keyward = || {
        let ours = series.position(KEYWARD)?;
        let ratio = |samples: &Vec<Sample>| samples[column].cpu_us() / samples[ours].cpu_us();
        Spread::of(series.rounds.iter().map(ratio))
    };
    let us = of(Sample::cpu_us)?;
    let cpu = match us.max > 0.0 {
        true => Some(Cpu { us, to_keyward: to_keyward(), busy: of(Sample::busy)? }),
        false => None,
    };
    Some(Figures {
        name,
        cpu,
        rate: of(Sample::rate)?,
        p50_us: of(|sample| sample.outcome.p50_us as f64)?,
        p99_us: of(|sample| sample.outcome.p99_us as f64)?,
        p999_us: of(|sample| sample.outcome.p999_us as f64)?,
        others: of(|sample| sample.cost.others_cores)?,
        log_bytes: of(|sample| sample.cost.log_bytes as f64 / sample.outcome.requests as f64)?,
    })
}

/// `None` where the other was not measured.
fn verdict(target: &Target, series: &Series, all: &[Series]) -> Option<Verdict> {
    let Target { figure, limit, .. } = *target;
    let ours = series.position(KEYWARD)?;
    let (other, others, against) = match target.against {
        Against::Peers(names) => {
            let others = names.iter().filter_map(|name| series.position(name)).collect();
            let against = match names {
                [name] => (*name).to_owned(),
                _ => format!("the better of {}", names.join(" and ")),
            };
            (series, others, against)
        }
        Against::Case(name) => {
            let other = all.iter().find(|other| other.case.name == name)?;
            (other, vec![other.position(KEYWARD)?], format!("its own at {name}"))
        }
    };
    let best = if figure == Figure::Rate { f64::max } else { f64::min };
    let ratios = series.rounds.iter().zip(&other.rounds).filter_map(|(samples, theirs)| {
        let theirs = others.iter().map(|column: &usize| theirs[*column].figure(figure));
        Some(samples[ours].figure(figure) / theirs.reduce(best)?)
    });
    let ratio = Spread::of(ratios)?;
    let is_met = match figure {
        Figure::Rate => ratio.median >= limit,
        Figure::Cpu | Figure::P99 | Figure::P999 => ratio.median <= limit,
    };
    Some(Verdict { figure, against, ratio, limit, is_met })
}

impl Series {
    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|other| *other == name)
    }
}

impl Sample {
    fn cpu_us(&self) -> f64 {
        self.cost.cpu_ns as f64 / 1e3 / self.outcome.requests as f64
    }

    fn busy(&self) -> f64 {
        self.cost.cpu_ns as f64 / 1e3 / self.outcome.duration_us as f64
    }

    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        self.outcome.requests as f64 * 1e6 / self.outcome.duration_us as f64
    }

    fn figure(&self, figure: Figure) -> f64 {
        match figure {
            Figure::Cpu => self.cpu_us(),
            Figure::Rate => self.rate(),
            Figure::P99 => self.outcome.p99_us as f64,
            Figure::P999 => self.outcome.p999_us as f64,
        }
    }
}

impl Row {
    /// The figures of the one of this name, if it took part.
    pub(crate) fn of(&self, name: &str) -> Option<&Figures> {
        self.figures.iter().find(|figures| figures.name == name)
    }
}

impl Verdict {
    /// Which figure, and how it has to compare.
    pub(crate) fn demand(&self) -> String {
        let figure = match self.figure {
            Figure::Cpu => "CPU",
            Figure::Rate => "rate",
            Figure::P99 => "p99",
            Figure::P999 => "p99.9",
        };
        let relation = if self.figure == Figure::Rate { "≥" } else { "≤" };
        format!("{figure} {relation} {:.2} × {}", self.limit, self.against)
    }
}
