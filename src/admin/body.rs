//! Bodies and parameters of requests, read into shapes; what does not fit is told by its field.
//!
//! Never here: whether values are allowed.

use std::borrow::Cow;
use std::fmt::Display;

use axum::extract::Query;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Uri};
use jiff::Timestamp;
use serde::de::DeserializeOwned;

use super::refusal::{Answer, Refusal};
use crate::problem::FieldFault;

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
