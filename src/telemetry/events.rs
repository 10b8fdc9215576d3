//! The event log: what happens to the proxy itself, through `tracing` to standard error.
//!
//! One event is one line: `{"time":…,"level":"INFO","message":"listening","address":"127.0.0.1:8080"}`, or
//! the same as text. Start, reload, refusal and stop are said where they happen, with `tracing`'s macros:
//! a sentence and fields.
//!
//! What keeps a client's bytes out, at trace level too:
//! - only events of this crate pass; what libraries say of headers, frames and buffers never
//!   reaches a formatter, whatever level is asked for. `KEYWARD_LOG` is a level, not a filter language
//!   that could let them in;
//! - hyper is built without its `tracing` feature, which refuses to compile without
//!   `--cfg hyper_unstable_tracing`; no bridge takes the `log` crate's records;
//! - every text goes through [`Redactor::message`], which masks what looks like a key and escapes what
//!   could forge a line;
//! - a panic is an event that says where, not what: its message may quote a request.
//!
//! Never here: one line a request.

use std::fmt::{self, Debug, Display, Formatter, Write as _};
use std::io::{self, Write};
use std::sync::Mutex;
use std::time::SystemTime;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, SubscriberExt};

use super::Format;
use super::json::{push_display, push_string};
use super::stamp::Stamp;
use crate::panics;
use crate::redact::Redactor;

/// Whose events are written: this crate's alone.
const TARGET: &str = "keyward";

/// The environment variable that holds the level.
pub const LEVEL_VARIABLE: &str = "KEYWARD_LOG";

/// The value of [`LEVEL_VARIABLE`] is no level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LevelError;

impl Display for LevelError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{LEVEL_VARIABLE} is no level; write one of off, error, warn, info, debug, trace")
    }
}

impl std::error::Error for LevelError {}

/// Reads the value of [`LEVEL_VARIABLE`]; `info` if there is none.
///
/// # Errors
/// It is not one of `off`, `error`, `warn`, `info`, `debug`, `trace` (in any case).
pub fn level(value: Option<&str>) -> Result<LevelFilter, LevelError> {
    match value {
        None | Some("") => Ok(LevelFilter::INFO),
        Some(text) => text.parse().map_err(|_| LevelError),
    }
}

/// Sends events to standard error from here on, panics too. Once in a program's life.
///
/// # Errors
/// It was done before.
pub fn install(
    format: Format,
    level: LevelFilter,
) -> Result<(), tracing::dispatcher::SetGlobalDefaultError> {
    tracing::subscriber::set_global_default(subscriber(format, level, io::stderr()))?;
    panics::watch();
    Ok(())
}

pub(super) fn subscriber<W>(
    format: Format,
    level: LevelFilter,
    output: W,
) -> impl Subscriber + Send + Sync
where
    W: Write + Send + 'static,
{
    let lines =
        Lines { format, redactor: Redactor::default(), state: Mutex::new(State::new(output)) };
    tracing_subscriber::registry()
        .with(lines.with_filter(Targets::new().with_target(TARGET, level)))
}

/// Writes each event as one line, with one system call.
struct Lines<W> {
    format: Format,
    redactor: Redactor,
    state: Mutex<State<W>>,
}

struct State<W> {
    output: W,
    line: Vec<u8>,
    stamp: Stamp,
}

impl<W> State<W> {
    fn new(output: W) -> Self {
        Self { output, line: Vec::new(), stamp: Stamp::default() }
    }
}

impl<S: Subscriber, W: Write + Send + 'static> Layer<S> for Lines<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields {
            format: self.format,
            redactor: &self.redactor,
            message: Vec::new(),
            others: Vec::new(),
        };
        event.record(&mut fields);
        let level = event.metadata().level();
        let mut state = self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let State { output, line, stamp } = &mut *state;
        line.clear();
        match self.format {
            Format::Json => {
                line.extend_from_slice(b"{\"time\":\"");
                stamp.push(line, SystemTime::now());
                line.extend_from_slice(b"\",\"level\":");
                push_display(line, level);
                line.extend_from_slice(b",\"message\":");
                match fields.message.is_empty() {
                    true => line.extend_from_slice(b"\"\""),
                    false => line.extend_from_slice(&fields.message),
                }
                line.extend_from_slice(&fields.others);
                line.extend_from_slice(b"}\n");
            }
            Format::Text => {
                stamp.push(line, SystemTime::now());
                line.extend_from_slice(format!(" {level:>5} ").as_bytes());
                line.extend_from_slice(&fields.message);
                line.extend_from_slice(&fields.others);
                line.push(b'\n');
            }
        }
        // Standard error is the last resort: when it fails there is nobody left to tell.
        let _ = output.write_all(line);
    }
}

/// An event's fields as they will stand in its line.
struct Fields<'a> {
    format: Format,
    redactor: &'a Redactor,
    message: Vec<u8>,
    others: Vec<u8>,
}

