//! A chart of bars as SVG, for light pages and dark ones. Each bar ends at a median; a thin line goes from the lowest value
//! to the highest.

use std::fmt::{self, Write as _};

use crate::cases::{ALL, with_commas};
use crate::support::stats::Spread;

const WIDTH: f64 = 880.0;
/// Where bars begin and may end; left of them stands whose they are, right of them how long.
const BARS_FROM: f64 = 90.0;
const BARS_TO: f64 = 760.0;
const LINE: f64 = 18.0;
const BAR: f64 = 12.0;
const MARGIN: f64 = 16.0;
/// Of the letters, from the middle of a line down to where they stand.
const DROP: f64 = 4.0;

/// Colours that can be told apart on white and on black, one for each contestant; keyward's is the strongest.
const COLOURS: [&str; 7] =
    ["#9a9a9a", "#6f6f6f", "#d9480f", "#2b8a3e", "#1971c2", "#9c36b5", "#0b7285"];

/// All bars on one scale, which begins at zero.
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    /// Behind the point.
    pub(crate) places: usize,
    /// Where the scale ends at the latest: longer bars are cut off there, and say how long they are.
    pub(crate) end: Option<f64>,
    pub(crate) groups: Vec<Group>,
}

/// Bars that belong together.
pub(crate) struct Group {
    pub(crate) label: String,
    pub(crate) bars: Vec<Bar>,
}

/// One contestant's.
pub(crate) struct Bar {
    pub(crate) name: &'static str,
    pub(crate) value: Spread,
}

impl Chart {
    pub(crate) fn to_svg(&self) -> String {
        let mut text = String::new();
        self.write(&mut text).expect("a string takes all");
        text
    }

    fn write(&self, to: &mut String) -> fmt::Result {
        let lines: usize = self.groups.iter().map(|group| group.bars.len() + 2).sum();
        let height = 2.0 * MARGIN + LINE * (lines + 1) as f64;
        writeln!(
            to,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">"
        )?;
        writeln!(to, "<title>{}</title>", escaped(self.title))?;
        writeln!(
            to,
            "<style>.page {{ fill: #ffffff }} text {{ fill: #1f2328 }} line {{ stroke: #1f2328 }} \
             @media (prefers-color-scheme: dark) {{ .page {{ fill: #0d1117 }} text {{ fill: #e6edf3 }} \
             line {{ stroke: #e6edf3 }} }}</style>"
        )?;
        writeln!(to, "<rect class=\"page\" width=\"100%\" height=\"100%\"/>")?;
        let mut y = MARGIN + LINE / 2.0;
        words(to, MARGIN, y, "start", " font-weight=\"bold\"", self.title)?;
        for group in &self.groups {
            y += 2.0 * LINE;
            words(to, MARGIN, y, "start", "", &group.label)?;
            for bar in &group.bars {
                y += LINE;
                self.bar(to, y, bar)?;
            }
        }
        writeln!(to, "</svg>")
    }

    fn bar(&self, to: &mut String, y: f64, bar: &Bar) -> fmt::Result {
        let Bar { name, value: Spread { median, min, max } } = *bar;
        let x = |value: f64| BARS_FROM + (BARS_TO - BARS_FROM) * (value / self.scale()).min(1.0);
        words(to, BARS_FROM - 8.0, y, "end", "", name)?;
        let colour = ALL.iter().zip(COLOURS).find(|(other, _)| **other == name);
        let colour = colour.map_or(COLOURS[0], |(_, colour)| colour);
        let (top, width) = (y - BAR / 2.0, x(median) - BARS_FROM);
        writeln!(
            to,
            "<rect x=\"{BARS_FROM}\" y=\"{top}\" width=\"{width:.1}\" height=\"{BAR}\" fill=\"{colour}\"/>"
        )?;
        let (from, until) = (x(min), x(max));
        writeln!(to, "<line x1=\"{from:.1}\" y1=\"{y}\" x2=\"{until:.1}\" y2=\"{y}\"/>")?;
        let cut = if median > self.scale() { "→ " } else { "" };
        let number = match self.places {
            0 => with_commas(median.round() as usize),
            places => format!("{median:.places$}"),
        };
        words(to, until + 8.0, y, "start", "", &format!("{cut}{number}"))
    }

    /// The value at the right end.
    fn scale(&self) -> f64 {
        let bars = self.groups.iter().flat_map(|group| &group.bars);
        let longest = bars.map(|bar| bar.value.max).fold(0.0, f64::max);
        self.end.map_or(longest, |end| longest.min(end))
    }
}

fn words(to: &mut String, x: f64, y: f64, anchor: &str, more: &str, text: &str) -> fmt::Result {
    let (y, text) = (y + DROP, escaped(text));
    writeln!(to, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"{anchor}\"{more}>{text}</text>")
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
