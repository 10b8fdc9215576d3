//! What every part of the validation shares: gathering faults, and reading the kinds of value there are.
//!
//! A fault never quotes what came from the environment; it shows a string as it was written.
//!
//! Never here: what a particular field means.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde_spanned::Spanned;

use super::conceal::conceal;
use super::interpolate::{Problem, ProblemKind, interpolate};
use super::limits::Bounds;
use super::raw::{Field, Given, Section, Size, Table};
use super::suggest::{did_you_mean, meant};
use crate::diagnostics::Fault;

/// Bytes of the file.
pub(super) type Span = Range<usize>;

/// Gathers the faults of one file.
pub(super) struct Check<'a> {
    text: &'a str,
    folder: &'a Path,
    env: &'a dyn Fn(&str) -> Option<String>,
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
}

/// A string with its variables replaced.
pub(super) struct Text {
    pub(super) value: String,
    pub(super) span: Span,
    /// Between quotes and escaped, variables not replaced: may be shown.
    pub(super) shown: String,
    from_environment: bool,
}

impl Text {
    /// Whether the value is the text of the file, and may be shown in part.
    pub(super) fn is_literal(&self) -> bool {
        !self.from_environment
    }

    /// `error` as the end of a sentence, unless it could tell what came from the environment.
    pub(super) fn reason(&self, error: impl Display) -> String {
        if self.from_environment { "is not allowed here".to_owned() } else { error.to_string() }
    }

    /// The candidate that was probably meant.
    pub(super) fn meant<'c>(
        &self,
        candidates: impl IntoIterator<Item = &'c str>,
    ) -> Option<&'c str> {
        if self.from_environment { None } else { meant(&self.value, candidates) }
    }
}

impl<'a> Check<'a> {
    pub(super) fn new(
        text: &'a str,
        folder: &'a Path,
        env: &'a dyn Fn(&str) -> Option<String>,
    ) -> Self {
        Self { text, folder, env, faults: Vec::new(), warnings: Vec::new() }
    }

    /// How many faults there are so far.
    pub(super) fn faults(&self) -> usize {
        self.faults.len()
    }

    /// The faults and the warnings.
    pub(super) fn finish(self) -> (Vec<Fault>, Vec<Fault>) {
        (self.faults, self.warnings)
    }

    pub(super) fn push(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn fault(
        &mut self,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Fault::at(span, message).with_help(help));
    }

    pub(super) fn warn(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.warnings.push(Fault::at(span, message).with_help(help));
    }

    /// The line a place is in, from 1.
    pub(super) fn line(&self, span: &Span) -> usize {
        self.text[..span.start].matches('\n').count() + 1
    }

