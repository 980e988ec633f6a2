//! The file behind a ledger in SQLite: whether it is still the one at its path.
//!
//! A file that is moved or removed stays open, and what is committed to it afterwards is where nobody looks: the next start would
//! not find it. So whoever writes asks first, and every new connection is one to the same file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use tokio::task::spawn_blocking;

/// The file that a ledger was opened with. Clones are the same.
#[derive(Clone)]
pub(super) struct LedgerFile(Arc<Known>);

struct Known {
    path: PathBuf,
    /// Its device and its number there; set when it was asked about first.
    id: OnceLock<(u64, u64)>,
}

impl LedgerFile {
    pub(super) fn at(path: &Path) -> Self {
        Self(Arc::new(Known { path: path.to_owned(), id: OnceLock::new() }))
    }

    /// Whether the file at its path is still the one that it was when this was asked first.
    pub(super) async fn check(&self) -> sqlx::Result<()> {
        let file = self.clone();
        // Its disk may not answer: then only this waits.
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
