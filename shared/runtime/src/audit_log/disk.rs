//! The folder on a disk: files that are durable together, and appear whole where somebody looks for them already, and the lock that keeps a second writer out.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bridge_protocol::audit::finding::NotRead;
use bridge_protocol::audit::folder::Folder;
use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use rustix::io::Errno;

/// Files are for the agent's user, and for its group to read.
const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// The file that is locked.
const LOCK: &str = "lock";

/// What a file is called until it is whole.
const UNFINISHED: &str = ".new";

/// An audit log's folder.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
}

/// As long as it lives, no other process writes the folder.
#[derive(Debug)]
pub(super) struct Lock(pub(super) File);

impl Drop for Lock {
    /// Not by closing the file alone: a process that is being started has it open as well, for a moment.
    fn drop(&mut self) {
        let _goes_with_the_file = flock(&self.0, FlockOperation::NonBlockingUnlock);
    }
}

impl Disk {
    /// A folder to read from.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A folder to write to, made if it is missing.
    pub(super) fn make(root: &Path) -> io::Result<Self> {
        make_folder(root)?;
        Ok(Self::new(root))
    }

    /// Keeps other writers out; `None` if there is one.
    pub(super) fn lock(&self) -> io::Result<Option<Lock>> {
        let file = self.options().write(true).create(true).truncate(false).open(self.path(LOCK))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Where a file of the log is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes files and makes them durable together. Those that are `new` are looked for by nobody before the `others` are there,
    /// and nobody did so far; each of the others is there whole or not at all.
    pub(super) fn write(&self, new: &[(String, &[u8])], others: &[(String, &[u8])]) -> io::Result<()> {
        let unfinished: Vec<(String, &[u8])> =
            others.iter().map(|(name, bytes)| (format!("{name}{UNFINISHED}"), *bytes)).collect();
        let files: Vec<&(String, &[u8])> = new.iter().chain(&unfinished).collect();
        let written = self.write_all(&files).and_then(|folders| {
            let mut renamed = unfinished.iter().zip(others);
            renamed.try_for_each(|((from, _), (to, _))| fs::rename(self.path(from), self.path(to)))?;
            folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
        });
        if written.is_err() {
            // Half a file on a full disk is in everybody's way.
            files.iter().for_each(|(name, _)| drop(fs::remove_file(self.path(name))));
        }
        written
    }

    /// Writes files and makes them durable, but for their names, which are in these folders.
    fn write_all(&self, files: &[&(String, &[u8])]) -> io::Result<BTreeSet<PathBuf>> {
        let mut folders = BTreeSet::new();
        let mut written = Vec::with_capacity(files.len());
        for (name, bytes) in files {
            let path = self.path(name);
            if let Some(folder) = path.parent().filter(|folder| !folders.contains(*folder)) {
                make_folder(folder)?;
                let inside = folder.ancestors().take_while(|folder| folder.starts_with(&self.root));
                folders.extend(inside.map(Path::to_owned));
            }
            let mut file = self.options().write(true).create(true).truncate(true).open(&path)?;
            file.write_all(bytes)?;
            written.push(file);
        }
        // The disk has them all to write before anybody waits for the first.
        written.iter().for_each(write_out);
        written.iter().try_for_each(File::sync_all)?;
        // Nobody reads them soon: the memory is better used for what is read.
        written.iter().for_each(write_out);
        Ok(folders)
    }

    /// Starts a file that is written on.
    pub(super) fn start(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        self.write(&[], &[(name.to_owned(), bytes)])?;
        self.open(name)
    }

    /// A file to write on.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        self.options().write(true).open(self.path(name))
    }

    /// Removes a file that is not needed any more.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a folder that is not needed any more.
    pub(super) fn remove_folder(&self, name: &str) -> io::Result<()> {
        match fs::remove_dir_all(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn options(&self) -> OpenOptions {
        let mut options = OpenOptions::new();
        options.mode(FILE_MODE);
        options
    }

    fn list_into(&self, folder: &Path, found: &mut Vec<String>) -> io::Result<()> {
        let entries = match fs::read_dir(folder) {
            // A partial tile's folder goes when the tile is full.
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder != self.root => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.list_into(&entry.path(), found)?;
            } else if let Ok(path) = entry.path().strip_prefix(&self.root)
                && let Some(path) = path.to_str().filter(|path| *path != LOCK && !path.ends_with(UNFINISHED))
            {
                found.push(path.to_owned());
            }
        }
        Ok(())
    }
}

impl Folder for Disk {
    fn list(&self) -> Result<Vec<String>, NotRead> {
        let mut found = Vec::new();
        self.list_into(&self.root, &mut found)
            .map_err(|error| NotRead(format!("{}: {error}", self.root.display())))?;
        found.sort_unstable();
        Ok(found)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, NotRead> {
        match fs::read(self.path(path)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(NotRead(format!("{}: {error}", self.path(path).display()))),
        }
    }
}

/// Has the system write what of a file is in memory alone, and forget what is on the disk. A wish, so there is no error.
fn write_out(file: &File) {
    let _wish = fadvise(file, 0, None, Advice::DontNeed);
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(folder)
}
