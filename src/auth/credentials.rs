//! Where a request carries its key.

use http::HeaderName;

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
