//! The folder on a disk: files that are durable together, and appear whole where somebody looks for them already, and the lock that keeps a second writer out.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use bridge_protocol::audit::finding::NotRead;
use bridge_protocol::audit::folder::{CHECKPOINT, Folder};
use bridge_protocol::audit::journal;
use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use rustix::io::Errno;

use crate::folder;
use crate::private::{self, NotPrivate};

/// Files are for the agent's user, and for its group to read.
pub(super) const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// The file that is locked.
pub(super) const LOCK: &str = "lock";

/// More than a lock's file has.
const LOCK_BYTES_MAX: u64 = 256;

/// More than a checkpoint has.
pub(super) const CHECKPOINT_BYTES_MAX: u64 = 64 << 10;

/// Twice what a bundle has at most, so that whoever verifies tells what is wrong with one that is a little too long.
const TILE_BYTES_MAX: u64 = 1 << 20;

/// More than a segment of the journal has, whose writer sees to it.
const SEGMENT_BYTES_MAX: u64 = 128 << 20;

/// The folders in it.
const FOLDERS: [&str; 2] = ["journal", "tile"];

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

/// What a write has made so far.
#[derive(Default)]
struct UnfinishedWrite {
    /// The folders with names in them that are to be durable.
    folders: BTreeSet<PathBuf>,
    /// Files under their own names, that were not there before.
    new: Vec<PathBuf>,
    /// Files under another name, and their own.
    unfinished: Vec<(PathBuf, PathBuf)>,
}

impl Disk {
    /// A folder to read from.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// A folder to write to, made if it is missing. Its own name is durable when this returns: entries in a folder that a power
    /// loss takes away would be as lost as if they had not been written.
    pub(super) fn make(root: &Path) -> io::Result<Self> {
        let missing =
            root.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        // An earlier start may have made the folder itself and ended before this.
        let named = missing.chain([root]).collect::<BTreeSet<_>>();
        make_folder(root)?;
        named.into_iter().map(folder::of).try_for_each(sync_folder)?;
        Ok(Self::new(root))
    }

    /// Keeps other writers out; `None` if there is one.
    pub(super) fn lock(&self) -> io::Result<Option<Lock>> {
        let mut file = self.options().write(true).create(true).truncate(false).open(self.path(LOCK))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        let place = place(&file.metadata()?);
        if read_at_most(&self.path(LOCK), LOCK_BYTES_MAX).is_ok_and(|written| written == place.as_bytes()) {
            return Ok(Some(Lock(file)));
        }
        // A full disk has no room for it. What is written then counts as the original, as an older version's does.
        if let Err(error) = file.set_len(0).and_then(|()| file.write_all(place.as_bytes())) {
            tracing::warn!(%error, "note where the audit log lies, by which a copy is known for one");
        }
        Ok(Some(Lock(file)))
    }

    /// Whether this is not the folder that the agent writes, but a copy of it: nobody has locked it where it lies, or
    /// its files are the agent's own under other names (`cp -l`).
    pub(super) fn is_copy(&self) -> bool {
        !self.is_an_agent_s() || fs::metadata(self.path(LOCK)).is_ok_and(|lock| lock.nlink() > 1)
    }

    /// Whether an agent writes this folder, or has written it.
    pub(super) fn is_an_agent_s(&self) -> bool {
        let path = self.path(LOCK);
        match (read_at_most(&path, LOCK_BYTES_MAX), fs::metadata(&path)) {
            // A version before wrote nothing into it.
            (Ok(written), Ok(metadata)) => written.is_empty() || written == place(&metadata).as_bytes(),
            _ => false,
        }
    }

    /// Where a file of the log is.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes files and makes them durable together. Those that are `new` are looked for by nobody before the `others` are
    /// there; each of the others is there whole or not at all. So is one that is called new and was there before: a checkpoint
    /// may have come out over it although that was taken for failed.
    pub(super) fn write(&self, new: &[(String, &[u8])], others: &[(String, &[u8])]) -> io::Result<()> {
        let mut made = UnfinishedWrite::default();
        let written = self.write_all(new, others, &mut made).and_then(|()| {
            let mut renamed = made.unfinished.iter();
            renamed.try_for_each(|(from, to)| fs::rename(from, to).map_err(|error| of(to, &error)))?;
            made.folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
        });
        if written.is_err() {
            // Half a file on a full disk is in everybody's way.
            let unfinished = made.unfinished.iter().map(|(from, _)| from);
            made.new.iter().chain(unfinished).for_each(|path| drop(fs::remove_file(path)));
        }
        written
    }

