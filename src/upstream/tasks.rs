//! What the control plane does for endpoints again and again, one task for each, as long as a configuration wants it.
//!
//! Never here: what that is (see [`health`](super::health) and [`names`](super::names)).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::Endpoint;
use crate::panics;

/// How long a task that has panicked is left alone.
const PAUSE: Duration = Duration::from_secs(1);

/// Running tasks, each with the settings `S` it was started with; dropped, they stop.
#[derive(Debug)]
pub(super) struct Tasks<S> {
    /// By [`Endpoint::place`].
    running: HashMap<usize, Running<S>>,
}

#[derive(Debug)]
struct Running<S> {
    settings: S,
    task: AbortHandle,
}

impl<S> Drop for Running<S> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl<S> Default for Tasks<S> {
    fn default() -> Self {
        Self { running: HashMap::new() }
    }
}

impl<S: Clone + PartialEq + Send + Sync + 'static> Tasks<S> {
    /// Runs a task for each of `wanted` from now on, and no others; one with the same settings goes on. One that panics
    /// is begun anew. To be called within a runtime.
    pub(super) fn follow<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        wanted: impl IntoIterator<Item = (Arc<Endpoint>, S)>,
        run: impl Fn(Arc<Endpoint>, S) -> F + Clone + Send + Sync + 'static,
    ) {
        let mut before = std::mem::take(&mut self.running);
        for (endpoint, settings) in wanted {
            let place = endpoint.place();
            let same = before.remove(&place).filter(|running| running.settings == settings);
            let running = same.unwrap_or_else(|| {
                let task = begin_anew(endpoint, settings.clone(), run.clone());
                Running { task: tokio::spawn(task).abort_handle(), settings }
            });
            self.running.insert(place, running);
        }
    }
}

/// Does `run` to its end, again if it panics: an endpoint that nobody looks after any more would stay as it was.
async fn begin_anew<S: Clone, F: Future<Output = ()>>(
    endpoint: Arc<Endpoint>,
    settings: S,
    run: impl Fn(Arc<Endpoint>, S) -> F,
) {
    while panics::caught(run(Arc::clone(&endpoint), settings.clone())).await.is_err() {
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::upstream::Registry;
    use crate::upstream::settings::{Address, Settings};

    #[test]
    fn a_task_runs_as_long_as_it_is_wanted_as_it_is() {
        let registry = Registry::default();
        let endpoint = |host: &str| {
            let address = Address::Tcp { host: host.to_owned(), port: 80 };
            registry.endpoint("app", &address, &Settings::default())
        };
        let log = Arc::new(Mutex::new(Vec::new()));
        let happening = Arc::clone(&log);
        let run = move |endpoint: Arc<Endpoint>, number: u32| {
            let log = Arc::clone(&happening);
            let guard = Ended(Arc::clone(&log), format!("-{}{number}", endpoint.name()));
            async move {
                log.lock().expect("no panic").push(format!("+{}{number}", endpoint.name()));
                let _guard = guard;
                std::future::pending().await
            }
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let mut tasks = Tasks::default();
            let check =
                async |tasks: &mut Tasks<u32>, wanted: &[(&str, u32)], expected: &[&str]| {
                    tasks.follow(
                        wanted.iter().map(|(host, number)| (endpoint(host), *number)),
                        run.clone(),
                    );
                    for _ in 0..4 {
                        tokio::task::yield_now().await;
                    }
                    let mut happened = std::mem::take(&mut *log.lock().expect("no panic"));
                    happened.sort();
                    assert_eq!(happened, expected);
                };
            check(&mut tasks, &[("a", 1), ("b", 1)], &["+a:801", "+b:801"]).await;
            check(&mut tasks, &[("a", 1), ("b", 2)], &["+b:802", "-b:801"]).await;
            check(&mut tasks, &[("b", 2)], &["-a:801"]).await;
            check(&mut tasks, &[], &["-b:802"]).await;
        });
    }

    #[test]
    fn a_task_that_panics_is_begun_anew() {
        let endpoint = Registry::default().endpoint(
            "app",
            &Address::Tcp { host: "a".to_owned(), port: 80 },
            &Settings::default(),
        );
        let begun = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&begun);
        let run = move |_, ()| {
            let number = count.fetch_add(1, Ordering::Relaxed);
            async move { assert!(number == 2, "canary") }
        };
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_time().start_paused(true).build().expect("a runtime");
        runtime.block_on(begin_anew(endpoint, (), run));
        assert_eq!(begun.load(Ordering::Relaxed), 3);
    }

    struct Ended(Arc<Mutex<Vec<String>>>, String);

    impl Drop for Ended {
        fn drop(&mut self) {
            self.0.lock().expect("no panic").push(std::mem::take(&mut self.1));
        }
    }
}
