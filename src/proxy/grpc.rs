//! Refusals as gRPC clients read them: a status of gRPC in place of an answer of HTTP, in the one form that needs no
//! message (`Trailers-Only`, gRPC over HTTP/2). They do not read problem documents.
//!
//! Never here: why something was refused.

use std::fmt::Write as _;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderValue, Response, Version};

use crate::problem::Problem;

const APPLICATION_GRPC: &str = "application/grpc";

/// Whether a request is a call of gRPC.
pub(super) fn is_call(head: &Parts) -> bool {
    head.version == Version::HTTP_2
        && head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|value| value.as_bytes().starts_with(APPLICATION_GRPC.as_bytes()))
}

/// `problem` as the answer to a call.
pub(super) fn response(problem: &Problem) -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(APPLICATION_GRPC));
    headers.insert("grpc-status", HeaderValue::from(status(problem.status.as_u16())));
    let message = format!("{}: {}", problem.code, problem.detail);
    let message = HeaderValue::try_from(escape(&message)).expect("what is escaped is printable");
    headers.insert("grpc-message", message);
    response
}

/// The status of gRPC (`grpc/grpc`, doc/statuscodes.md) that a status of HTTP stands for.
fn status(http: u16) -> u16 {
    const INVALID_ARGUMENT: u16 = 3;
    const DEADLINE_EXCEEDED: u16 = 4;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    match http {
        401 => UNAUTHENTICATED,
        403 => PERMISSION_DENIED,
        404 | 501 => UNIMPLEMENTED,
        408 | 504 => DEADLINE_EXCEEDED,
        413 | 429 | 431 => RESOURCE_EXHAUSTED,
        500.. => UNAVAILABLE,
        _ => INVALID_ARGUMENT,
    }
}

/// Percent-encodes all but printable ASCII, and `%` itself, as `grpc-message` wants it.
fn escape(message: &str) -> String {
    message.bytes().fold(String::with_capacity(message.len()), |mut escaped, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => escaped.push(char::from(byte)),
            _ => write!(escaped, "%{byte:02X}").expect("a text takes everything"),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::super::error::Refusal;
    use super::*;
    use crate::auth::Unauthenticated;

    #[test]
    fn a_refusal_is_a_status_of_grpc() {
        for (refusal, expected) in [
            (Refusal::Unauthenticated(Unauthenticated::MissingKey), "16"),
            (Refusal::Unauthenticated(Unauthenticated::KeyDisabled), "16"),
            (Refusal::Unauthenticated(Unauthenticated::Ambiguous), "3"),
            (Refusal::TooManyFailures { retry_after_s: 1 }, "8"),
            (Refusal::RoleNotAllowed, "7"),
            (Refusal::NoRoute, "12"),
            (Refusal::BodyTooLarge, "8"),
            (Refusal::UpstreamConnect, "14"),
            (Refusal::UpstreamTimeout, "4"),
        ] {
            let response = response(&refusal.problem());
            assert_eq!(response.headers()["grpc-status"], expected, "{refusal:?}");
            assert_eq!(response.headers()["content-type"], "application/grpc");
            assert!(response.body().is_empty());
        }
    }

    #[test]
    fn a_message_is_printable() {
        assert_eq!(escape("100 % é\n"), "100 %25 %C3%A9%0A");
    }
}
