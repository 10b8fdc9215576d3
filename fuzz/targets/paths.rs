//! Path rules: a path has one reading, or it is refused; and the route that is found for it is the one that every other
//! server would find.
//!
//! Input: lines. The last is the path; those before are patterns of routes, behind a letter: `p` for public ones, `r`
//! for those with roles, `a` for those that allow ambiguous paths, and any other for those that take every key.

use keyward::identity::{RoleDeclaration, RoleName, RoleSet, Roles};
use keyward::paths::{self, patterns::PathPattern, patterns::PatternTree};
use keyward::policy::routes::{Access, Route, RouteRule, RouteTable};

use super::reading::percent_decoded;

/// Runs the target.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines: Vec<&str> = text.split('\n').collect();
    let path = lines.pop().unwrap_or_default();
    let rules: Vec<RouteRule> = lines.iter().filter_map(|line| rule(line)).collect();
    check_covers(&rules, path);
    let Ok(table) = RouteTable::new(rules) else { return };
    let Ok(found) = table.find(path) else { return };
    let decoded = check_decoded(path);
    assert!(same(found, naive(&table, &decoded)), "{path:?} goes to {found:?}");
    let allows = found.is_some_and(|route| route.rules().iter().all(|r| r.allow_ambiguous_paths));
    if !allows {
        check_readings(path, &decoded, &table, found);
    }
}

fn rule(line: &str) -> Option<RouteRule> {
    let kind = line.chars().next()?;
    let mut roles = RoleSet::default();
    let declared = RoleDeclaration {
        name: RoleName::new("viewer").ok()?,
        inherits: Vec::new(),
        admin: Default::default(),
        limits: Default::default(),
    };
    roles.insert(Roles::new(&[declared]).ok()?.iter().next()?);
    Some(RouteRule {
        path: line[kind.len_utf8()..].to_owned(),
        methods: None,
        access: match kind {
            'p' => Access::Public,
            'r' => Access::Roles(roles),
            _ => Access::AnyKey,
        },
        client_subjects: Vec::new(),
        upgrades: Default::default(),
        upstream: 0,
        quota: None,
        allow_ambiguous_paths: kind == 'a',
    })
}

/// What `path` decodes to, which is what was matched.
fn check_decoded(path: &str) -> String {
    let decoded = percent_decoded(path.as_bytes(), 1);
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    assert_eq!(paths::read(path).decoded, decoded);
    decoded
}

/// A path that is not refused reads the same for everybody, or at least leads to the same route.
fn check_readings(path: &str, decoded: &str, table: &RouteTable, found: Option<&Route>) {
    assert!(path.starts_with('/') && path.is_ascii(), "{path:?}");
    assert!(!decoded.contains('\\') && !decoded.chars().any(char::is_control), "{path:?}");
    assert_eq!(decoded.matches('/').count(), path.matches('/').count(), "{path:?}: a hidden slash");
    let twice = percent_decoded(path.as_bytes(), 2);
    let often = percent_decoded(path.as_bytes(), 9);
    let texts = [twice, often].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    for reading in texts.iter().map(String::as_str).chain([decoded]) {
        for reading in [reading.to_owned(), without_parameters(reading)] {
            let normal = normalized(&reading);
            assert_eq!(reading, normal, "{path:?} can be normalized");
            assert!(
                same(found, naive(table, &normal)),
                "{path:?} goes to {found:?}, not as {normal:?}"
            );
        }
    }
}

/// RFC 3986 §5.2.4, with what servers do beside: `\` is `/`, and `//` is one.
fn normalized(path: &str) -> String {
    let path = path.replace('\\', "/");
    let mut kept: Vec<&str> = Vec::new();
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    for (place, &segment) in segments.iter().enumerate() {
        let is_last = place + 1 == segments.len();
        match segment {
            "" if !is_last => {}
            "." | ".." => {
                if segment == ".." {
                    kept.pop();
                }
                if is_last {
                    kept.push("");
                }
            }
            _ => kept.push(segment),
        }
    }
    format!("/{}", kept.join("/"))
}

fn without_parameters(path: &str) -> String {
    let segment = |segment: &str| segment.find(';').map_or(segment.len(), |at| at);
    path.split('/').map(|text| &text[..segment(text)]).collect::<Vec<_>>().join("/")
}

fn same(one: Option<&Route>, other: Option<&Route>) -> bool {
    one.map(Route::place) == other.map(Route::place)
}

/// The most specific route for `path`: of all that match, the first in an order by segments.
fn naive<'t>(table: &'t RouteTable, path: &str) -> Option<&'t Route> {
    let matching = table.routes().iter().filter(|route| matches(route.pattern(), path));
    matching.min_by_key(|route| ranks(route.pattern()))
}

/// How general each segment is; where one pattern ends, `{*rest}` of another is the more general one.
fn ranks(pattern: &str) -> Vec<u8> {
    let rank = |segment: &str| match segment {
        rest if rest.starts_with("{*") => 3,
        name if name.starts_with('{') => 2,
        _ => 1,
    };
    pattern[1..].split('/').map(rank).collect()
}

fn matches(pattern: &str, path: &str) -> bool {
    let Some(path) = path.strip_prefix('/') else { return false };
    let mut segments = path.split('/');
    for own in pattern[1..].split('/') {
        if own.starts_with("{*") {
            return true;
        }
        let is_match = match segments.next() {
            Some(segment) if own.starts_with('{') => !segment.is_empty(),
            Some(segment) => own == segment,
            None => false,
        };
        if !is_match {
            return false;
        }
    }
    segments.next().is_none()
}

/// A pattern that covers another matches whatever that one matches.
fn check_covers(rules: &[RouteRule], path: &str) {
    let tree = |pattern: &str| {
        let mut tree = PatternTree::default();
        tree.insert(pattern, 0).ok().map(|_| tree)
    };
    for [one, other] in rules.array_windows() {
        let patterns = (PathPattern::new(&one.path), PathPattern::new(&other.path));
        let (Ok(general), Ok(special)) = patterns else { continue };
        let (Some(all), Some(some)) = (tree(general.as_str()), tree(special.as_str())) else {
            continue;
        };
        if general.covers(&special) && some.find(path).is_some() {
            assert!(all.find(path).is_some(), "{general} does not cover {special}: {path:?}");
        }
    }
}
