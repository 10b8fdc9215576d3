//! How many refusals may wait for a client that makes no room for them. Whoever takes what it asked for is refused now and
//! then; who takes nothing pays nothing for what each of them holds.
//!
//! Never here: for how long one waits (see [`patience`](crate::server::patience)), or what becomes of one that may not.

use std::rc::Rc;

use super::Streams;

/// How many of a connection may wait.
const MOST: u32 = 32;

/// A place among the refusals that wait, until it is dropped.
pub(super) struct Place {
    streams: Rc<Streams>,
}

impl Place {
    /// One more for a client of `streams`; `None` if there is none.
    pub(super) fn take(streams: &Rc<Streams>) -> Option<Self> {
        let waiting = streams.refusals_waiting.get();
        (waiting < MOST).then(|| {
            streams.refusals_waiting.set(waiting + 1);
            Self { streams: Rc::clone(streams) }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waiting = &self.streams.refusals_waiting;
        waiting.set(waiting.get() - 1);
    }
}
