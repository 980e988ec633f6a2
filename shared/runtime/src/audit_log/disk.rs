//! The log's folder on a disk: files that become durable together and appear whole, and the lock
//! that keeps out a second writer.

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

/// The agent's user writes the files, and its group may read them.
pub(super) const FILE_MODE: u32 = 0o640;
const DIR_MODE: u32 = 0o750;

/// Name of the locked file.
pub(super) const LOCK: &str = "lock";

/// Limit of the lock file's size.
const LOCK_BYTES_MAX: u64 = 256;

/// Limit of a checkpoint's size.
pub(super) const CHECKPOINT_BYTES_MAX: u64 = 64 << 10;

/// Twice the size of the largest bundle, so that a bundle that is a little too long is still read
/// and described.
const TILE_BYTES_MAX: u64 = 1 << 20;

/// Limit of a journal segment's size. The writer keeps below it.
const SEGMENT_BYTES_MAX: u64 = 128 << 20;

/// Folders of the log.
const FOLDERS: [&str; 2] = ["journal", "tile"];

/// Suffix of a file that is not whole yet.
const UNFINISHED: &str = ".new";

/// The folder of an audit log.
#[derive(Debug, Clone)]
pub struct Disk {
    root: PathBuf,
}

/// Keeps other processes from writing the folder while it lives.
#[derive(Debug)]
pub(super) struct Lock(pub(super) File);

impl Drop for Lock {
    /// Unlocks explicitly. Closing the file is not enough: a child process that is being started
    /// may have it open too for a moment.
    fn drop(&mut self) {
        let _goes_with_the_file = flock(&self.0, FlockOperation::NonBlockingUnlock);
    }
}

/// Files that a write has made so far.
#[derive(Default)]
struct UnfinishedWrite {
    /// Folders with new names that must become durable.
    folders: BTreeSet<PathBuf>,
    /// New files under their own names.
    new: Vec<PathBuf>,
    /// Files under a temporary name, each with its final name.
    unfinished: Vec<(PathBuf, PathBuf)>,
}

impl Disk {
    /// Makes a folder to read from.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Makes a folder to write to, and creates it if it is missing.
    ///
    /// Its name is durable when this returns. Otherwise a power loss could take away the folder
    /// with all its entries.
    pub(super) fn make(root: &Path) -> io::Result<Self> {
        let missing =
            root.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        // An earlier start may have made the folder and ended before syncing its parent.
        let named = missing.chain([root]).collect::<BTreeSet<_>>();
        make_folder(root)?;
        named.into_iter().map(folder::of).try_for_each(sync_folder)?;
        Ok(Self::new(root))
    }

    /// Locks out other writers. Returns `None` if there is one.
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
        // A full disk has no room for it. An empty lock file then counts as the original, as an
        // older version's does.
        if let Err(error) = file.set_len(0).and_then(|()| file.write_all(place.as_bytes())) {
            tracing::warn!(%error, "note where the audit log lies, by which a copy is known for one");
        }
        Ok(Some(Lock(file)))
    }

    /// Returns true if this is a copy of the folder that the agent writes: no agent has locked it
    /// at this place, or its files are hard links to the agent's own (`cp -l`).
    pub(super) fn is_copy(&self) -> bool {
        !self.is_an_agent_s() || fs::metadata(self.path(LOCK)).is_ok_and(|lock| lock.nlink() > 1)
    }

    /// Returns true if an agent writes this folder or wrote it.
    pub(super) fn is_an_agent_s(&self) -> bool {
        let path = self.path(LOCK);
        match (read_at_most(&path, LOCK_BYTES_MAX), fs::metadata(&path)) {
            // An earlier version wrote nothing into it.
            (Ok(written), Ok(metadata)) => written.is_empty() || written == place(&metadata).as_bytes(),
            _ => false,
        }
    }

    /// Returns the path of a file of the log.
    pub fn path(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Writes files and makes them durable together.
    ///
    /// Readers do not look for `new` files before the `others` exist. Each of the others appears
    /// whole or not at all. A `new` file that already exists is also replaced whole: a checkpoint
    /// may cover it, although its publication seemed to have failed.
    pub(super) fn write(&self, new: &[(String, &[u8])], others: &[(String, &[u8])]) -> io::Result<()> {
        let mut made = UnfinishedWrite::default();
        let written = self.write_all(new, others, &mut made).and_then(|()| {
            let mut renamed = made.unfinished.iter();
            renamed.try_for_each(|(from, to)| fs::rename(from, to).map_err(|error| of(to, &error)))?;
            made.folders.iter().try_for_each(|folder| File::open(folder)?.sync_all())
        });
        if written.is_err() {
            // Half a file would fill the disk and confuse later writes.
            let unfinished = made.unfinished.iter().map(|(from, _)| from);
            made.new.iter().chain(unfinished).for_each(|path| drop(fs::remove_file(path)));
        }
        written
    }

    /// Writes files and makes their content durable, but not their names.
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
        // The disk starts to write all of them before the first sync waits.
        written.iter().for_each(write_out);
        written.iter().try_for_each(File::sync_all)?;
        // Nobody reads them soon, so they need not stay in memory.
        written.iter().for_each(write_out);
        Ok(())
    }

    /// Creates a folder inside this one. This folder itself is made only at the start. If it is
    /// missing later, it was moved or its volume is not mounted, and its files are elsewhere.
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

    /// Creates a file under its own name, or under a temporary one until it is whole. An existing
    /// file is never overwritten in place.
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

    /// Starts a file that is extended later.
    pub(super) fn start(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        self.write(&[], &[(name.to_owned(), bytes)])?;
        self.open(name)
    }

    /// Opens a file to read and extend.
    pub(super) fn open(&self, name: &str) -> io::Result<File> {
        let path = self.path(name);
        self.options().read(true).write(true).open(&path).map_err(|error| of(&path, &error))
    }

    /// Removes a file that is no longer needed.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes a folder that is no longer needed.
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
            // A partial tile's folder is removed when the tile is full.
            Err(error) if error.kind() == io::ErrorKind::NotFound && folder != self.root => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                // A volume's root has other folders, such as `lost+found`, which only root may
                // read.
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

/// Reads a regular file of at most this size. A folder may come from others: a pipe under a log
/// file's name would block, and a device might have no end.
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

/// Adds the file's path to an error.
pub(super) fn of(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Asks the system to write the file's cached data to the disk and to drop the cache. It is only a
/// hint, so there is no error.
fn write_out(file: &File) {
    let _wish = fadvise(file, 0, None, Advice::DontNeed);
}

/// Returns a text that identifies the place of a file. A copy of the file has another place.
fn place(file: &Metadata) -> String {
    format!("{} {}\n", file.dev(), file.ino())
}

/// Makes the names in a folder durable. A folder that may not be read was made by another user, who
/// is responsible for its durability.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match File::open(folder) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        opened => opened.and_then(|folder| folder.sync_all()).map_err(|error| of(folder, &error)),
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIR_MODE).create(folder)
}
