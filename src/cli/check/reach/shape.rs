//! How the path patterns of routes lie to each other. A pattern holds literal segments, `{name}` and a last
//! `{*rest}`; the most specific one takes a path.
//!
//! Never here: who may pass.

use std::collections::HashSet;

use percent_encoding::{CONTROLS, utf8_percent_encode};

/// A segment that no pattern is likely to name.
const SOME_SEGMENT: &str = "keyward-some-segment";

/// Whether the patterns in `all` that are more specific than `pattern` take every path it is for.
pub(super) fn is_covered<'a>(pattern: &str, all: impl IntoIterator<Item = &'a str>) -> bool {
    let Some(base) = rest_of(pattern) else { return false };
    let all: HashSet<String> = all.into_iter().map(nameless).collect();
    are_paths_below_taken(&nameless(base), &all)
}

/// Whether patterns below `base` take `base` itself and every path that goes on behind it.
fn are_paths_below_taken(base: &str, all: &HashSet<String>) -> bool {
    let child = format!("{base}/{{}}");
    let is_base_taken = base.is_empty() || all.contains(base);
    is_base_taken
        && all.contains(&format!("{base}/"))
        && (all.contains(&format!("{child}/{{*}}")) || {
            // Only parameters take every segment, so literals deeper down do not count.
            let goes_on = all.iter().any(|other| other.starts_with(&child));
            goes_on && are_paths_below_taken(&child, all)
        })
}

/// Whether every segment of `pattern` behind the beginning of `around`, a pattern that ends in `{*rest}`, is
/// a parameter: it is for a family of the paths that `around` is for, not for some that it names.
pub(super) fn is_family_in(pattern: &str, around: &str) -> bool {
    let Some(base) = rest_of(around).map(nameless) else { return false };
    let (pattern, around) = (nameless(pattern), nameless(around));
    let Some(rest) = pattern.strip_prefix(&base).and_then(|rest| rest.strip_prefix('/')) else {
        return false;
    };
    pattern != around && rest.split('/').all(|segment| matches!(segment, "{}" | "{*}"))
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
            let all = others.iter().copied().chain([pattern]);
            assert_eq!(is_covered(pattern, all), expect, "{pattern} beside {others:?}");
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
            assert_eq!(is_family_in(pattern, around), expect, "{pattern} in {around}");
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
