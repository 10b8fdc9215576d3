//! How the path patterns of routes lie to each other. A pattern holds literal segments, `{name}` and a last
//! `{*rest}`; the most specific one takes a path.
//!
//! Never here: who may pass.

use std::collections::HashMap;

use percent_encoding::{CONTROLS, utf8_percent_encode};

/// A segment that no pattern is likely to name.
const SOME_SEGMENT: &str = "keyward-some-segment";

/// The patterns of all routes, under whatever names their parameters have.
pub(super) struct Patterns(HashMap<String, usize>);

impl Patterns {
    /// Each pattern with its place.
    pub(super) fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Self {
        let places = patterns.into_iter().enumerate();
        Self(places.map(|(place, pattern)| (nameless(pattern), place)).collect())
    }

    /// Whether more specific patterns take every path that `pattern` is for.
    pub(super) fn cover(&self, pattern: &str) -> bool {
        rest_of(pattern).is_some_and(|base| self.cover_below(&nameless(base)))
    }

    /// Whether patterns below `base` take `base` itself and every path that goes on behind it. Only
    /// parameters take every segment, so literals do not count.
    fn cover_below(&self, base: &str) -> bool {
        let child = format!("{base}/{{}}");
        (base.is_empty() || self.0.contains_key(base))
            && self.0.contains_key(&format!("{base}/"))
            && (self.0.contains_key(&format!("{child}/{{*}}")) || self.cover_below(&child))
    }

    /// The places of the patterns that end in `{*rest}` and for whose paths `pattern` is too, with nothing
    /// but parameters behind their beginning: it is for a family of them, not for some that it names.
    pub(super) fn around(&self, pattern: &str) -> Vec<usize> {
        let pattern = nameless(pattern);
        let mut base = pattern.as_str();
        let mut places = Vec::new();
        while let Some((before, "{}" | "{*}")) = base.rsplit_once('/') {
            let around = format!("{before}/{{*}}");
            if around != pattern {
                places.extend(self.0.get(&around));
            }
            base = before;
        }
        places
    }
}

/// A path as a client may send it: one that `pattern` is for, and a slash behind it. None if the pattern is
/// for that one too, or ends in a slash itself.
pub(super) fn sample_with_slash(pattern: &str) -> Option<String> {
    if rest_of(pattern).is_some() || pattern.ends_with('/') {
        return None;
    }
    let segments = pattern.split('/').map(|segment| match segment.starts_with('{') {
        true => SOME_SEGMENT.to_owned(),
        false => utf8_percent_encode(segment, CONTROLS).to_string(),
    });
    Some(segments.chain([String::new()]).collect::<Vec<_>>().join("/"))
}

/// What stands before `/{*rest}`.
fn rest_of(pattern: &str) -> Option<&str> {
    let (base, last) = pattern.rsplit_once('/')?;
    last.starts_with("{*").then_some(base)
}

/// The pattern with its parameters as `{}` and `{*}`.
fn nameless(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| match segment {
        parameter if parameter.starts_with("{*") => "{*}",
        parameter if parameter.starts_with('{') => "{}",
        literal => literal,
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_covered_by_all_that_is_more_specific_together() {
        let check = |pattern: &str, others: &[&str], expect: bool| {
            let patterns = Patterns::new(others.iter().copied().chain([pattern]));
            assert_eq!(patterns.cover(pattern), expect, "{pattern} beside {others:?}");
        };
        check("/{*rest}", &["/", "/{a}/{*rest}"], true);
        check("/{*rest}", &["/{a}/{*rest}"], false);
        check("/{*rest}", &["/", "/{a}"], false);
        check("/{*rest}", &["/", "/{a}", "/{a}/", "/{a}/{b}/{*c}"], true);
        check("/{*rest}", &["/", "/{a}", "/{a}/{b}/{*c}"], false);
        check("/a/{*rest}", &["/a", "/a/", "/a/{x}/{*y}"], true);
        check("/a/{*rest}", &["/a", "/a/{x}/{*y}"], false);
        check("/a/{*rest}", &["/a", "/a/", "/a/x/{*y}"], false);
        check("/a/{*rest}", &["/b", "/b/", "/b/{x}/{*y}"], false);
        check("/a", &["/{*rest}", "/{a}"], false);
        check("/{a}", &["/{*rest}", "/x"], false);
    }

    #[test]
    fn a_family_is_what_only_parameters_single_out() {
        let check = |pattern, around, expect| {
            let found = Patterns::new(["/other", around]).around(pattern);
            assert_eq!(found == [1], expect, "{pattern} in {around}");
        };
        check("/admin/{page}", "/admin/{*rest}", true);
        check("/{x}/{*y}", "/{*rest}", true);
        check("/admin/status", "/admin/{*rest}", false);
        check("/admin/{page}/status", "/admin/{*rest}", false);
        check("/admin", "/admin/{*rest}", false);
        check("/{*a}", "/{*b}", false);
        check("/administrator/{x}", "/admin/{*rest}", false);
        check("/a/{x}", "/a/{y}", false);
    }

    #[test]
    fn samples_are_paths_that_can_be_sent() {
        let check = |pattern: &str, expect: Option<&str>| {
            assert_eq!(sample_with_slash(pattern).as_deref(), expect, "{pattern}");
        };
        check("/admin", Some("/admin/"));
        check("/u/{id}/é", Some("/u/keyward-some-segment/%C3%A9/"));
        check("/", None);
        check("/admin/", None);
        check("/admin/{*rest}", None);
    }
}
