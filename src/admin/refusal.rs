//! Every way in which a request to the admin listener is refused, and the one table of what it then gets.
//!
//! A refusal becomes an answer in two steps: where it happens it is put into an empty answer, and [`guard`](super::guard),
//! which knows the request's id, writes the body.
//!
//! Never here: anything of a key.

use std::borrow::Cow;

use axum::response::{IntoResponse, Response};
use http::StatusCode;

use super::rights::Actor;
use crate::auth::Unauthenticated;
use crate::keys::store::{AddFault, StoreError};
use crate::problem::{FieldFault, Problem};
use crate::scopes::OutOfScope;

/// How long a process that ends, or a file that cannot be written, may take to be replaced or repaired.
const RETRY_S: u32 = 5;

/// Why a request is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It carries no key, or one that lets nobody in.
    Unauthenticated(Unauthenticated),
    /// Too many before it, from the same address, carried keys that let nobody in.
    TooManyFailures { retry_after_s: u32 },
    /// The key's role manages no keys.
    NoManager,
    /// The acting key is narrowed to other requests than this.
    OutOfScope(OutOfScope),
    /// It is more than the acting key may do; by fields.
    Denied(Vec<FieldFault>),
    /// There is nothing there, or nothing that whoever asks knows of.
    NotFound,
    /// What is there takes other methods.
    MethodNotAllowed,
    /// It cannot be read as HTTP or JSON.
    Malformed(Cow<'static, str>),
    /// Its body is not said to be JSON.
    NoJson,
    /// Its body is too large.
    TooLarge,
    /// Its values are not what they must be; by fields.
    Invalid(Vec<FieldFault>),
    /// It is for a host that this is not: DNS rebinding, or a name that `[admin] hosts` lacks.
    ForeignHost,
    /// A page of another site has a browser send it.
    CrossSite,
    /// It comes from a form of the page that was not made for its session.
    ForeignForm,
    /// The key is not as it was when whoever asks has seen it.
    Changed,
    /// It is in the way of a key that is there.
    Conflict { code: &'static str, detail: String },
    /// Its `Idempotency-Key` was used for something else.
    KeyReused,
    /// The keys cannot be changed at the moment.
    Store(String),
    /// Not every worker says what it has measured.
    Incomplete,
    /// The process is about to end.
    Ending,
    /// It took too long.
    Timeout,
    /// A fault of ours.
    Internal,
}

impl Refusal {
    /// A fault in one value.
    pub(super) fn invalid(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldFault { field: Cow::Borrowed(field), message: message.into() }])
    }

    /// What an answer of the router's own means.
    pub(super) fn of_status(status: StatusCode) -> Option<Self> {
        match status {
            StatusCode::NOT_FOUND => Some(Self::NotFound),
            StatusCode::METHOD_NOT_ALLOWED => Some(Self::MethodNotAllowed),
            StatusCode::PAYLOAD_TOO_LARGE => Some(Self::TooLarge),
            status if status.is_client_error() => {
                Some(Self::Malformed("The request cannot be read.".into()))
            }
            status if status.is_server_error() => Some(Self::Internal),
            _ => None,
        }
    }

    /// What is wrong with single values.
    pub(super) fn errors(&self) -> &[FieldFault] {
        match self {
            Self::Denied(faults) | Self::Invalid(faults) => faults,
            _ => &[],
        }
    }

    /// When it may be tried again.
    pub(super) fn retry_after_s(&self) -> Option<u32> {
        match self {
            Self::TooManyFailures { retry_after_s } => Some(*retry_after_s),
            Self::Store(_) | Self::Incomplete | Self::Ending => Some(RETRY_S),
            _ => None,
        }
    }

    /// What the client gets.
    pub(super) fn problem(&self) -> Problem {
        let (status, code, title, detail): (_, _, _, Cow<'static, str>) = match self {
            Self::Unauthenticated(reason) => return unauthenticated(*reason),
            Self::TooManyFailures { .. } => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_failures",
                "Too many failures",
                "Too many keys from this address were no good. Wait, and see that the key is the right one.".into(),
            ),
            Self::NoManager => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Not allowed",
                "The key's role manages no keys. That takes a role with admin = \"own\" for the keys of one's own \
                 user, or admin = \"all\" for everybody's."
                    .into(),
            ),
            Self::OutOfScope(what) => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Not allowed",
                match what {
                    OutOfScope::Method => "The key is narrowed to other methods than this.",
                    OutOfScope::Path => "The key is narrowed to other paths than this.",
                    OutOfScope::Address => "The key is narrowed to other addresses than this.",
                }
                .into(),
            ),
            Self::Denied(_) => (
                StatusCode::FORBIDDEN,
                "forbidden",
                "Not allowed",
                "The key that asks for this may not do it.".into(),
            ),
            Self::NotFound => (
                StatusCode::NOT_FOUND,
                "not_found",
                "Not found",
                "There is nothing here, or nothing that the key that asks may see.".into(),
            ),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                "method_not_allowed",
                "Method not allowed",
                "What is here takes the methods that Allow lists.".into(),
            ),
            Self::Malformed(detail) => {
                (StatusCode::BAD_REQUEST, "bad_request", "Malformed request", detail.clone())
            }
            Self::NoJson => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported_media_type",
                "JSON needed",
                "The body must be JSON, and Content-Type say so: application/json.".into(),
            ),
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "body_too_large",
                "Body too large",
                "The body is larger than anything that is asked for here.".into(),
            ),
            Self::Invalid(_) => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid",
                "Not valid",
                "Some values are not what they must be; see errors.".into(),
            ),
            Self::ForeignHost => (
                StatusCode::MISDIRECTED_REQUEST,
                "foreign_host",
                "Another host",
                "Keys are not managed under this name. If it is meant to be one, add it to [admin] hosts.".into(),
            ),
            Self::CrossSite => (
                StatusCode::FORBIDDEN,
                "cross_site",
                "From another site",
                "A page of another site has sent this request.".into(),
            ),
            Self::ForeignForm => (
                StatusCode::FORBIDDEN,
                "foreign_form",
                "Another session's form",
                "This form was not made for your session, perhaps because you have signed in again since. Nothing was \
                 done: open it again."
                    .into(),
            ),
            Self::Changed => (
                StatusCode::PRECONDITION_FAILED,
                "changed",
                "Changed meanwhile",
                "The key was changed since it was read. Read it again, and decide again.".into(),
            ),
            Self::Conflict { code, detail } => {
                (StatusCode::CONFLICT, *code, "Conflict", detail.clone().into())
            }
            Self::KeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                "idempotency_key_reused",
                "Idempotency-Key reused",
                "This Idempotency-Key came with another request before: use a new one.".into(),
            ),
            Self::Store(detail) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unusable",
                "Keys cannot be changed",
                detail.clone().into(),
            ),
            Self::Incomplete => (
                StatusCode::SERVICE_UNAVAILABLE,
                "incomplete",
                "Not all is known",
                "A worker does not say what it has measured: it is held up, or has ended. Without it counters would fall."
                    .into(),
            ),
            Self::Ending => (
                StatusCode::SERVICE_UNAVAILABLE,
                "ending",
                "About to end",
                "This process is about to end, and changes nothing any more.".into(),
            ),
            Self::Timeout => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "Request timeout",
                "The request did not come, or could not be answered, in time.".into(),
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "Internal error",
                "Something went wrong here; the log says more.".into(),
            ),
        };
        Problem { status, code, title, detail }
    }
}

