//! Who has signed in to the page: sessions, in memory alone.
//!
//! A session is a random name in a cookie, for a key by which somebody acts. It knows of the key no more than its digest,
//! so that the key is looked up anew with every request, and a session is over when its key is.
//!
//! Never here: the key itself, or anything on a disk.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::COOKIE;
use subtle::ConstantTimeEq as _;

/// A day of work: the longest that a session lasts, however busy.
const AGE_MAX: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions at most, at some hundred bytes each; beyond, the one that was idle for longest ends.
const SESSIONS_MAX: usize = 1_000;
/// Forms whose sending is remembered, in one session.
const SENT_MAX: usize = 64;
/// Names and tokens are of so many random bytes.
const RANDOM_BYTES: usize = 32;

/// Every session, by its name.
#[derive(Default)]
pub(in crate::admin) struct Sessions(Mutex<HashMap<String, Session>>);

struct Session {
    /// Of the secret that was signed in with.
    digest: [u8; 32],
    /// What its forms carry (CSRF).
    token: String,
    began: Instant,
    seen: Instant,
    /// Forms that make a secret and were sent, by their names.
    sent: VecDeque<String>,
}

/// What is known of a request's session.
pub(super) struct Entered {
    pub(super) name: String,
    pub(super) digest: [u8; 32],
    pub(super) token: String,
}

impl Entered {
    /// Whether a form carries the token of the session.
    pub(super) fn has_sent(&self, token: &str) -> bool {
        self.token.as_bytes().ct_eq(token.as_bytes()).into()
    }
}

impl Sessions {
    /// Begins one for the key with `digest`; gives back its name.
    ///
    /// # Errors
    /// The system has no randomness.
    pub(super) fn begin(&self, digest: [u8; 32], now: Instant) -> Result<String, getrandom::Error> {
        let (name, token) = (random()?, random()?);
        let mut sessions = self.lock();
        if sessions.len() >= SESSIONS_MAX {
            let idlest = sessions.iter().min_by_key(|(_, session)| session.seen);
            let idlest = idlest.map(|(name, _)| name.clone());
            idlest.and_then(|idlest| sessions.remove(&idlest));
        }
        let session = Session { digest, token, began: now, seen: now, sent: VecDeque::new() };
        sessions.insert(name.clone(), session);
        Ok(name)
    }

    /// The session of a request, unless it was `idle` for too long.
    pub(super) fn enter(&self, name: &str, idle: Duration, now: Instant) -> Option<Entered> {
        let mut sessions = self.lock();
        sessions.retain(|_, session| {
            let age = now.saturating_duration_since(session.began);
            age < AGE_MAX && now.saturating_duration_since(session.seen) < idle
        });
        let session = sessions.get_mut(name)?;
        session.seen = session.seen.max(now);
        let Session { digest, token, .. } = session;
        Some(Entered { name: name.to_owned(), digest: *digest, token: token.clone() })
    }

    /// Ends one. Its name is good for nothing any more.
    pub(super) fn end(&self, name: &str) {
        self.lock().remove(name);
    }

