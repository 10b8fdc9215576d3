//! README.md tells the truth: its tables of defaults and of answers are those of the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use keyward::config::{self, Config};
use keyward::diagnostics::Source;

/// The cells of the rows of the table whose header row begins with `head`.
pub(crate) fn table(head: &str) -> Vec<Vec<String>> {
    rows(&read("README.md"), head)
}

fn rows(page: &str, head: &str) -> Vec<Vec<String>> {
    let mut lines = page.lines();
    assert!(lines.any(|line| line.starts_with(head)), "README.md has lost its table `{head}`");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

pub(crate) fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What a configuration without `[server.timeouts]` and `[server.limits]` means.
fn defaults() -> Config {
    let text = "realm = \"test\"\n[server]\nlisten = [\"127.0.0.1:0\"]\n[keys]\nstore = \"keys.toml\"\n\
                [upstreams.app]\nendpoints = [\"http://127.0.0.1:1\"]\n";
    let source = Source { path: PathBuf::from("keyward.toml"), text: text.to_owned() };
    config::parse(source, |_| None).unwrap_or_else(|report| panic!("{report}"))
}

/// Each row's name, without its quotes, and its default.
fn shown(head: &str) -> Vec<(String, String)> {
    let rows = table(head).into_iter();
    rows.map(|row| (row[0].trim_matches('`').to_owned(), row[1].clone())).collect()
}

#[test]
fn the_timeouts_are_those_of_the_program() {
    let timeouts = defaults().server.timeouts;
    let expect = |name: &str, value: Duration| (name.to_owned(), format!("{} s", value.as_secs()));
    let expected = [
        expect("tls_handshake", timeouts.tls_handshake),
        expect("request_header", timeouts.request_header),
        expect("request_body_idle", timeouts.request_body_idle),
        expect("response_body_idle", timeouts.response_body_idle),
        expect("keep_alive", timeouts.keep_alive),
        (
            "request".to_owned(),
            timeouts.request.map_or("none".to_owned(), |time| format!("{time:?}")),
        ),
        expect("upstream_connect", timeouts.upstream_connect),
        expect("upstream_response", timeouts.upstream_response),
        expect("upstream_body_idle", timeouts.upstream_body_idle),
        expect("upstream_keep_alive", timeouts.upstream_keep_alive),
        expect("tunnel_idle", timeouts.tunnel_idle),
        expect("shutdown", timeouts.shutdown),
        expect("takeover", timeouts.takeover),
    ];
    assert_eq!(shown("| `[server.timeouts]` | default |"), expected);
}

#[test]
fn the_limits_are_those_of_the_program() {
    let limits = defaults().server.limits;
    let count = |name: &str, value: usize| (name.to_owned(), thousands(value));
    let body = limits.body_bytes.map_or("none".to_owned(), |bytes| bytes.to_string());
    let expected = [
        count("connections", limits.connections),
        count("connections_per_client", limits.connections_per_client),
        count("tunnels", limits.tunnels),
        ("header_bytes".to_owned(), format!("{} KiB", limits.header_bytes / 1024)),
        count("headers", limits.headers),
        ("body_bytes".to_owned(), body),
        ("request_body_min_rate".to_owned(), format!("{} B/s", limits.request_body_min_rate)),
        ("response_body_min_rate".to_owned(), format!("{} B/s", limits.response_body_min_rate)),
        count("h2_streams", limits.h2_streams as usize),
        count("upstream_idle", limits.upstream_idle),
    ];
    assert_eq!(shown("| `[server.limits]` | default |"), expected);
}

#[test]
fn what_guesses_are_allowed_is_that_of_the_program() {
    let rule = defaults().auth.failures.expect("it is on");
    let minutes = |time: Duration| format!("{} m", time.as_secs() / 60);
    let expected = [
        ("limit".to_owned(), rule.limit.to_string()),
        ("window".to_owned(), minutes(rule.window)),
        ("ban".to_owned(), minutes(rule.ban)),
        ("addresses".to_owned(), thousands(rule.addresses)),
    ];
    assert_eq!(shown("| `[auth.failures]` | default |"), expected);
}

#[test]
fn every_answer_is_listed() {
    let rows = table("| case | status | code |");
    check_codes("src/proxy/error.rs", &rows);
}

#[test]
fn every_answer_of_the_admin_api_is_listed() {
    let page = read("README.md");
    let (_, section) = page.split_once("\n## Admin API\n").expect("the section is there");
    let rows = rows(section, "| case | status | code |");
    check_codes("src/admin/refusal.rs", &rows);
}

/// Every code that stands in a file is in the third cell of a row.
#[track_caller]
fn check_codes(path: &str, rows: &[Vec<String>]) {
    let listed: String = rows.iter().map(|row| row[2].as_str()).collect();
    let source = read(path);
    // A code is the only kind of literal there that is one word in lower case.
    let codes: Vec<_> = source.split('"').skip(1).step_by(2).filter(|text| is_code(text)).collect();
    assert!(!codes.is_empty(), "the codes of {path} are not found any more");
    // The name of a field is none.
    for code in codes.into_iter().filter(|&code| code != "expires_at") {
        assert!(listed.contains(&format!("`{code}`")), "the answers in README.md lack `{code}`");
    }
}

fn is_code(text: &str) -> bool {
    text.contains('_') && text.chars().all(|c| c == '_' || c.is_ascii_lowercase())
}

/// 16384 as 16,384.
fn thousands(number: usize) -> String {
    let (above, below) = (number / 1000, number % 1000);
    if above == 0 { below.to_string() } else { format!("{above},{below:03}") }
}
