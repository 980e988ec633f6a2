//! Disks that lie: one that hangs as long as it is told to, and a folder that nobody writes to. Only root can have them.
//!
//! The disk that hangs is a file system in a file of another file system, which is frozen: then an fsync does not come back, as
//! with a volume whose network is gone. No device mapper and no FUSE is needed for it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// What the outer file system has for itself.
const OUTER_BYTES: u64 = 64 << 20;

/// An ext4 at a folder; gone when it is dropped.
#[derive(Debug)]
pub struct HangingDisk {
    folder: PathBuf,
    /// Where the outer file system and its file are.
    outer: TempDir,
}

impl HangingDisk {
    /// Mounts one of so many bytes at a folder, which is made; `None` for a user who may not mount.
    ///
    /// # Errors
    /// When the folder or the files cannot be made.
    pub fn mount(folder: &Path, bytes: u64) -> Result<Option<HangingDisk>> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let outer = tempfile::Builder::new().prefix("bridge-disk-").tempdir()?;
        fs::create_dir(outer.path().join("mounted"))?;
        let disk = HangingDisk { folder: folder.to_owned(), outer };
        let mounted = file_system(&disk.outer.path().join("image"), bytes + OUTER_BYTES, &disk.frozen())
            && file_system(&disk.frozen().join("image"), bytes, folder);
        Ok(mounted.then_some(disk))
    }

    /// From now on it does not answer.
    ///
    /// # Errors
    /// When it cannot be frozen.
    pub fn hang(&self) -> Result<()> {
        run("fsfreeze", [OsStr::new("--freeze"), self.frozen().as_os_str()])
    }

    /// It answers again, and does what it was asked for.
    ///
    /// # Errors
    /// When it was not frozen.
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

/// A folder that can be read and not written; as before when it is dropped.
#[derive(Debug)]
pub struct ReadOnly(PathBuf);

impl ReadOnly {
    /// Makes a folder so; `None` for a user who may not. It is mounted elsewhere first, and read-only from there on its own place:
    /// a mount is not made read-only while somebody writes on it.
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

/// Whether `mount` could do so.
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

/// Makes an ext4 in a file and mounts it.
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
