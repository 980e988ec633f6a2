//! The current keys of a running agent. The folder is checked every few seconds, so that an added
//! or removed key takes effect without a restart. Keys that cannot be used never replace those in
//! use.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bridge_runtime::reloaded_files::{self, Files, ReloadedFiles, Stamp};
use bridge_runtime::shutdown::Shutdown;
use bridge_runtime::telemetry::metrics::{FilesReread, Metrics};
use tokio::sync::watch;

use super::keyring::{self, Keyring, KeyringError};
use crate::database::NotReady;

/// The keys of a running agent.
#[derive(Clone)]
pub struct CurrentKeys {
    folder: Arc<ReloadedFiles<Folder>>,
    keys: watch::Sender<Arc<Keyring>>,
}

/// The folder of the keys, and the keys that the agent uses.
struct Folder {
    dir: PathBuf,
    keys: watch::Sender<Arc<Keyring>>,
}

impl CurrentKeys {
    /// Reads the folder for the first time.
    ///
    /// # Errors
    ///
    /// Fails if a key is missing or cannot be used. The agent then must not start.
    pub fn load(dir: &Path) -> Result<Self, KeyringError> {
        let first = stamps(dir);
        let keys = watch::Sender::new(Arc::new(Keyring::load(dir)?));
        let folder = Folder { dir: dir.to_owned(), keys: keys.clone() };
        Ok(Self { folder: Arc::new(ReloadedFiles::new(folder, first)), keys })
    }

    /// Returns the keys that are in use now.
    pub fn now(&self) -> Arc<Keyring> {
        self.keys.borrow().clone()
    }

    /// Returns a receiver of the current keys and of all later ones.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Keyring>> {
        self.keys.subscribe()
    }

    /// Returns a sentence that says why the present content of the folder is not in use. Returns
    /// `None` if it is in use.
    pub fn note(&self) -> Option<String> {
        self.folder.note()
    }

    /// Reads the folder again whenever it changes or an operator asks for a reload. Runs until the
    /// drain.
    ///
    /// `check` decides if new keys may be used. `taken` is called after all subscribers have the
    /// new keys.
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

/// Returns the stamps of the key files, sorted by file name.
fn stamps(dir: &Path) -> Vec<Stamp> {
    let files = keyring::key_files(dir).unwrap_or_default();
    files.iter().map(|path| reloaded_files::stamp(path)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use bridge_protocol::domain::UnixMicros;
    use tempfile::TempDir;
    use tokio::time::sleep;

    use super::*;

    const NOW: UnixMicros = UnixMicros::new(1_795_343_485_000_000);

    fn folder_of_keys() -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        keyring::init(dir.path(), "idc.example", NOW, &mut rand::rng()).unwrap();
        dir
    }

    fn add_sealing(dir: &TempDir) {
        keyring::add_sealing(dir.path(), NOW, 90, &mut rand::rng()).unwrap();
    }

    fn sealing_keys(keys: &Keyring) -> usize {
        keys.manifest().keys.len()
    }

    /// Runs `keep` beside `part`, and fails if `keep` ends before `part`.
    async fn while_kept(
        keys: &CurrentKeys,
        metrics: &Arc<Metrics>,
        check: impl AsyncFn(&Keyring) -> Result<(), NotReady>,
        part: impl AsyncFnOnce(&Shutdown),
    ) {
        let shutdown = Shutdown::new();
        let taken = |taken: &Keyring| {
            assert_eq!(keys.now().manifest(), taken.manifest(), "it hears before the others have got them");
        };
        tokio::select! {
            biased;
            () = keys.clone().keep(shutdown.clone(), metrics.clone(), check, taken) => panic!("not kept"),
            () = part(&shutdown) => {}
        }
        // The drain ends `keep`.
        shutdown.start(Duration::ZERO);
        keys.clone().keep(shutdown, metrics.clone(), async |_: &Keyring| Ok(()), |_| {}).await;
    }

    /// Waits until the metrics say that the folder's content is in use, or, if `wanted` is false,
    /// that it is not.
    async fn in_force(metrics: &Metrics, wanted: bool) {
        while (metrics.files_not_in_force.of(FilesReread::Keys).get() == 0) != wanted {
            sleep(Duration::from_millis(1)).await;
        }
    }

    #[test]
    fn a_made_replaced_or_removed_key_is_noticed_and_no_other_file() {
        let dir = folder_of_keys();
        let keys = CurrentKeys::load(dir.path()).unwrap();
        let stamps = || keys.folder.files().stamps();
        let mut before = stamps();
        fs::write(dir.path().join("notes.txt"), "made for the launch").unwrap();
        assert_eq!(stamps(), before);
        let sealing = |n: u8| dir.path().join(format!("sealing-{n}.key"));
        let changes: [&dyn Fn(); 3] =
            [&|| add_sealing(&dir), &|| fs::rename(sealing(2), sealing(1)).unwrap(), &|| {
                fs::remove_file(sealing(1)).unwrap()
            }];
        for change in changes {
            change();
            assert_ne!(stamps(), before);
            before = stamps();
        }
    }

    #[tokio::test]
    async fn an_added_key_is_loaded_on_request_and_everybody_is_told() {
        let dir = folder_of_keys();
        let keys = CurrentKeys::load(dir.path()).unwrap();
        let mut heard = keys.subscribe();
        add_sealing(&dir);
        assert_eq!(sealing_keys(&keys.now()), 1);
        let metrics = Arc::new(Metrics::default());
        while_kept(
            &keys,
            &metrics,
            async |_| Ok(()),
            async |shutdown| {
                shutdown.reload();
                heard.changed().await.unwrap();
                assert_eq!(sealing_keys(&heard.borrow()), 2);
                assert_eq!(sealing_keys(&keys.now()), 2);
            },
        )
        .await;
        assert_eq!(keys.note(), None);
    }

    #[tokio::test]
    async fn an_unusable_key_folder_is_reported_and_the_old_keys_stay() {
        let (dir, other) = (folder_of_keys(), folder_of_keys());
        let keys = CurrentKeys::load(dir.path()).unwrap();
        let verifier = keys.now().verifier().to_string();
        let [ours, theirs] = [&dir, &other].map(|dir| dir.path().join("signing.key"));
        let kept = fs::read(&ours).unwrap();
        let metrics = Arc::new(Metrics::default());
        while_kept(
            &keys,
            &metrics,
            async |_| Ok(()),
            async |shutdown| {
                fs::copy(&theirs, &ours).unwrap();
                shutdown.reload();
                in_force(&metrics, false).await;
                let note = keys.note().unwrap();
                assert!(
                    note.contains("the old ones stay in force") && note.contains("signing.key"),
                    "{note}"
                );
                assert_eq!(keys.now().verifier().to_string(), verifier);
                fs::write(&ours, &kept).unwrap();
                shutdown.reload();
                in_force(&metrics, true).await;
                assert_eq!(keys.note(), None);
            },
        )
        .await;
    }

    #[tokio::test]
    async fn keys_that_a_ledger_does_not_know_are_not_taken() {
        let dir = folder_of_keys();
        let keys = CurrentKeys::load(dir.path()).unwrap();
        add_sealing(&dir);
        let metrics = Arc::new(Metrics::default());
        while_kept(
            &keys,
            &metrics,
            async |_| Err(NotReady::Empty),
            async |shutdown| {
                shutdown.reload();
                in_force(&metrics, false).await;
                assert!(keys.note().unwrap().contains(&NotReady::Empty.to_string()));
                assert_eq!(sealing_keys(&keys.now()), 1);
            },
        )
        .await;
    }
}
