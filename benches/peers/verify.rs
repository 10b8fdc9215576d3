//! The proof, before anything is measured, that a contestant does the job: the right identity reaches
//! the upstream, the key does not, a forged identity is replaced, and without a good key nothing
//! passes, and an access log is written. A proxy that does less would be measured at less.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{Contestant, ENVOY, joined};
use crate::support::client::{Answer, Client};
use crate::support::keyring::Key;
use crate::support::{Failure, pause};

/// What gives back the head that it got.
const ECHO: &str = "/echo";
/// How long lines of the access log may stay in a buffer: nginx is told a second.
const LOG_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);
/// Nothing but the look-up can refuse it: keyward takes keys of any form.
const UNKNOWN_KEY: &str = "an-unknown-key-that-was-made-elsewhere";

/// Checks the first, the middle and the last key, no key, and an unknown one; `wrap` makes of a connection what the
/// contestant speaks on it.
pub(crate) fn does_the_job<S: Read + Write>(
    contestant: &Contestant,
    keys: &[Key],
    wrap: impl Fn(TcpStream) -> io::Result<S>,
) -> Result<(), Failure> {
    let ask = |headers: &str| -> Result<Answer, Failure> {
        Client::connect(contestant.address, &wrap)
            .and_then(|mut client| client.get(ECHO, headers))
            .map_err(|error| format!("{} does not answer: {error}", contestant.name).into())
    };
    for key in [&keys[0], &keys[keys.len() / 2], &keys[keys.len() - 1]] {
        let forged = format!("x-api-key: {}\r\nx-auth-user: mallory\r\n", key.secret);
        let answer = ask(&forged)?;
        expect(contestant, "a good key", answer.status == 200, &answer)?;
        let seen = answer.body.to_ascii_lowercase();
        for (name, value) in identity(contestant, key) {
            let line = format!("\r\n{name}: {}\r\n", value.to_ascii_lowercase());
            expect(contestant, name, seen.contains(&line), &answer)?;
        }
        let clean = !seen.contains("x-api-key") && !answer.body.contains(&key.secret);
        expect(contestant, "the key is removed", clean, &answer)?;
        expect(contestant, "a forged identity", !seen.contains("mallory"), &answer)?;
    }
    for headers in [String::new(), format!("x-api-key: {UNKNOWN_KEY}\r\n")] {
        let answer = ask(&headers)?;
        let refused = matches!(answer.status, 401 | 403);
        expect(contestant, "no key or an unknown one", refused, &answer)?;
    }
    writes_its_log(contestant)
}

/// The headers that the upstream is to get. Envoy's filter names a client by one text, so it is asked for one header.
fn identity(contestant: &Contestant, key: &Key) -> Vec<(&'static str, String)> {
    match contestant.name {
        ENVOY => vec![("x-auth-client", joined(key))],
        _ => vec![
            ("x-auth-user", key.user.clone()),
            ("x-auth-role", key.role.to_owned()),
            ("x-auth-key-id", key.id.clone()),
        ],
    }
}

/// Waits for the lines of what was asked: they may be buffered.
fn writes_its_log(contestant: &Contestant) -> Result<(), Failure> {
    let Some(log) = &contestant.access_log else { return Ok(()) };
    let deadline = Instant::now() + LOG_LIMIT;
    while !fs::read_to_string(log).is_ok_and(|lines| lines.contains(ECHO)) {
        if Instant::now() > deadline {
            return Err(format!("{} wrote no access log", contestant.name).into());
        }
        pause(POLL);
    }
    Ok(())
}

fn expect(
    contestant: &Contestant,
    what: &str,
    holds: bool,
    answer: &Answer,
) -> Result<(), Failure> {
    if holds {
        return Ok(());
    }
    let Answer { status, body } = answer;
    Err(format!("{} fails at \"{what}\": {status}\n{body}", contestant.name).into())
}
