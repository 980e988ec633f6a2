//! The folder of a path's last name.
//!
//! `Path::parent` of a bare name is the empty path, which no system call opens. The folder is then
//! the process's working folder.

use std::fs::File;
use std::io;
use std::path::Path;

/// Returns the folder of a path.
pub fn of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        // The root is its own folder.
        None => path,
    }
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
    use super::*;

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
