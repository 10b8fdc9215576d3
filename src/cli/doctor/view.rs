//! What was found, for people and as JSON.
//!
//! Never here: a key; what is shown of a line has none.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::Path;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use super::super::table::{self, Row, printable};
use super::findings::{Findings, Leak, LeakedKey};
use super::probe::{Folding, Verdict};

/// Most leaks that people are shown; one place that leaks does so for every request.
const SHOWN_MAX: usize = 20;

/// The outcome as JSON.
#[derive(Serialize)]
pub(super) struct Told<'a> {
    config: &'a Path,
    requests: usize,
    /// By status; `none` for no answer.
    answers: BTreeMap<String, usize>,
    sinks: &'a BTreeMap<String, usize>,
    leaks: &'a [Leak],
    passed: &'a BTreeSet<String>,
    unheard: &'a [String],
    folding: &'a [Folding],
}

impl<'a> Told<'a> {
    pub(super) fn new(config: &'a Path, findings: &'a Findings) -> Self {
        let Findings { requests, answers, sinks, leaks, passed, unheard, folding } = findings;
        let status = |status: Option<u16>| status.map_or("none".to_owned(), |s| s.to_string());
        let answers = answers.iter().map(|(code, count)| (status(*code), *count)).collect();
        Self { config, requests: *requests, answers, sinks, leaks, passed, unheard, folding }
    }
}

/// Writes it for people.
pub(super) fn write(to: &mut impl Write, config: &Path, findings: &Findings) -> io::Result<()> {
    let Findings { requests, answers, sinks, leaks, passed, unheard, folding } = findings;
    let (strong, quiet) = (Style::new().bold(), Style::new().dimmed());
    let config = printable(&config.display().to_string());
    writeln!(
        to,
        "{strong}{requests} requests with canary keys, as {config} serves them{strong:#}"
    )?;
    let answers = answers.iter().map(|(status, count)| match status {
        Some(status) => format!("{count} × {status}"),
        None => format!("{count} × nothing"),
    });
    writeln!(to, "{quiet}answers: {}{quiet:#}\n", answers.collect::<Vec<_>>().join(", "))?;
    let rows = sinks.iter().map(|(sink, lines)| {
        let found = leaks.iter().filter(|leak| is_in(leak, sink)).count();
        let (style, found) = match found {
            0 => (Style::new(), "-".to_owned()),
            found => (AnsiColor::Red.on_default(), found.to_string()),
        };
        Row { style, cells: vec![sink.clone(), lines.to_string(), found] }
    });
    table::write(to, &["LOOKED AT", "LINES", "LEAKS"], rows)?;
    if !passed.is_empty() {
        writeln!(
            to,
            "\n{strong}Goes on to the service{strong:#}, as a client sent it; no leak of keyward's:"
        )?;
        passed.iter().try_for_each(|what| writeln!(to, "  {}", printable(what)))?;
    }
    for file in unheard {
        writeln!(to, "\n{} did not hear of the requests: is it the right file?", printable(file))?;
    }
    for folding in folding {
        write_folding(to, folding)?;
    }
    write_leaks(to, leaks)
}

/// Whether a leak is in the sink that is counted as `sink`.
fn is_in(leak: &Leak, sink: &str) -> bool {
    // That of a file of the doctor's is named by its path then.
    leak.sink == sink || (leak.request.is_some() && Path::new(&leak.sink).ends_with(sink))
}

fn write_folding(to: &mut impl Write, folding: &Folding) -> io::Result<()> {
    let Folding { upstream, underscore, dot, seen_by } = folding;
    let Some(seen_by) = seen_by else {
        return writeln!(
            to,
            "\nupstream {upstream}: cannot tell whether it folds names; ask for a page that has an ETag, or that \
             repeats its headers (--probe-upstream PATH)"
        );
    };
    let told = |verdict: &Verdict| match verdict {
        Verdict::Folds => "folds",
        Verdict::DoesNotFold => "does not fold",
        Verdict::CannotTell => "cannot tell",
    };
    let (underscore, dot) = (told(underscore), told(dot));
    writeln!(to, "\nupstream {upstream}: {underscore} `_`, {dot} `.` in names (seen by {seen_by})")
}

fn write_leaks(to: &mut impl Write, leaks: &[Leak]) -> io::Result<()> {
    let good: Style = AnsiColor::Green.on_default().bold();
    let bad: Style = AnsiColor::Red.on_default().bold();
    if leaks.is_empty() {
        return writeln!(to, "\n{good}No key leaked.{good:#}");
    }
    writeln!(to)?;
    for Leak { sink, line, text, request, key } in leaks.iter().take(SHOWN_MAX) {
        writeln!(to, "{bad}leak{bad:#} {}:{line}", printable(sink))?;
        writeln!(to, "     {}", printable(text))?;
        if let Some(request) = request {
            writeln!(to, "     sent as {}", printable(request))?;
        }
        match key {
            Some(LeakedKey { id: Some(id), user, state }) => {
                let user = user.as_deref().unwrap_or("nobody");
                writeln!(to, "     it is {id} of {user}, {state}: `keyward keys rotate {id}`")?;
            }
            Some(_) => writeln!(to, "     it looks like a key; the key file does not know it")?,
            None => {}
        }
    }
    if leaks.len() > SHOWN_MAX {
        writeln!(to, "… and {} more; --json shows all", leaks.len() - SHOWN_MAX)?;
    }
    let count = leaks.len();
    writeln!(to, "\n{bad}{count} leak{}.{bad:#}", if count == 1 { "" } else { "s" })
}
