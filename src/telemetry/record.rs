//! One request as the access log shows it.
//!
//! The JSON names are a contract (DESIGN section 5): `time, request_id, client, method, path, status, code,
//! user, role, key_id, route, endpoint, bytes_in, bytes_out, duration_ms, upstream_ms`. What a request does
//! not have is left out.
//!
//! Never here: `serde`. A record costs a quarter of a microsecond so, and nothing is allocated.

use std::io::Write as _;
use std::time::{Duration, SystemTime};

use super::Format;
use super::json::{push_display, push_plain, push_string, push_u64};
use super::stamp::Stamp;
use crate::redact::Shown;

/// One request that has ended, well or not.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When its head was there.
    pub time: SystemTime,
    /// As it stands in `x-request-id`: made by us, or well-formed and from a trusted proxy.
    pub request_id: &'a str,
    /// Whose request it is: the peer, or whom a trusted proxy names.
    pub client: &'a str,
    /// `None` if the head could not be read.
    pub method: Option<Shown<'a>>,
    /// The request target, path and query. `None` if the head could not be read.
    pub path: Option<Shown<'a>>,
    /// Of the answer. `None` if the client left before there was one.
    pub status: Option<u16>,
    /// Why it was refused or failed: `missing_key`.
    pub code: Option<&'a str>,
    /// Whose key it carried.
    pub user: Option<&'a str>,
    /// The role of the key.
    pub role: Option<&'a str>,
    /// The id of the key.
    pub key_id: Option<&'a str>,
    /// The route's pattern, as it stands in the configuration.
    pub route: Option<&'a str>,
    /// Where it was forwarded to: `127.0.0.1:3000`.
    pub endpoint: Option<&'a str>,
    /// The body's bytes that came from the client.
    pub bytes_in: u64,
    /// The body's bytes that went to the client.
    pub bytes_out: u64,
    /// From its head to the end of the answer.
    pub duration: Duration,
    /// From forwarding it to the head of the upstream's answer.
    pub upstream: Option<Duration>,
}

impl Record<'_> {
    /// Appends the record, one line.
    pub(super) fn push(&self, out: &mut Vec<u8>, stamp: &mut Stamp, format: Format) {
        match format {
            Format::Json => self.push_json(out, stamp),
            Format::Text => self.push_text(out, stamp),
        }
    }

    fn push_json(&self, out: &mut Vec<u8>, stamp: &mut Stamp) {
        out.extend_from_slice(b"{\"time\":\"");
        stamp.push(out, self.time);
        out.push(b'"');
        push_name(out, b",\"request_id\":", Some(self.request_id));
        push_name(out, b",\"client\":", Some(self.client));
        push_shown(out, b",\"method\":", self.method);
        push_shown(out, b",\"path\":", self.path);
        if let Some(status) = self.status {
            out.extend_from_slice(b",\"status\":");
            push_u64(out, status.into());
        }
        push_name(out, b",\"code\":", self.code);
        push_field(out, b",\"user\":", self.user);
        push_name(out, b",\"role\":", self.role);
        push_name(out, b",\"key_id\":", self.key_id);
        push_field(out, b",\"route\":", self.route);
        push_field(out, b",\"endpoint\":", self.endpoint);
        out.extend_from_slice(b",\"bytes_in\":");
        push_u64(out, self.bytes_in);
        out.extend_from_slice(b",\"bytes_out\":");
        push_u64(out, self.bytes_out);
        out.extend_from_slice(b",\"duration_ms\":");
        push_millis(out, self.duration);
        if let Some(upstream) = self.upstream {
            out.extend_from_slice(b",\"upstream_ms\":");
            push_millis(out, upstream);
        }
        out.extend_from_slice(b"}\n");
    }

    /// `<time> <status> "<method> <path>" <duration>ms name=value …`, what a reader looks for first in front.
    fn push_text(&self, out: &mut Vec<u8>, stamp: &mut Stamp) {
        stamp.push(out, self.time);
        out.push(b' ');
        match self.status {
            Some(status) => push_u64(out, status.into()),
            None => out.extend_from_slice(b"---"),
        }
        match (self.method, self.path) {
            (Some(method), Some(path)) => {
                write!(out, " \"{method} {path}\" ").expect("a buffer takes everything");
            }
            _ => out.extend_from_slice(b" - "),
        }
        push_millis(out, self.duration);
        out.extend_from_slice(b"ms client=");
        out.extend_from_slice(self.client.as_bytes());
        for (name, value) in [
            (" code=", self.code),
            (" user=", self.user),
            (" role=", self.role),
            (" key_id=", self.key_id),
            (" route=", self.route),
            (" endpoint=", self.endpoint),
        ] {
            if let Some(value) = value {
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(value.as_bytes());
            }
        }
        out.extend_from_slice(b" bytes_in=");
        push_u64(out, self.bytes_in);
        out.extend_from_slice(b" bytes_out=");
        push_u64(out, self.bytes_out);
        if let Some(upstream) = self.upstream {
            out.extend_from_slice(b" upstream_ms=");
            push_millis(out, upstream);
        }
        out.extend_from_slice(b" request_id=");
        out.extend_from_slice(self.request_id.as_bytes());
        out.push(b'\n');
    }
}