fn unauthenticated(reason: Unauthenticated) -> Problem {
    let (code, title, detail) = match reason {
        Unauthenticated::MissingKey => (
            "missing_key",
            "API key needed",
            "Send the key of somebody who manages keys: Authorization: Bearer …",
        ),
        Unauthenticated::InvalidKey => {
            ("invalid_key", "Invalid API key", "The key is not known here.")
        }
        Unauthenticated::KeyDisabled => {
            ("key_disabled", "Disabled API key", "The key was disabled.")
        }
        Unauthenticated::KeyExpired => ("key_expired", "Expired API key", "The key has expired."),
        Unauthenticated::Ambiguous => {
            return Problem {
                status: StatusCode::BAD_REQUEST,
                code: "ambiguous_credentials",
                title: "Two API keys",
                detail: "The request carries two different keys; send one.".into(),
            };
        }
    };
    Problem { status: StatusCode::UNAUTHORIZED, code, title, detail: detail.into() }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchKey | StoreError::AmbiguousId(_) => Self::NotFound,
            StoreError::Changed(_) => Self::Changed,
            StoreError::LastAdmin(_) => Self::Conflict {
                code: "last_admin",
                detail: "No other enabled key manages everybody's keys. With force=true it goes all the same; then keys \
                         are managed with `keyward keys` alone."
                    .to_owned(),
            },
            StoreError::StillEnabled(_) => Self::Conflict {
                code: "still_enabled",
                detail: "The key is enabled: disable it first, or delete it with force=true."
                    .to_owned(),
            },
            StoreError::Refused(faults) => match faults.into_iter().next() {
                Some((_, fault @ AddFault::LabelTaken(_))) => {
                    Self::Conflict { code: "label_taken", detail: sentence(&fault.to_string()) }
                }
                Some((_, fault @ AddFault::UnknownRole(_))) => {
                    Self::invalid("role", fault.to_string())
                }
                Some((_, fault @ AddFault::ExpiryPast)) => {
                    Self::invalid("expires_at", fault.to_string())
                }
                Some((_, fault @ AddFault::BurstWithoutRate)) => {
                    Self::invalid("burst", fault.to_string())
                }
                Some((_, fault @ AddFault::HoldsKey(what))) => {
                    Self::invalid(if what == "user name" { "user" } else { what }, fault.to_string())
                }
                Some((_, AddFault::SameKey(_))) | None => Self::Internal,
            },
            // Their texts name a file and what the system said, and never show a line.
            StoreError::File(error) => Self::Store(sentence(&error.to_string())),
            StoreError::InlineKeys => Self::Store(sentence(&StoreError::InlineKeys.to_string())),
            StoreError::Faults(report) => {
                for fault in report.lines() {
                    tracing::error!(fault, "the key file cannot be changed");
                }
                Self::Store(
                    "The key file has faults, which the log names; nothing was changed. `keyward check` shows them."
                        .to_owned(),
                )
            }
            StoreError::Randomness(error) => {
                tracing::error!(%error, "no randomness from the system");
                Self::Internal
            }
        }
    }
}

fn sentence(reason: &str) -> String {
    format!("Nothing was changed: {reason}.")
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.problem().status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What a handler gives.
pub(super) type Answer<T> = Result<T, Refusal>;

/// What whoever does not manage a user's keys gets to hear of one.
pub(super) fn unless_seen(actor: &Actor, user: &crate::identity::UserName) -> Answer<()> {
    if actor.sees(user) { Ok(()) } else { Err(Refusal::NotFound) }
}
