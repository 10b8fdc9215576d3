//! Hearing of changes to files, however they are made: written in place, renamed over by an editor, or
//! swapped by a symbolic link somewhere on the way, as Kubernetes does with a mounted folder.
//!
//! Folders are watched, not files: a file that is renamed over is another file. What is heard only says that
//! it is time to look; whether something changed, a [`Fingerprint`] says.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

/// A file counts as written when nothing was heard for this long.
const QUIET: Duration = Duration::from_millis(20);
/// A folder in which something always happens is looked at this often.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the files at some paths are at one moment, as far as their metadata tells: the file a path leads to,
/// its size and when it was written. `None` for a file that is not there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fingerprint(Vec<Option<[i64; 6]>>);

impl Fingerprint {
    pub(super) fn of<P: AsRef<Path>>(paths: impl IntoIterator<Item = P>) -> Self {
        let of = |path: P| {
            let data = fs::metadata(path).ok()?;
            let (dev, ino, size) = (data.dev() as i64, data.ino() as i64, data.size() as i64);
            Some([dev, ino, size, data.mtime(), data.mtime_nsec(), i64::from(data.mode())])
        };
        Self(paths.into_iter().map(of).collect())
    }
}

/// The folders around some files, watched.
pub(super) struct Watch {
    heard: Arc<Notify>,
    /// `None` where the system has no watches left; then only looking now and then helps.
    watcher: Option<RecommendedWatcher>,
    folders: BTreeSet<PathBuf>,
    /// What the files are called in them.
    names: Arc<Mutex<BTreeSet<OsString>>>,
}

impl Watch {
    /// Watches nothing yet.
    pub(super) fn new() -> Self {
        let heard = Arc::new(Notify::new());
        let names: Arc<Mutex<BTreeSet<OsString>>> = Arc::default();
        let (notify, ours) = (Arc::clone(&heard), Arc::clone(&names));
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let ours = ours.lock().unwrap_or_else(PoisonError::into_inner);
            if !event.is_ok_and(|event| is_of_no_concern(&event, &ours)) {
                notify.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "files cannot be watched; changes are found within seconds instead");
        });
        Self { heard, watcher: watcher.ok(), folders: BTreeSet::new(), names }
    }

    /// Watches the files at `paths` from here on, and no others.
    pub(super) fn follow(&mut self, paths: &[PathBuf]) {
        let ways: BTreeSet<PathBuf> = paths.iter().flat_map(|path| way(path)).collect();
        let names = ways.iter().filter_map(|path| path.file_name()).map(OsStr::to_owned).collect();
        *self.names.lock().unwrap_or_else(PoisonError::into_inner) = names;
        let folders: BTreeSet<PathBuf> = ways.iter().flat_map(|path| folders(path)).collect();
        let Some(watcher) = &mut self.watcher else { return };
        for folder in self.folders.difference(&folders) {
            // It may be gone, and its watch with it.
            let _ = watcher.unwatch(folder);
        }
        for folder in folders.difference(&self.folders) {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(folder = %folder.display(), %error, "a folder cannot be watched");
            }
        }
        self.folders = folders;
    }

    /// Waits until something was heard and it is quiet again, or for `longest`.
    pub(super) async fn changed(&self, longest: Duration) {
        if timeout(longest, self.heard.notified()).await.is_err() {
            return;
        }
        let until = Instant::now() + PATIENCE;
        while timeout_at(until.min(Instant::now() + QUIET), self.heard.notified()).await.is_ok() {}
    }
}

/// Reading a file is an event too, and we read them ourselves; and a log that grows beside our files says
/// nothing about them.
fn is_of_no_concern(event: &Event, names: &BTreeSet<OsString>) -> bool {
    let is_ours = |path: &PathBuf| path.file_name().is_some_and(|name| names.contains(name));
    match event.kind {
        EventKind::Access(_) => true,
        EventKind::Modify(ModifyKind::Data(_)) => !event.paths.iter().any(is_ours),
        _ => false,
    }
}

/// `path`, and what it leads to over symbolic links.
fn way(path: &Path) -> Vec<PathBuf> {
    let mut way = vec![path.to_owned()];
    // As many links as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        let last = &way[way.len() - 1];
        match fs::read_link(last) {
            Ok(target) => way.push(parent(last).join(target)),
            Err(_) => break,
        }
    }
    way
}

/// The folder that `path` is in, as it is written and as it really is.
fn folders(path: &Path) -> impl Iterator<Item = PathBuf> {
    let folder = parent(path);
    [folder.to_owned()].into_iter().chain(folder.canonicalize())
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_folder_on_the_way_over_links_is_watched() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("it exists");
        fs::create_dir(root.join("v1")).expect("a folder");
        fs::write(root.join("v1/keys.toml"), "").expect("a file");
        symlink("v1", root.join("..data")).expect("a link");
        symlink("..data/keys.toml", root.join("keys.toml")).expect("a link");
        let folders: BTreeSet<PathBuf> =
            way(&root.join("keys.toml")).iter().flat_map(|path| folders(path)).collect();
        assert!(folders.contains(&root) && folders.contains(&root.join("v1")), "{folders:?}");
    }

    #[test]
    fn a_fingerprint_tells_files_apart_that_were_swapped() {
        let root = tempfile::tempdir().expect("a folder");
        let path = root.path().join("keys.toml");
        let missing = Fingerprint::of([&path]);
        fs::write(&path, "one").expect("a file");
        let first = Fingerprint::of([&path]);
        fs::write(root.path().join("new"), "two").expect("a file");
        fs::rename(root.path().join("new"), &path).expect("a rename");
        assert_ne!(missing, first);
        assert_ne!(first, Fingerprint::of([&path]));
        assert_eq!(Fingerprint::of([&path]), Fingerprint::of([&path]));
    }
}
