//! `${NAME}` in a string: replaced by the variable of the environment; `$${` stands for `${` itself.
//!
//! Never here: a fault that shows a variable's value.

/// What stands in the way of a replacement.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem<'a> {
    pub(super) kind: ProblemKind,
    /// The reference as it was written, or what there is of it.
    pub(super) reference: &'a str,
    /// Where it begins, in bytes of the string.
    pub(super) at: usize,
}

/// Why a reference stands for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// No such variable, or one that is not UTF-8.
    Missing,
    /// What stands between the braces cannot name a variable.
    Name,
    /// No brace closes it.
    Open,
}

/// A string as it was written, and what it says after replacement.
pub(super) struct Interpolated {
    pub(super) value: String,
    /// Whether a part of `value` came from the environment and must not be shown.
    pub(super) from_environment: bool,
}

/// Replaces every variable in `written`; every problem is returned, not only the first.
pub(super) fn interpolate<'a>(
    written: &'a str,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Interpolated, Vec<Problem<'a>>> {
    let mut value = String::with_capacity(written.len());
    let mut from_environment = false;
    let mut problems = Vec::new();
    let mut rest = written;
    while let Some(at) = rest.find("${") {
        let (before, reference) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            value.push_str(escaped);
            value.push_str("${");
            rest = &reference[2..];
            continue;
        }
        value.push_str(before);
        let Some(end) = reference.find('}') else {
            let at = written.len() - reference.len();
            problems.push(Problem { kind: ProblemKind::Open, reference, at });
            break;
        };
        let at = written.len() - reference.len();
        let (reference, after) = reference.split_at(end + 1);
        let found = variable(reference).ok_or(ProblemKind::Name);
        match found.and_then(|name| env(name).ok_or(ProblemKind::Missing)) {
            Ok(found) => value.push_str(&found),
            Err(kind) => problems.push(Problem { kind, reference, at }),
        }
        from_environment = true;
        rest = after;
    }
    value.push_str(rest);
    if problems.is_empty() { Ok(Interpolated { value, from_environment }) } else { Err(problems) }
}

/// The name in a text that is one `${NAME}` and nothing else.
pub(super) fn variable(written: &str) -> Option<&str> {
    let name = written.strip_prefix("${")?.strip_suffix('}')?;
    let begins_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on_well = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (begins_well && goes_on_well).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "_b2" => Some("${A}".to_owned()),
            _ => None,
        }
    }

    #[track_caller]
    fn check(written: &str, expected: Result<(&str, bool), &[Problem<'_>]>) {
        let found = interpolate(written, &env);
        let found = found.as_ref().map(|text| (text.value.as_str(), text.from_environment));
        assert_eq!(found.map_err(Vec::as_slice), expected, "{written}");
    }

    #[test]
    fn variables_are_replaced_once() {
        check("plain", Ok(("plain", false)));
        check("", Ok(("", false)));
        check("a ${A} b", Ok(("a one b", true)));
        check("${A}${A}", Ok(("oneone", true)));
        check("${_b2}", Ok(("${A}", true)));
    }

    #[test]
    fn a_dollar_is_itself_unless_a_brace_follows() {
        check("$A $ $$", Ok(("$A $ $$", false)));
        check("$${A}", Ok(("${A}", false)));
        check("$$${A}", Ok(("$${A}", false)));
        check("$${", Ok(("${", false)));
    }

    #[test]
    fn every_problem_is_found() {
        use ProblemKind::{Missing, Name, Open};
        let problem = |kind, reference, at| Problem { kind, reference, at };
        check("${X} ${A} ${X}", Err(&[problem(Missing, "${X}", 0), problem(Missing, "${X}", 10)]));
        check("$${} ${}${A-B}", Err(&[problem(Name, "${}", 5), problem(Name, "${A-B}", 8)]));
        check("${1} ${A", Err(&[problem(Name, "${1}", 0), problem(Open, "${A", 5)]));
    }

    #[test]
    fn a_variable_alone_is_recognised() {
        assert_eq!(variable("${PEPPER}"), Some("PEPPER"));
        for other in ["PEPPER", "x${PEPPER}", "${PEPPER} ", "${A}${B}", "$${A}", "${}"] {
            assert_eq!(variable(other), None, "{other}");
        }
    }
}
