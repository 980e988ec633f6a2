//! Small files beside the log's key, each kept up to date by a thread of its own.
//!
//! The key may lie on another volume than the log. While that volume is full or does not answer, what is noted beside the key
//! is late, and nothing else is: whoever has something to note hands it over and goes on. Of what is handed over meanwhile
//! only the newest is written.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::disk::FILE_MODE;
use super::watchdog::Watchdog;
use crate::whole_file::{Synced, WholeFile};

/// Between two tries to write what could not be written.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a file is called until it is whole.
const UNFINISHED: &str = ".new";

/// Where what is to be noted is handed over. Once it is dropped the thread ends: after the newest text is written, or was tried
/// once more.
#[derive(Debug)]
pub(super) struct Notes(watch::Sender<Vec<u8>>);

/// The thread that keeps a file.
pub(super) struct Keeper {
    pub(super) thread: JoinHandle<()>,
    /// What it is about, for whoever looks after it.
    pub(super) busy: Arc<Watchdog>,
    /// Why the last try failed; `None` after one that went through.
    pub(super) failure: watch::Receiver<Option<String>>,
}

impl Notes {
    /// Has this text written in place of what the file says, unless another one follows before that. Nobody waits.
    pub(super) fn keep(&self, text: Vec<u8>) {
        self.0.send_replace(text);
    }

    /// Has the text that was handed over last written with a change, if `change` makes one; whether it did.
    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.0.send_if_modified(change)
    }
}

/// Starts the thread that keeps the file at this path, which says so much now; `report` is told of each try.
pub(super) fn start(
    name: &str,
    path: PathBuf,
    text: Vec<u8>,
    report: impl FnMut(&io::Result<()>) + Send + 'static,
) -> io::Result<(Notes, Keeper)> {
    let (notes, newest) = watch::channel(text);
    let (failed, failure) = watch::channel(None);
    let busy = Arc::new(Watchdog::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let about = busy.clone();
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(run(&path, newest, &about, &failed, report)))?;
    Ok((Notes(notes), Keeper { thread, busy, failure }))
}

async fn run(
    path: &Path,
    mut newest: watch::Receiver<Vec<u8>>,
    busy: &Watchdog,
    failed: &watch::Sender<Option<String>>,
    mut report: impl FnMut(&io::Result<()>),
) {
    loop {
        let is_failing = failed.borrow().is_some();
        let is_over = nothing_more_comes(&mut newest, is_failing).await;
        if is_over && !is_failing {
            return;
        }
        let text = newest.borrow_and_update().clone();
        busy.begin();
        let written = write(path, &text);
        busy.end();
        report(&written);
        failed.send_replace(written.err().map(|error| error.to_string()));
        if is_over {
            return;
        }
    }
}

/// Waits for a newer text, or, where the last one could not be written, until that is due again.
async fn nothing_more_comes(newest: &mut watch::Receiver<Vec<u8>>, is_failing: bool) -> bool {
    let newer = newest.changed();
    let changed = if is_failing { timeout(AGAIN_AFTER, newer).await.unwrap_or(Ok(())) } else { newer.await };
    changed.is_err()
}

/// The old text or the new one is there after a power loss.
fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut unfinished = path.to_owned().into_os_string();
    unfinished.push(UNFINISHED);
    let whole = WholeFile {
        unfinished: Path::new(&unfinished),
        mode: FILE_MODE,
        synced: Synced::Data,
        syncs_folder: false,
        removes_unfinished: true,
    };
    whole.replace(path, |file| file.write_all(text))
}
