//! Checks that the folder at `audit.dir` is still the one that was opened.
//!
//! A folder can be moved, and a volume unmounted, while its files are open. Files opened later by
//! their path would then be in another folder, and the log would continue in two places. The lock
//! file identifies the folder, wherever it is.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::disk::Lock;

/// A file's identity, independent of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Returns the identity of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }

    /// Returns true if this file is at the path. Fails if the path cannot be read or does not
    /// exist.
    pub(super) fn is_at(self, path: &Path) -> io::Result<bool> {
        Ok(Self::from(&fs::metadata(path)?) == self)
    }
}

impl From<&Metadata> for FileId {
    fn from(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

/// The folder that was opened.
#[derive(Debug, Clone)]
pub(super) struct OpenedFolder {
    dir: PathBuf,
    lock_path: PathBuf,
    lock: FileId,
}

impl OpenedFolder {
    /// Makes the identity of the folder with this lock.
    pub(super) fn of(dir: &Path, lock_path: PathBuf, lock: &Lock) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), lock_path, lock: FileId::of(&lock.0)? })
    }

    /// Checks that the folder is still at its place. It costs one look-up of a name.
    ///
    /// # Errors
    ///
    /// Fails if it is not, and says what to do.
    pub(super) fn check(&self) -> io::Result<()> {
        let what = match self.lock.is_at(&self.lock_path) {
            Ok(true) => return Ok(()),
            Ok(false) => "is another folder than the one that was opened",
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.dir.exists() => {
                "has not the lock that was opened in it"
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => "is not there",
            Err(error) => return Err(super::disk::of(&self.lock_path, &error)),
        };
        Err(io::Error::other(format!(
            "{} {what}: the audit log's folder was moved or removed, or its volume is not mounted. Put it back, and the log goes on \
             by itself; start the agent again if what is there now was restored in its place",
            self.dir.display()
        )))
    }
}
