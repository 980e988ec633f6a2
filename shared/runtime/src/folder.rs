//! The folder of a path's last name.
//!
//! `Path::parent` of a bare name is the empty path, which no system call opens. The folder is then
//! the process's working folder.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{Access, access};

/// Returns the folder of a path.
pub fn of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        // The root is its own folder.
        None => path,
    }
}

/// Checks that this process can make files in a folder, or can make the folder.
///
/// # Errors
///
/// Fails if the folder, or its nearest existing parent, is no folder or may not be written.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    let absolute = std::path::absolute(folder)?;
    let existing = absolute.ancestors().find(|path| fs::symlink_metadata(path).is_ok());
    let existing = existing.unwrap_or(&absolute);
    if !fs::metadata(existing)?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(access(existing, Access::WRITE_OK | Access::EXEC_OK)?)
}

/// Makes a path's name durable. The name is in its folder, not in the file.
///
/// # Errors
///
/// Fails if the folder cannot be opened or synced.
pub fn sync(path: &Path) -> io::Result<()> {
    File::open(of(path))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use rustix::process::geteuid;

    use super::*;

    #[test]
    fn a_folder_that_cannot_be_made_or_written_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_writable(dir.path()).is_ok() && check_writable(&dir.path().join("a/b")).is_ok());
        fs::write(dir.path().join("file"), "").unwrap();
        let refused = check_writable(&dir.path().join("file/state")).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotADirectory);
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
        // Root may write to every folder.
        assert_eq!(check_writable(&dir.path().join("state")).is_err(), !geteuid().is_root());
    }

    #[test]
    fn a_bare_name_stands_in_the_folder_that_the_process_runs_in() {
        for (path, folder) in
            [("audit.key", "."), ("./audit.key", "."), ("state/audit.key", "state"), ("/", "/")]
        {
            assert_eq!(of(Path::new(path)), Path::new(folder), "{path}");
        }
        assert!(sync(Path::new("a.key")).is_ok(), "the folder of a bare name can be opened");
    }
}
