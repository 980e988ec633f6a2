//! Files that are replaced as a whole. The new file is written under another name in the same
//! folder and then renamed, so that a crash leaves the old file or the new one, and never a part.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::folder;

/// Way in which one file is replaced as a whole.
#[derive(Debug, Clone, Copy)]
pub struct WholeFile<'a> {
    /// Path of the new file until the rename, in the same folder.
    pub unfinished: &'a Path,
    /// Permissions of a new file, before the process's umask.
    pub mode: u32,
    /// Extent of the sync before the rename.
    pub synced: Synced,
    /// True if the folder is synced after the rename. Otherwise a power loss can bring the old file
    /// back.
    pub syncs_folder: bool,
    /// True if an unfinished file is removed after a failure. Half a file would fill the disk.
    pub removes_unfinished: bool,
}

/// Extent of a file's sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// The content, and the metadata that a reader needs (`fdatasync`).
    Data,
    /// The content and all metadata (`fsync`).
    All,
}

impl WholeFile<'_> {
    /// Replaces the file at this path by a file with the content that `write` writes.
    ///
    /// # Errors
    ///
    /// Fails if `write` fails, or if the file cannot be created, synced or renamed. The old file
    /// then stays. Fails also if the folder cannot be synced. The new file is then in place, but a
    /// power loss can bring the old one back.
    pub fn replace(&self, path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let written = self.write(write).and_then(|()| fs::rename(self.unfinished, path));
        if written.is_err() && self.removes_unfinished {
            let _as_it_is = fs::remove_file(self.unfinished);
        }
        written?;
        if self.syncs_folder { folder::sync(path) } else { Ok(()) }
    }

    fn write(&self, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(self.mode).open(self.unfinished)?;
        write(&mut file)?;
        match self.synced {
            Synced::Data => file.sync_data(),
            Synced::All => file.sync_all(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn whole(unfinished: &Path, removes_unfinished: bool) -> WholeFile<'_> {
        WholeFile { unfinished, mode: 0o600, synced: Synced::All, syncs_folder: true, removes_unfinished }
    }

    #[test]
    fn a_file_is_replaced_and_nothing_is_left_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let (path, unfinished) = (dir.path().join("file"), dir.path().join("file.new"));
        for text in ["first", "2nd"] {
            whole(&unfinished, false).replace(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert!(!unfinished.exists());
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_finished_leaves_the_old_file_as_it_was() {
        for removes_unfinished in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let (path, unfinished) = (dir.path().join("file"), dir.path().join("file.new"));
            fs::write(&path, "old").unwrap();
            let fails = |file: &mut File| {
                file.write_all(b"ne")?;
                Err(io::ErrorKind::StorageFull.into())
            };
            let error = whole(&unfinished, removes_unfinished).replace(&path, fails).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert_eq!(fs::read_to_string(&path).unwrap(), "old");
            assert_eq!(unfinished.exists(), !removes_unfinished);
        }
    }
}
