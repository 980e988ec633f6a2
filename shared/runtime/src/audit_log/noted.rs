//! Small files beside the log's key, each kept by a thread of its own.
//!
//! The key may be on another volume than the log. While that volume is full or does not answer,
//! only these files are late. Callers hand over a text and continue. If several texts are handed
//! over meanwhile, only the newest is written.

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

/// Pause before another attempt to write.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Suffix of a file that is not whole yet.
const UNFINISHED: &str = ".new";

/// Handle to hand over texts. After it is dropped, the thread writes the newest text, or tries it
/// once more, and ends.
#[derive(Debug)]
pub(super) struct Notes(watch::Sender<Vec<u8>>);

/// The thread that keeps a file.
pub(super) struct Keeper {
    pub(super) thread: JoinHandle<()>,
    /// Watches the thread's disk operations.
    pub(super) busy: Arc<Watchdog>,
    /// Error of the last attempt; `None` after a success.
    pub(super) failure: watch::Receiver<Option<String>>,
}

impl Notes {
    /// Replaces the file's text soon, without waiting. A later text may take its place before it is
    /// written.
    pub(super) fn keep(&self, text: Vec<u8>) {
        self.0.send_replace(text);
    }

    /// Changes the text that was handed over last. Returns true if `change` changed it.
    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<u8>) -> bool) -> bool {
        self.0.send_if_modified(change)
    }
}

/// Starts the thread that keeps the file at this path, which has `text` now. `report` is called
/// after each attempt.
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

/// Waits for a newer text or the next attempt. Returns true if no more texts will come.
async fn nothing_more_comes(newest: &mut watch::Receiver<Vec<u8>>, is_failing: bool) -> bool {
    let newer = newest.changed();
    let changed = if is_failing { timeout(AGAIN_AFTER, newer).await.unwrap_or(Ok(())) } else { newer.await };
    changed.is_err()
}

/// Writes the text. After a power loss the old or the new text is there.
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
