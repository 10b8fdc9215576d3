//! Replaces a file so that a reader, a crash or a full disk meets the old content or the new, whole.
//!
//! Lock, temporary file in the same folder, fsync, rename, fsync of the folder. A symbolic link is
//! written through: what it points to is replaced, the link stays.
//!
//! Never here: what the file holds.

use std::fmt::{self, Display, Formatter};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// Who may read what is written here: its owner.
pub(super) const MODE: u32 = 0o600;
/// Permission bit: users who are neither the owner nor in the group may write.
pub(super) const WRITABLE_BY_OTHERS: u32 = 0o002;
/// More symbolic links in a row are a circle; Linux gives up at as many.
const MAX_LINKS: usize = 40;

/// A step that failed. The file is as it was, unless `Display` says otherwise.
#[derive(Debug)]
pub struct FileError {
    doing: &'static str,
    path: PathBuf,
    error: io::Error,
    is_made: bool,
}

impl FileError {
    /// `doing` something to `path` failed, and nothing was changed.
    pub(super) fn new(doing: &'static str, path: &Path, error: io::Error) -> Self {
        Self { doing, path: path.to_owned(), error, is_made: false }
    }

    /// Whether the change was made all the same.
    pub(super) fn is_made(&self) -> bool {
        self.is_made
    }
}

impl Display for FileError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let reason = match self.error.kind() {
            ErrorKind::StorageFull => "the disk is full",
            ErrorKind::QuotaExceeded => "the disk quota is used up",
            ErrorKind::FileTooLarge => "the file would be larger than it may be",
            _ => return write!(f, "cannot {} {}: {}", self.doing, self.path.display(), self.error),
        };
        write!(f, "cannot {} {}: {reason}; nothing was changed", self.doing, self.path.display())
    }
}

impl std::error::Error for FileError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// A file that nobody else replaces while this exists.
#[derive(Debug)]
pub(super) struct Locked {
    /// Where the content is, behind every symbolic link.
    target: PathBuf,
    /// The lock is the open file's; it stays in the folder, for removing it would race.
    _lock: File,
}

impl Locked {
    /// Waits until nobody else replaces the file at `path`, which need not exist yet.
    pub(super) fn acquire(path: &Path) -> Result<Self, FileError> {
        let target = follow_links(path).map_err(|error| FileError::new("find", path, error))?;
        let lock_path = beside(&target, "lock");
        let lock = open_lock(&lock_path, &target)
            .and_then(|lock| lock.lock().map(|()| lock))
            .map_err(|error| FileError::new("lock", &lock_path, error))?;
        Ok(Self { target, _lock: lock })
    }

    /// Makes `content` the file's content: on return it is on the disk.
    pub(super) fn replace(&self, content: &str) -> Result<(), FileError> {
        let temporary = beside(&self.target, "tmp");
        let fail = |doing, error| FileError::new(doing, &self.target, error);
        self.write_temporary(&temporary, content)
            .and_then(|()| fs::rename(&temporary, &self.target))
            .map_err(|error| {
                // What is left over would be removed by the next writer; the first error counts.
                let _ = fs::remove_file(&temporary);
                fail("write", error)
            })?;
        File::open(folder_of(&self.target)).and_then(|folder| folder.sync_all()).map_err(|error| {
            let doing = "be sure that a power failure keeps the change, now made, to";
            FileError { is_made: true, ..fail(doing, error) }
        })
    }

    /// Under the lock the temporary name is ours: one fixed name leaves at most one file behind, after a
    /// crash, and the next writer removes it.
    fn write_temporary(&self, temporary: &Path, content: &str) -> io::Result<()> {
        match fs::remove_file(temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(MODE).open(temporary)?;
        keep_owner(&file, &self.target)?;
        // The process's umask may have taken more away.
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(content.as_bytes())?;
        file.sync_all()
    }
}

fn open_lock(path: &Path, target: &Path) -> io::Result<File> {
    let lock = OpenOptions::new().write(true).create(true).truncate(false).mode(MODE).open(path)?;
    keep_owner(&lock, target)?;
    Ok(lock)
}

/// Gives `file` the owner and group of the file at `target`, if there is one and we may.
pub(super) fn keep_owner(file: &File, target: &Path) -> io::Result<()> {
    let wanted = match fs::metadata(target) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let current = file.metadata()?;
    if (wanted.uid(), wanted.gid()) == (current.uid(), current.gid()) {
        return Ok(());
    }
    match fchown(file, Some(wanted.uid()), Some(wanted.gid())) {
        // Only root gives files away.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// The path behind every symbolic link; the last one may point to a file that is yet to be made.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => match fs::read_link(&path) {
                Ok(link) => path = folder_of(&path).join(link),
                Err(_) => return Ok(path),
            },
            result => return result,
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// `.keys.toml.lock` for `keys.toml`.
fn beside(target: &Path, extension: &str) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    target.with_file_name(format!(".{name}.{extension}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string();
        let mut names: Vec<String> = entries.map(|entry| name(entry).unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_and_replaced_with_mode_0600() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        for content in ["first", "second"] {
            Locked::acquire(&path).unwrap().replace(content).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        }
        Locked::acquire(&path).unwrap().replace("third").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(names(folder.path()), [".keys.toml.lock", "keys.toml"]);
    }

    #[test]
    fn links_are_written_through_even_to_a_file_that_is_yet_to_be_made() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("real/keys.toml");
        fs::create_dir(target.parent().unwrap()).unwrap();
        let link = folder.path().join("keys.toml");
        symlink("hop.toml", &link).unwrap();
        symlink("real/keys.toml", folder.path().join("hop.toml")).unwrap();
        for content in ["first", "second"] {
            Locked::acquire(&link).unwrap().replace(content).unwrap();
            assert_eq!(fs::read_to_string(&target).unwrap(), content);
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(names(folder.path()), ["hop.toml", "keys.toml", "real"]);
    }

    #[test]
    fn a_circle_of_links_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert!(Locked::acquire(&folder.path().join("a")).is_err());
    }

    #[test]
    fn the_rest_of_a_crash_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        fs::write(folder.path().join(".keys.toml.tmp"), "half").unwrap();
        Locked::acquire(&path).unwrap().replace("whole").unwrap();
        assert_eq!(names(folder.path()), [".keys.toml.lock", "keys.toml"]);
    }
}
