//! Problem details for HTTP APIs (RFC 9457): how every refusal looks to a client.
//!
//! Never here: why something was refused, or anything the client sent.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};

/// A refusal, as the client reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The status of the answer.
    pub status: StatusCode,
    /// Names the case for programs, and never changes.
    pub code: &'static str,
    /// The case in a few words.
    pub title: &'static str,
    /// What happened and what to do, for people.
    pub detail: Cow<'static, str>,
}

/// What is wrong with one value of a request.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct FieldFault {
    /// The member of the body, the parameter or the header field.
    pub field: Cow<'static, str>,
    /// What is wrong with it and what to do, for people.
    pub message: String,
}

/// The members of RFC 9457 §3.1, and ours behind them.
#[derive(serde::Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    instance: String,
    code: &'a str,
    request_id: &'a str,
    realm: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldFault],
}

impl Problem {
    /// The answer's body.
    pub fn body(&self, request_id: &str, realm: &str) -> Bytes {
        self.body_with(request_id, realm, &[])
    }

    /// The same, with what is wrong with single values.
    pub fn body_with(&self, request_id: &str, realm: &str, errors: &[FieldFault]) -> Bytes {
        let body = Body {
            r#type: format!("urn:keyward:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            instance: format!("urn:keyward:request:{request_id}"),
            code: self.code,
            request_id,
            realm,
            errors,
        };
        let mut text = serde_json::to_vec(&body).expect("text and numbers become JSON");
        // For people, whose prompt comes behind it.
        text.push(b'\n');
        Bytes::from(text)
    }

    /// The whole answer. No cache may keep it: the next request may carry a key.
    pub fn response(&self, request_id: &str, realm: &str) -> Response<Bytes> {
        let mut response = Response::new(self.body(request_id, realm));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_has_the_members_of_the_contract() {
        let problem = Problem {
            status: StatusCode::FORBIDDEN,
            code: "forbidden",
            title: "Not allowed",
            detail: Cow::Borrowed("The key may not do this."),
        };
        let body: serde_json::Value =
            serde_json::from_slice(&problem.body("id-1", "orders")).expect("JSON");
        let expected = serde_json::json!({
            "type": "urn:keyward:problem:forbidden", "title": "Not allowed", "status": 403,
            "detail": "The key may not do this.", "instance": "urn:keyward:request:id-1",
            "code": "forbidden", "request_id": "id-1", "realm": "orders",
        });
        assert_eq!(body, expected);
    }
}
