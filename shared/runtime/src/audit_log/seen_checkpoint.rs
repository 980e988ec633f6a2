//! The log's last checkpoint in a file beside its key. It shows the log's size, whatever is at
//! `audit.dir` now.
//!
//! If a volume is not mounted, the folder is empty. If a backup was put back, it is older. A log
//! that continued there would be a second history under one key. So a start compares the two and
//! refuses.
//!
//! The file is written after the checkpoint is durable in the folder, so it is never ahead. It may
//! be late: nothing waits for the key's volume, except the shutdown of an agent, for a while. A
//! file that is lost, cut or signed by another key has no information, and the log continues as it
//! is. A file that is there and cannot be read stops the start: it may be the one that refuses the
//! folder.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bridge_protocol::audit::Checkpoint;
use bridge_protocol::audit::folder::{CHECKPOINT, Folder as _};
use bridge_protocol::note::NoteVerifier;
use tokio::sync::watch;

use super::disk::{CHECKPOINT_BYTES_MAX, Disk, read_at_most};
use super::noted::{self, Keeper, Notes};
use super::{OpenError, watchdog};
use crate::beside::Beside;
use crate::telemetry::metrics::Metrics;

/// The log is smaller than it was.
#[derive(Debug, thiserror::Error)]
#[error(
    "the audit log in {} has {size} entries under its checkpoint, and there were {seen} already, as {} says, which is beside its key: its \
     volume is not mounted, or an older copy was put in its place. Nothing was changed. Mount the volume, or put the whole folder \
     back. If that is lost for good, give the agent a new audit.dir and audit.key_file: a second log under the same key would be \
     taken for a forged one", dir.display(), file.display()
)]
pub struct BehindSeen {
    dir: PathBuf,
    file: PathBuf,
    size: u64,
    seen: u64,
}

/// The file beside the key.
#[derive(Debug)]
pub(super) struct SeenCheckpoint {
    path: PathBuf,
    /// Checkpoint in the file.
    checkpoint: Option<Checkpoint>,
}

/// State of the file: up to date or late.
#[derive(Clone)]
pub(super) struct Lateness {
    path: PathBuf,
    /// Longest time that its volume may take.
    within: Duration,
    /// Set while its volume does not answer.
    late: watch::Receiver<bool>,
    /// Error of the last attempt to write it.
    failure: watch::Receiver<Option<String>>,
}

/// Returns the checkpoint beside a log's key, if this key signed it.
pub(super) fn note_beside(key_file: &Path, key: &NoteVerifier) -> Option<Vec<u8>> {
    let noted = [Some(Beside::Seen.of(key_file)), Beside::Seen.before(key_file)];
    let noted = noted.into_iter().flatten().filter_map(|path| {
        let note = read_at_most(&path, CHECKPOINT_BYTES_MAX).ok()?;
        let size = Checkpoint::verify(&note, key).ok()?.size;
        Some((size, note))
    });
    noted.max_by_key(|(size, _)| *size).map(|(_, note)| note)
}

impl SeenCheckpoint {
    /// Reads the checkpoint beside the log's key, if this key signed it.
    ///
    /// # Errors
    ///
    /// Fails if the file is there and cannot be read.
    pub(super) fn beside(key_file: &Path, key: &NoteVerifier) -> Result<Self, OpenError> {
        let path = Beside::Seen.of(key_file);
        let checkpoint = match read_at_most(&path, CHECKPOINT_BYTES_MAX) {
            Ok(note) => Checkpoint::verify(&note, key).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(cause) => return Err(OpenError::Seen { path, cause }),
        };
        // An earlier version used another path, where another key's checkpoint may be. That one
        // says nothing about this log.
        let before = Beside::Seen.before(key_file).and_then(|path| {
            let note = read_at_most(&path, CHECKPOINT_BYTES_MAX).ok()?;
            Checkpoint::verify(&note, key).ok()
        });
        if let (Err(error), None) = (&checkpoint, &before) {
            tracing::warn!(path = %path.display(), %error, "the audit log's earlier size is not known: the log is accepted as it is");
        }
        let seen = checkpoint.ok().flatten();
        let checkpoint = seen.into_iter().chain(before).max_by_key(|seen| seen.size);
        Ok(Self { path, checkpoint })
    }

