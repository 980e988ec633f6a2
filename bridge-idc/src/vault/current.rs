//! The keys as they are now: the folder is looked at every few seconds, so that a key that was made, copied or removed takes
//! effect without a restart. What cannot be used never replaces what can.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_runtime::reread::{self, Files, Reread, Stamp};
use bridge_runtime::shutdown::Shutdown;
use bridge_runtime::telemetry::metrics::{FilesReread, Metrics};
use tokio::sync::watch;

use super::keyring::{self, Keyring, KeyringError};
use crate::ledger::NotReady;

/// The keys of a running agent.
#[derive(Clone)]
pub struct CurrentKeys {
    folder: Arc<Reread<Folder>>,
    keys: watch::Sender<Arc<Keyring>>,
}

/// The keys' folder, and what an agent has from it.
struct Folder {
    dir: PathBuf,
    keys: watch::Sender<Arc<Keyring>>,
}

impl CurrentKeys {
    /// Reads the folder; the errors are for whoever starts the agent.
    pub fn load(dir: &Path) -> Result<Self, KeyringError> {
        let first = stamps(dir);
        let keys = watch::Sender::new(Arc::new(Keyring::load(dir)?));
        let folder = Folder { dir: dir.to_owned(), keys: keys.clone() };
        Ok(Self { folder: Arc::new(Reread::new(folder, first)), keys })
    }

    /// As they are now.
    pub fn now(&self) -> Arc<Keyring> {
        self.keys.borrow().clone()
    }

    /// As they are and as they will be.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Keyring>> {
        self.keys.subscribe()
    }

    /// Why what is in the folder now is not used, as a sentence.
    pub fn note(&self) -> Option<String> {
        self.folder.note()
    }

    /// Reads the folder again whenever it changes, and when an operator wants it so. Runs until the drain. `check` says whether
    /// new keys may be used; `taken` hears of them after everybody else has got them.
    pub async fn keep(
        self,
        shutdown: Shutdown,
        metrics: Arc<Metrics>,
        check: impl AsyncFn(&Keyring) -> Result<(), NotReady>,
        taken: impl Fn(&Keyring),
    ) {
        let (check, current, taken) = (&check, &self.keys, &taken);
        let take = |keys: Keyring| async move {
            check(&keys).await.map_err(|error| error.to_string())?;
            let keys = Arc::new(keys);
            current.send_replace(keys.clone());
            taken(&keys);
            Ok(())
        };
        tokio::select! {
            () = self.folder.keep(&metrics, take) => {}
            () = self.reload(&shutdown) => {}
            _deadline = shutdown.started() => {}
        }
    }

    async fn reload(&self, shutdown: &Shutdown) {
        let mut reloads = shutdown.reloads();
        loop {
            reloads.next().await;
            self.folder.reload();
        }
    }
}

impl Files for Folder {
    type Content = Keyring;
    type Error = KeyringError;
    const KIND: FilesReread = FilesReread::Keys;

    fn stamps(&self) -> Vec<Stamp> {
        stamps(&self.dir)
    }

    fn read(&self) -> Result<Keyring, KeyringError> {
        let keys = Keyring::load(&self.dir)?;
        let before = self.keys.borrow().clone();
        keys.may_follow(&before, &self.dir)?;
        Ok(keys)
    }
}

/// The key files' stamps, in the order of their names.
fn stamps(dir: &Path) -> Vec<Stamp> {
    let files = keyring::key_files(dir).unwrap_or_default();
    files.iter().map(|path| reread::stamp(path)).collect()
}
