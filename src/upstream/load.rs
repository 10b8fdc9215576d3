//! How much an upstream has to do, counted over all workers, and the queue of requests that wait for a connection.
//!
//! What has no limit is not counted.
//!
//! Never here: how long a request may wait, or what it is told when there is no room.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

/// What an upstream has to do. Outlives a reload.
#[derive(Debug, Default)]
pub struct Load {
    in_flight: AtomicUsize,
    waiting: AtomicUsize,
    freed: Arc<Notify>,
}

impl Load {
    /// Lets a request in if fewer than `most` are.
    pub fn admit(self: &Arc<Self>, most: usize) -> Option<Admitted> {
        enter(&self.in_flight, most).then(|| Admitted(Arc::clone(self)))
    }

    /// A place in the queue for a connection if fewer than `most` wait.
    pub fn queue(self: &Arc<Self>, most: usize) -> Option<Waiting> {
        let freed = || Box::pin(Arc::clone(&self.freed).notified_owned());
        enter(&self.waiting, most).then(|| Waiting { freed: freed(), load: Arc::clone(self) })
    }

    /// A connection is no longer in use; to be called after its count was taken back.
    pub(super) fn freed(&self) {
        // Whoever waits was counted before it looked for room: it saw that there is some, or is seen here.
        if self.waiting.load(Ordering::SeqCst) > 0 {
            self.freed.notify_one();
        }
    }
}

/// Counts one more if fewer than `most` are counted.
pub(super) fn enter(count: &AtomicUsize, most: usize) -> bool {
    let has_room = count.fetch_add(1, Ordering::SeqCst) < most;
    if !has_room {
        count.fetch_sub(1, Ordering::SeqCst);
    }
    has_room
}

/// A request that is let in; it counts until this is dropped.
#[derive(Debug)]
pub struct Admitted(Arc<Load>);

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A place in the queue.
#[derive(Debug)]
pub struct Waiting {
    freed: Pin<Box<OwnedNotified>>,
    load: Arc<Load>,
}

impl Waiting {
    /// Tries `take` now, and whenever a connection is free again, until it gives something.
    pub fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut() -> Option<T>,
    ) -> Poll<T> {
        loop {
            // First in line, then looking: what is freed in between is not missed.
            let was_called = self.freed.as_mut().poll(cx).is_ready();
            if was_called {
                self.freed = Box::pin(Arc::clone(&self.load.freed).notified_owned());
            }
            match take() {
                Some(taken) => return Poll::Ready(taken),
                None if was_called => {}
                None => return Poll::Pending,
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.load.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn no_more_are_let_in_than_may_be() {
        let load = Arc::new(Load::default());
        let (first, second) = (load.admit(2), load.admit(2));
        assert!(first.is_some() && second.is_some() && load.admit(2).is_none());
        drop(first);
        assert!(load.admit(2).is_some());
        assert!(load.admit(0).is_none());
    }

    #[test]
    fn who_waits_is_called_when_something_is_free() {
        let load = Arc::new(Load::default());
        let mut cx = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (load.queue(2).expect("room"), load.queue(2).expect("room"));
        assert!(load.queue(2).is_none());
        assert!(first.poll(&mut cx, || None::<()>).is_pending());
        assert!(second.poll(&mut cx, || None::<()>).is_pending());
        load.freed();
        assert!(first.poll(&mut cx, || Some(())).is_ready());
        drop(first);
        let mut tries = 0;
        let mut count = || -> Option<()> {
            tries += 1;
            None
        };
        assert!(second.poll(&mut cx, &mut count).is_pending());
        load.freed();
        assert!(second.poll(&mut cx, &mut count).is_pending());
        assert_eq!(
            tries, 3,
            "once unasked, and twice when called: before and behind the new place in line"
        );
    }

    #[test]
    fn a_call_to_one_who_left_reaches_the_next() {
        let load = Arc::new(Load::default());
        let mut cx = Context::from_waker(Waker::noop());
        let (mut first, mut second) = (load.queue(2).expect("room"), load.queue(2).expect("room"));
        assert!(first.poll(&mut cx, || None::<()>).is_pending());
        assert!(second.poll(&mut cx, || None::<()>).is_pending());
        load.freed();
        drop(first);
        assert!(second.freed.as_mut().poll(&mut cx).is_ready());
    }
}
