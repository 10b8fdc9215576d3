//! Header maps of messages that were passed on, kept by a thread for the next ones it reads: a new one costs two
//! allocations.
//!
//! Never here: what was in them.

use std::cell::RefCell;

use http::HeaderMap;

/// A worker has no more than these at a time in the hands of a request each, as long as it is not waiting.
const MAX_KEPT: usize = 16;
/// What a message of more fields needed is given back to the allocator.
const MAX_FIELDS: usize = 64;

thread_local! {
    static KEPT: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
}

/// An empty map with room for `fields`.
pub(super) fn take(fields: usize) -> HeaderMap {
    match KEPT.with_borrow_mut(Vec::pop) {
        Some(mut headers) => {
            headers.reserve(fields);
            headers
        }
        None => HeaderMap::with_capacity(fields),
    }
}

/// Empties `headers`, which nobody needs any more, and keeps the room.
pub fn keep(mut headers: HeaderMap) {
    if (1..=MAX_FIELDS).contains(&headers.capacity()) {
        headers.clear();
        KEPT.with_borrow_mut(|kept| {
            if kept.len() < MAX_KEPT {
                kept.push(headers);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::HOST;

    use super::*;

    #[test]
    fn the_room_of_a_map_is_used_again_and_nothing_that_was_in_it() {
        let mut first = take(8);
        let room = first.capacity();
        first.insert(HOST, HeaderValue::from_static("a.test"));
        keep(first);
        let second = take(2);
        assert_eq!((second.len(), second.capacity()), (0, room));
        assert_eq!(second.get(HOST), None);
        assert!(take(2).capacity() < room, "there was one");
    }

    #[test]
    fn what_is_kept_is_bounded() {
        for _ in 0..2 * MAX_KEPT {
            keep(HeaderMap::with_capacity(8));
        }
        keep(HeaderMap::new());
        assert_eq!(KEPT.with_borrow(Vec::len), MAX_KEPT);
        while KEPT.with_borrow_mut(Vec::pop).is_some() {}
        keep(HeaderMap::with_capacity(MAX_FIELDS + 1));
        assert_eq!(KEPT.with_borrow(Vec::len), 0);
    }
}
