//! A result file that a user names.
//!
//! A plain file is replaced whole or not at all: the content goes into a scratch file beside it,
//! which takes over its name, mode and owner at the end. A rename would destroy other kinds of
//! file, so these are treated apart. A link is followed. A device or a pipe is written directly. A
//! file with several names, an access list, or an owner that cannot be kept is filled in place,
//! after all content is in the scratch file.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::output::told_apart;

/// Links that are followed at most, as in the kernel.
const LINKS_MAX: usize = 40;

/// Readers that a file is open to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As its mode says. A new file gets its mode from the umask.
    AsItIs,
    /// Everyone. A new file gets `0644`; an existing file keeps its mode.
    Everyone,
    /// The owner alone. A file that others can read is narrowed to its owner; a file that its owner
    /// opened to a group stays so.
    Secret,
}

/// A result on its way into a file. If it is dropped without [`finish`](Self::finish), a plain file
/// stays as it was.
#[derive(Debug)]
pub struct UserFile {
    out: BufWriter<File>,
    way: Way,
}

/// The way of the content to its name.
#[derive(Debug)]
enum Way {
    /// Directly: each write goes to the target.
    Through,
    /// Through a scratch file beside the target.
    Beside { scratch: PathBuf, target: PathBuf, found: Option<ExistingFile> },
}

/// A plain file that already exists, and the mode that it has at the end.
#[derive(Debug)]
struct ExistingFile {
    mode: u32,
    /// Open for writing if the file must keep its inode.
    in_place: Option<File>,
}

impl UserFile {
    /// Opens a result file that will be at `path`.
    ///
    /// # Errors
    ///
    /// Fails if the path is a folder, or neither the file nor a scratch file beside it can be
    /// opened.
    pub fn create(path: &Path, access: Access) -> io::Result<Self> {
        let named = follow(path)?;
        let (target, found) = match named {
            Named::Through { append } => {
                let mut options = OpenOptions::new();
                let file = options.write(true).append(append).open(path)?;
                return Ok(Self { out: BufWriter::new(file), way: Way::Through });
            }
            Named::New(target) => (target, None),
            Named::File(target, metadata) => {
                let file = open_to_replace(&target, &metadata, access)?;
                (target, Some((file, metadata)))
            }
        };
        let scratch = beside(&target);
        // The mode is set on creation, so that no other user can read the file before.
        let mode = match (&found, access) {
            (Some(_), _) | (None, Access::Secret) => 0o600,
            (None, Access::AsItIs) => 0o666,
            (None, Access::Everyone) => 0o644,
        };
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(&scratch);
        let (made, found) = match (made, found) {
            (Ok(made), Some((file, metadata))) => {
                let mode = kept_mode(metadata.mode() & 0o7777, access);
                let in_place = if is_replaceable(&target, &metadata, &made) {
                    None
                } else {
                    Some(file.or_else(|refused| fs::remove_file(&scratch).and(Err(refused)))?)
                };
                (made, Some(ExistingFile { mode, in_place }))
            }
            (Ok(made), None) => (made, None),
            // The folder takes no new file, but the file itself can be written.
            (Err(_), Some((file, metadata))) => {
                let (file, mode) = (file?, metadata.mode() & 0o7777);
                if kept_mode(mode, access) != mode {
                    file.set_permissions(Permissions::from_mode(kept_mode(mode, access)))?;
                }
                file.set_len(0)?;
                return Ok(Self { out: BufWriter::new(file), way: Way::Through });
            }
            (Err(error), None) => return Err(error),
        };
        Ok(Self { out: BufWriter::new(made), way: Way::Beside { scratch, target, found } })
    }