    /// A variable of the environment.
    pub(super) fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }

    /// `written`, relative to the file's folder.
    pub(super) fn path(&mut self, text: &Text) -> PathBuf {
        if text.value.is_empty() || text.value.contains('\0') {
            self.fault(
                text.span.clone(),
                format!("{} is no path", text.shown),
                "write a path, absolute or relative to this file",
            );
        }
        self.folder.join(&text.value)
    }

    /// A file beside this one.
    pub(super) fn in_folder(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A value of the right type; a wrong one is a fault.
    pub(super) fn given<T>(&mut self, Given(spanned): Given<T>) -> Option<Spanned<T>> {
        let span = spanned.span();
        match spanned.into_inner() {
            Ok(value) => Some(Spanned::new(span, value)),
            Err(expected) => {
                let mut fault = Fault::at(span, format!("this must be {expected}"));
                fault.help = match expected.as_str() {
                    "a string" => Some("put it in quotes: \"…\"".to_owned()),
                    "an array" => Some("put it in brackets: [ … ]".to_owned()),
                    "a table" => Some(
                        "write a [header] with the fields below it, or { field = value }"
                            .to_owned(),
                    ),
                    _ => None,
                };
                self.push(fault);
                None
            }
        }
    }

    /// A field that was given, of the right type.
    pub(super) fn field<T>(&mut self, field: Field<T>) -> Option<Spanned<T>> {
        self.given(field.0?)
    }

    /// A table; `name` is its place in the file. One that is missing or wrong is empty.
    pub(super) fn section<T: Default>(&mut self, name: &str, section: Section<T>) -> T {
        let table = section.0.and_then(|given| self.table(name, given));
        table.map(Spanned::into_inner).unwrap_or_default()
    }

    /// The same for a table that is there.
    pub(super) fn table<T>(&mut self, name: &str, given: Given<Table<T>>) -> Option<Spanned<T>> {
        let table = self.given(given)?;
        let span = table.span();
        Some(Spanned::new(span, self.fields(name, table.into_inner())))
    }

    /// The fields of a table; each unknown one is a fault.
    pub(super) fn fields<T>(&mut self, name: &str, table: Table<T>) -> T {
        for field in table.unknown {
            self.unknown_field(name, &field, table.known);
        }
        table.fields
    }

    fn unknown_field(&mut self, table: &str, field: &Spanned<String>, known: &[&str]) {
        let name = field.get_ref().as_str();
        let place = if table.is_empty() { String::new() } else { format!(" in [{table}]") };
        let message = format!("unknown field {name:?}{place}");
        let help = did_you_mean(meant(name, known.iter().copied()), known);
        self.fault(field.span(), message, help);
    }

    /// A string, its variables replaced.
    pub(super) fn text(&mut self, field: Field<String>) -> Option<Text> {
        let written = self.field(field)?;
        self.replaced(&written)
    }

    /// `written`, its variables replaced.
    pub(super) fn replaced(&mut self, written: &Spanned<String>) -> Option<Text> {
        let span = written.span();
        match interpolate(written.get_ref(), self.env) {
            Ok(text) => Some(Text {
                value: text.value,
                span,
                // Where the quotes of a string are wrong, the lines behind it are part of it.
                shown: format!("{:?}", conceal(written.get_ref())),
                from_environment: text.from_environment,
            }),
            Err(problems) => {
                for problem in problems {
                    self.unreplaced(written, &problem);
                }
                None
            }
        }
    }

    /// A reference to a variable that stands for nothing, in the string `written`.
    pub(super) fn unreplaced(&mut self, written: &Spanned<String>, problem: &Problem<'_>) {
        let reference = problem.reference;
        let (message, help) = match problem.kind {
            ProblemKind::Missing => (
                format!("the environment has no variable {reference}"),
                "set it, or write $${ for these characters themselves",
            ),
            ProblemKind::Name => (
                // It may be a secret, or the lines behind a brace that nobody closed: it is not quoted.
                "this reference names no variable".to_owned(),
                "write ${NAME} with letters, digits and '_', or $${ for these characters themselves",
            ),
            ProblemKind::Open => (
                "no brace closes this reference to a variable".to_owned(),
                "write ${NAME}, or $${ for these characters themselves",
            ),
        };
        // Behind the quotes, the string is in the file as it is, unless it is written with escapes.
        let string = written.span();
        let begin = self.text.get(string.clone()).and_then(|text| text.find(written.get_ref()));
        let span = match begin {
            Some(begin) => {
                let start = string.start + begin + problem.at;
                start..start + reference.len()
            }
            None => string,
        };
        self.fault(span, message, help);
    }

    /// An array of strings, its faulty elements left out; `None` when it is missing or wrong.
    pub(super) fn texts(
        &mut self,
        field: Field<Vec<Given<String>>>,
        most: usize,
    ) -> Option<Spanned<Vec<Text>>> {
        let array = self.field(field)?;
        let span = array.span();
        self.at_most(&span, array.get_ref().len(), most);
        let mut texts = Vec::with_capacity(array.get_ref().len());
        for given in array.into_inner() {
            let written = self.given(given);
            texts.extend(written.and_then(|written| self.replaced(&written)));
        }
        Some(Spanned::new(span, texts))
    }

    /// The same for an array that must not be empty; `message` and `help` say why and what to write.
    pub(super) fn some_texts(
        &mut self,
        field: Field<Vec<Given<String>>>,
        most: usize,
        message: &str,
        help: &str,
    ) -> Option<Spanned<Vec<Text>>> {
        if let Some(Given(array)) = &field.0
            && array.get_ref().as_ref().is_ok_and(Vec::is_empty)
        {
            self.fault(array.span(), message, help);
        }
        self.texts(field, most)
    }

    /// A fault if there are more than `most` of something.
    pub(super) fn at_most(&mut self, span: &Span, found: usize, most: usize) {
        if found > most {
            let message = format!("there are {found} of these");
            self.fault(span.clone(), message, format!("write {most} at most"));
        }
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        field: Field<String>,
        default: T,
        choices: &[(&str, T)],
    ) -> T {
        let Some(text) = self.text(field) else { return default };
        if let Some((_, choice)) = choices.iter().find(|(word, _)| *word == text.value) {
            return *choice;
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let meant = text.meant(words.iter().copied());
        let help = match meant {
            Some(_) => did_you_mean(meant, &words),
            None => format!("write \"{}\"", words.join("\" or \"")),
        };
        self.fault(text.span, format!("{} is no choice here", text.shown), help);
        default
    }

    /// A duration such as "30s".
    pub(super) fn duration(&mut self, field: Field<String>, bounds: &Bounds<Duration>) -> Duration {
        self.duration_within(field, &(bounds.min..=bounds.max)).unwrap_or(bounds.default)
    }

    /// The same for a field that has no default.
    pub(super) fn duration_within(
        &mut self,
        field: Field<String>,
        bounds: &RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let text = self.text(field)?;
        match humantime::parse_duration(text.value.trim()) {
            Ok(value) if bounds.contains(&value) => return Some(value),
            Ok(_) => {
                let min = humantime::format_duration(*bounds.start());
                let max = humantime::format_duration(*bounds.end());
                let message = format!("{} is too short or too long", text.shown);
                self.fault(text.span, message, format!("write a duration from {min} to {max}"));
            }
            Err(_) => {
                let message = format!("{} is no duration", text.shown);
                let help = "write a number and a unit: \"500ms\", \"30s\", \"5m\"";
                self.fault(text.span, message, help);
            }
        }
        None
    }

    /// A whole number from `min` to `max`.
    pub(super) fn number(&mut self, field: Field<i64>, min: u64, max: u64) -> Option<u64> {
        let number = self.field(field)?;
        self.bounded(number.span(), u64::try_from(*number.get_ref()).ok(), min, max)
    }

    /// A number of bytes from `min` to `max`, as such or as a text with a unit.
    pub(super) fn size(&mut self, field: Field<Size>, min: u64, max: u64) -> Option<u64> {
        self.size_in(field, min, max, "", "write a number and a unit: \"32KiB\", \"10MB\"")
    }

    /// The same for a number of bytes a second.
    pub(super) fn rate(&mut self, field: Field<Size>, min: u64, max: u64) -> Option<u64> {
        self.size_in(field, min, max, "/s", "write a number and a unit: \"500B/s\", \"1KiB/s\"")
    }

    /// A size, behind which `suffix` may stand.
    fn size_in(
        &mut self,
        field: Field<Size>,
        min: u64,
        max: u64,
        suffix: &str,
        help: &str,
    ) -> Option<u64> {
        let size = self.field(field)?;
        let span = size.span();
        match size.into_inner() {
            Size::Bytes(bytes) => self.bounded(span, u64::try_from(bytes).ok(), min, max),
            Size::Text(written) => {
                let text = self.replaced(&Spanned::new(span, written))?;
                let value = text.value.trim();
                match value.strip_suffix(suffix).unwrap_or(value).parse::<ByteSize>() {
                    Ok(size) => self.bounded(text.span, Some(size.as_u64()), min, max),
                    Err(_) => {
                        let kind = if suffix.is_empty() { "size" } else { "rate" };
                        let message = format!("{} is no {kind}", text.shown);
                        self.fault(text.span, message, help);
                        None
                    }
                }
            }
        }
    }

    /// `value` is `None` for what is below every minimum.
    fn bounded(&mut self, span: Span, value: Option<u64>, min: u64, max: u64) -> Option<u64> {
        let fits = value.filter(|value| (min..=max).contains(value));
        if fits.is_none() {
            let problem = if value.is_none_or(|value| value < min) { "small" } else { "large" };
            let help = format!("write a number from {min} to {max}");
            self.fault(span, format!("this number is too {problem}"), help);
        }
        fits
    }
}