    /// Whether the form `form` is sent for the first time.
    pub(super) fn send(&self, name: &str, form: &str) -> bool {
        let mut sessions = self.lock();
        let Some(session) = sessions.get_mut(name) else { return false };
        if session.sent.iter().any(|sent| sent == form) {
            return false;
        }
        if session.sent.len() >= SENT_MAX {
            session.sent.pop_front();
        }
        session.sent.push_back(form.to_owned());
        true
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Session>> {
        // What is in the map is sound after every line.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A text that nobody guesses.
pub(super) fn random() -> Result<String, getrandom::Error> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

/// What the cookie is called. Over TLS browsers take the name from nobody but this very host (RFC 6265bis §4.1.3).
fn cookie_name(is_tls: bool) -> &'static str {
    if is_tls { "__Host-keyward_session" } else { "keyward_session" }
}

/// The session that a request names, if it names one alone.
pub(super) fn named(headers: &HeaderMap, is_tls: bool) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let cookies =
        cookies.flat_map(|value| value.split(';')).filter_map(|c| c.trim().split_once('='));
    let mut names =
        cookies.filter(|(name, _)| *name == cookie_name(is_tls)).map(|(_, value)| value);
    names.next().filter(|_| names.next().is_none())
}

/// The cookie of the session `name`; with `None`, the end of it.
pub(super) fn cookie(name: Option<&str>, is_tls: bool) -> String {
    let (secure, end) =
        (if is_tls { "; Secure" } else { "" }, if name.is_none() { "; Max-Age=0" } else { "" });
    let (cookie, value) = (cookie_name(is_tls), name.unwrap_or_default());
    format!("{cookie}={value}; Path=/; HttpOnly; SameSite=Strict{secure}{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(60);

    #[test]
    fn a_session_ends_idle_or_at_the_end_of_the_day() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let begin = || sessions.begin([1; 32], start).expect("randomness");
        let is_open = |name: &str, after| sessions.enter(name, IDLE, start + after).is_some();
        let (left, used) = (begin(), begin());
        assert_ne!(left, used);
        assert!(is_open(&used, IDLE / 2));
        assert!(is_open(&used, IDLE));
        assert!(!is_open(&left, IDLE));
        let mut now = IDLE;
        while now < AGE_MAX {
            assert!(is_open(&used, now), "{now:?}");
            now += IDLE / 2;
        }
        assert!(!is_open(&used, now));
        assert_eq!(sessions.lock().len(), 0, "what is over is forgotten");
    }

    #[test]
    fn a_session_that_was_ended_is_over_and_a_made_up_one_never_was() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let name = sessions.begin([1; 32], start).expect("randomness");
        assert!(sessions.enter("made-up", IDLE, start).is_none());
        let entered = sessions.enter(&name, IDLE, start).expect("it is open");
        assert!(entered.has_sent(&entered.token));
        assert!(!entered.has_sent("") && !entered.has_sent(&name));
        sessions.end(&name);
        assert!(sessions.enter(&name, IDLE, start).is_none());
    }

    #[test]
    fn memory_is_bounded_and_who_was_idle_longest_goes() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let at = |number: usize| start + Duration::from_millis(number as u64);
        let names: Vec<_> = (0..=SESSIONS_MAX)
            .map(|number| sessions.begin([1; 32], at(number)).expect("randomness"))
            .collect();
        assert_eq!(sessions.lock().len(), SESSIONS_MAX);
        assert!(sessions.enter(&names[0], IDLE, at(SESSIONS_MAX)).is_none());
        assert!(sessions.enter(&names[1], IDLE, at(SESSIONS_MAX)).is_some());
    }

    #[test]
    fn a_form_is_sent_once() {
        let (sessions, start) = (Sessions::default(), Instant::now());
        let name = sessions.begin([1; 32], start).expect("randomness");
        assert!(sessions.send(&name, "a"));
        assert!(!sessions.send(&name, "a"));
        assert!(!sessions.send("made-up", "b"));
        for number in 0..2 * SENT_MAX {
            assert!(sessions.send(&name, &number.to_string()));
        }
        assert_eq!(sessions.lock()[&name].sent.len(), SENT_MAX);
    }

    #[test]
    fn one_cookie_names_a_session() {
        let check = |cookies: &[&str], is_tls, expect: Option<&str>| {
            let mut headers = HeaderMap::new();
            for cookie in cookies {
                headers.append(COOKIE, cookie.parse().expect("a header value"));
            }
            assert_eq!(named(&headers, is_tls), expect, "{cookies:?}");
        };
        check(&["keyward_session=a"], false, Some("a"));
        check(&["x=y; keyward_session=a; z"], false, Some("a"));
        check(&["x=y", "keyward_session=a"], false, Some("a"));
        check(&["keyward_session=a; keyward_session=b"], false, None);
        check(&["keyward_session=a"], true, None);
        check(&["keyward_session=a; __Host-keyward_session=b"], true, Some("b"));
        check(&[], false, None);
        assert_eq!(
            cookie(Some("a"), true),
            "__Host-keyward_session=a; Path=/; HttpOnly; SameSite=Strict; Secure"
        );
        assert_eq!(
            cookie(None, false),
            "keyward_session=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0"
        );
    }
}
