//! Files that are replaced as a whole: written beside their place and renamed, so that a crash leaves the old one or the new one
//! and never a part.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::folder;

/// Where a file is written until it is whole, and what differs between files that are replaced.
#[derive(Debug, Clone, Copy)]
pub struct WholeFile<'a> {
    /// Where it is written until it is whole: in its folder, under another name.
    pub unfinished: &'a Path,
    /// Who may read it, if it is new there; the process's mask takes from it.
    pub mode: u32,
    /// What is durable of it before the rename.
    pub synced: Synced,
    /// Whether its name is durable as well when it is replaced. If not, a power loss may bring the old file back.
    pub syncs_folder: bool,
    /// Whether what is unfinished is removed where it cannot be finished: half a file on a full disk is in everybody's way.
    pub removes_unfinished: bool,
}

/// What of a file's content is made durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Synced {
    /// What it takes to read it.
    Data,
    /// That, and when it was written.
    All,
}

impl WholeFile<'_> {
    /// Puts what `write` writes in the place of the file at this path.
    ///
    /// # Errors
    /// `write` fails, or the disk does. The file is the old one, but where its folder could not be made durable.
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
