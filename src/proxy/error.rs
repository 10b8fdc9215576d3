//! Every way a request can be refused, and the one table of what the client then gets (DESIGN: the answers
//! of the contract).
//!
//! The match has no wildcard: a new case does not compile without its status, its code and its words.

use std::borrow::Cow;

use http::StatusCode;

use crate::auth::Unauthenticated;
use crate::limit::quota::{Exceeded, Limit};
use crate::paths::Ambiguity;
use crate::policy::Denied;
use crate::problem::Problem;
use crate::scopes::OutOfScope;

/// A server needs seconds to come back, not less.
const NO_ENDPOINT_RETRY_S: u32 = 5;

/// The least that can be said: what is shed now has room as soon as other requests end.
const OVERLOADED_RETRY_S: u32 = 1;

/// Tunnels live long: soon enough for who waits, and late enough for us.
const TUNNELS_RETRY_S: u32 = 10;

/// Why a request is not, or could not be, forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It could not be parsed.
    Unparsable,
    /// `Host` is missing, double or malformed.
    BadHost,
    /// Its framing fields can be read in two ways.
    BadFraming,
    /// It came in clear where TLS is spoken.
    PlainHttp,
    /// It came in clear; the same is served by https.
    HttpsOnly,
    /// Its path can be read in two ways.
    AmbiguousPath(Ambiguity),
    /// Nobody is known to have sent it.
    Unauthenticated(Unauthenticated),
    /// Nobody is known to have sent it, and too many like it came from its address.
    TooManyFailures {
        /// When the next may be seen as what it is.
        retry_after_s: u32,
    },
    /// The caller may not use this method here.
    MethodNotAllowed,
    /// The caller's role may not pass.
    RoleNotAllowed,
    /// The caller's key is narrowed to other things.
    OutOfScope(OutOfScope),
    /// The client's certificate is none of those that may pass.
    ClientNotAllowed,
    /// The key, or whoever came without one, has sent as much as they may.
    RateLimited(Exceeded),
    /// No route speaks for the path.
    NoRoute,
    /// CONNECT and TRACE are never forwarded.
    MethodNotSupported,
    /// It asks for another protocol on this connection, which is not allowed there.
    UpgradeNotSupported,
    /// It asks for WebSocket in a way in which nobody does.
    BadWebSocket,
    /// It asks for another version of WebSocket than there is.
    WebSocketVersion,
    /// There are as many tunnels as are allowed.
    TooManyTunnels,
    /// Its head is larger than the limit, or has more fields.
    HeadersTooLarge,
    /// Its body is larger than the limit.
    BodyTooLarge,
    /// Its body broke off or is malformed.
    BodyBroken,
    /// Its head or body did not come in time.
    RequestTimeout,
    /// Its time as a whole is over.
    RequestDeadline,
    /// No endpoint took the connection.
    UpstreamConnect,
    /// An endpoint did not take the connection, or did not answer, in time.
    UpstreamTimeout,
    /// An endpoint broke off or answered something that is no HTTP.
    UpstreamProtocol,
    /// Every endpoint is left out.
    NoEndpoint,
    /// The upstream has as much to do as it may.
    Overloaded,
    /// We have a fault.
    Internal,
}

impl From<Ambiguity> for Refusal {
    fn from(ambiguity: Ambiguity) -> Self {
        Self::AmbiguousPath(ambiguity)
    }
}

impl From<Unauthenticated> for Refusal {
    fn from(reason: Unauthenticated) -> Self {
        Self::Unauthenticated(reason)
    }
}

impl<E: Into<Self>> From<Denied<E>> for Refusal {
    fn from(denied: Denied<E>) -> Self {
        match denied {
            Denied::Unauthenticated(reason) => reason.into(),
            Denied::NoRoute => Self::NoRoute,
            Denied::Method => Self::MethodNotAllowed,
            Denied::Scope(what) => Self::OutOfScope(what),
            Denied::Role => Self::RoleNotAllowed,
            Denied::Client => Self::ClientNotAllowed,
        }
    }
}

