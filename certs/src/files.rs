//! Files that are written whole or not at all, and keys that nobody else can read at any moment.
//!
//! Role: the only file of this crate that writes. It uses `bridge-console`, which follows links and
//! keeps modes. Neighbours: `authority` decides the paths. A key that others can read is narrowed
//! to its owner when it is written again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use bridge_console::{Access, UserFile};

use crate::CertsError;

/// Readers of a file.
#[derive(Clone, Copy)]
pub(crate) enum Readers {
    /// Its owner only: private keys.
    Owner,
    /// Everyone: certificates and revocation lists are public.
    Everyone,
}

impl Readers {
    fn access(self) -> Access {
        match self {
            Self::Owner => Access::Secret,
            Self::Everyone => Access::Everyone,
        }
    }
}

/// Writes `contents` to `path` and replaces the existing file. A reader, or a crash, sees the old
/// or the new file, never a part.
pub(crate) fn write(path: &Path, contents: &str, readers: Readers) -> Result<(), CertsError> {
    let fill = || {
        let mut file = UserFile::create(path, readers.access())?;
        file.write_all(contents.as_bytes())?;
        file.finish()
    };
    fill().map_err(CertsError::io("write", path))
}

/// Reads a PEM file.
pub(crate) fn read(path: &Path) -> Result<String, CertsError> {
    let bytes = fs::read(path).map_err(CertsError::io("read", path))?;
    String::from_utf8(bytes).map_err(|_| CertsError::malformed("this is no PEM text").in_file(path))
}

/// Fails if one of `paths` exists, unless `force` is set.
pub(crate) fn refuse_existing(paths: &[&Path], force: bool) -> Result<(), CertsError> {
    // A dangling symbolic link counts too, because the rename would replace it.
    match paths.iter().find(|path| !force && path.symlink_metadata().is_ok()) {
        Some(path) => Err(CertsError::Exists { path: path.to_path_buf() }),
        None => Ok(()),
    }
}

/// Locks out other runs of this program from `dir` until the returned handle is dropped.
pub(crate) fn lock(dir: &Path) -> Result<File, CertsError> {
    let handle = File::open(dir).map_err(CertsError::io("open", dir))?;
    handle.lock().map_err(CertsError::io("lock", dir))?;
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_private_file_is_0600_even_where_a_wider_one_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.key");
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        write(&path, "new", Readers::Owner).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind_and_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        // A file cannot replace a directory, so the rename fails after the scratch file was
        // written.
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write(&path, "new", Readers::Everyone).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot write {}", path.display())), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_dangling_link_counts_as_existing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("link");
        std::os::unix::fs::symlink("nowhere", &path).unwrap();
        let error = refuse_existing(&[&dir.path().join("absent"), &path], false).unwrap_err();
        assert!(matches!(error, CertsError::Exists { path: named } if named == path));
        refuse_existing(&[&path], true).unwrap();
    }
}
