//! Redaction: nothing that is a key stays, whatever stands around it and however it is percent-encoded; and whatever is
//! shown is one line of printable characters.
//!
//! Input: how the secret is spelled (a byte a character), a line feed, and what stands around it, with another line
//! feed where the secret goes.

use http::HeaderName;
use keyward::redact::{Redactor, Shown};
use memchr::memmem;

use super::reading::{cut, percent_decoded};

/// A key of ours, one of somebody else's, and a value that only its name makes a secret.
const OWN: &[u8] = b"kw_2mVx81QpZr7Yt3Wn5Bc9Df1Gh6Jk4Ls8MnPq";
const FOREIGN: &[u8] = b"Zx9Cv8Bn7Mq6Wl5Ke4Jr3Ht2Gy1Fu0DpSoAi";
const NAMED: &[u8] = b"hunter2hunter2";
/// Names that say that the value is a secret; the last is that of a key source.
const NAMES: [&[u8]; 5] =
    [b"api_key", b"access-token", b"user[password]", b"sig", b"x-Weird_Thing"];
/// So many characters of a key in a row give it away.
const TELLING: usize = 12;

/// Runs the target.
pub fn run(data: &[u8]) {
    let redactor = Redactor::new("kw", ["x-Weird_Thing"]);
    let (ways, around) = cut(data, b'\n');
    let (before, after) = cut(around, b'\n');
    // What stands around it and gives a part of it away by itself is no finding.
    let around_decoded = percent_decoded(around, usize::MAX);
    let is_told =
        |secret: &[u8]| secret.windows(TELLING).any(|part| contains(&around_decoded, part));
    if [OWN, FOREIGN, NAMED].into_iter().any(is_told) {
        return;
    }
    for secret in [OWN, FOREIGN] {
        let sent = [before, &spelled(secret, ways), after].concat();
        check(&redactor, &sent, secret, true);
    }
    let name = NAMES[before.len() % NAMES.len()];
    let named = [&spelled(name, ways)[..], b"=", &spelled(NAMED, ways)].concat();
    for delimiter in [b'?', b'&'] {
        let sent = [before, &[delimiter], &named, b"&", after].concat();
        check(&redactor, &sent, NAMED, true);
    }
    let credential = [before, b" Bearer ", &spelled(NAMED, ways), b" ", after].concat();
    check(&redactor, &credential, NAMED, false);
    let secret_header = HeaderName::from_static("x-weird-thing");
    assert_eq!(redactor.header(&secret_header, around).to_string(), "[redacted]");
    check(&redactor, data, b"", false);
}

/// Nothing of `secret` is shown of what was `sent`.
fn check(redactor: &Redactor, sent: &[u8], secret: &[u8], in_targets: bool) {
    let header = HeaderName::from_static("user-agent");
    let text = String::from_utf8_lossy(sent);
    let mut views = vec![
        (redactor.text(sent), true),
        (redactor.header(&header, sent), true),
        (redactor.message(&text), false),
    ];
    if in_targets {
        views.push((redactor.target(sent), true));
    }
    for (view, is_quoted) in views {
        let shown = view.to_string();
        assert_prints(&view, &shown, is_quoted);
        let decoded = percent_decoded(shown.as_bytes(), usize::MAX);
        for part in secret.windows(TELLING) {
            assert!(
                !contains(&decoded, part),
                "{:?} of {:?} is shown: {shown}",
                String::from_utf8_lossy(part),
                String::from_utf8_lossy(sent)
            );
        }
    }
}

fn assert_prints(view: &Shown<'_>, shown: &str, is_quoted: bool) {
    assert!(!shown.chars().any(char::is_control), "{shown:?}");
    if is_quoted {
        let unescaped = shown.replace("\\\\", "").replace("\\\"", "");
        assert!(!unescaped.contains('"'), "{shown}");
    }
    assert!(view.as_plain().is_none_or(|plain| plain == shown), "{shown}");
}

/// `text`, each character as the next of `ways` says: as it is, or percent-encoded up to three times.
fn spelled(text: &[u8], ways: &[u8]) -> Vec<u8> {
    let ways = ways.iter().copied().chain(std::iter::repeat(0));
    let spell = |(byte, way): (&u8, u8)| match way % 8 {
        1 => format!("%{byte:02X}"),
        2 => format!("%{byte:02x}"),
        3 => format!("%25{byte:02x}"),
        4 => format!("%2525{byte:02X}"),
        _ => char::from(*byte).to_string(),
    };
    text.iter().zip(ways).map(spell).collect::<String>().into_bytes()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memmem::find(text, part).is_some()
}
