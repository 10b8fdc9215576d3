//! Keys as bytes.
/// What keys made here begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prefix(String);
/// A secret mixed into every digest.
#[derive(Debug)]
pub struct Pepper {}
/// What is kept of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);
