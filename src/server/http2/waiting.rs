//! How many answers may wait for clients that make no room for them. Each holds a request, and its client pays nothing for
//! it: one with a key, or with none, could have us hold as many as there are streams, on each of its connections.
//!
//! So refusals wait in a small number on each connection, as whoever takes what it asked for is refused now and then;
//! other answers do so once the worker holds many. Then most clients notice nothing, for they read.
//!
//! Never here: for how long one waits (see [`patience`](crate::server::patience)), or what becomes of one that may not.

use std::rc::Rc;

use super::Streams;

/// How many refusals of a connection may wait.
const REFUSALS: u32 = 32;
/// How many answers of a worker may wait, some 40 MiB, before a connection may have no more than [`FEW`].
const MANY: usize = 8192;
/// As many as browsers ask for at once without HTTP/2, and two more.
const FEW: u32 = 8;

/// A place among the answers that wait, until it is dropped.
pub(super) struct Place {
    streams: Rc<Streams>,
}

impl Place {
    /// One more for an answer to a client of `streams`; `None` if there is none.
    pub(super) fn take(streams: &Rc<Streams>, is_refusal: bool) -> Option<Self> {
        let all = &streams.siblings.answers_waiting;
        let most = match is_refusal {
            _ if all.get() >= MANY => FEW,
            true => REFUSALS,
            false => u32::MAX,
        };
        let waiting = streams.waiting.get();
        if waiting >= most {
            return None;
        }
        all.set(all.get() + 1);
        streams.waiting.set(waiting + 1);
        Some(Self { streams: Rc::clone(streams) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Streams { waiting, siblings, .. } = &*self.streams;
        waiting.set(waiting.get() - 1);
        siblings.answers_waiting.set(siblings.answers_waiting.get() - 1);
    }
}