impl Refusal {
    /// What the client gets.
    pub fn problem(self) -> Problem {
        let (status, code, title, detail) = match self {
            Self::Unparsable => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "Malformed request",
                "The request is not well-formed HTTP/1.1.",
            ),
            Self::BadHost => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "Malformed request",
                "The request needs exactly one well-formed Host field (RFC 9112, section 3.2).",
            ),
            Self::BadFraming => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "Malformed request",
                "The length of the request's body can be read in two ways (RFC 9112, section 6).",
            ),
            Self::PlainHttp => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "HTTPS needed",
                "The request was sent in clear to a port where TLS is spoken: use https.",
            ),
            Self::HttpsOnly => (
                StatusCode::PERMANENT_REDIRECT,
                "https_only",
                "Use HTTPS",
                "This is served by https only. A key that was sent in clear must be replaced.",
            ),
            Self::AmbiguousPath(ambiguity) => {
                return Problem {
                    status: StatusCode::BAD_REQUEST,
                    code: "ambiguous_path",
                    title: "Ambiguous path",
                    detail: Cow::Owned(format!("The path {}.", ambiguity.reason())),
                };
            }
            Self::Unauthenticated(reason) => return unauthenticated(reason),
            Self::TooManyFailures { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "Too many failures",
                "Too many API keys from this address were not valid. Wait, and see that the key is the right one.",
            ),
            Self::MethodNotAllowed => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Not allowed",
                "This method is not allowed on this path.",
            ),
            Self::RoleNotAllowed => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Not allowed",
                "The role of this API key is not allowed to do this.",
            ),
            Self::OutOfScope(what) => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Not allowed",
                match what {
                    OutOfScope::Method => "This API key is not allowed to use this method.",
                    OutOfScope::Path => "This API key is not allowed to use this path.",
                    OutOfScope::Address => "This API key is not allowed from this address.",
                },
            ),
            Self::ClientNotAllowed => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Not allowed",
                "This needs a client certificate with another name.",
            ),
            Self::RateLimited(exceeded) => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "Too many requests",
                match exceeded.limit {
                    Limit::Rate => "Requests come faster than they may: wait before the next.",
                    Limit::Concurrent => {
                        "As many requests are in flight as may be: wait until one has ended."
                    }
                    Limit::Daily => {
                        "As many requests were sent as may be in a day, which ends at midnight UTC."
                    }
                },
            ),
            Self::NoRoute => (
                StatusCode::NOT_FOUND,
                "no_route",
                "Not found",
                "Nothing is served under this path.",
            ),
            Self::MethodNotSupported => (
                StatusCode::NOT_IMPLEMENTED,
                "method_not_supported",
                "Method not supported",
                "CONNECT and TRACE are not supported.",
            ),
            Self::UpgradeNotSupported => (
                StatusCode::NOT_IMPLEMENTED,
                "upgrade_not_supported",
                "Upgrade not supported",
                "Changing to this protocol is not supported here.",
            ),
            Self::BadWebSocket => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "Malformed request",
                "The handshake for WebSocket is not well-formed (RFC 6455, section 4.2.1).",
            ),
            Self::WebSocketVersion => (
                StatusCode::UPGRADE_REQUIRED,
                "websocket_version",
                "Another WebSocket version needed",
                "Only version 13 of WebSocket is supported (RFC 6455).",
            ),
            Self::TooManyTunnels => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "Overloaded",
                "As many long-lived connections are open as this server takes.",
            ),
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "headers_too_large",
                "Request head too large",
                "The request line and header fields are larger, or more, than this server takes.",
            ),
            Self::BodyTooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "Request body too large",
                "The request's body is larger than this server takes.",
            ),
            Self::BodyBroken => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "Malformed request",
                "The request's body broke off or is malformed.",
            ),
            Self::RequestTimeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "Request timed out",
                "The request did not arrive in time.",
            ),
            Self::RequestDeadline => (
                StatusCode::GATEWAY_TIMEOUT,
                "request_deadline",
                "Request took too long",
                "The request was not answered within the time that this server gives to one.",
            ),
            Self::UpstreamConnect => (
                StatusCode::BAD_GATEWAY,
                "upstream_connect",
                "Service not reachable",
                "The service behind this server could not be reached.",
            ),
            Self::UpstreamTimeout => (
                StatusCode::GATEWAY_TIMEOUT,
                "upstream_timeout",
                "Service timed out",
                "The service behind this server did not answer in time.",
            ),
            Self::UpstreamProtocol => (
                StatusCode::BAD_GATEWAY,
                "upstream_protocol",
                "Service broke off",
                "The service behind this server broke off or did not answer in HTTP.",
            ),
            Self::Overloaded => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "Service overloaded",
                "The service behind this server has too much to do at the moment.",
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
                "This server could not handle the request because of a fault of its own.",
            ),
            Self::NoEndpoint => (
                StatusCode::SERVICE_UNAVAILABLE,
                "no_endpoint",
                "Service not available",
                "No part of the service behind this server works at the moment.",
            ),
        };
        Problem { status, code, title, detail: Cow::Borrowed(detail) }
    }

    /// Whether the rest of the connection can no longer be read: it is closed behind the answer.
    pub fn closes(self) -> bool {
        match self {
            Self::Unparsable
            | Self::BadHost
            | Self::BadFraming
            | Self::PlainHttp
            | Self::HttpsOnly
            | Self::HeadersTooLarge
            | Self::BodyTooLarge
            | Self::BodyBroken
            | Self::RequestTimeout
            | Self::Internal => true,
            Self::AmbiguousPath(_)
            | Self::Unauthenticated(_)
            | Self::TooManyFailures { .. }
            | Self::MethodNotAllowed
            | Self::RoleNotAllowed
            | Self::OutOfScope(_)
            | Self::ClientNotAllowed
            | Self::RateLimited(_)
            | Self::NoRoute
            | Self::MethodNotSupported
            | Self::UpgradeNotSupported
            | Self::BadWebSocket
            | Self::WebSocketVersion
            | Self::TooManyTunnels
            | Self::RequestDeadline
            | Self::UpstreamConnect
            | Self::UpstreamTimeout
            | Self::UpstreamProtocol
            | Self::NoEndpoint
            | Self::Overloaded => false,
        }
    }

    /// After how many seconds it is worth a try again, where that can be said (RFC 9110 §10.2.3).
    pub fn retry_after_s(self) -> Option<u32> {
        match self {
            Self::RateLimited(exceeded) => Some(exceeded.retry_after_s),
            Self::NoEndpoint => Some(NO_ENDPOINT_RETRY_S),
            Self::Overloaded => Some(OVERLOADED_RETRY_S),
            Self::TooManyTunnels => Some(TUNNELS_RETRY_S),
            Self::TooManyFailures { retry_after_s } => Some(retry_after_s),
            _ => None,
        }
    }
}

fn unauthenticated(reason: Unauthenticated) -> Problem {
    let (status, code, title, detail) = match reason {
        Unauthenticated::MissingKey => (
            StatusCode::UNAUTHORIZED,
            "missing_key",
            "API key needed",
            "The request carries no API key.",
        ),
        Unauthenticated::InvalidKey => (
            StatusCode::UNAUTHORIZED,
            "invalid_key",
            "API key not valid",
            "The API key is not known here.",
        ),
        Unauthenticated::KeyDisabled => (
            StatusCode::UNAUTHORIZED,
            "key_disabled",
            "API key disabled",
            "The API key has been disabled.",
        ),
        Unauthenticated::KeyExpired => {
            (StatusCode::UNAUTHORIZED, "key_expired", "API key expired", "The API key has expired.")
        }
        Unauthenticated::Ambiguous => (
            StatusCode::BAD_REQUEST,
            "ambiguous_credentials",
            "Ambiguous credentials",
            "The request carries two different API keys.",
        ),
    };
    Problem { status, code, title, detail: Cow::Borrowed(detail) }
}
