//! Ballast that leaves no room on a disk: the agents' audit logs stand on one each, so that nothing else of the machine runs full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::Path;

use anyhow::{Context, Result};

const BALLAST_BYTES: usize = 1 << 20;

/// Leaves no room on a disk.
pub(super) fn fill(folder: &Path) -> Result<()> {
    let mut ballast = File::create(folder.join("ballast")).context("make the ballast")?;
    // To the last byte: a page that is half full would still take an entry.
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

/// Gives the room back.
pub(super) fn empty(folder: &Path) -> Result<()> {
    fs::remove_file(folder.join("ballast")).context("take the ballast away")
}
