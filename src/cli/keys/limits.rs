//! How many requests a key may send, as options.
//!
//! Never here: what a role says.

use clap::Args;

use crate::limit::requests::{COUNT, DAILY, LimitsChange, RATE_HELP, Rate, RequestLimits};

/// Those of a new key.
#[derive(Debug, Args)]
pub(super) struct Limited {
    /// How fast its requests may come, on average: 100/s, 30/m or 1000/h. As its role says, unless given.
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<Rate>,
    /// How many may come at once, after a silence. As many as come in a second, unless given.
    #[arg(long, value_name = "REQUESTS", value_parser = count, requires = "rate")]
    burst: Option<u32>,
    /// How many may be in flight. As its role says, unless given.
    #[arg(long, value_name = "REQUESTS", value_parser = count)]
    concurrent: Option<u32>,
    /// How many there may be in a day of UTC. As its role says, unless given.
    #[arg(long, value_name = "REQUESTS", value_parser = daily)]
    daily: Option<u64>,
}

impl Limited {
    pub(super) fn limits(&self) -> RequestLimits {
        let &Self { rate, burst, concurrent, daily } = self;
        RequestLimits { rate, burst, concurrent, daily }
    }
}

/// Those that a key is to have.
#[derive(Debug, Args)]
pub(super) struct Relimited {
    /// How fast its requests may come, on average: 100/s, 30/m or 1000/h; none: as its role says.
    #[arg(long, value_name = "RATE", value_parser = |text: &str| or_none(text, rate))]
    rate: Option<Given<Rate>>,
    /// How many may come at once, after a silence; none: as many as come in a second.
    #[arg(long, value_name = "REQUESTS", value_parser = |text: &str| or_none(text, count))]
    burst: Option<Given<u32>>,
    /// How many may be in flight; none: as its role says.
    #[arg(long, value_name = "REQUESTS", value_parser = |text: &str| or_none(text, count))]
    concurrent: Option<Given<u32>>,
    /// How many there may be in a day of UTC; none: as its role says.
    #[arg(long, value_name = "REQUESTS", value_parser = |text: &str| or_none(text, daily))]
    daily: Option<Given<u64>>,
}

impl Relimited {
    pub(super) fn change(&self) -> LimitsChange {
        LimitsChange {
            rate: self.rate.map(|given| given.0),
            burst: self.burst.map(|given| given.0),
            concurrent: self.concurrent.map(|given| given.0),
            daily: self.daily.map(|given| given.0),
        }
    }
}

/// A value, or the word that there shall be none.
#[derive(Clone, Copy, Debug)]
struct Given<T>(Option<T>);

fn or_none<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Given<T>, String> {
    match text {
        "none" => Ok(Given(None)),
        text => {
            parse(text).map(|value| Given(Some(value))).map_err(|help| format!("{help}, or none"))
        }
    }
}

fn rate(text: &str) -> Result<Rate, String> {
    Rate::parse(text).ok_or_else(|| RATE_HELP.replace('"', ""))
}

fn count(text: &str) -> Result<u32, String> {
    let count = text.parse().ok().filter(|&count: &u32| COUNT.contains(&count.into()));
    count.ok_or_else(|| format!("write a number from {} to {}", COUNT.start(), COUNT.end()))
}

fn daily(text: &str) -> Result<u64, String> {
    let daily = text.parse().ok().filter(|daily| DAILY.contains(daily));
    daily.ok_or_else(|| format!("write a number from {} to {}", DAILY.start(), DAILY.end()))
}
