//! `GET /api/v1/keys`: filters, search and pages, out of the memory of the current generation.
//!
//! Keys come newest first. A cursor says behind which key a page begins, so that keys that come or go meanwhile make no
//! other key come twice or not at all.
//!
//! Never here: keys that whoever asks may not see.

use std::cmp::{Ordering, Reverse};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::Faults;
use super::refusal::Answer;
use super::rights::Actor;
use super::view::{Listed, Page};
use crate::identity::UserName;
use crate::keys::{KeyRecord, KeyState};
use crate::usage;
use crate::usage::recorder::Usage;

/// Keys on a page that does not say how many.
const LIMIT_DEFAULT: usize = 50;
/// Keys on a page at most.
const LIMIT_MAX: usize = 200;
/// Longest text that is searched for.
const SEARCH_BYTES_MAX: usize = 255;
/// Most days without a use that are asked for: a century.
const UNUSED_DAYS_MAX: i64 = 36_500;

/// What is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Parameters {
    /// Keys on a page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50)]
    pub(super) limit: Option<String>,
    /// Where the page begins: `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
    /// Only keys of this user.
    pub(super) user: Option<String>,
    /// Only keys with this role.
    pub(super) role: Option<String>,
    /// Only keys that are now enabled, disabled or expired.
    #[param(value_type = Option<super::view::State>, inline)]
    pub(super) state: Option<String>,
    /// Only keys with this very label.
    pub(super) label: Option<String>,
    /// Only keys in whose id, label, user, role or beginning this stands, in upper or lower case.
    pub(super) q: Option<String>,
    /// Only keys that nobody has used for so many days; one that was never used counts from when it was made.
    #[param(value_type = Option<u32>, minimum = 0, maximum = 36500)]
    pub(super) unused_days: Option<String>,
}

/// The same, checked.
#[derive(Debug)]
pub(super) struct Question {
    limit: usize,
    after: Option<Place>,
    user: Option<String>,
    role: Option<String>,
    state: Option<KeyState>,
    label: Option<String>,
    /// In lower case.
    search: Option<String>,
    unused: Option<SignedDuration>,
}

/// A page of keys.
pub(super) struct Found<'a> {
    pub(super) records: Vec<&'a KeyRecord>,
    /// How many keys fit, on all pages.
    pub(super) total: usize,
    /// Where the next page begins.
    pub(super) next_cursor: Option<String>,
}

/// Where in the list a key is: by when it was made, then by its id.
type Place = (Reverse<i64>, String);

impl Parameters {
    pub(super) fn check(self) -> Answer<Question> {
        let mut faults = Faults::default();
        let limit = faults.take_some("limit", self.limit.as_deref(), |text| {
            let limit = text.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
            limit.ok_or_else(|| format!("must be a number from 1 to {LIMIT_MAX}"))
        });
        let after = faults.take_some("cursor", self.cursor.as_deref(), |text| {
            read_cursor(text).ok_or("must be the next_cursor of another page")
        });
        let state = faults.take_some("state", self.state.as_deref(), |text| {
            let states = [KeyState::Enabled, KeyState::Disabled, KeyState::Expired];
            let state = states.into_iter().find(|state| state.as_str() == text);
            state.ok_or("must be enabled, disabled or expired")
        });
        let search = faults.take_some("q", self.q.as_deref(), |text| {
            let fits = text.len() <= SEARCH_BYTES_MAX;
            if fits { Ok(text.to_lowercase()) } else { Err("must have 255 bytes at most") }
        });
        let unused = faults.take_some("unused_days", self.unused_days.as_deref(), |text| {
            let days = text.parse().ok().filter(|days| (0..=UNUSED_DAYS_MAX).contains(days));
            let days = days.map(|days: i64| SignedDuration::from_hours(24 * days));
            days.ok_or_else(|| format!("must be a number from 0 to {UNUSED_DAYS_MAX}"))
        });
        faults.finish()?;
        let limit = limit.unwrap_or(LIMIT_DEFAULT);
        let (user, role, label) = (self.user, self.role, self.label);
        Ok(Question { limit, after, user, role, state, label, search, unused })
    }
}

