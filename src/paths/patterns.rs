//! Path patterns, and the tree that finds the most specific one for a path.
//!
//! A pattern is a path as it reads decoded, of literal segments, `{name}` (one segment that is not empty)
//! and a last `{*rest}` (any number of segments, none too). Segment by segment from the left, a literal
//! goes before `{name}` and that before `{*rest}`.
//!
//! Our own, because the routers we looked at refuse `/a/{x}` beside `/a/{*rest}`.

use std::fmt::{self, Display, Formatter};

use super::{Ambiguity, read};

/// A tree of patterns, each leading to a number.
#[derive(Debug, Default)]
pub struct PatternTree {
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    /// Sorted by segment, for a binary search without hashing.
    literals: Vec<(Box<str>, Node)>,
    parameter: Option<Box<Node>>,
    /// Where a pattern that ends here leads.
    here: Option<usize>,
    /// Where a pattern that ends here with `{*rest}` leads.
    rest: Option<usize>,
}

impl PatternTree {
    /// Where `pattern`, with its parameters under whatever names, leads: to `new` if it was not there.
    ///
    /// # Errors
    /// What is wrong with the pattern, and what to write.
    pub fn insert(&mut self, pattern: &str, new: usize) -> Result<usize, String> {
        check(pattern)?;
        let mut node = &mut self.root;
        for segment in pattern[1..].split('/') {
            if segment.starts_with("{*") {
                return Ok(*node.rest.get_or_insert(new));
            }
            node = if segment.starts_with('{') {
                node.parameter.get_or_insert_default()
            } else {
                node.literal_or_insert(segment)
            };
        }
        Ok(*node.here.get_or_insert(new))
    }

    /// Where the most specific pattern for `path`, a decoded path, leads.
    pub fn find(&self, path: &str) -> Option<usize> {
        self.root.find(Some(path.strip_prefix('/')?))
    }
}

impl Node {
    fn literal_or_insert(&mut self, segment: &str) -> &mut Node {
        let place = match self.place(segment) {
            Ok(place) => place,
            Err(place) => {
                self.literals.insert(place, (segment.into(), Node::default()));
                place
            }
        };
        &mut self.literals[place].1
    }

    fn place(&self, segment: &str) -> Result<usize, usize> {
        self.literals.binary_search_by(|(literal, _)| (**literal).cmp(segment))
    }

    /// Depth is bounded by the longest pattern, and branches by the patterns: never by the path.
    fn find(&self, path: Option<&str>) -> Option<usize> {
        let Some(path) = path else { return self.here.or(self.rest) };
        let (segment, behind) = match memchr::memchr(b'/', path.as_bytes()) {
            Some(at) => (&path[..at], Some(&path[at + 1..])),
            None => (path, None),
        };
        let literal =
            self.place(segment).ok().and_then(|place| self.literals[place].1.find(behind));
        literal
            .or_else(|| match &self.parameter {
                Some(parameter) if !segment.is_empty() => parameter.find(behind),
                _ => None,
            })
            .or(self.rest)
    }
}

/// One pattern, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Box<str>);

impl PathPattern {
    /// Checks `text`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn new(text: &str) -> Result<Self, String> {
        check(text)?;
        Ok(Self(text.into()))
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether every path of `other` is one of this pattern, too.
    pub fn covers(&self, other: &Self) -> bool {
        let mut theirs = other.0[1..].split('/');
        for own in self.0[1..].split('/') {
            if own.starts_with("{*") {
                return true;
            }
            let is_covered = match theirs.next() {
                None => false,
                Some(their) if their.starts_with("{*") => false,
                Some(their) if own.starts_with('{') => !their.is_empty(),
                Some(their) => own == their,
            };
            if !is_covered {
                return false;
            }
        }
        theirs.next().is_none()
    }
}