    /// Returns the checkpoint that was seen.
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Refuses a folder that is empty or missing, before anything is made.
    ///
    /// # Errors
    ///
    /// Fails if there was a log.
    pub(super) fn check_is_there(&self, disk: &Disk) -> Result<(), BehindSeen> {
        let is_empty = !disk.path("").exists() || disk.list().is_ok_and(|files| files.is_empty());
        if is_empty { self.check_size(disk, 0) } else { Ok(()) }
    }

    /// Refuses a log with fewer entries under its checkpoint.
    ///
    /// # Errors
    ///
    /// Fails if it was longer.
    pub(super) fn check_size(&self, disk: &Disk, size: u64) -> Result<(), BehindSeen> {
        match &self.checkpoint {
            Some(Checkpoint { size: seen, .. }) if size < *seen => {
                Err(BehindSeen { dir: disk.path(""), file: self.path.clone(), size, seen: *seen })
            }
            _ => Ok(()),
        }
    }

    /// Starts the thread that keeps the file, and makes it catch up with a durable checkpoint of
    /// this size.
    pub(super) fn keep_up(
        self,
        disk: &Disk,
        size: u64,
        within: Duration,
        metrics: &Arc<Metrics>,
    ) -> io::Result<(Notes, Lateness, JoinHandle<()>)> {
        let Self { path, checkpoint } = self;
        let (notes, Keeper { thread, busy, failure }) =
            noted::start("audit-seen", path.clone(), Vec::new(), reporter(path.clone(), metrics.clone()))?;
        let late =
            watchdog::look_after(&busy, within, hanging(&path, within, failure.clone(), metrics.clone()))?;
        metrics.audit_noted.set(1);
        let known = checkpoint.map_or(0, |seen| seen.size);
        if size > known
            && let Ok(Some(note)) = disk.read(CHECKPOINT)
        {
            notes.keep(note);
        }
        Ok((notes, Lateness { path, within, late, failure }, thread))
    }
}

impl Lateness {
    /// Returns why the file is not up to date, as a sentence; `None` if it is.
    pub(super) fn note(&self) -> Option<String> {
        let why = if *self.late.borrow() {
            format!("its volume has not answered for {:?}", self.within)
        } else {
            self.failure.borrow().clone()?
        };
        Some(format!(
            "how far the audit log has come cannot be noted in {}: {why}. The log goes on, and it is noted as soon as it can be. If \
             this agent is killed before that, its next start does not refuse an older copy of audit.dir that was made since the \
             last note",
            self.path.display()
        ))
    }
}

/// Returns a function that reports once that the file cannot be written.
fn reporter(path: PathBuf, metrics: Arc<Metrics>) -> impl FnMut(&io::Result<()>) + Send + 'static {
    let mut was_failing = false;
    move |written| {
        metrics.audit_noted.set(i64::from(written.is_ok()));
        match written {
            Err(error) if !was_failing => tracing::warn!(
                %error, path = %path.display(),
                "note the audit log's size: an older folder would not be detected at the next start"
            ),
            Ok(()) if was_failing => tracing::info!("the audit log's size is noted again"),
            _ => {}
        }
        was_failing = written.is_err();
    }
}

/// Returns a function that reports that the file's volume does not answer.
fn hanging(
    path: &Path,
    within: Duration,
    failure: watch::Receiver<Option<String>>,
    metrics: Arc<Metrics>,
) -> impl Fn(bool) + Send + 'static {
    let path = path.display().to_string();
    move |is_late| {
        metrics.audit_noted.set(i64::from(!is_late && failure.borrow().is_none()));
        if is_late {
            tracing::warn!(
                path,
                ?within,
                "the volume of the audit log's key does not answer: the log continues, and its size is noted later"
            );
        } else {
            tracing::info!(path, "the volume of the audit log's key answers again");
        }
    }
}
