//! The keys as they are now: the folder is looked at every few seconds, so that a key that was made, copied or removed takes
//! effect without a restart. What cannot be used never replaces what can.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bridge_runtime::shutdown::Shutdown;
use tokio::sync::watch;
use tokio::time::sleep;

use super::keyring::{self, Keyring, KeyringError};
use crate::ledger::NotReady;

/// How often the folder is looked at.
const POLL: Duration = Duration::from_secs(5);

/// The keys of a running agent.
#[derive(Clone)]
pub struct CurrentKeys {
    dir: PathBuf,
    keys: watch::Sender<Arc<Keyring>>,
    /// Why what is in the folder now is not used.
    mistake: watch::Sender<Option<String>>,
}

impl CurrentKeys {
    /// Reads the folder; the errors are for whoever starts the agent.
    pub fn load(dir: &Path) -> Result<Self, KeyringError> {
        let keys = watch::Sender::new(Arc::new(Keyring::load(dir)?));
        Ok(Self { dir: dir.to_owned(), keys, mistake: watch::Sender::new(None) })
    }

    /// As they are now.
    pub fn now(&self) -> Arc<Keyring> {
        self.keys.borrow().clone()
    }

    /// As they are and as they will be.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Keyring>> {
        self.keys.subscribe()
    }

    /// Why what is in the folder now is not used, in words.
    pub fn mistake(&self) -> Option<String> {
        self.mistake.borrow().clone()
    }

    /// Reads the folder again whenever it changes, and when an operator wants it so. Runs until the drain. `check` says whether
    /// new keys may be used; `taken` hears of them after everybody else has got them.
    pub async fn keep(
        self,
        shutdown: Shutdown,
        check: impl AsyncFn(&Keyring) -> Result<(), NotReady>,
        taken: impl Fn(&Keyring),
    ) {
        let mut stamps = stamps(&self.dir);
        let mut reloads = shutdown.reloads();
        let mut is_unchecked = false;
        loop {
            let asked = tokio::select! {
                () = sleep(POLL) => false,
                () = reloads.next() => true,
                _deadline = shutdown.started() => return,
            };
            let now = self::stamps(&self.dir);
            if asked || is_unchecked || now != stamps {
                stamps = now;
                is_unchecked = self.read_again(&check, &taken).await == Err(Unchecked);
            }
        }
    }

    async fn read_again(
        &self,
        check: &impl AsyncFn(&Keyring) -> Result<(), NotReady>,
        taken: &impl Fn(&Keyring),
    ) -> Result<(), Unchecked> {
        let before = self.now();
        let read =
            Keyring::load(&self.dir).and_then(|keys| keys.may_follow(&before, &self.dir).map(|()| keys));
        let keys = match read {
            Ok(keys) => keys,
            Err(error) => {
                self.keep_those_before(&error);
                return Ok(());
            }
        };
        match check(&keys).await {
            Ok(()) => {
                let keys = Arc::new(keys);
                self.keys.send_replace(keys.clone());
                self.mistake.send_replace(None);
                taken(&keys);
                Ok(())
            }
            Err(error @ NotReady::OtherKeys(_)) => {
                self.keep_those_before(&error);
                Ok(())
            }
            Err(error) => {
                self.keep_those_before(&error);
                Err(Unchecked)
            }
        }
    }

    fn keep_those_before(&self, error: &dyn std::error::Error) {
        let mistake = format!("the keys' folder cannot be used, the keys before stay in use: {error}");
        if self.mistake().as_ref() != Some(&mistake) {
            tracing::warn!("{mistake}");
        }
        self.mistake.send_replace(Some(mistake));
    }
}

/// Nobody could say whether the keys may be used: to be tried again.
#[derive(Debug, PartialEq, Eq)]
struct Unchecked;

/// What tells that the folder has changed: its key files, when each was written, and how long each is.
fn stamps(dir: &Path) -> Vec<(PathBuf, Option<(SystemTime, u64)>)> {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    let files = keyring::key_files(dir).unwrap_or_default();
    files.into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}