impl Question {
    /// The page of `records` that is asked for, of what `actor` sees.
    pub(super) fn page(
        &self,
        records: &[KeyRecord],
        usage: &Usage,
        actor: &Actor,
        now: Timestamp,
    ) -> Page {
        let Found { records, total, next_cursor } = self.find(records, usage, actor, now);
        let brief = |record: &KeyRecord| usage.brief(record.id.as_str(), now);
        let listed = |record: &KeyRecord| Listed::new(record, brief(record), now);
        Page { keys: records.into_iter().map(listed).collect(), total, next_cursor }
    }

    /// The same, as records.
    pub(super) fn find<'a>(
        &self,
        records: &'a [KeyRecord],
        usage: &Usage,
        actor: &Actor,
        now: Timestamp,
    ) -> Found<'a> {
        let fits = |record: &&KeyRecord| {
            actor.sees(&record.user) && self.fits(record, now) && self.is_unused(record, usage, now)
        };
        let mut found: Vec<&KeyRecord> = records.iter().filter(fits).collect();
        let total = found.len();
        if let Some(after) = &self.after {
            found.retain(|record| compare_to(record, after) == Ordering::Greater);
        }
        let has_more = found.len() > self.limit;
        if has_more {
            // Only what is shown is sorted.
            found.select_nth_unstable_by(self.limit, |a, b| compare(a, b));
            found.truncate(self.limit);
        }
        found.sort_unstable_by(|a, b| compare(a, b));
        let next_cursor = found.last().filter(|_| has_more).map(|last| write_cursor(last));
        Found { records: found, total, next_cursor }
    }

    fn is_unused(&self, record: &KeyRecord, usage: &Usage, now: Timestamp) -> bool {
        self.unused.is_none_or(|unused| {
            let since = now.checked_sub(unused).unwrap_or(Timestamp::MIN);
            usage::is_unused(usage.last_used(record.id.as_str()), record.created_at, since)
        })
    }

    fn fits(&self, record: &KeyRecord, now: Timestamp) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == found)
        };
        is(&self.user, record.user.as_str())
            && is(&self.role, record.role.as_str())
            && is(&self.label, record.label.as_str())
            && self.state.is_none_or(|state| state == record.state(now))
            && self.search.as_ref().is_none_or(|search| holds(record, search))
    }
}

/// Whether `search`, in lower case, stands in what people know the key by.
fn holds(record: &KeyRecord, search: &str) -> bool {
    let user: &UserName = &record.user;
    let texts = [record.id.as_str(), record.label.as_str(), user.as_str(), record.role.as_str()];
    let mut texts = texts.into_iter().chain(record.start.as_deref());
    texts.any(|text| contains_folded(text, search))
}

fn contains_folded(text: &str, search: &str) -> bool {
    if !text.is_ascii() {
        return text.to_lowercase().contains(search);
    }
    // Nearly every text, without a copy of it.
    let (text, search) = (text.as_bytes(), search.as_bytes());
    search.is_empty()
        || text.windows(search.len()).any(|window| window.eq_ignore_ascii_case(search))
}

fn made_at(record: &KeyRecord) -> Reverse<i64> {
    Reverse(record.created_at.map_or(i64::MIN, Timestamp::as_second))
}

fn compare(a: &KeyRecord, b: &KeyRecord) -> Ordering {
    made_at(a).cmp(&made_at(b)).then_with(|| a.id.cmp(&b.id))
}

fn compare_to(record: &KeyRecord, (made, id): &Place) -> Ordering {
    made_at(record).cmp(made).then_with(|| record.id.as_str().cmp(id))
}

fn write_cursor(last: &KeyRecord) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{}:{}", made_at(last).0, last.id))
}

