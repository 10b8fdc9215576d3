//! The text that Prometheus reads (exposition format 0.0.4).
//!
//! By hand: prometheus-client counts in shared atomics, which we have not, and writes OpenMetrics, in which a counter has
//! another name than its family. What is left of the format is a page of code.
//!
//! Never here: what is measured.

use std::fmt::{self, Display, Formatter, Write as _};

use super::{BUCKETS_US, Histogram};

/// A page of metrics, written family by family.
#[derive(Debug, Default)]
pub struct Page(String);

/// The samples of one family.
#[derive(Debug)]
pub struct Family<'a> {
    page: &'a mut String,
    name: &'static str,
}

/// Names with values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// What only grows; its name ends in `_total`.
    pub fn counter(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_total"), "{name}");
        self.family(name, "counter", help)
    }

    /// What goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// Durations in seconds; its name ends in `_seconds`.
    pub fn histogram(&mut self, name: &'static str, help: &str) -> Family<'_> {
        debug_assert!(name.ends_with("_seconds"), "{name}");
        self.family(name, "histogram", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family { page: &mut self.0, name }
    }

    /// All of it.
    pub fn into_text(self) -> String {
        self.0
    }
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, None, value);
    }

    /// The samples of one histogram.
    pub fn durations(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let mut count = 0;
        for (&end, more) in BUCKETS_US.iter().zip(histogram.buckets) {
            count += more;
            self.line("_bucket", labels, Some(&seconds(end)), count);
        }
        count += histogram.longer;
        self.line("_bucket", labels, Some("+Inf"), count);
        self.line("_sum", labels, None, seconds(histogram.sum_us));
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, part: &str, labels: Labels<'_>, end: Option<&str>, value: impl Display) {
        let labels = AllLabels(labels, end);
        writeln!(self.page, "{}{part}{labels} {value}", self.name).expect("a String takes all");
    }
}

/// Microseconds as seconds.
fn seconds(micros: u64) -> String {
    (micros as f64 / 1e6).to_string()
}

struct AllLabels<'a>(Labels<'a>, Option<&'a str>);

impl Display for AllLabels<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let all = self.0.iter().copied().chain(self.1.map(|end| ("le", end)));
        let mut separator = '{';
        for (name, value) in all {
            write!(f, "{separator}{name}=\"")?;
            for c in value.chars() {
                match c {
                    '\\' => f.write_str("\\\\")?,
                    '"' => f.write_str("\\\"")?,
                    '\n' => f.write_str("\\n")?,
                    c => f.write_char(c)?,
                }
            }
            f.write_char('"')?;
            separator = ',';
        }
        if separator == ',' { f.write_char('}') } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let mut page = Page::default();
        page.gauge("keyward_up", "Whether it is.").sample(&[], 1);
        let labels = [("route", "/a\\\"b\n"), ("status", "2xx")];
        page.counter("keyward_requests_total", "Requests.").sample(&labels, 7);
        let mut histogram = Histogram::default();
        for micros in [400, 500, 501, 61_000_000] {
            histogram.add(micros);
        }
        page.histogram("keyward_wait_seconds", "Waits.").durations(&[("route", "/")], &histogram);
        let text = page.into_text();
        let mut lines = text.lines();
        let mut next = || lines.next().unwrap_or_default();
        assert_eq!(next(), "# HELP keyward_up Whether it is.");
        assert_eq!(next(), "# TYPE keyward_up gauge");
        assert_eq!(next(), "keyward_up 1");
        assert_eq!(next(), "# HELP keyward_requests_total Requests.");
        assert_eq!(next(), "# TYPE keyward_requests_total counter");
        assert_eq!(next(), r#"keyward_requests_total{route="/a\\\"b\n",status="2xx"} 7"#);
        assert_eq!(next(), "# HELP keyward_wait_seconds Waits.");
        assert_eq!(next(), "# TYPE keyward_wait_seconds histogram");
        assert_eq!(next(), r#"keyward_wait_seconds_bucket{route="/",le="0.0005"} 2"#);
        assert_eq!(next(), r#"keyward_wait_seconds_bucket{route="/",le="0.001"} 3"#);
        let rest: Vec<_> = lines.collect();
        assert_eq!(rest.len(), BUCKETS_US.len() - 2 + 3);
        assert_eq!(
            rest[rest.len() - 4..],
            [
                r#"keyward_wait_seconds_bucket{route="/",le="60"} 3"#,
                r#"keyward_wait_seconds_bucket{route="/",le="+Inf"} 4"#,
                r#"keyward_wait_seconds_sum{route="/"} 61.001401"#,
                r#"keyward_wait_seconds_count{route="/"} 4"#,
            ]
        );
    }
}
