//! The log's last checkpoint in a file beside its key: how far the log had come, whatever stands at `audit.dir` now.
//!
//! Where a volume is not mounted, the folder is an empty one, and where a backup was put back, one of before. A log that went on
//! there would be a second history under one key. So a start compares, and refuses.
//!
//! The file is written after the checkpoint is durable in the folder, so that it is never ahead of that. One that is lost, cut or
//! signed by another key says nothing: then the log is gone on with as it is found.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use bridge_protocol::audit::Checkpoint;
use bridge_protocol::audit::folder::{CHECKPOINT, Folder as _};
use bridge_protocol::note::NoteVerifier;

use super::disk::{CHECKPOINT_BYTES_MAX, Disk, FILE_MODE, read_at_most};

/// The log is not what it was.
#[derive(Debug, thiserror::Error)]
#[error(
    "the audit log in {} has {size} entries under its checkpoint, and there were {seen} already, as {} says, which is beside its key: its \
     volume is not mounted, or an older copy was put in its place. Nothing was changed. Mount the volume, or put the whole folder \
     back. If that is lost for good, give the agent a new audit.dir and audit.key_file: a second log under the same key would be \
     taken for a forged one", dir.display(), file.display()
)]
pub struct Behind {
    dir: PathBuf,
    file: PathBuf,
    size: u64,
    seen: u64,
}

/// The file.
#[derive(Debug)]
pub(super) struct Seen {
    path: PathBuf,
    /// What it says.
    checkpoint: Option<Checkpoint>,
    /// Whether it could not be written the last time, which is told once.
    is_failing: bool,
}

/// What stands beside a log's key, if that signed it.
pub(super) fn note_beside(key_file: &Path, key: &NoteVerifier) -> Option<Vec<u8>> {
    let note = read_at_most(&beside(key_file), CHECKPOINT_BYTES_MAX).ok()?;
    Checkpoint::verify(&note, key).is_ok().then_some(note)
}

fn beside(key_file: &Path) -> PathBuf {
    key_file.with_extension("seen")
}

impl Seen {
    /// Beside the log's key, as far as it is signed by that.
    pub(super) fn beside(key_file: &Path, key: &NoteVerifier) -> Self {
        let path = beside(key_file);
        let checkpoint = match read_at_most(&path, CHECKPOINT_BYTES_MAX) {
            Ok(note) => Checkpoint::verify(&note, key).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let (Err(error), true) = (&checkpoint, path.exists()) {
            tracing::warn!(path = %path.display(), error, "how far the audit log had come is not known: it is taken as it is found");
        }
        Self { path, checkpoint: checkpoint.ok(), is_failing: false }
    }

    /// What the log was seen to be.
    pub(super) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    /// Refuses a folder that has nothing in it, or is not there, before anything is made.
    ///
    /// # Errors
    /// There was a log.
    pub(super) fn check_is_there(&self, disk: &Disk) -> Result<(), Behind> {
        let is_empty = !disk.path("").exists() || disk.list().is_ok_and(|files| files.is_empty());
        if is_empty { self.check_size(disk, 0) } else { Ok(()) }
    }

    /// Refuses a log with fewer entries under its checkpoint.
    ///
    /// # Errors
    /// It was longer.
    pub(super) fn check_size(&self, disk: &Disk, size: u64) -> Result<(), Behind> {
        match &self.checkpoint {
            Some(Checkpoint { size: seen, .. }) if size < *seen => {
                Err(Behind { dir: disk.path(""), file: self.path.clone(), size, seen: *seen })
            }
            _ => Ok(()),
        }
    }

    /// Notes a checkpoint of this size that is durable in the folder, unless it is noted.
    pub(super) fn keep_up_with(&mut self, disk: &Disk, size: u64) {
        let known = self.checkpoint.as_ref().map_or(0, |seen| seen.size);
        if size > known
            && let Ok(Some(note)) = disk.read(CHECKPOINT)
        {
            self.keep(&note);
        }
    }

    /// Notes a checkpoint that is durable in the folder.
    pub(super) fn keep(&mut self, note: &[u8]) {
        let kept = self.write(note);
        match &kept {
            Err(error) if !self.is_failing => {
                tracing::warn!(
                    %error, path = %self.path.display(),
                    "note how far the audit log has come: a folder that is behind that would not be found at the next start"
                );
            }
            _ => {}
        }
        self.is_failing = kept.is_err();
    }

    /// The old one or the new one is there after a power loss, and either was true.
    fn write(&self, note: &[u8]) -> io::Result<()> {
        let new = self.path.with_extension("seen.new");
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(&new)?;
        file.write_all(note)?;
        file.sync_data()?;
        fs::rename(&new, &self.path)
    }
}