    /// Writes files and makes them durable, but for their names.
    fn write_all(
        &self,
        new: &[(String, &[u8])],
        others: &[(String, &[u8])],
        made: &mut UnfinishedWrite,
    ) -> io::Result<()> {
        let mut written = Vec::with_capacity(new.len() + others.len());
        let files = new.iter().map(|file| (file, true)).chain(others.iter().map(|file| (file, false)));
        for ((name, bytes), is_new) in files {
            let path = self.path(name);
            if let Some(folder) = path.parent().filter(|folder| !made.folders.contains(*folder)) {
                self.make_inside(folder).map_err(|error| of(folder, &error))?;
                let inside = folder.ancestors().take_while(|folder| folder.starts_with(&self.root));
                made.folders.extend(inside.map(Path::to_owned));
            }
            let mut file = self.make_file(path, is_new, made)?;
            file.write_all(bytes).map_err(|error| of(&self.path(name), &error))?;
            written.push(file);
        }
        // The disk has them all to write before anybody waits for the first.
        written.iter().for_each(write_out);
        written.iter().try_for_each(File::sync_all)?;
        // Nobody reads them soon: the memory is better used for what is read.
        written.iter().for_each(write_out);
        Ok(())
    }

    /// Makes a folder in this one, which itself is made at the start and never again: what is gone was moved, or its volume is
    /// not mounted, and the log's files are where it is now.
    fn make_inside(&self, inside: &Path) -> io::Result<()> {
        if inside == self.root {
            return Ok(());
        }
        let make = || match DirBuilder::new().mode(DIR_MODE).create(inside) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        };
        match make() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.make_inside(folder::of(inside))?;
                make()
            }
            made => made,
        }
    }

    /// A file of this name, or under another one until it is whole: nothing that is there is written in its place.
    fn make_file(&self, path: PathBuf, is_new: bool, made: &mut UnfinishedWrite) -> io::Result<File> {
        if is_new {
            match self.options().write(true).create_new(true).open(&path) {
                Ok(file) => {
                    made.new.push(path);
                    return Ok(file);
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(of(&path, &error)),
            }
        }
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let unfinished = PathBuf::from(unfinished);
        let file = self.options().write(true).create(true).truncate(true).open(&unfinished);
        let file = file.map_err(|error| of(&unfinished, &error))?;
        made.unfinished.push((unfinished, path));
        Ok(file)
    }

    /// Starts a file that is written on.
    pub(super) fn start(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        self.write(&[], &[(name.to_owned(), bytes)])?;
        self.open(name)
    }

    /// A file to write on, and to read.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path(name);
        self.options().read(true).write(true).open(&path).map_err(|error| of(&path, &error))
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
                // A volume's own root has more in it, such as `lost+found`, which root alone may read.
                if folder != self.root || FOLDERS.iter().any(|name| entry.file_name() == *name) {
                    self.list_into(&entry.path(), found)?;
                }
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
        let most = match path {
            CHECKPOINT => CHECKPOINT_BYTES_MAX,
            path if journal::first_of(path).is_some() => SEGMENT_BYTES_MAX,
            _ => TILE_BYTES_MAX,
        };
        match read_at_most(&self.path(path), most) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(NotRead(format!("{}: {error}", self.path(path).display()))),
        }
    }
}

/// The bytes of a regular file, if they are so many at most. A folder may be somebody else's: what is called as a log's file
/// may be a pipe, which is waited for, or have no end.
pub(super) fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let (file, metadata) = private::open_regular(path).map_err(|error| match error {
        NotPrivate::Unreadable(cause) => cause,
        error => io::Error::other(error.to_string()),
    })?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(most)).unwrap_or(0));
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!(
            "has more than the {most} bytes that such a file of a log can have"
        )));
    }
    Ok(bytes)
}

/// An error that says which file it is about.
pub(super) fn of(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Has the system write what of a file is in memory alone, and forget what is on the disk. A wish, so there is no error.
fn write_out(file: &File) {
    let _wish = fadvise(file, 0, None, Advice::DontNeed);
}

/// Where a file lies; a copy of it lies elsewhere.
fn place(file: &Metadata) -> String {
    format!("{} {}\n", file.dev(), file.ino())
}

/// Makes the names in a folder durable. One that may not be read is not this agent's: whoever made it has answered for it.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened.and_then(|folder| folder.sync_all()).map_err(|error| of(folder, &error)),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(folder)
}
