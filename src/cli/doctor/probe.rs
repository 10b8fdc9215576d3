//! Whether an upstream takes `X_Name` or `X.Name` for `X-Name`: then whoever reaches it beside keyward can say who
//! they are in more ways than one, and so can what keyward does not know as a header of ours.
//!
//! It is asked through a keyward of the doctor's, so TLS and HTTP/2 are spoken to it as configured. What it makes of
//! a name shows in three ways, the first of which that shows anything is taken: a field that it repeats in its answer,
//! a condition that is met, a coding that is asked for.
//!
//! Never here: a method but GET.

use std::net::{Ipv4Addr, SocketAddr};

use serde::Serialize;

use super::super::failure::Failure;
use super::client::{self, Wire};
use super::process::Process;
use super::rehearsal::{NO_KEYS, Rehearsal};
use crate::config::Config;
use crate::keys::format::random_text;

/// So many bytes before a repeated value are what it is repeated under.
const CONTEXT_BYTES: usize = 20;

/// What an upstream makes of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Folding {
    pub(super) upstream: String,
    /// Of `X_Name`.
    pub(super) underscore: Verdict,
    /// Of `X.Name`.
    pub(super) dot: Verdict,
    /// The field that showed it.
    pub(super) seen_by: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It is the same to it.
    Folds,
    /// It is another name, or none.
    DoesNotFold,
    /// No answer tells.
    CannotTell,
}

/// Asks each upstream of `config` for `path`.
pub(super) fn run(config: &Config, path: &str) -> Result<Vec<Folding>, Failure> {
    let asked = config.upstreams.iter().map(|upstream| {
        let folder = tempfile::Builder::new().prefix("keyward-doctor-").tempdir()?;
        let file = Rehearsal::new(config)?.open(&upstream.name).write(folder.path(), NO_KEYS)?;
        let process = Process::start(&file, false)?;
        let folding = Probe { address: process.address, path }.ask_all(&upstream.name)?;
        process.stop()?;
        Ok(folding)
    });
    asked.collect()
}

/// An upstream that is asked.
struct Probe<'a> {
    address: SocketAddr,
    path: &'a str,
}

/// A field, and where it shows that an upstream knows it.
struct Sign {
    name: &'static str,
    value: String,
    shows_in: ShowsIn,
}

#[derive(Clone, Copy)]
enum ShowsIn {
    /// Under which name its value is repeated.
    Echo,
    Status,
    Coding,
}

impl Sign {
    /// What there is of it in an answer.
    fn read(&self, answer: &[u8]) -> Option<Vec<u8>> {
        match self.shows_in {
            ShowsIn::Echo => before(answer, self.value.as_bytes()),
            ShowsIn::Status => client::status(answer).map(|s| s.to_string().into_bytes()),
            ShowsIn::Coding => field(answer, "content-encoding").map(String::into_bytes),
        }
    }
}

impl Probe<'_> {
    fn ask_all(&self, upstream: &str) -> Result<Folding, Failure> {
        let randomness = |error| Failure::Failed(format!("no randomness for a probe: {error}"));
        let token = random_text(20).map_err(randomness)?;
        let plain = self.ask("");
        let condition = |name, from| {
            Some(Sign { name, value: field(&plain, from)?, shows_in: ShowsIn::Status })
        };
        let signs = [
            Some(Sign { name: "X-Keyward-Probe", value: token, shows_in: ShowsIn::Echo }),
            condition("If-None-Match", "etag"),
            condition("If-Modified-Since", "last-modified"),
            Some(Sign {
                name: "Accept-Encoding",
                value: "gzip".to_owned(),
                shows_in: ShowsIn::Coding,
            }),
        ];
        let upstream = upstream.to_owned();
        for sign in signs.into_iter().flatten() {
            let ask = |name: &str| sign.read(&self.ask(&format!("{name}: {}\r\n", sign.value)));
            let known = ask(sign.name);
            if known == sign.read(&plain) {
                continue;
            }
            let verdict = |joint: &str| match ask(&sign.name.replace('-', joint)) == known {
                true => Verdict::Folds,
                false => Verdict::DoesNotFold,
            };
            let (underscore, dot) = (verdict("_"), verdict("."));
            return Ok(Folding { upstream, underscore, dot, seen_by: Some(sign.name) });
        }
        let unknown = Verdict::CannotTell;
        Ok(Folding { upstream, underscore: unknown, dot: unknown, seen_by: None })
    }

    /// Its answer to a GET with `lines`.
    fn ask(&self, lines: &str) -> Vec<u8> {
        let path = self.path;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n");
        client::send(&Wire::Http1(request.into_bytes()), self.address, Ipv4Addr::LOCALHOST)
    }
}

/// A field of an answer's head.
fn field(answer: &[u8], name: &str) -> Option<String> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut named = fields.filter(|(found, _)| found.eq_ignore_ascii_case(name));
    named.next().map(|(_, value)| value.trim().to_owned())
}

/// What stands before `token`, in lower case: a program that repeats a name may write it in any.
fn before(answer: &[u8], token: &[u8]) -> Option<Vec<u8>> {
    let at = memchr::memmem::find(answer, token)?;
    Some(answer[at.saturating_sub(CONTEXT_BYTES)..at].to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let answer =
            b"HTTP/1.1 200 OK\r\nETag: \"a:b\"\r\nLong: x\r\n\r\nETag: no, a HTTP_X_NAME=token";
        assert_eq!(field(answer, "etag").as_deref(), Some("\"a:b\""));
        assert_eq!(field(answer, "other"), None);
        assert_eq!(before(answer, b"token").as_deref(), Some(&b": no, a http_x_name="[..]));
        assert_eq!(before(answer, b"none"), None);
    }
}