/// An id, an address, a code or a role's name, none of which has anything in it that JSON escapes.
fn push_name(out: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        push_plain(out, value);
    }
}

fn push_field(out: &mut Vec<u8>, name: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(name);
        push_string(out, value);
    }
}

fn push_shown(out: &mut Vec<u8>, name: &[u8], value: Option<Shown<'_>>) {
    let Some(value) = value else { return };
    out.extend_from_slice(name);
    match value.as_plain() {
        Some(text) => push_plain(out, text),
        None => push_display(out, value),
    }
}

/// Milliseconds with three decimals.
fn push_millis(out: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    push_u64(out, micros / 1000);
    let digit = |number: u64| b'0' + (number % 10) as u8;
    out.extend_from_slice(&[b'.', digit(micros / 100), digit(micros / 10), digit(micros)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redact::Redactor;

    const TIME: Duration = Duration::from_millis(1_795_428_127_009);

    fn forwarded(redactor: &Redactor) -> Record<'_> {
        Record {
            time: SystemTime::UNIX_EPOCH + TIME,
            request_id: "01JD",
            client: "192.0.2.10",
            method: Some(redactor.text(b"GET")),
            path: Some(redactor.target(b"/a\"b?token=x")),
            status: Some(200),
            code: None,
            user: Some("al\"ice"),
            role: Some("viewer"),
            key_id: Some("key_2mVx81Qp"),
            route: Some("/{*rest}"),
            endpoint: Some("127.0.0.1:3000"),
            bytes_in: 0,
            bytes_out: 1234,
            duration: Duration::from_micros(1_002_034),
            upstream: Some(Duration::from_nanos(999)),
        }
    }

    fn unread(redactor: &Redactor) -> Record<'_> {
        Record {
            client: "::1",
            method: None,
            path: None,
            status: None,
            code: Some("bad_request"),
            user: None,
            role: None,
            key_id: None,
            route: None,
            endpoint: None,
            upstream: None,
            ..forwarded(redactor)
        }
    }

    #[track_caller]
    fn check(record: &Record<'_>, format: Format, expect: &str) {
        let mut out = Vec::new();
        record.push(&mut out, &mut Stamp::default(), format);
        assert_eq!(String::from_utf8(out).as_deref(), Ok(expect));
        if format == Format::Json {
            serde_json::from_str::<serde_json::Value>(expect).expect("the line is JSON");
        }
    }

    #[test]
    fn a_record_is_one_line() {
        let redactor = Redactor::default();
        check(
            &forwarded(&redactor),
            Format::Json,
            concat!(
                r#"{"time":"2026-11-23T10:02:07.009Z","request_id":"01JD","client":"192.0.2.10","#,
                r#""method":"GET","path":"/a\\\"b?token=[redacted]","status":200,"user":"al\"ice","#,
                r#""role":"viewer","key_id":"key_2mVx81Qp","route":"/{*rest}","#,
                r#""endpoint":"127.0.0.1:3000","bytes_in":0,"bytes_out":1234,"duration_ms":1002.034,"#,
                r#""upstream_ms":0.000}"#,
                "\n"
            ),
        );
        check(
            &forwarded(&redactor),
            Format::Text,
            concat!(
                r#"2026-11-23T10:02:07.009Z 200 "GET /a\"b?token=[redacted]" 1002.034ms "#,
                r#"client=192.0.2.10 user=al"ice role=viewer key_id=key_2mVx81Qp route=/{*rest} "#,
                "endpoint=127.0.0.1:3000 bytes_in=0 bytes_out=1234 upstream_ms=0.000 request_id=01JD\n"
            ),
        );
    }

    #[test]
    fn what_a_request_does_not_have_is_left_out() {
        let redactor = Redactor::default();
        check(
            &unread(&redactor),
            Format::Json,
            concat!(
                r#"{"time":"2026-11-23T10:02:07.009Z","request_id":"01JD","client":"::1","#,
                r#""code":"bad_request","bytes_in":0,"bytes_out":1234,"duration_ms":1002.034}"#,
                "\n"
            ),
        );
        check(
            &unread(&redactor),
            Format::Text,
            concat!(
                "2026-11-23T10:02:07.009Z --- - 1002.034ms client=::1 code=bad_request bytes_in=0 ",
                "bytes_out=1234 request_id=01JD\n"
            ),
        );
    }
}
