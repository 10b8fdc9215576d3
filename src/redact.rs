//! The one place where something secret, or something a client sent, becomes text.
//!
//! [`Secret`] is the only holder of key material: it has no `Display`, its `Debug` prints the type's
//! name, and it is overwritten when dropped. [`PathAndQuery`] and [`Text`] show what a client sent with
//! secrets masked and control characters escaped.
//!
//! Never here: a way to turn masking off.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter, Write};

use zeroize::Zeroize;

/// Shown in place of a secret.
pub const MASK: &str = "[redacted]";

/// A value that may be used but never shown.
///
/// `expose` is the only way to the value, so that every use can be found with one search.
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value into custody.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. The caller must not let it reach a log, an error or an answer.
    pub fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
