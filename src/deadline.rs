//! One timer for all the waits of a connection.
//!
//! A request passes several phases that each have a longest wait. Starting and stopping a timer for each
//! would cost more than the look-up of the key, so a connection has one [`Deadline`]: a phase only stores
//! when it must be over, and the timer, which the connection's driver polls, is moved when it fires early.
//!
//! Never here: what happens when a wait was too long. The waiting phase asks [`Deadline::has_passed`].

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// When the wait that a connection is in must be over.
#[derive(Debug, Default)]
pub struct Deadline {
    at: Cell<Option<Instant>>,
    passed: Cell<bool>,
    /// When all of it must be over, whatever is waited for.
    end: Cell<Option<Instant>>,
    is_over: Cell<bool>,
    timer: RefCell<Option<Pin<Box<Sleep>>>>,
    /// Whether the timer will wake the driver: polling it again would only cost time.
    is_armed: Cell<bool>,
    /// The driver's, for a wait that another task starts and that ends before the timer would fire.
    driver: RefCell<Option<Waker>>,
}

impl Deadline {
    /// Starts a wait of at most `longest` from `now` on; it replaces the one before.
    pub fn start(&self, now: Instant, longest: Duration) {
        self.move_to(earlier(now.checked_add(longest), self.end.get()));
    }

    /// From here on, all waits together end at `end` at the latest; until [`lift_end`](Self::lift_end).
    pub fn set_end(&self, end: Option<Instant>) {
        self.end.set(end);
        self.move_to(earlier(self.at.get(), end));
    }

    /// Every wait may be as long as it says again.
    pub fn lift_end(&self) {
        self.end.set(None);
        self.is_over.set(false);
    }

    /// All of it is over, now.
    pub fn end_now(&self, now: Instant) {
        self.end.set(Some(now));
        self.at.set(Some(now));
        self.is_over.set(true);
        self.passed.set(true);
        self.wake_driver();
    }

    fn move_to(&self, at: Option<Instant>) {
        self.at.set(at);
        self.passed.set(self.is_over.get());
        let timer = self.timer.borrow();
        let is_earlier =
            timer.as_ref().zip(at).is_some_and(|(timer, at)| at < timer.deadline().into_std());
        if is_earlier {
            self.wake_driver();
        }
    }

    /// Has the driver look again at what it drives.
    pub fn wake_driver(&self) {
        if let Some(driver) = self.driver.borrow().as_ref() {
            driver.wake_by_ref();
        }
    }

    /// Ends the wait.
    pub fn clear(&self) {
        self.at.set(self.end.get());
        self.passed.set(self.is_over.get());
    }

    /// Whether the end of all waits is behind us.
    pub fn is_over(&self) -> bool {
        self.is_over.get()
    }

    /// Whether the wait was too long.
    pub fn has_passed(&self) -> bool {
        self.passed.get()
    }

    /// For the driver of the connection, after everything else had its turn: ready, once a wait, when it
    /// was too long. Otherwise the driver's task is woken in time.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.remember(cx.waker());
        let Some(at) = self.at.get().filter(|_| !self.passed.get()) else { return Poll::Pending };
        let due = tokio::time::Instant::from_std(at);
        let mut timer = self.timer.borrow_mut();
        let timer = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        } else if self.is_armed.get() && !timer.is_elapsed() {
            return Poll::Pending;
        }
        while timer.as_mut().poll(cx).is_ready() {
            if due <= timer.deadline() {
                self.passed.set(true);
                self.is_over.set(self.end.get().is_some_and(|end| end <= at));
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
        self.is_armed.set(true);
        Poll::Pending
    }

    fn remember(&self, waker: &Waker) {
        let mut driver = self.driver.borrow_mut();
        if !driver.as_ref().is_some_and(|driver| driver.will_wake(waker)) {
            *driver = Some(waker.clone());
            self.is_armed.set(false);
        }
    }
}

/// Of two moments, either of which may be missing.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn run(test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime").block_on(test);
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[test]
    fn a_later_wait_moves_the_timer_and_an_earlier_one_too() {
        run(async {
            let deadline = Deadline::default();
            for seconds in [5, 60, 1] {
                deadline.start(now(), Duration::from_secs(seconds));
                let begin = now();
                poll_fn(|cx| deadline.poll(cx)).await;
                assert_eq!((now() - begin).as_secs(), seconds);
                assert!(deadline.has_passed());
            }
        });
    }

    #[test]
    fn all_waits_together_end_at_their_end() {
        run(async {
            let deadline = Deadline::default();
            let begin = now();
            deadline.set_end(Some(begin + Duration::from_secs(5)));
            deadline.start(now(), Duration::from_secs(1));
            poll_fn(|cx| deadline.poll(cx)).await;
            assert!(deadline.has_passed() && !deadline.is_over());
            deadline.start(now(), Duration::from_secs(60));
            deadline.clear();
            poll_fn(|cx| deadline.poll(cx)).await;
            assert_eq!((now() - begin).as_secs(), 5);
            // Nothing that begins now has any time.
            deadline.start(now(), Duration::from_secs(60));
            assert!(deadline.has_passed() && deadline.is_over());
            deadline.lift_end();
            deadline.start(now(), Duration::from_secs(60));
            poll_fn(|cx| deadline.poll(cx)).await;
            assert_eq!((now() - begin).as_secs(), 65);
            assert!(!deadline.is_over());
        });
    }

    #[test]
    fn what_is_over_now_has_passed_whatever_is_waited_for_until_that_is_lifted() {
        run(async {
            let deadline = Deadline::default();
            deadline.start(now(), Duration::from_secs(60));
            let pending = poll_fn(|cx| Poll::Ready(deadline.poll(cx).is_pending())).await;
            assert!(pending);
            deadline.end_now(now());
            assert!(deadline.has_passed() && deadline.is_over());
            deadline.start(now(), Duration::from_secs(60));
            deadline.clear();
            assert!(deadline.has_passed() && deadline.is_over());
            deadline.lift_end();
            let begin = now();
            deadline.start(now(), Duration::from_secs(60));
            assert!(!deadline.has_passed() && !deadline.is_over());
            poll_fn(|cx| deadline.poll(cx)).await;
            assert_eq!((now() - begin).as_secs(), 60);
        });
    }

    #[test]
    fn an_ended_wait_never_passes() {
        run(async {
            let deadline = Deadline::default();
            deadline.start(now(), Duration::from_secs(1));
            deadline.clear();
            let passed =
                tokio::time::timeout(Duration::from_secs(9), poll_fn(|cx| deadline.poll(cx)));
            assert!(passed.await.is_err());
            assert!(!deadline.has_passed());
        });
    }
}
