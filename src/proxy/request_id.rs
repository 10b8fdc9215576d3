//! `x-request-id`: 32 hexadecimal digits that name a request in the log, in the answer and to the upstream.
//!
//! Never here: secrets. An id is unique, not unguessable.

use std::cell::{Cell, RefCell};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::redact::Redactor;

/// The header's name.
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Digits of an id.
const DIGITS: usize = 32;
/// Ids made in one piece of memory: one allocation for all of them.
const BATCH: usize = 64;
/// Longest id that is taken from a trusted proxy, in bytes.
const MAX_FOREIGN: usize = 128;

/// A worker's source of ids.
#[derive(Debug)]
pub struct RequestIds {
    /// The first half of every id: this worker of this process.
    worker: u64,
    made: Cell<u64>,
    batch: RefCell<Bytes>,
}

impl RequestIds {
    /// A source unlike any other.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn new() -> Result<Self, getrandom::Error> {
        let [worker, made] = [getrandom::u64()?, getrandom::u64()?];
        Ok(Self { worker, made: Cell::new(made), batch: RefCell::new(Bytes::new()) })
    }

    /// The next id.
    pub fn make(&self) -> HeaderValue {
        let mut batch = self.batch.borrow_mut();
        if batch.is_empty() {
            *batch = self.fill();
        }
        HeaderValue::from_maybe_shared(batch.split_to(DIGITS)).expect("digits are header-safe")
    }

    fn fill(&self) -> Bytes {
        let mut batch = BytesMut::with_capacity(BATCH * DIGITS);
        for _ in 0..BATCH {
            // An odd factor makes neighbours look unlike each other and keeps every id unique.
            let made = self.made.get().wrapping_add(1);
            self.made.set(made);
            batch.extend_from_slice(&digits(self.worker));
            batch.extend_from_slice(&digits(made.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        batch.freeze()
    }
}

fn digits(number: u64) -> [u8; DIGITS / 2] {
    let mut digits = [0; DIGITS / 2];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 0xf)];
    }
    digits
}

/// The id a trusted proxy gave the request, if there is exactly one and it is well-formed. It may have come from the
/// client, so one that could be a key is none: logs and answers show ids as they are.
pub(super) fn foreign(headers: &HeaderMap, redactor: &Redactor) -> Option<HeaderValue> {
    let mut values = headers.get_all(&X_REQUEST_ID).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.=+/:".contains(byte);
    let is_well_formed =
        (1..=MAX_FOREIGN).contains(&value.len()) && value.as_bytes().iter().all(is_allowed);
    (is_well_formed && !redactor.holds_secret(value.as_bytes())).then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_of_32_hexadecimal_digits() {
        let ids = RequestIds::new().expect("randomness");
        let made: HashSet<HeaderValue> = (0..1000).map(|_| ids.make()).collect();
        assert_eq!(made.len(), 1000);
        let is_id =
            |id: &HeaderValue| id.len() == 32 && id.as_bytes().iter().all(u8::is_ascii_hexdigit);
        assert!(made.iter().all(is_id));
    }

    #[test]
    fn a_foreign_id_is_one_short_plain_token() {
        let check = |values: &[&str], expected: bool| {
            let value = |value: &&str| {
                (X_REQUEST_ID.clone(), HeaderValue::from_str(value).expect("a value"))
            };
            let headers: HeaderMap = values.iter().map(value).collect();
            assert_eq!(foreign(&headers, &Redactor::default()).is_some(), expected, "{values:?}");
        };
        check(&["0b1c-7_A.z=+/:"], true);
        check(&["0123456789abcdef0123456789abcdef"], true);
        check(&["6c84fb90-12c4-11e1-840d-7b25c5ee775a"], true);
        check(&["kw_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"], false);
        check(&["a/api_key=12345678"], false);
        check(&["a".repeat(128).as_str()], true);
        for values in
            [&[][..], &[""], &["a b"], &["a\"b"], &["a", "b"], &["a".repeat(129).as_str()]]
        {
            check(values, false);
        }
    }
}
