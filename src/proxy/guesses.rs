//! Keys that let nobody in: whoever shows too many of them is told to wait, and no longer what was wrong with each.
//!
//! A key that is good never comes here, so nobody is kept out by those who share their address. Nor does a request
//! without a key: it guesses nothing.
//!
//! Never here: the counting (see [`failures`](crate::limit::failures)), or keys.

use super::context::RequestContext;
use super::error::Refusal;
use crate::auth::Unauthenticated;
use crate::limit::failures::{Verdict, retry_after_s};
use crate::snapshot::Snapshot;

/// Why a request is refused that nobody is known to have sent, for `reason`. Where everybody may pass it is not refused, but
/// a guess is one there, too: what the upstream answers may tell who was known.
///
/// Only what nobody has is a guess. A key that was disabled or has expired was good once, and whoever still uses it shall
/// hear why it is not any more; but not where too much was guessed, or the answer would tell that it is known.
pub(super) fn refusal(
    reason: Unauthenticated,
    snapshot: &Snapshot,
    context: &RequestContext,
) -> Refusal {
    let Some(rule) = &snapshot.config.auth.failures else { return reason.into() };
    let (client, now) = (context.client(), context.connection().now());
    let failures = context.failures();
    let wait = match reason {
        Unauthenticated::MissingKey | Unauthenticated::Ambiguous => None,
        Unauthenticated::KeyDisabled | Unauthenticated::KeyExpired => {
            failures.ban_left(client, rule, now)
        }
        Unauthenticated::InvalidKey => match failures.failed(client, rule, now) {
            Verdict::Free => None,
            Verdict::Bans => {
                if let Some(others) = failures.tells(now) {
                    tracing::warn!(
                        %client,
                        ban = %humantime::format_duration(rule.ban),
                        others,
                        "an address showed too many keys that nobody has; further ones are refused with 429"
                    );
                }
                None
            }
            Verdict::Banned(wait) => Some(wait),
        },
    };
    wait.map_or(reason.into(), |wait| Refusal::TooManyFailures {
        retry_after_s: retry_after_s(wait),
    })
}
