//! The configuration: any text is a checked configuration, or faults at their places. Neither panics, and no fault tells
//! a secret: not one that stands in the file against all advice, and none from the environment.
//!
//! Input: a byte that says how a secret is written, and the text, in which the secret takes the place of a byte 1.

use keyward::config;
use keyward::diagnostics::{Report, Source};

use super::reading::cut;

/// A secret in the file, and one in the environment.
const WRITTEN: &str = "hUnt3r2-hUnt3r2";
const FROM_ENVIRONMENT: &str = "eNvir0n-eNvir0n";
const PATH: &str = "/etc/keyward/keyward.toml";

/// Runs the target.
pub fn run(data: &[u8]) {
    let Some((&way, text)) = data.split_first() else { return };
    let (before, after) = cut(text, 1);
    let secret = if before.len() < text.len() { written(way) } else { String::new() };
    let (Ok(before), Ok(after)) = (std::str::from_utf8(before), std::str::from_utf8(after)) else {
        return;
    };
    let text = [before, &secret, after].concat();
    let source = || Source { path: PATH.into(), text: text.clone() };
    let report = match config::parse(source(), env) {
        Ok(config) => {
            assert!(!config.warnings.has_errors());
            config.warnings
        }
        Err(report) => {
            assert!(report.has_errors(), "refused without a reason");
            report
        }
    };
    // What else holds it is not the secret that was planted.
    if !before.contains(WRITTEN) && !after.contains(WRITTEN) {
        check_report(&report, &text);
    }
}

/// A secret, in each way that people write one.
fn written(way: u8) -> String {
    match way % 10 {
        0 => format!("\npepper = \"{WRITTEN}\"\n"),
        1 => format!("\npepper = '{WRITTEN}'\n"),
        2 => format!("\npepper = \"\"\"\n{WRITTEN}\"\"\"\n"),
        3 => format!("\n\"pepper\" = \"{WRITTEN}\"\n"),
        4 => format!("\nkeys.pepper = \"{WRITTEN}\"\n"),
        5 => format!("\nkeys = {{ peper = \"{WRITTEN}\" }}\n"),
        6 => format!("\nendpoints = [\"http://me:{WRITTEN}@127.0.0.1:1\"]\n"),
        7 => format!("\ntoken = [\"{WRITTEN}\"]\n"),
        8 => format!("\nsecret = {WRITTEN}\n"),
        _ => format!(
            "\nprivate_key = \"\"\"-----BEGIN PRIVATE KEY-----\n{WRITTEN}\n-----END PRIVATE KEY-----\"\"\"\n"
        ),
    }
}

/// An environment in which the variables of some names are set.
fn env(name: &str) -> Option<String> {
    match name {
        "PEPPER" => Some(format!("{FROM_ENVIRONMENT}{FROM_ENVIRONMENT}")),
        "SHORT" => Some(FROM_ENVIRONMENT[..7].to_owned()),
        "PORT" => Some("8080".to_owned()),
        _ => name.starts_with('S').then(|| FROM_ENVIRONMENT.to_owned()),
    }
}

fn check_report(report: &Report, text: &str) {
    let lines: Vec<String> = report.lines().collect();
    let views = [report.render(false), report.render(true), lines.join("\n")];
    for view in views {
        for secret in [WRITTEN, FROM_ENVIRONMENT, &FROM_ENVIRONMENT[..7]] {
            assert!(!view.contains(secret), "{secret} is shown: {view}");
        }
    }
    let written: Vec<&str> = text.split('\n').collect();
    for line in &lines {
        let place = line.strip_prefix(PATH).expect("it names the file");
        assert!(!line.contains('\n'), "{line:?} is more than one line");
        // A fault of the whole file has no place in it.
        let mut numbers = place.split(':').skip(1).map_while(|part| part.parse::<usize>().ok());
        let (Some(row), Some(column)) = (numbers.next(), numbers.next()) else { continue };
        // In bytes: of what is blanked out, each is shown as a character.
        let width = written.get(row - 1).map(|text| text.len());
        assert!(width.is_some_and(|width| column <= width + 1), "{line:?} is beyond the file");
    }
}
