//! Messages of HTTP/1.1 as bytes (RFC 9112): what is the same on both sides of the proxy.
//!
//! Whatever could be read in two ways is an error here, for both sides: what follows such a message on its connection
//! would be somebody else's.
//!
//! Never here: which fields a message may have, deadlines, or whose message it is.

pub mod decode;
pub mod encode;
pub mod fields;
pub mod inbox;
pub mod spare;

use bytes::Bytes;

/// Why bytes are no message that we may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// A reason phrase that is not the usual one of its status: an extension of an answer's head.
#[derive(Clone, Debug)]
pub struct Reason(pub Bytes);
