//! The note in `agent.state_dir` that this agent has served with a ledger.
//!
//! An agent's first start makes an empty ledger, if there is none. A later one must not: a volume that is not mounted, or a file
//! that was moved, would be replaced by an empty ledger, and every order and key in the real one forgotten without a word.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::config::LedgerUrl;
use crate::orders::store::{Ledger, NotReady};

const FILE: &str = "served-with-a-ledger";

const TEXT: &str = "This agent has served with a ledger. While this file is here, `serve` makes no new, empty one; `bridge-idc migrate` does.\n";

/// The ledger of an agent that had one is not there.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what}, although this agent has served with a ledger: its orders would be forgotten. Mount or restore it; if a new, empty one \
     is meant, make it with bridge-idc migrate"
)]
pub struct LedgerLost {
    what: String,
}

/// Whether this agent has served with a ledger.
#[derive(Debug, Clone)]
pub struct ServedBefore {
    path: PathBuf,
}

impl ServedBefore {
    /// As the agent's folder says.
    pub fn in_dir(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE) }
    }

    /// Refuses to go on where opening the ledger would make an empty file.
    ///
    /// # Errors
    /// It has served, and the file is not there.
    pub fn check_file(&self, url: &LedgerUrl) -> Result<(), LedgerLost> {
        match url.file() {
            Some(path) if self.is_noted() && !path.exists() => {
                Err(LedgerLost { what: format!("there is no {}", path.display()) })
            }
            _ => Ok(()),
        }
    }

    /// Refuses to go on with a database that has no ledger in it, whoever would make one.
    ///
    /// # Errors
    /// It has served, and the database has no ledger in it.
    pub async fn check_tables(&self, ledger: &Ledger) -> Result<(), LedgerLost> {
        if self.is_noted() && matches!(ledger.ready().await, Err(NotReady::Empty)) {
            return Err(LedgerLost { what: "the database has no ledger in it".to_owned() });
        }
        Ok(())
    }

    /// Notes that it serves.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note(&self) -> io::Result<()> {
        if self.is_noted() {
            return Ok(());
        }
        let mut file = File::create(&self.path)?;
        file.write_all(TEXT.as_bytes())?;
        file.sync_all()
    }

    fn is_noted(&self) -> bool {
        self.path.exists()
    }
}
