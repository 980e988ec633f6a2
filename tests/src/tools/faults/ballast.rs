//! Fills and empties a disk. Each agent's audit log has its own disk, so no other disk of the
//! machine becomes full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context, Result};

const BALLAST_BYTES: usize = 1 << 20;

/// Fills the disk of `folder` to its last byte.
pub(super) fn fill(folder: &Path) -> Result<()> {
    let mut ballast = File::create(folder.join("ballast")).context("make the ballast")?;
    // A page that is half full would still take an entry.
    for bytes in [BALLAST_BYTES, 4_096, 1] {
        loop {
            match ballast.write_all(&vec![0; bytes]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
    }
    Ok(())
}

/// Frees the space again.
pub(super) fn empty(folder: &Path) -> Result<()> {
    fs::remove_file(folder.join("ballast")).context("remove the ballast")
}
