//! Disks with faults: one that hangs on command, and a read-only folder. Both need root.
//!
//! The hanging disk is a file system in a file of another file system, which can be frozen. An
//! fsync then does not return, as on a network volume whose network is gone. It needs no device
//! mapper and no FUSE.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// Space that the outer file system needs for itself, in bytes.
const OUTER_BYTES: u64 = 64 << 20;

/// An ext4 file system at a folder. It is unmounted when this value is dropped.
#[derive(Debug)]
pub struct HangingDisk {
    folder: PathBuf,
    /// Folder with the outer file system and its image.
    outer: TempDir,
}

impl HangingDisk {
    /// Makes a folder and mounts a file system of `bytes` bytes on it. Returns `None` if this user
    /// may not mount.
    ///
    /// # Errors
    ///
    /// Fails if the folder or the files cannot be made.
    pub fn mount(folder: &Path, bytes: u64) -> Result<Option<HangingDisk>> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let outer = tempfile::Builder::new().prefix("bridge-disk-").tempdir()?;
        fs::create_dir(outer.path().join("mounted"))?;
        let disk = HangingDisk { folder: folder.to_owned(), outer };
        let mounted = file_system(&disk.outer.path().join("image"), bytes + OUTER_BYTES, &disk.frozen())
            && file_system(&disk.frozen().join("image"), bytes, folder);
        Ok(mounted.then_some(disk))
    }

    /// Makes the disk hang.
    ///
    /// # Errors
    ///
    /// Fails if the outer file system cannot be frozen.
    pub fn hang(&self) -> Result<()> {
        run("fsfreeze", [OsStr::new("--freeze"), self.frozen().as_os_str()])
    }

    /// Makes the disk answer again. It also completes the requests that hung.
    ///
    /// # Errors
    ///
    /// Fails if the disk did not hang.
    pub fn answer(&self) -> Result<()> {
        run("fsfreeze", [OsStr::new("--unfreeze"), self.frozen().as_os_str()])
    }

    fn frozen(&self) -> PathBuf {
        self.outer.path().join("mounted")
    }
}

impl Drop for HangingDisk {
    fn drop(&mut self) {
        let _answers_already = self.answer();
        for folder in [&self.folder, &self.frozen()] {
            let _gone = Command::new("umount").arg("--lazy").arg(folder).output();
        }
    }
}

/// A read-only folder. It is writable again when this value is dropped.
#[derive(Debug)]
pub struct ReadOnly(PathBuf);

impl ReadOnly {
    /// Makes a folder read-only. Returns `None` if this user may not. The folder is first bound to
    /// another place and made read-only there, because a mount that is open for writing cannot be
    /// made read-only.
    #[must_use]
    pub fn make(folder: &Path) -> Option<ReadOnly> {
        let elsewhere = tempfile::tempdir().ok()?;
        mount("--bind", &[folder, elsewhere.path()]).then_some(())?;
        let _elsewhere = ReadOnly(elsewhere.path().to_owned());
        let made =
            mount("-oremount,ro,bind", &[elsewhere.path()]) && mount("--bind", &[elsewhere.path(), folder]);
        made.then(|| ReadOnly(folder.to_owned()))
    }
}

/// Runs `mount`. Returns true if it succeeded.
fn mount(option: &str, folders: &[&Path]) -> bool {
    Command::new("mount")
        .arg(option)
        .arg("--")
        .args(folders)
        .output()
        .is_ok_and(|output| output.status.success())
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        let _gone = Command::new("umount").arg("--lazy").arg(&self.0).output();
    }
}

/// Makes an ext4 file system in a file and mounts it. Returns true if both succeeded.
fn file_system(image: &Path, bytes: u64, at: &Path) -> bool {
    let made = File::create_new(image).and_then(|file| file.set_len(bytes));
    let mkfs = ["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"].map(OsStr::new);
    made.is_ok()
        && run("mkfs.ext4", mkfs.into_iter().chain([image.as_os_str()])).is_ok()
        && run("mount", ["-o".as_ref(), "loop".as_ref(), image.as_os_str(), at.as_os_str()]).is_ok()
}

fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<()> {
    let output = Command::new(program).args(arguments).output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
