//! The log's last checkpoint in a file beside its key: how far the log had come, whatever stands at `audit.dir` now.
//!
//! Where a volume is not mounted, the folder is an empty one, and where a backup was put back, one of before. A log that went on
//! there would be a second history under one key. So a start compares, and refuses.
//!
//! The file is written after the checkpoint is durable in the folder, so that it is never ahead of that. It may be late: nothing
//! waits for the key's volume, but the end of an agent that is stopped, for a while. One that is lost, cut or signed by another
//! key says nothing: then the log is gone on with as it is found.

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
use super::watchdog;
use crate::beside::Beside;
use crate::telemetry::metrics::Metrics;

/// The log is not what it was.
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

/// The file.
#[derive(Debug)]
pub(super) struct SeenCheckpoint {
    path: PathBuf,
    /// What it says.
    checkpoint: Option<Checkpoint>,
}

/// Whether the file is up to date.
#[derive(Clone)]
pub(super) struct Lateness {
    path: PathBuf,
    /// How long its volume may take.
    within: Duration,
    /// Whether its volume does not answer.
    late: watch::Receiver<bool>,
    /// Why it could not be written the last time.
    failure: watch::Receiver<Option<String>>,
}

/// What stands beside a log's key, if that signed it.
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
    /// Beside the log's key, as far as it is signed by that.
    pub(super) fn beside(key_file: &Path, key: &NoteVerifier) -> Self {
        let path = Beside::Seen.of(key_file);
        let checkpoint = match read_at_most(&path, CHECKPOINT_BYTES_MAX) {
            Ok(note) => Checkpoint::verify(&note, key).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        // Where a version before wrote it, another key's may stand: that says nothing of this log.
        let before = Beside::Seen.before(key_file).and_then(|path| {
            let note = read_at_most(&path, CHECKPOINT_BYTES_MAX).ok()?;
            Checkpoint::verify(&note, key).ok()
        });
        if let (Err(error), None, true) = (&checkpoint, &before, path.exists()) {
            tracing::warn!(path = %path.display(), error, "how far the audit log had come is not known: it is taken as it is found");
        }
        let checkpoint = checkpoint.ok().into_iter().chain(before).max_by_key(|seen| seen.size);
        Self { path, checkpoint }
    }

    /// What the log was seen to be.
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Refuses a folder that has nothing in it, or is not there, before anything is made.
    ///
    /// # Errors
    /// There was a log.
    pub(super) fn check_is_there(&self, disk: &Disk) -> Result<(), BehindSeen> {
        let is_empty = !disk.path("").exists() || disk.list().is_ok_and(|files| files.is_empty());
        if is_empty { self.check_size(disk, 0) } else { Ok(()) }
    }

    /// Refuses a log with fewer entries under its checkpoint.
    ///
    /// # Errors
    /// It was longer.
    pub(super) fn check_size(&self, disk: &Disk, size: u64) -> Result<(), BehindSeen> {
        match &self.checkpoint {
            Some(Checkpoint { size: seen, .. }) if size < *seen => {
                Err(BehindSeen { dir: disk.path(""), file: self.path.clone(), size, seen: *seen })
            }
            _ => Ok(()),
        }
    }

    /// Starts the thread that keeps the file from now on, and has it catch up with a checkpoint of this size, which is durable in
    /// the folder.
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
    /// Why the file is not up to date, as a sentence; `None` while it is.
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

/// Tells, once, that the file cannot be written.
fn reporter(path: PathBuf, metrics: Arc<Metrics>) -> impl FnMut(&io::Result<()>) + Send + 'static {
    let mut was_failing = false;
    move |written| {
        metrics.audit_noted.set(i64::from(written.is_ok()));
        match written {
            Err(error) if !was_failing => tracing::warn!(
                %error, path = %path.display(),
                "note how far the audit log has come: a folder that is behind that would not be found at the next start"
            ),
            Ok(()) if was_failing => tracing::info!("how far the audit log has come is noted again"),
            _ => {}
        }
        was_failing = written.is_err();
    }
}

/// Tells that the file's volume does not answer.
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
                "the volume of the audit log's key does not answer: the log goes on, and how far it has come is noted later"
            );
        } else {
            tracing::info!(path, "the volume of the audit log's key answers again");
        }
    }
}