fn read_cursor(text: &str) -> Option<Place> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (made, id) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((Reverse(made.parse().ok()?), id.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::{AdminScope, Label, RoleDeclaration, RoleName, Roles};
    use crate::usage::recorder;

    fn roles() -> Roles {
        let role = |name: &str, admin| {
            let name = RoleName::new(name).unwrap();
            RoleDeclaration { name, inherits: Vec::new(), admin, limits: Default::default() }
        };
        Roles::new(&[role("all", AdminScope::All), role("own", AdminScope::Own)]).unwrap()
    }

    fn record(id: &str, user: &str, label: &str, created_s: Option<i64>) -> KeyRecord {
        KeyRecord {
            start: Some("kw_abcd".to_owned()),
            label: Label::new(label).unwrap(),
            user: UserName::new(user).unwrap(),
            role: RoleName::new("own").unwrap(),
            created_at: created_s.map(|second| Timestamp::from_second(second).unwrap()),
            ..KeyRecord::sample(id, id)
        }
    }

    fn records() -> Vec<KeyRecord> {
        vec![
            record("key_a", "alice", "Billing Export", Some(10)),
            record("key_b", "bob", "Straße", Some(30)),
            record("key_c", "alice", "nightly", None),
            record("key_d", "alice", "nightly", Some(30)),
            record("key_e", "carol", "import", Some(20)),
        ]
    }

    fn actor(role: &str) -> Actor {
        let mut record = record("key_acting", "alice", "a", None);
        record.role = RoleName::new(role).unwrap();
        Actor::new(&record, &roles(), [127, 0, 0, 1].into()).unwrap()
    }

    fn page(parameters: Parameters, role: &str) -> (Vec<String>, usize, Option<String>) {
        let question = parameters.check().unwrap();
        let (usage, ..) = recorder::start(None, Duration::from_secs(60)).unwrap();
        let now = Timestamp::from_second(40).unwrap();
        let page = question.page(&records(), &usage, &actor(role), now);
        let json = serde_json::to_value(&page.keys).unwrap();
        let ids = json.as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap().to_owned());
        (ids.collect(), page.total, page.next_cursor)
    }

    #[test]
    fn pages_follow_one_another_newest_first() {
        let mut all = Vec::new();
        let mut cursor = None;
        loop {
            let limit = Some("2".to_owned());
            let (ids, total, next) =
                page(Parameters { limit, cursor, ..Default::default() }, "all");
            assert_eq!(total, 5);
            all.extend(ids);
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(all, ["key_b", "key_d", "key_e", "key_a", "key_c"]);
    }

    #[test]
    fn a_cursor_whose_key_is_gone_still_says_where() {
        let cursor = Some(write_cursor(&record("key_c2", "alice", "gone", Some(30))));
        let (ids, ..) = page(Parameters { cursor, ..Default::default() }, "all");
        assert_eq!(ids, ["key_d", "key_e", "key_a", "key_c"]);
    }

    #[test]
    fn who_manages_their_own_keys_is_shown_no_others() {
        let (ids, total, _) = page(Parameters::default(), "own");
        assert_eq!((ids.join(" "), total), ("key_d key_a key_c".to_owned(), 3));
        let (ids, total, _) =
            page(Parameters { user: Some("bob".into()), ..Default::default() }, "own");
        assert_eq!((ids.len(), total), (0, 0));
    }

    #[test]
    fn filters_and_search_narrow_the_list() {
        let check = |parameters: Parameters, expect: &str| {
            assert_eq!(page(parameters, "all").0.join(" "), expect);
        };
        let some = |text: &str| Some(text.to_owned());
        check(Parameters { user: some("alice"), ..Default::default() }, "key_d key_a key_c");
        check(Parameters { label: some("nightly"), ..Default::default() }, "key_d key_c");
        check(Parameters { role: some("viewer"), ..Default::default() }, "");
        check(Parameters { state: some("disabled"), ..Default::default() }, "");
        check(Parameters { q: some("EXPORT"), ..Default::default() }, "key_a");
        check(Parameters { q: some("STRASSE"), ..Default::default() }, "");
        check(Parameters { q: some("straße"), ..Default::default() }, "key_b");
        check(Parameters { q: some("Key_E"), ..Default::default() }, "key_e");
        check(Parameters { q: some("kw_ab"), limit: some("1"), ..Default::default() }, "key_b");
        check(
            Parameters { q: some("ali"), label: some("nightly"), ..Default::default() },
            "key_d key_c",
        );
    }

    #[test]
    fn what_cannot_be_asked_for_is_told_by_its_field() {
        let some = |text: &str| Some(text.to_owned());
        let wrong = Parameters {
            limit: some("0"),
            cursor: some("x"),
            state: some("on"),
            q: Some("x".repeat(256)),
            unused_days: some("-1"),
            ..Default::default()
        };
        let refusal = wrong.check().unwrap_err();
        let fields: Vec<_> = refusal.errors().iter().map(|fault| fault.field.to_string()).collect();
        assert_eq!(fields, ["limit", "cursor", "state", "q", "unused_days"]);
    }
}
