//! What the `keys` commands read: keys from standard input or a file, and times.
//!
//! Never here: a message that shows what was read.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;

use super::super::failure::Failure;
use crate::redact::Secret;

/// Most bytes read in search of one key: far more than a key and the blanks around it.
const KEY_INPUT_BYTES: usize = 4096;

/// The present, in whole seconds: what people read, and what the key table knows.
pub(super) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).expect("the present is a time that exists")
}

/// When a new key ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expiry {
    After(Duration),
    At(Timestamp),
}

impl Expiry {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Ok(duration) = humantime::parse_duration(text) {
            return Ok(Self::After(duration));
        }
        text.parse().map(Self::At).map_err(|_| {
            "neither a time from now, such as 90d or 12h, nor a time with a zone, such as \
             2027-01-01T00:00:00Z"
                .to_owned()
        })
    }

    /// The time that is meant `now`, in whole seconds.
    pub(super) fn after(self, now: Timestamp) -> Result<Timestamp, String> {
        let end = match self {
            Self::After(duration) => {
                now.checked_add(duration).map_err(|_| "--expires is too far away".to_owned())?
            }
            Self::At(end) => end,
        };
        if end.as_second() <= now.as_second() {
            return Err("--expires is not in the future".to_owned());
        }
        Ok(Timestamp::from_second(end.as_second()).expect("a time without its fraction is one"))
    }
}

/// Reads one key, with whatever blanks and line ends are around it.
pub(super) fn read_key() -> Result<Secret<Vec<u8>>, Failure> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        writeln!(anstream::stderr(), "type or paste the key, then Enter and Ctrl-D:")?;
    }
    // The capacity is final: growing would leave a copy of the key behind in freed memory.
    let mut input = Vec::with_capacity(KEY_INPUT_BYTES);
    let read = stdin.lock().take(KEY_INPUT_BYTES as u64).read_to_end(&mut input);
    let key = Secret::new(input);
    read?;
    if key.expose().trim_ascii().is_empty() {
        return Err(Failure::Usage("standard input holds no key".to_owned()));
    }
    Ok(key)
}

/// Reads what is to be imported, from `file` or from standard input.
pub(super) fn read_import(file: Option<&Path>) -> Result<Secret<String>, Failure> {
    let mut text = String::new();
    let read = match file {
        Some(path) => File::open(path).and_then(|mut file| file.read_to_string(&mut text)),
        None => io::stdin().lock().read_to_string(&mut text),
    };
    let text = Secret::new(text);
    // The path is not shown: it may be a key, given where a file belongs.
    read.map_err(|error| match error.kind() {
        ErrorKind::InvalidData => Failure::Failed("what is to be imported is not UTF-8".to_owned()),
        _ => Failure::Failed(format!("cannot read what is to be imported: {error}")),
    })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn an_end_is_a_duration_or_a_time() {
        let now = at(1_000_000);
        let check = |text: &str, expect: Result<i64, &str>| {
            let end = Expiry::parse(text).and_then(|expiry| expiry.after(now));
            assert_eq!(end, expect.map(at).map_err(str::to_owned), "{text}");
        };
        check("90d", Ok(1_000_000 + 90 * 86_400));
        check("1h 30m", Ok(1_000_000 + 5_400));
        check("2027-01-01T00:00:00.5Z", Ok(1_798_761_600));
        check("2027-01-01T00:00:00+01:00", Ok(1_798_758_000));
        check("1970-01-01T00:00:00Z", Err("--expires is not in the future"));
        check("0s", Err("--expires is not in the future"));
        check("99999y", Err("--expires is too far away"));
        assert!(Expiry::parse("soon").is_err());
        assert!(Expiry::parse("2027-01-01").is_err());
    }
}
