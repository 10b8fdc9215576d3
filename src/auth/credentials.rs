//! Taking the key out of a request: from every place it may be in, so that none of them is forwarded.
//!
//! Never here: whether the key is good (see [`authenticate`](super::authenticate)), or a copy of it outside
//! a [`Secret`].

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, Uri};
use percent_encoding::percent_decode_str;

use crate::redact::Secret;

/// One place a key may be in, `[auth] key_sources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A header field.
    Header {
        /// Its name.
        name: HeaderName,
        /// What stands before the key in its value.
        scheme: Scheme,
    },
    /// A parameter of the query, by its name before percent-encoding.
    Query(String),
}

impl KeySource {
    /// The name of the header or parameter.
    pub fn name(&self) -> &str {
        match self {
            Self::Header { name, .. } => name.as_str(),
            Self::Query(parameter) => parameter,
        }
    }
}

/// How a header value holds the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// The value is the key.
    Bare,
    /// `<name> <key>`, the name in any case (RFC 9110 §11.1): `Bearer`.
    Token(String),
    /// RFC 7617: the key is the password, or the user name when the password is empty.
    Basic,
}

/// What a request carried to prove who sent it.
#[derive(Debug)]
pub struct Credential(Secret<Vec<u8>>);

impl Credential {
    /// A key that somebody typed.
    pub fn typed(key: Secret<Vec<u8>>) -> Self {
        Self(key)
    }

    /// The key as it was sent.
    pub fn key(&self) -> &Secret<Vec<u8>> {
        &self.0
    }
}

/// A request carried two different keys.
#[derive(Debug, PartialEq, Eq)]
pub struct Ambiguous;

/// The key sources of a configuration, by where to look.
#[derive(Debug)]
pub struct KeySources {
    headers: Vec<(HeaderName, Vec<Scheme>)>,
    parameters: Vec<String>,
    /// Whether the sources are removed from the request.
    hide: bool,
}

impl KeySources {
    /// Compiles `sources`. With `hide`, [`take`](Self::take) removes every one of them from a request.
    pub fn new(sources: &[KeySource], hide: bool) -> Self {
        let mut compiled = Self { headers: Vec::new(), parameters: Vec::new(), hide };
        for source in sources {
            match source {
                KeySource::Query(parameter) => compiled.parameters.push(parameter.clone()),
                KeySource::Header { name, scheme } => {
                    match compiled.headers.iter_mut().find(|(known, _)| known == name) {
                        Some((_, schemes)) => schemes.push(scheme.clone()),
                        None => compiled.headers.push((name.clone(), vec![scheme.clone()])),
                    }
                }
            }
        }
        compiled
    }

    /// The headers that are sources.
    pub fn header_names(&self) -> impl Iterator<Item = &HeaderName> {
        self.headers.iter().map(|(name, _)| name)
    }

    /// Takes the key out of a request's target and headers.
    ///
    /// A header that is a source is removed whole, in whatever form its value is: a key under a mistyped
    /// scheme is still a key. An empty value is no credential.
    ///
    /// # Errors
    /// Two different keys; the request is stripped all the same.
    pub fn take(
        &self,
        uri: &mut Uri,
        headers: &mut HeaderMap,
    ) -> Result<Option<Credential>, Ambiguous> {
        let mut found = Found::default();
        for (name, schemes) in &self.headers {
            let mut is_there = false;
            for value in headers.get_all(name) {
                is_there = true;
                schemes
                    .iter()
                    .filter_map(|scheme| read(scheme, value.as_bytes()))
                    .for_each(|k| found.add(k));
            }
            if is_there && self.hide {
                headers.remove(name);
            }
        }
        if !self.parameters.is_empty() {
            self.take_parameters(uri, &mut found);
        }
        if found.ambiguous { Err(Ambiguous) } else { Ok(found.key.map(Credential)) }
    }

    /// Reads the query, and with `hide` removes our parameters; what stays is as it was, byte for byte.
    fn take_parameters(&self, uri: &mut Uri, found: &mut Found) {
        let Some(query) = uri.query() else { return };
        let mut kept = Vec::new();
        let mut removed = false;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if self.parameters.iter().any(|ours| decode(name) == ours.as_bytes()) {
                found.add(Secret::new(decode(value)));
                removed = true;
            } else {
                kept.push(pair);
            }
        }
        if !(removed && self.hide) {
            return;
        }
        let target = match kept.is_empty() {
            true => uri.path().to_owned(),
            false => format!("{}?{}", uri.path(), kept.join("&")),
        };
        let mut parts = std::mem::take(uri).into_parts();
        let target =
            PathAndQuery::try_from(target).expect("a part of a valid target is a valid target");
        parts.path_and_query = Some(target);
        *uri = Uri::from_parts(parts).expect("only the query of a valid target changed");
    }
}

/// The keys seen so far.
#[derive(Default)]
struct Found {
    key: Option<Secret<Vec<u8>>>,
    ambiguous: bool,
}

impl Found {
    fn add(&mut self, key: Secret<Vec<u8>>) {
        match &self.key {
            _ if key.expose().is_empty() => {}
            Some(earlier) => self.ambiguous |= earlier.expose() != key.expose(),
            None => self.key = Some(key),
        }
    }
}

