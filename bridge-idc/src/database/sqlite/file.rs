//! Checks that the file of an SQLite ledger is still the file at its path.
//!
//! A file that is moved or removed stays open, and later commits to it would be lost: the next
//! start would not find them. So each write checks the file first, and each new connection must be
//! to the same file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::task::spawn_blocking;

/// The file that a ledger was opened with. Clones share it.
#[derive(Clone)]
pub(super) struct LedgerFile(Arc<Known>);

struct Known {
    path: PathBuf,
    /// Device and inode number, set at the first check.
    id: OnceLock<(u64, u64)>,
}

impl LedgerFile {
    pub(super) fn at(path: &Path) -> Self {
        Self(Arc::new(Known { path: path.to_owned(), id: OnceLock::new() }))
    }

    /// Fails if the file at the path is not the one of the first check.
    pub(super) async fn check(&self) -> sqlx::Result<()> {
        let file = self.clone();
        // The disk may not answer. Then only this task waits.
        let checked = spawn_blocking(move || file.0.check()).await;
        checked.map_err(io::Error::other).flatten().map_err(sqlx::Error::Io)
    }
}

impl Known {
    fn check(&self) -> io::Result<()> {
        let metadata = match fs::metadata(&self.path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(self.is("gone from")),
            Err(error) => return Err(error),
        };
        let id = (metadata.dev(), metadata.ino());
        if *self.id.get_or_init(|| id) == id { Ok(()) } else { Err(self.is("another one at")) }
    }

    fn is(&self, what: &str) -> io::Error {
        io::Error::other(format!(
            "the ledger's file is {what} {}, and nothing is written to the one that was opened: put that back, or restart the \
             agent if another one is meant",
            self.path.display()
        ))
    }
}
