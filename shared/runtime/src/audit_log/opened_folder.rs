//! Whether the folder at `audit.dir` is still the one that was opened.
//!
//! A folder can be moved and a volume unmounted while files in it are open. What is opened by its path then is in another
//! place than what was open before, and the log would go on in two. So the lock's file tells: it is one file, wherever it lies.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::disk::Lock;

/// A file by what it is, not by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }

    /// Whether it is what stands at this path. An error is about the path, or says that there is nothing.
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
    /// The folder in which this lock is.
    pub(super) fn of(dir: &Path, lock_path: PathBuf, lock: &Lock) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), lock_path, lock: FileId::of(&lock.0)? })
    }

    /// Whether it is still in its place. That costs one look at a name.
    ///
    /// # Errors
    /// It is not, with what to do.
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
