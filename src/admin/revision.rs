//! Revisions of a key as entity tags (RFC 9110 §8.8.3): of two people who change one key at once, the second learns of it.
//!
//! Never here: what a revision is made of (see [`keys::change`](crate::keys::change)).

use http::HeaderMap;
use http::header::IF_MATCH;

use super::refusal::{Answer, Refusal};
use crate::keys::KeyRecord;
use crate::keys::change::Revision;

/// The tag of what `record` is.
pub(super) fn etag(record: &KeyRecord) -> String {
    format!("\"{}\"", Revision::of(record))
}

/// What `If-Match` asks for: nothing, or one tag. `*` asks for any key that is there.
///
/// # Errors
/// It is no such thing, or a tag that no key ever had.
pub(super) fn expected(headers: &HeaderMap) -> Answer<Option<Revision>> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let tag = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    match tag {
        _ if values.next().is_some() => {}
        None if text == "*" => return Ok(None),
        Some(tag) if !tag.contains('"') => {
            return Revision::parse(tag).map(Some).ok_or(Refusal::Changed);
        }
        _ => {}
    }
    Err(Refusal::Malformed(
        "If-Match must be the ETag that came with the key, with its quotes, or *.".into(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_strong_tag_is_asked_for_or_anything() {
        let tag = "0123456789abcdef0123456789abcdef";
        let check = |values: &[&str], expect: Result<Option<&str>, &str>| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IF_MATCH, value.parse().expect("a header value"));
            }
            let expected = expected(&headers).map_err(|refusal| refusal.problem().code);
            let expected = expected.map(|tag| tag.map(|tag| tag.to_string()));
            assert_eq!(expected, expect.map(|tag| tag.map(str::to_owned)), "{values:?}");
        };
        let quoted = format!("\"{tag}\"");
        check(&[], Ok(None));
        check(&["*"], Ok(None));
        check(&[&quoted], Ok(Some(tag)));
        check(&["\"abc\""], Err("changed"));
        check(&[tag], Err("bad_request"));
        check(&["\""], Err("bad_request"));
        check(&[&format!("W/{quoted}")], Err("bad_request"));
        check(&[&format!("{quoted}, {quoted}")], Err("bad_request"));
        check(&[&quoted, &quoted], Err("bad_request"));
        check(&["*", "*"], Err("bad_request"));
    }
}
