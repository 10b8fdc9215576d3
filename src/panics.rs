//! What becomes of a panic, which is a fault of ours: it is said and counted, and it ends as little as can be. In a
//! request it ends that request alone ([`catch`], [`caught`]). In a thread that the process cannot do without it ends the
//! process ([`spawn_vital`]): one that accepts and does not serve, or serves and does not count, is worse than none.
//!
//! Never here: what a panic says. Its message may quote a request.

use std::future::poll_fn;
use std::io;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::thread::{self, JoinHandle};

use tokio::sync::Notify;

/// How many there were.
static COUNT: AtomicU64 = AtomicU64::new(0);
/// A thread that the process cannot do without has panicked.
static FELL: Notify = Notify::const_new();

/// Says and counts every panic of this process from now on.
pub fn watch() {
    panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| {
        COUNT.fetch_add(1, Ordering::Relaxed);
        let location = panic.location().map(tracing::field::display);
        tracing::error!(location, thread = thread::current().name(), "a task panicked");
    }));
}

/// How many panics there were since [`watch`].
pub fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// There was a panic; it has been said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Panicked;

/// Runs `run`; what it had in hand must not be used again if it panics.
///
/// # Errors
/// It panicked.
pub fn catch<T>(run: impl FnOnce() -> T) -> Result<T, Panicked> {
    panic::catch_unwind(AssertUnwindSafe(run)).map_err(|_| Panicked)
}

/// What `future` comes to. It is not polled again when it has panicked.
///
/// # Errors
/// It panicked.
pub async fn caught<F: Future>(future: F) -> Result<F::Output, Panicked> {
    let mut future = pin!(future);
    poll_fn(|cx| match catch(|| future.as_mut().poll(cx)) {
        Ok(polled) => polled.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

/// Starts a thread that the process cannot do without.
///
/// # Errors
/// It cannot be had.
pub fn spawn_vital<T: Send + 'static>(
    name: impl Into<String>,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let run = move || {
        let _vital = Vital;
        run()
    };
    thread::Builder::new().name(name.into()).spawn(run)
}

/// Waits until a thread that the process cannot do without has panicked.
pub async fn vital_thread_fell() {
    FELL.notified().await;
}

struct Vital;

impl Drop for Vital {
    fn drop(&mut self) {
        if thread::panicking() {
            FELL.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(future)
    }

    #[test]
    fn a_panic_is_what_a_future_comes_to() {
        assert_eq!(block_on(caught(ready(1))), Ok(1));
        assert_eq!(block_on(caught(async { panic!("canary") })), Err::<(), _>(Panicked));
        assert_eq!(catch(|| 1), Ok(1));
    }

    #[test]
    fn a_vital_thread_that_panics_is_heard_of_even_before_it_is_waited_for() {
        let is_heard = || {
            let fell = pin!(vital_thread_fell());
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            fell.poll(&mut cx).is_ready()
        };
        spawn_vital("well", || {}).expect("a thread").join().expect("no panic");
        assert!(!is_heard());
        spawn_vital("vital", || panic!("canary")).expect("a thread").join().expect_err("it panics");
        assert!(is_heard());
    }
}