/// The key in a header `value` that is of `scheme`.
fn read(scheme: &Scheme, value: &[u8]) -> Option<Secret<Vec<u8>>> {
    match scheme {
        Scheme::Bare => Some(Secret::new(value.to_vec())),
        Scheme::Token(name) => after_scheme(name, value).map(|key| Secret::new(key.to_vec())),
        Scheme::Basic => {
            let decoded = Secret::new(BASE64_STANDARD.decode(after_scheme("Basic", value)?).ok()?);
            let mut parts = decoded.expose().splitn(2, |&byte| byte == b':');
            let user = parts.next().unwrap_or_default();
            let password = parts.next().unwrap_or_default();
            Some(Secret::new(if password.is_empty() { user } else { password }.to_vec()))
        }
    }
}

/// What stands behind `scheme` and at least one space.
fn after_scheme<'a>(scheme: &str, value: &'a [u8]) -> Option<&'a [u8]> {
    let (name, rest) = value.split_at_checked(scheme.len())?;
    let is_ours =
        name.eq_ignore_ascii_case(scheme.as_bytes()) && rest.first().is_none_or(|&b| b == b' ');
    is_ours.then(|| rest.trim_ascii())
}

/// A query parameter's name or value, decoded (`+` is a space).
fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(&text.replace('+', " ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(hide: bool) -> KeySources {
        let header =
            |name, scheme| KeySource::Header { name: HeaderName::from_static(name), scheme };
        let all = [
            header("x-api-key", Scheme::Bare),
            header("authorization", Scheme::Token("Bearer".to_owned())),
            header("authorization", Scheme::Basic),
            KeySource::Query("api_key".to_owned()),
        ];
        KeySources::new(&all, hide)
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().expect("a header value"))
        };
        lines.iter().map(line).collect()
    }

    /// `expected` is the key, `Ok(None)` for none, and `Err` for two.
    #[track_caller]
    fn check(
        target: &str,
        lines: &[(&'static str, &str)],
        expected: Result<Option<&str>, Ambiguous>,
    ) {
        let mut uri: Uri = target.parse().expect("a target");
        let mut headers = headers(lines);
        let taken = sources(true).take(&mut uri, &mut headers);
        let key =
            taken.map(|c| c.map(|c| String::from_utf8(c.key().expose().clone()).expect("text")));
        assert_eq!(key, expected.map(|key| key.map(str::to_owned)));
        assert!(headers.is_empty(), "every source is removed");
        assert!(!uri.to_string().contains("secret"), "the query is stripped");
    }

    #[test]
    fn every_source_is_read_and_removed() {
        // base64: any:secret-1, secret-1:, secret-1
        let [password, user, no_colon] = ["YW55OnNlY3JldC0x", "c2VjcmV0LTE6", "c2VjcmV0LTE="];
        for (target, name, value) in [
            ("/", "x-api-key", "secret-1".to_owned()),
            ("/", "authorization", "Bearer secret-1".to_owned()),
            ("/", "authorization", "bEARER   secret-1".to_owned()),
            ("/", "authorization", format!("Basic {password}")),
            ("/", "authorization", format!("basic {user}")),
            ("/", "authorization", format!("Basic {no_colon}")),
        ] {
            check(target, &[(name, &value)], Ok(Some("secret-1")));
        }
        check("/?api_key=secret-1", &[], Ok(Some("secret-1")));
        check("/?a=b&%61pi_key=secret%2D1&c", &[], Ok(Some("secret-1")));
    }

    #[test]
    fn what_is_no_credential_is_removed_all_the_same() {
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic",
            "Basic !!",
            "secret-1",
            "Digest secret-1",
            "Bearersecret-1",
        ] {
            check("/", &[("authorization", value)], Ok(None));
        }
        check("/?api_key=&api_key", &[("x-api-key", "")], Ok(None));
    }

    #[test]
    fn two_different_keys_are_ambiguous_and_one_key_twice_is_not() {
        check("/", &[("x-api-key", "secret-1"), ("x-api-key", "secret-2")], Err(Ambiguous));
        check(
            "/",
            &[("x-api-key", "secret-1"), ("authorization", "Bearer secret-2")],
            Err(Ambiguous),
        );
        check("/?api_key=secret-2", &[("x-api-key", "secret-1")], Err(Ambiguous));
        check(
            "/",
            &[("x-api-key", "secret-1"), ("authorization", "Bearer secret-1")],
            Ok(Some("secret-1")),
        );
    }

    #[test]
    fn the_rest_of_the_query_stays_byte_for_byte() {
        let mut uri: Uri = "/a%2Fb?x=%7e&api_key=k&&y".parse().expect("a target");
        let _ = sources(true).take(&mut uri, &mut HeaderMap::new());
        assert_eq!(uri.to_string(), "/a%2Fb?x=%7e&&y");
    }

    #[test]
    fn shown_credentials_are_read_but_stay() {
        let mut uri: Uri = "/?api_key=k".parse().expect("a target");
        let mut headers = headers(&[("x-api-key", "k")]);
        assert!(sources(false).take(&mut uri, &mut headers).expect("one key").is_some());
        assert_eq!((uri.to_string().as_str(), headers.len()), ("/?api_key=k", 1));
    }
}
