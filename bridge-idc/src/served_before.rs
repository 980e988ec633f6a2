//! The note in `agent.state_dir` that this agent has served with a ledger.
//!
//! The first start of an agent creates an empty ledger if there is none. A later start must not: if
//! a volume is not mounted or a file was moved, an empty ledger would replace the real one, and all
//! its orders and keys would be missing without any error.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::config::LedgerUrl;
use crate::orders::store::{Ledger, NotReady};

const FILE: &str = "served-with-a-ledger";

const TEXT: &str = "This agent has served with a ledger. While this file is here, `serve` makes no new, empty one; `bridge-idc migrate` does.\n";

/// The ledger of an agent that has served is missing.
#[derive(Debug, thiserror::Error)]
#[error(
    "{what}, although this agent has served with a ledger: its orders would be lost. Mount or restore it; if you want a new, empty \
     one, make it with bridge-idc migrate"
)]
pub struct LedgerLost {
    what: String,
}

/// Remembers whether this agent has served with a ledger.
#[derive(Debug, Clone)]
pub struct ServedBefore {
    path: PathBuf,
}

impl ServedBefore {
    /// Reads the note in the agent's state folder.
    pub fn in_dir(state_dir: &Path) -> Self {
        Self { path: state_dir.join(FILE) }
    }

    /// Checks that opening the ledger would not create an empty file.
    ///
    /// # Errors
    ///
    /// Fails if the agent has served and the file is missing.
    pub fn check_file(&self, url: &LedgerUrl) -> Result<(), LedgerLost> {
        match url.file() {
            Some(path) if self.is_noted() && !path.exists() => {
                Err(LedgerLost { what: format!("there is no {}", path.display()) })
            }
            _ => Ok(()),
        }
    }

    /// Checks that the database of an agent that has served has a ledger.
    ///
    /// # Errors
    ///
    /// Fails if the agent has served and the database has no ledger.
    pub async fn check_tables(&self, ledger: &Ledger) -> Result<(), LedgerLost> {
        if self.is_noted() && matches!(ledger.ready().await, Err(NotReady::Empty)) {
            return Err(LedgerLost { what: "the database has no ledger in it".to_owned() });
        }
        Ok(())
    }

    /// Notes that the agent has served.
    ///
    /// # Errors
    ///
    /// Fails if the note cannot be written.
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
