//! Faults in a file, shown where they are: file, line, column, a caret under the value, and a remedy.
//!
//! Never here: what is right or wrong in a file; the readers of the configuration and the key file know.
//! A fault's texts must never quote key material.

use std::fmt::{self, Display, Formatter};
use std::ops::Range;
use std::path::PathBuf;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// A file's name and text, for faults to point into.
///
/// The lines that faults are about are shown: who builds a report blanks out secrets in `text` first.
#[derive(Clone, Debug)]
pub struct Source {
    /// The name that is shown.
    pub path: PathBuf,
    /// Its whole text, as it was read.
    pub text: String,
}

/// One thing that is wrong (or, in a warning, hardly meant).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The bytes of the source it is about; `None` for the file as a whole (unreadable, say).
    pub span: Option<Range<usize>>,
    /// What is wrong, one sentence without a full stop.
    pub message: String,
    /// What to write instead or to do.
    pub help: Option<String>,
}

impl Fault {
    /// A fault of the bytes in `span`.
    pub fn at(span: Range<usize>, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into(), help: None }
    }

    /// A fault of the file as a whole.
    pub fn whole(message: impl Into<String>) -> Self {
        Self { span: None, message: message.into(), help: None }
    }

    /// The same fault with a remedy.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Whether a report stops a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Every fault found in one or more files.
///
/// `Display` is [`Report::render`] without colour.
#[derive(Clone, Debug, Default)]
pub struct Report {
    entries: Vec<(Severity, Source, Vec<Fault>)>,
}

impl Report {
    /// Faults that stop a load. Without any, the report is empty.
    pub fn error(source: Source, faults: Vec<Fault>) -> Self {
        Self::new(Severity::Error, source, faults)
    }

    /// Faults that do not stop a load. Without any, the report is empty.
    pub fn warning(source: Source, faults: Vec<Fault>) -> Self {
        Self::new(Severity::Warning, source, faults)
    }

    fn new(severity: Severity, source: Source, mut faults: Vec<Fault>) -> Self {
        if faults.is_empty() {
            return Self::default();
        }
        faults.sort_by_key(|fault| fault.span.as_ref().map(|span| span.start));
        Self { entries: vec![(severity, source, faults)] }
    }

    /// Appends what `other` found.
    pub fn merge(&mut self, other: Self) {
        self.entries.extend(other.entries);
    }

    /// Whether something in it stops a load.
    pub fn has_errors(&self) -> bool {
        self.entries.iter().any(|(severity, ..)| *severity == Severity::Error)
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// For people: each fault with its line of the file and a caret, in colour if asked for.
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let mut text = String::new();
        for (severity, source, faults) in &self.entries {
            for fault in faults {
                let group = group(*severity, source, fault);
                text.push_str(renderer.render(&[group]).trim_end());
                text.push_str("\n\n");
            }
        }
        text.truncate(text.trim_end().len());
        if !text.is_empty() {
            text.push('\n');
        }
        text
    }

    /// For the log: `path:line:column: message; help`, one line a fault, lines and columns from 1.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.entries.iter().flat_map(|(severity, source, faults)| {
            faults.iter().map(move |fault| line(*severity, source, fault))
        })
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Report {}

fn group<'a>(severity: Severity, source: &'a Source, fault: &'a Fault) -> Group<'a> {
    let level = match severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let path = source.path.to_string_lossy();
    let title = level.primary_title(fault.message.as_str());
    let group = match &fault.span {
        Some(span) => title.element(
            Snippet::source(source.text.as_str())
                .path(path)
                .annotation(AnnotationKind::Primary.span(first_line_of(span, &source.text))),
        ),
        None => title.element(Origin::path(path)),
    };
    match &fault.help {
        Some(help) => group.element(Level::HELP.message(help.as_str())),
        None => group,
    }
}

/// A value over several lines is marked on its first one: a caret, not a drawing.
fn first_line_of(span: &Range<usize>, text: &str) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    let len = text.get(start..end).and_then(|value| value.find(['\r', '\n']));
    start..len.map_or(end, |len| start + len)
}

fn line(severity: Severity, source: &Source, fault: &Fault) -> String {
    let mut line = source.path.to_string_lossy().into_owned();
    if let Some(span) = &fault.span {
        let before = source.text.get(..span.start).unwrap_or(&source.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let row = before.matches('\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        line.push_str(&format!(":{row}:{column}"));
    }
    line.push_str(if severity == Severity::Warning { ": warning: " } else { ": " });
    line.push_str(&fault.message);
    if let Some(help) = &fault.help {
        line.push_str("; ");
        line.push_str(help);
    }
    one_line(&line)
}

/// Control characters of a file's name or a quoted value must not break the log's lines.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "keyward.toml".into(), text: text.into() }
    }

    #[test]
    fn a_fault_is_shown_with_caret_and_remedy() {
        let report = Report::error(
            source("realm = \"a\"\n[server]\nworkers = 0\n"),
            vec![Fault::at(31..32, "too few workers").with_help("write 1 or more")],
        );
        insta::assert_snapshot!(report, @r"
        error: too few workers
         --> keyward.toml:3:11
          |
        3 | workers = 0
          |           ^
          |
          = help: write 1 or more
        ");
    }

    #[test]
    fn a_value_over_several_lines_is_marked_on_its_first() {
        let report =
            Report::warning(source("a = [\n  1,\n  2,\n]\n"), vec![Fault::at(4..17, "too long")]);
        insta::assert_snapshot!(report, @r"
        warning: too long
         --> keyward.toml:1:5
          |
        1 | a = [
          |     ^
        ");
    }

    #[test]
    fn a_fault_of_the_whole_file_names_the_file() {
        let report = Report::error(source(""), vec![Fault::whole("cannot be read")]);
        insta::assert_snapshot!(report, @r"
        error: cannot be read
        --> keyward.toml
        ");
    }

    #[test]
    fn colour_is_only_there_when_asked_for() {
        let report = Report::error(source("a = 1\n"), vec![Fault::at(4..5, "no")]);
        assert!(report.render(true).contains('\u{1b}'));
        assert!(!report.render(false).contains('\u{1b}'));
    }

    #[test]
    fn the_log_form_is_one_line_a_fault_in_the_order_of_the_file() {
        let mut report = Report::error(
            source("ä = 1\r\nüü = 2\n"),
            vec![Fault::at(15..16, "second").with_help("do\nthat"), Fault::at(0..2, "first")],
        );
        report.merge(Report::warning(source(""), vec![Fault::whole("odd \u{1b}[31m")]));
        let lines: Vec<String> = report.lines().collect();
        assert_eq!(
            lines,
            [
                "keyward.toml:1:1: first",
                r"keyward.toml:2:6: second; do\nthat",
                r"keyward.toml: warning: odd \u{1b}[31m",
            ]
        );
        assert!(report.has_errors());
    }

    #[test]
    fn without_faults_a_report_is_empty() {
        assert!(Report::error(source(""), Vec::new()).is_empty());
        let warning = Report::warning(source(""), vec![Fault::whole("odd")]);
        assert!(!warning.is_empty() && !warning.has_errors());
    }

    #[test]
    fn a_place_outside_the_text_is_shown_at_its_end() {
        let report = Report::error(source("a = 1"), vec![Fault::at(90..95, "beyond")]);
        assert!(report.render(false).contains("beyond"));
        assert_eq!(report.lines().next().as_deref(), Some("keyward.toml:1:6: beyond"));
    }
}
