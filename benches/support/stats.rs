//! Order statistics over the values of a bench's rounds. Knows nothing of what was measured.

use serde_json::{Value, json};

/// The middle and the ends of a set of values.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    /// The median: with an even count the mean of the middle two.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// Of values in any order; `None` of no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Spread> {
        let sorted = sorted(values);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Spread { median, min, max })
    }

    /// As a JSON object, rounded to four places.
    pub(crate) fn to_json(self) -> Value {
        let round = |value: f64| (value * 1e4).round() / 1e4;
        json!({ "median": round(self.median), "min": round(self.min), "max": round(self.max) })
    }
}

/// The values from the smallest to the largest.
pub(crate) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut sorted: Vec<f64> = values.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}