impl Display for PathPattern {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check(pattern: &str) -> Result<(), String> {
    if pattern.contains(['%', '?', '#', ';']) {
        return Err("write the decoded path, without '%', '?', '#' or ';'".to_owned());
    }
    match read(pattern).ambiguity {
        Some(Ambiguity::NotUtf8) | None => {}
        Some(ambiguity) => return Err(format!("the pattern {}", ambiguity.reason())),
    }
    let mut segments = pattern[1..].split('/').peekable();
    while let Some(segment) = segments.next() {
        let parameter = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        let name = parameter.map(|inner| inner.strip_prefix('*').unwrap_or(inner));
        if name.unwrap_or(segment).contains(['{', '}', '*']) {
            return Err(
                "a parameter is a whole segment: '{name}', or '{*rest}' at the end".to_owned()
            );
        }
        if name == Some("") {
            return Err("a parameter needs a name: '{name}' or '{*rest}'".to_owned());
        }
        if segment.starts_with("{*") && segments.peek().is_some() {
            return Err("'{*rest}' must be the last segment".to_owned());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_those_whose_paths_are_all_its_own() {
        let check = |wide, narrow, expect| {
            let pattern = |text| PathPattern::new(text).unwrap();
            assert_eq!(pattern(wide).covers(&pattern(narrow)), expect, "{wide} {narrow}");
        };
        for (wide, narrow) in [
            ("/{*rest}", "/"),
            ("/{*rest}", "/a/{x}/{*rest}"),
            ("/a/{*rest}", "/a"),
            ("/a/{*rest}", "/a/"),
            ("/a/{*rest}", "/a/{*other}"),
            ("/a/{x}", "/a/b"),
            ("/a/{x}", "/a/{y}"),
            ("/a", "/a"),
        ] {
            check(wide, narrow, true);
        }
        for (wide, narrow) in [
            ("/a/{*rest}", "/{*rest}"),
            ("/a/{*rest}", "/ab"),
            ("/a/{*rest}", "/{x}/b"),
            ("/a/{x}", "/a"),
            ("/a/{x}", "/a/"),
            ("/a/{x}", "/a/{*rest}"),
            ("/a/{x}", "/a/b/c"),
            ("/a/b", "/a/{x}"),
            ("/a", "/a/"),
        ] {
            check(wide, narrow, false);
        }
    }

    #[test]
    fn the_most_specific_pattern_wins() {
        let patterns = [
            "/{*rest}",
            "/a/{*rest}",
            "/a/{x}",
            "/a/b",
            "/a/{x}/c",
            "/a/b/c/d",
            "/e",
            "/e/{*rest}",
            "/",
        ];
        let mut tree = PatternTree::default();
        for (number, pattern) in patterns.iter().enumerate() {
            assert_eq!(tree.insert(pattern, number), Ok(number));
        }
        for (path, expected) in [
            ("/", "/"),
            ("/z/z", "/{*rest}"),
            ("/a", "/a/{*rest}"),
            ("/a/", "/a/{*rest}"),
            ("/a/b", "/a/b"),
            ("/a/q", "/a/{x}"),
            ("/a/q/c", "/a/{x}/c"),
            ("/a/b/c", "/a/{x}/c"),
            ("/a/b/c/d", "/a/b/c/d"),
            ("/a/q/d", "/a/{*rest}"),
            ("/a/b/c/e", "/a/{*rest}"),
            ("/ab", "/{*rest}"),
            ("/e", "/e"),
            ("/e/", "/e/{*rest}"),
        ] {
            assert_eq!(tree.find(path).map(|number| patterns[number]), Some(expected), "{path}");
        }
    }

    #[test]
    fn parameters_under_other_names_are_the_same_pattern() {
        let mut tree = PatternTree::default();
        assert_eq!(tree.insert("/a/{x}/{*y}", 0), Ok(0));
        assert_eq!(tree.insert("/a/{z}/{*rest}", 1), Ok(0));
        assert_eq!(tree.insert("/a/{z}", 2), Ok(2));
        assert_eq!(tree.find("/b"), None);
    }

    #[test]
    fn unreadable_patterns_are_refused() {
        for pattern in [
            "",
            "a",
            "*",
            "/a//b",
            "/a/../b",
            "/a%20b",
            "/a?b",
            "/{*rest}/b",
            "/a{b}",
            "/{}",
            "/{*}",
            "/a/{b",
            "/*",
            "/{a}}",
        ] {
            let result = PatternTree::default().insert(pattern, 0);
            assert!(result.is_err(), "{pattern}");
        }
    }
}
