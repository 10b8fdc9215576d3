//! Bodies and parameters of requests, read into shapes; what does not fit is told by its field.
//!
//! Never here: whether values are allowed.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use axum::extract::Query;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method, Uri};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};

use super::refusal::{Answer, Refusal};
use crate::identity::Label;
use crate::paths::patterns::PathPattern;
use crate::problem::FieldFault;
use crate::scopes::{self, SCOPES_MAX};

/// Fewer characters describe nothing.
const LABEL_CHARS_MIN: usize = 3;

/// Reads a body that must be JSON.
pub(super) fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Answer<T> {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|value| value.split(';').next()).unwrap_or_default();
    if !essence.trim().eq_ignore_ascii_case("application/json") {
        return Err(Refusal::NoJson);
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let field = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_syntax() || inner.is_eof() {
            let place = format!("line {}, column {}", inner.line(), inner.column());
            return Refusal::Malformed(format!("The body is no JSON: {place}.").into());
        }
        let field = if field == "." { "body".to_owned() } else { field };
        invalid(Cow::Owned(field), inner)
    })?;
    reader.end().map_err(|_| Refusal::Malformed("Something follows the JSON.".into()))?;
    Ok(read)
}

/// Tells null from what is left out (RFC 7396): for a field that is an option of an option, with `default`.
pub(super) fn or_null<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// The same for a body that may be left out, or null.
pub(super) fn json_or_nothing<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: &Bytes,
) -> Answer<T> {
    match body.is_empty() {
        true => Ok(T::default()),
        false => json::<Option<T>>(headers, body).map(Option::unwrap_or_default),
    }
}

/// Reads the parameters of the query.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Answer<T> {
    let read = Query::try_from_uri(uri);
    read.map(|Query(read)| read).map_err(|error| invalid(Cow::Borrowed("query"), error.body_text()))
}

fn invalid(field: Cow<'static, str>, error: impl Display) -> Refusal {
    Refusal::Invalid(vec![FieldFault { field, message: error.to_string() }])
}

/// What is wrong with single values, gathered.
#[derive(Default)]
pub(super) struct Faults(Vec<FieldFault>);

impl Faults {
    /// The value, if `read` takes it.
    pub(super) fn take<T, E: Display>(
        &mut self,
        field: &'static str,
        read: Result<T, E>,
    ) -> Option<T> {
        read.map_err(|error| self.add(field, error.to_string())).ok()
    }

    /// A value that may be left out, if `read` takes it.
    pub(super) fn take_some<'a, T, E: Display>(
        &mut self,
        field: &'static str,
        text: Option<&'a str>,
        read: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        text.and_then(|text| self.take(field, read(text)))
    }

    /// What people call a key: something they know it again by.
    pub(super) fn label(&mut self, text: &str) -> Option<Label> {
        let text = text.trim();
        if text.chars().count() < LABEL_CHARS_MIN {
            let message = "must say what the key is for, so that people know it again";
            self.add("label", message.to_owned());
            return None;
        }
        self.take("label", Label::new(text))
    }

    /// Why a key is switched off; nothing if that is left empty.
    pub(super) fn reason(&mut self, text: Option<&str>) -> Option<Label> {
        let text = text.map(str::trim).filter(|text| !text.is_empty());
        self.take_some("reason", text, Label::new)
    }

    /// How long the old secret is taken beside a new one.
    pub(super) fn grace(&mut self, text: Option<&str>) -> Option<Duration> {
        self.take_some("grace", text, |text| {
            let grace = humantime::parse_duration(text.trim()).ok();
            let is_sound = |grace: &Duration| Timestamp::now().checked_add(*grace).is_ok();
            grace.filter(is_sound).ok_or("must be a time such as 24h, 30m or 0s")
        })
    }

    /// The methods that a key is narrowed to.
    pub(super) fn methods(&mut self, texts: Option<Vec<String>>) -> Option<Vec<Method>> {
        self.list("allowed_methods", texts, scopes::method)
    }

    /// The paths that a key is narrowed to.
    pub(super) fn paths(&mut self, texts: Option<Vec<String>>) -> Option<Vec<PathPattern>> {
        self.list("allowed_paths", texts, scopes::path)
    }

    /// The networks that a key is narrowed to.
    pub(super) fn networks(&mut self, texts: Option<Vec<String>>) -> Option<Vec<IpNet>> {
        self.list("allowed_cidrs", texts, scopes::network)
    }

    fn list<T, E: Display>(
        &mut self,
        field: &'static str,
        texts: Option<Vec<String>>,
        read: impl Fn(&str) -> Result<T, E>,
    ) -> Option<Vec<T>> {
        let texts = texts?;
        if texts.len() > SCOPES_MAX {
            self.add(field, format!("must have {SCOPES_MAX} entries at most"));
            return None;
        }
        Some(texts.iter().filter_map(|text| self.take(field, read(text))).collect())
    }

    pub(super) fn add(&mut self, field: &'static str, message: String) {
        self.0.push(FieldFault { field: Cow::Borrowed(field), message });
    }

    /// Nothing, if nothing is wrong.
    pub(super) fn finish(self) -> Answer<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Refusal::Invalid(self.0)) }
    }
}

/// A time in the future, in whole seconds.
pub(super) fn future(text: &str) -> Result<Timestamp, &'static str> {
    let time: Timestamp =
        text.parse().map_err(|_| "is no time; write it as 2027-01-31T00:00:00Z")?;
    let time = Timestamp::from_second(time.as_second()).map_err(|_| "is too far away")?;
    if time <= Timestamp::now() { Err("is not in the future") } else { Ok(time) }
}
