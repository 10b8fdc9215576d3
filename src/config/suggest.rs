//! "Did you mean": the known name that an unknown one is nearest to.
//!
//! Never here: names from the environment, which a suggestion could tell.

/// The candidate that `text` was probably meant to be: at most a third of its characters, and never all,
/// are wrong.
pub(super) fn meant<'c>(
    text: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let text = text.to_lowercase();
    let chars = text.chars().count();
    let most = (chars / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&text, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= most && *distance < chars)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "viewer"?`, or all there are.
pub(super) fn did_you_mean(meant: Option<&str>, all: &[&str]) -> String {
    match meant {
        Some(name) => format!("did you mean {name:?}?"),
        None => format!("write one of: {}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(meant(text, ["viewer", "author", "a"]), expected, "{text}");
    }

    #[test]
    fn the_nearest_name_is_meant() {
        check("viewr", Some("viewer"));
        check("VIEWER", Some("viewer"));
        check("auhtor", Some("author"));
        check("ab", Some("a"));
    }

    #[test]
    fn what_is_far_from_every_name_is_not_guessed() {
        check("reader", None);
        check("x", None);
        check("", None);
        check("vw", None);
    }
}
