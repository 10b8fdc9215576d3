//! What was read of a request's body, kept while its endpoint may still refuse it: a client sends its body once, and
//! does not wait to be asked again.
//!
//! Never here: when a request may be sent again.

use bytes::Bytes;
use http::HeaderMap;

/// Most bytes that are kept: a usual message, and no more than is on its way to the endpoint anyway.
const MAX_KEPT_BYTES: usize = 64 * 1024;
/// Most parts: each costs some memory, however small it is.
const MAX_PARTS: usize = 64;

/// A part of a body.
#[derive(Clone, Debug)]
pub(super) enum Part {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

/// The parts that were read, in order, as long as these are all.
#[derive(Debug, Default)]
pub(super) struct Kept {
    parts: Vec<Part>,
    bytes: usize,
    /// Whether something was read that is not here.
    is_lost: bool,
}

impl Kept {
    /// Whether the body can be sent from its start.
    pub(super) fn is_whole(&self) -> bool {
        !self.is_lost
    }

    pub(super) fn part(&self, place: usize) -> Option<&Part> {
        self.parts.get(place)
    }

    /// Takes in what was read last, if there is room.
    pub(super) fn keep(&mut self, part: &Part) {
        if self.is_lost {
            return;
        }
        self.bytes += if let Part::Data(data) = part { data.len() } else { 0 };
        if self.bytes > MAX_KEPT_BYTES || self.parts.len() == MAX_PARTS {
            return self.forget();
        }
        self.parts.push(part.clone());
    }

    /// Lets go of everything: the request is not sent again.
    pub(super) fn forget(&mut self) {
        *self = Self { is_lost: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_kept_whole_or_not_at_all() {
        let piece = Part::Data(Bytes::from_static(&[b'x'; MAX_KEPT_BYTES / 2]));
        let mut kept = Kept::default();
        for _ in 0..2 {
            kept.keep(&piece);
            assert!(kept.is_whole());
        }
        assert!(kept.part(1).is_some() && kept.part(2).is_none());
        kept.keep(&Part::End);
        assert!(kept.is_whole());
        kept.keep(&Part::Data(Bytes::from_static(b"x")));
        assert!(!kept.is_whole() && kept.part(0).is_none());
        kept.keep(&Part::End);
        assert!(!kept.is_whole() && kept.part(0).is_none());
    }

    #[test]
    fn many_small_parts_are_not_kept() {
        let mut kept = Kept::default();
        for _ in 0..=MAX_PARTS {
            assert!(kept.is_whole());
            kept.keep(&Part::Data(Bytes::from_static(b"x")));
        }
        assert!(!kept.is_whole());
    }
}