    /// Makes the content durable and gives it its name.
    ///
    /// # Errors
    ///
    /// Fails if writing, syncing or renaming fails. A plain file is then unchanged, unless it had
    /// to be filled in place.
    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush().map_err(told_apart)?;
        let file = self.out.get_mut();
        let Way::Beside { scratch, target, found } = &mut self.way else {
            // A pipe or a terminal cannot be synced.
            let _synced_where_it_can_be = file.sync_all();
            return Ok(());
        };
        if let Some(ExistingFile { mode, in_place: Some(old) }) = found {
            file.rewind()?;
            old.set_len(0)?;
            io::copy(file, old)?;
            old.set_permissions(Permissions::from_mode(*mode))?;
            return old.sync_all();
        }
        if let Some(found) = found {
            file.set_permissions(Permissions::from_mode(found.mode))?;
        }
        file.sync_all()?;
        fs::rename(&*scratch, &*target)?;
        // The rename is durable only after the folder is synced.
        target.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }
}

impl Write for UserFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes).map_err(told_apart)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush().map_err(told_apart)
    }
}

impl Drop for UserFile {
    fn drop(&mut self) {
        if let Way::Beside { scratch, .. } = &self.way {
            // After a rename there is nothing to remove. Otherwise nobody reads the leftover file.
            let _ = fs::remove_file(scratch);
        }
    }
}

/// The object behind a path.
enum Named {
    /// A device or a pipe that is written directly, or a file that this process has open. The
    /// latter is written at its end, because others may write to it too.
    Through { append: bool },
    /// No file yet, at this path.
    New(PathBuf),
    /// A plain file, at this path.
    File(PathBuf, Metadata),
}

/// Follows links to their target, even if the target does not exist.
fn follow(path: &Path) -> io::Result<Named> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let folder = folder.canonicalize()?;
        let whole = folder.join(name);
        if folder.starts_with("/proc") {
            // /dev/stdout leads here. An open file may have no name, and a rename would not reach
            // the open descriptor.
            return Ok(Named::Through { append: true });
        }
        let found = match whole.symlink_metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Named::New(whole)),
            found => found?,
        };
        if found.is_symlink() {
            path = folder.join(whole.read_link()?);
        } else if found.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        } else if found.is_file() {
            return Ok(Named::File(whole, found));
        } else {
            return Ok(Named::Through { append: false });
        }
    }
    Err(io::Error::other("too many links lead from one to the next"))
}

/// Opens an existing file for writing. A user who may not write a file may not replace it either.
///
/// The exception is a key or a certificate that its owner keeps read-only: it may be replaced, and
/// only replaced. The inner result is then an error.
fn open_to_replace(target: &Path, metadata: &Metadata, access: Access) -> io::Result<io::Result<File>> {
    let is_kept_read_only = || access != Access::AsItIs && metadata.uid() == geteuid().as_raw();
    match OpenOptions::new().write(true).open(target) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_kept_read_only() => {
            Ok(Err(error))
        }
        opened => opened.map(Ok),
    }
}

/// Returns the name of a scratch file in the target's folder, unique to this run. A rename is
/// atomic only within one file system.
fn beside(target: &Path) -> PathBuf {
    static RUNS: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let run = RUNS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(format!(".{}-{run}.new", std::process::id()));
    target.with_file_name(name)
}

/// Returns true if a new file can replace the old one unnoticed: one name, same owner and group, no
/// access list.
fn is_replaceable(target: &Path, old: &Metadata, new: &File) -> bool {
    let same_owner = new.metadata().is_ok_and(|new| (new.uid(), new.gid()) == (old.uid(), old.gid()))
        || fchown(new, Some(old.uid()), Some(old.gid())).is_ok();
    old.nlink() == 1 && same_owner && !has_access_list(target)
}

/// Returns true if a file has an access list, which a new file would not inherit.
fn has_access_list(path: &Path) -> bool {
    rustix::fs::getxattr(path, "system.posix_acl_access", &mut [0_u8; 0]).is_ok()
}

