//! `WWW-Authenticate`: how a client learns where a key belongs (RFC 9110 §11.6.1, RFC 6750 §3).
//!
//! Built once a load, so that a refusal copies no text. `Basic` is never offered: browsers would ask for
//! a password.

use http::HeaderValue;

use super::credentials::{KeySource, Scheme};

/// The challenges of a configuration; each value is one header line.
#[derive(Debug)]
pub struct Challenges {
    /// For a request without a key.
    pub missing: Vec<HeaderValue>,
    /// For a key that is not, or no longer, valid.
    pub invalid: Vec<HeaderValue>,
    /// For a valid key that may not do this.
    pub insufficient: Vec<HeaderValue>,
}

impl Challenges {
    /// Challenges for `sources` in `realm`, which holds no quote, backslash or control character.
    pub fn new(realm: &str, sources: &[KeySource]) -> Self {
        let lines = |error: Option<&str>| {
            let error = error.map_or_else(String::new, |error| format!(r#", error="{error}""#));
            let line = |source: &KeySource| match source {
                KeySource::Header { scheme: Scheme::Token(scheme), .. } => {
                    Some(format!(r#"{scheme} realm="{realm}"{error}"#))
                }
                KeySource::Header { name, scheme: Scheme::Bare } => {
                    Some(format!(r#"ApiKey realm="{realm}", header="{name}"{error}"#))
                }
                KeySource::Header { scheme: Scheme::Basic, .. } | KeySource::Query(_) => None,
            };
            let mut lines: Vec<String> = sources.iter().filter_map(line).collect();
            // The standard scheme first, whatever the order of the sources.
            lines.sort_by_key(|line| !line.starts_with("Bearer "));
            lines
        };
        let values = |lines: Vec<String>| -> Vec<HeaderValue> {
            let value = |line: &String| {
                HeaderValue::from_str(line).expect("a checked realm is header-safe")
            };
            lines.iter().map(value).collect()
        };
        let mut insufficient = lines(Some("insufficient_scope"));
        if insufficient.first().is_some_and(|line| line.starts_with("Bearer ")) {
            insufficient.truncate(1);
        }
        Self {
            missing: values(lines(None)),
            invalid: values(lines(Some("invalid_token"))),
            insufficient: values(insufficient),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    #[test]
    fn every_source_that_can_be_named_is() {
        let header =
            |name, scheme| KeySource::Header { name: HeaderName::from_static(name), scheme };
        let challenges = Challenges::new(
            "orders",
            &[
                header("x-api-key", Scheme::Bare),
                header("authorization", Scheme::Token("Bearer".to_owned())),
                header("authorization", Scheme::Basic),
            ],
        );
        assert_eq!(
            challenges.missing,
            [r#"Bearer realm="orders""#, r#"ApiKey realm="orders", header="x-api-key""#]
        );
        assert_eq!(
            challenges.invalid,
            [
                r#"Bearer realm="orders", error="invalid_token""#,
                r#"ApiKey realm="orders", header="x-api-key", error="invalid_token""#
            ]
        );
        assert_eq!(
            challenges.insufficient,
            [r#"Bearer realm="orders", error="insufficient_scope""#]
        );
    }
}
