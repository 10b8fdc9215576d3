//! Revisions of a key, as entity tags (RFC 9110 §8.8.3): two people who change one key at once both learn of it.
//!
//! Never here: a hash that could be traced back to a key's digest.

use std::fmt::{self, Display, Formatter};
use std::hash::{DefaultHasher, Hash, Hasher};

use http::HeaderMap;
use http::header::IF_MATCH;
use jiff::Timestamp;

use super::refusal::{Answer, Refusal};
use crate::keys::KeyRecord;

/// What a key was when somebody saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Revision(String);

impl Revision {
    /// What `record` is now.
    pub(super) fn of(record: &KeyRecord) -> Self {
        // Everything that is kept of a key, and its state, which changes by time alone.
        let state = record.state(Timestamp::now());
        let mut hasher = DefaultHasher::new();
        format!("{record:?} {}", state.as_str()).hash(&mut hasher);
        Self(format!("\"{:016x}\"", hasher.finish()))
    }

    /// Whether `record` is still that.
    pub(super) fn is_of(&self, record: &KeyRecord) -> bool {
        *self == Self::of(record)
    }

    /// What `If-Match` asks for: nothing, or one tag. `*` asks for any key that is there.
    pub(super) fn expected(headers: &HeaderMap) -> Answer<Option<Self>> {
        let mut values = headers.get_all(IF_MATCH).iter();
        let Some(value) = values.next() else { return Ok(None) };
        let text = value.to_str().unwrap_or_default().trim();
        let is_tag = text.len() > 1 && text.starts_with('"') && text.ends_with('"');
        match text {
            "*" if values.next().is_none() => Ok(None),
            tag if is_tag && !tag[1..tag.len() - 1].contains('"') && values.next().is_none() => {
                Ok(Some(Self(tag.to_owned())))
            }
            _ => Err(Refusal::Malformed(
                "If-Match must be the ETag that came with the key, with its quotes, or *.".into(),
            )),
        }
    }
}

impl Display for Revision {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_strong_tag_is_asked_for_or_anything() {
        let check = |values: &[&str], expect: Result<Option<&str>, ()>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, value.parse().expect("a header value"));
            }
            let expected = Revision::expected(&headers).map_err(|_| ());
            assert_eq!(
                expected.map(|tag| tag.map(|tag| tag.0)),
                expect.map(|tag| tag.map(str::to_owned))
            );
        };
        check(&[], Ok(None));
        check(&["*"], Ok(None));
        check(&["\"abc\""], Ok(Some("\"abc\"")));
        check(&["abc"], Err(()));
        check(&["\""], Err(()));
        check(&["W/\"abc\""], Err(()));
        check(&["\"abc\", \"def\""], Err(()));
        check(&["\"abc\"", "\"def\""], Err(()));
        check(&["*", "*"], Err(()));
    }
}