fn kept_mode(mode: u32, access: Access) -> u32 {
    if access == Access::Secret && mode & 0o007 != 0 { 0o600 } else { mode }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn write(path: &Path, text: &str, access: Access) -> io::Result<()> {
        let mut file = UserFile::create(path, access)?;
        file.write_all(text.as_bytes())?;
        file.finish()
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    /// Returns a folder with one file of this mode in it.
    fn with_a_file(mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("result");
        fs::write(&path, "before, and longer than what comes").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    fn names(dir: &tempfile::TempDir) -> usize {
        fs::read_dir(dir.path()).unwrap().count()
    }

    #[test]
    fn a_file_keeps_its_mode_and_is_there_whole() {
        let (dir, path) = with_a_file(0o640);
        write(&path, "after", Access::AsItIs).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("after", 0o640));
        assert_eq!(names(&dir), 1, "another file was left in the folder");
    }

    #[test]
    fn a_file_that_is_not_finished_stays_as_it_was() {
        let (dir, path) = with_a_file(0o600);
        let mut file = UserFile::create(&path, Access::AsItIs).unwrap();
        file.write_all(b"half").unwrap();
        drop(file);
        assert!(fs::read_to_string(&path).unwrap().starts_with("before"));
        assert_eq!(names(&dir), 1);
    }

    #[test]
    fn a_link_is_followed_and_stays_one_also_where_nothing_is_yet() {
        let (dir, path) = with_a_file(0o600);
        let [link, over, dangling] = ["link", "over", "dangling"].map(|name| dir.path().join(name));
        symlink("result", &link).unwrap();
        symlink("link", &over).unwrap();
        write(&over, "after", Access::AsItIs).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("after", 0o600));
        symlink("new", &dangling).unwrap();
        write(&dangling, "new", Access::AsItIs).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("new")).unwrap(), "new");
        for link in [link, over, dangling] {
            assert!(link.symlink_metadata().unwrap().is_symlink());
        }
        let [a, b] = ["a", "b"].map(|name| dir.path().join(name));
        symlink("b", &a).unwrap();
        symlink("a", &b).unwrap();
        assert!(write(&a, "", Access::AsItIs).is_err(), "links in a circle were followed");
    }

    #[test]
    fn a_file_of_two_names_stays_one_file() {
        let (dir, path) = with_a_file(0o600);
        let other = dir.path().join("other");
        fs::hard_link(&path, &other).unwrap();
        write(&path, "after", Access::AsItIs).unwrap();
        assert_eq!(fs::read_to_string(&other).unwrap(), "after");
        assert_eq!(names(&dir), 2);
    }

    #[test]
    fn a_device_is_written_through_and_says_if_it_is_full() {
        write(Path::new("/dev/null"), "gone", Access::AsItIs).unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        let error = write(Path::new("/dev/full"), "gone", Access::AsItIs).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(!fs::metadata("/dev/full").unwrap().is_file());
    }

    #[test]
    fn what_a_process_has_open_is_written_to_at_its_end() {
        use std::os::fd::AsRawFd;
        let (dir, path) = with_a_file(0o600);
        let open = OpenOptions::new().append(true).open(&path).unwrap();
        let name = format!("/proc/self/fd/{}", open.as_raw_fd());
        write(Path::new(&name), " after", Access::AsItIs).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("before") && text.ends_with(" after"), "{text}");
        assert_eq!(names(&dir), 1);
    }

    #[test]
    fn a_pipe_with_a_name_is_written_through() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let reader = std::thread::spawn({
            let path = path.clone();
            move || fs::read_to_string(path).unwrap()
        });
        write(&path, "through", Access::AsItIs).unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(!fs::metadata(&path).unwrap().is_file());
    }

    #[test]
    fn a_secret_is_its_owners_unless_opened_to_a_group() {
        let (_dir, path) = with_a_file(0o644);
        write(&path, "after", Access::Secret).unwrap();
        assert_eq!(mode(&path), 0o600);
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        write(&path, "again", Access::Secret).unwrap();
        assert_eq!(mode(&path), 0o640);
        let new = path.with_file_name("new");
        write(&new, "new", Access::Secret).unwrap();
        assert_eq!(mode(&new), 0o600);
    }

    #[test]
    fn a_folder_and_a_place_that_is_not_there_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(write(dir.path(), "", Access::AsItIs).is_err());
        assert!(write(&dir.path().join("no/file"), "", Access::AsItIs).is_err());
        assert_eq!(names(&dir), 0);
    }
}
