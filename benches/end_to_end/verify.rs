//! The proof, before anything is measured, that a contestant does the job: the right identity reaches
//! the upstream, the key does not, a forged identity is replaced, and without a good key nothing
//! passes. A proxy that does less would be measured at less.

use crate::contestants::Contestant;
use crate::support::Failure;
use crate::support::client::{Answer, Client};
use crate::support::keyring::Key;

/// Nothing but the look-up can refuse it: keyward takes keys of any form.
const UNKNOWN_KEY: &str = "an-unknown-key-that-was-made-elsewhere";

/// Checks the first, the middle and the last key, no key, and an unknown one.
pub(crate) fn does_the_job(contestant: &Contestant, keys: &[Key]) -> Result<(), Failure> {
    for key in [&keys[0], &keys[keys.len() / 2], &keys[keys.len() - 1]] {
        let forged = format!("x-api-key: {}\r\nx-auth-user: mallory\r\n", key.secret);
        let answer = ask(contestant, &forged)?;
        expect(contestant, "a good key", answer.status == 200, &answer)?;
        let seen = answer.body.to_ascii_lowercase();
        for (name, value) in
            [("x-auth-user", &*key.user), ("x-auth-role", key.role), ("x-auth-key-id", &*key.id)]
        {
            let line = format!("\r\n{name}: {}\r\n", value.to_ascii_lowercase());
            expect(contestant, name, seen.contains(&line), &answer)?;
        }
        let clean = !seen.contains("x-api-key") && !answer.body.contains(&key.secret);
        expect(contestant, "the key is removed", clean, &answer)?;
        expect(contestant, "a forged identity", !seen.contains("mallory"), &answer)?;
    }
    for headers in [String::new(), format!("x-api-key: {UNKNOWN_KEY}\r\n")] {
        let answer = ask(contestant, &headers)?;
        let refused = matches!(answer.status, 401 | 403);
        expect(contestant, "no key or an unknown one", refused, &answer)?;
    }
    Ok(())
}

fn ask(contestant: &Contestant, headers: &str) -> Result<Answer, Failure> {
    Client::connect(contestant.address, Ok)
        .and_then(|mut client| client.get("/echo", headers))
        .map_err(|error| format!("{} does not answer: {error}", contestant.name).into())
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