impl Fields<'_> {
    /// Adds a field whose value needs neither quotes nor escapes.
    fn push_bare(&mut self, field: &Field, value: impl Display) {
        self.push_name(field);
        write!(self.others, "{value}").expect("a buffer takes everything");
    }

    fn push_name(&mut self, field: &Field) {
        match self.format {
            Format::Json => {
                self.others.push(b',');
                push_string(&mut self.others, field.name());
                self.others.push(b':');
            }
            Format::Text => {
                self.others.push(b' ');
                self.others.extend_from_slice(field.name().as_bytes());
                self.others.push(b'=');
            }
        }
    }

    fn push_text(&mut self, field: &Field, text: &str) {
        let shown = self.redactor.message(text);
        let is_message = field.name() == "message";
        if !is_message {
            self.push_name(field);
        }
        let out = if is_message { &mut self.message } else { &mut self.others };
        let is_word = !text.is_empty() && !text.contains([' ', '"', '=', '\\']);
        match self.format {
            Format::Text if is_message || is_word => {
                write!(out, "{shown}").expect("a buffer takes everything");
            }
            _ => push_display(out, shown),
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        write!(text, "{value:?}").expect("a string takes everything");
        self.push_text(field, &text);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push_text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push_bare(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push_bare(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push_bare(field, value);
    }
}

/// Keeps what is written to it, for tests.
#[cfg(test)]
#[derive(Clone, Default)]
pub(super) struct Captured(std::sync::Arc<(Mutex<Vec<u8>>, std::sync::Condvar)>);

#[cfg(test)]
impl Captured {
    /// Every line, without its time.
    pub(super) fn lines(&self, format: Format) -> Vec<String> {
        let text = self.0.0.lock().expect("no writer panics").clone();
        let text = String::from_utf8(text).expect("lines are text");
        let without_time = |line: &str| match format {
            Format::Json => line.replacen(&line[9..33], "", 1),
            Format::Text => line[25..].to_owned(),
        };
        text.lines().map(without_time).collect()
    }

    /// Waits until `part` has been written.
    pub(super) fn wait_for(&self, part: &str) {
        let (text, change) = &*self.0;
        let is_missing = |text: &mut Vec<u8>| memchr::memmem::find(text, part.as_bytes()).is_none();
        drop(change.wait_while(text.lock().expect("no writer panics"), is_missing));
    }
}

#[cfg(test)]
impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.0.lock().expect("no writer panics").extend_from_slice(bytes);
        self.0.1.notify_all();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::thread;

    use tracing::{debug, error, info, trace, warn};

    use super::*;

    /// What `act` writes, without the times.
    fn written(format: Format, level: LevelFilter, act: impl FnOnce()) -> Vec<String> {
        let output = Captured::default();
        tracing::subscriber::with_default(subscriber(format, level, output.clone()), act);
        output.lines(format)
    }

    #[test]
    fn an_event_is_one_flat_line() {
        let act = || {
            info!(address = "127.0.0.1:8080", "listening");
            warn!(count = 3, negative = -1, yes = true, what = %"a b=\"c\"", "lines\n\"dropped\"");
            error!(error = ?io::Error::other("no"), "failed");
        };
        assert_eq!(
            written(Format::Json, LevelFilter::INFO, act),
            [
                r#"{"time":"","level":"INFO","message":"listening","address":"127.0.0.1:8080"}"#,
                r#"{"time":"","level":"WARN","message":"lines\\n\"dropped\"","count":3,"negative":-1,"yes":true,"what":"a b=\"c\""}"#,
                r#"{"time":"","level":"ERROR","message":"failed","error":"Custom { kind: Other, error: \"no\" }"}"#,
            ]
        );
        assert_eq!(
            written(Format::Text, LevelFilter::INFO, act),
            [
                r#" INFO listening address=127.0.0.1:8080"#,
                r#" WARN lines\n"dropped" count=3 negative=-1 yes=true what="a b=\"c\"""#,
                r#"ERROR failed error="Custom { kind: Other, error: \"no\" }""#,
            ]
        );
    }

    #[test]
    fn other_crates_are_never_heard() {
        let act = || {
            error!(target: "hyper::proto::h1", "authorization: Bearer x");
            error!(target: "h2", "authorization: Bearer x");
            trace!("ours");
        };
        let lines = written(Format::Json, LevelFilter::TRACE, act);
        assert_eq!(lines, [r#"{"time":"","level":"TRACE","message":"ours"}"#]);
    }

    #[test]
    fn keys_are_masked() {
        let key = "kw_2mVx81QpZr7Yt3Wn5Bc9Df1Gh6Jk4Ls8MnPq";
        let act = || {
            info!(key, other = ?Some(key), "a {key} b");
            info!(headers = "authorization: Bearer hunter2-hunter2", "sent");
        };
        let lines = written(Format::Text, LevelFilter::INFO, act);
        assert_eq!(
            lines,
            [
                r#" INFO a [redacted] b key=[redacted] other="Some(\"[redacted]\")""#,
                r#" INFO sent headers="authorization: Bearer [redacted]""#,
            ]
        );
    }

    #[test]
    fn a_panic_says_where_not_what() {
        let child = Command::new(std::env::current_exe().expect("this test is a file"))
            .args(["--exact", "telemetry::events::tests::panicking", "--ignored", "--nocapture"])
            .output()
            .expect("it can be started");
        assert!(child.status.success());
        let stderr = String::from_utf8(child.stderr).expect("lines are text");
        let event: serde_json::Value =
            serde_json::from_str(&stderr).expect("one event, nothing else");
        assert_eq!(event["message"], "a task panicked");
        let location = event["location"].as_str().expect("it says where");
        assert!(location.starts_with("src/telemetry/events.rs:"), "{location}");
        assert!(!stderr.contains("canary"), "{stderr}");
    }

    #[test]
    #[ignore = "a_panic_says_where_not_what runs it, in a process of its own"]
    fn panicking() {
        install(Format::Json, LevelFilter::INFO).expect("nobody did before");
        thread::spawn(|| panic!("canary")).join().expect_err("it panics");
    }

    #[test]
    fn a_level_is_a_word() {
        assert_eq!(level(None), Ok(LevelFilter::INFO));
        assert_eq!(level(Some("TRACE")), Ok(LevelFilter::TRACE));
        assert_eq!(level(Some("off")), Ok(LevelFilter::OFF));
        assert_eq!(level(Some("hyper=trace")), Err(LevelError));
        let lines = written(Format::Json, LevelFilter::INFO, || debug!("unheard"));
        assert!(lines.is_empty(), "{lines:?}");
    }
}
