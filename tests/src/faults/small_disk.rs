//! A disk that can be filled: the agents' audit logs stand on one each, so that nothing else of the machine runs full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// Much more than the log of a run takes.
const SIZE: &str = "size=512m";
const BALLAST_BYTES: usize = 1 << 20;

/// A tmpfs at a folder; gone when it is dropped.
#[derive(Debug)]
pub(super) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one at a folder, which is made; `None` for a user who may not mount, as only root may.
    pub(super) fn mount(folder: PathBuf) -> Result<Option<SmallDisk>> {
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(&folder).output();
        if !mounted.is_ok_and(|output| output.status.success()) {
            return Ok(None);
        }
        let disk = SmallDisk(folder);
        fs::set_permissions(&disk.0, fs::Permissions::from_mode(0o700))?;
        Ok(Some(disk))
    }

    /// Leaves no room on it.
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
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}
