//! A disk whose operations are recorded: it compiles `recorder.c`, preloads the library into
//! processes, and reads the log.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::record::{Recording, record};

const SOURCE: &str = include_str!("recorder.c");

/// Size of the memory that the processes share, in bytes: see `struct shared` in `recorder.c`.
const SHARED_BYTES: u64 = 4_096;

/// The compiled library.
#[derive(Debug)]
pub struct Recorder {
    folder: TempDir,
}

/// Behaviour of the disk.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Duration of an fsync in microseconds. Other processes write meanwhile.
    pub sync_micros: u64,
    /// Fault of fsyncs, if there is one.
    pub fault: Option<Fault>,
    /// True if a file handle lies after its fsync has failed.
    pub lies: bool,
}

/// A fault of fsyncs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// Kind of the fault.
    pub what: SyncFault,
    /// Number of the first faulty fsync, counted from 1 among those of the chosen paths.
    pub from: u32,
    /// Number of faulty fsyncs.
    pub times: u32,
    /// Text that the chosen paths contain; `*` is all paths.
    pub about: &'static str,
}

/// Kind of an fsync's fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncFault {
    /// The fsync fails.
    Fail,
    /// The fsync does not return before [`answer`].
    Hang,
    /// The fsync reports success, and does nothing.
    Lie,
}

/// A folder whose operations are recorded.
#[derive(Debug)]
pub struct Disk {
    scratch: TempDir,
    variables: Vec<(&'static str, OsString)>,
}

impl Recorder {
    /// Compiles the library.
    ///
    /// # Errors
    ///
    /// Fails if there is no C compiler.
    pub fn compile() -> Result<Self> {
        let recorder = Self { folder: tempfile::Builder::new().prefix("bridge-recorder-").tempdir()? };
        let source = recorder.folder.path().join("recorder.c");
        fs::write(&source, SOURCE)?;
        let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
        let output = Command::new(&compiler)
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([recorder.library(), source])
            .arg("-ldl")
            .output()
            .with_context(|| format!("run the C compiler {}", compiler.display()))?;
        ensure!(output.status.success(), "recorder.c: {}", String::from_utf8_lossy(&output.stderr));
        // All users of the disk must be able to read the library, also PostgreSQL's account.
        fs::set_permissions(recorder.folder.path(), Permissions::from_mode(0o755))?;
        Ok(recorder)
    }

    fn library(&self) -> PathBuf {
        self.folder.path().join("recorder.so")
    }
}

/// Makes a new folder, in memory if possible, because its content need not survive.
///
/// # Errors
///
/// Fails if the folder cannot be made.
pub fn scratch() -> Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("bridge-power-");
    let folder = if memory.is_dir() { builder.tempdir_in(memory) } else { builder.tempdir() };
    folder.context("make a folder for a disk")
}

impl Disk {
    /// Begins a recording of the folder `root`. Its content counts as durable, and `acknowledged`
    /// as acknowledged before.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be read, or the log cannot be created.
    pub fn begin(
        recorder: &Recorder,
        root: &Path,
        behaviour: &Behaviour,
        acknowledged: &[String],
    ) -> Result<Self> {
        let root = root.canonicalize().with_context(|| format!("find {}", root.display()))?;
        let scratch = scratch()?;
        fs::set_permissions(scratch.path(), Permissions::from_mode(0o777))?;
        let place = |name: &str| scratch.path().join(name);
        let mut log = BufWriter::new(File::create_new(place("log"))?);
        write_down(&root, "", &mut log)?;
        for line in acknowledged {
            log.write_all(&record(b'M', "", 0, 0, format!("{line}\n").as_bytes()))?;
        }
        log.write_all(&record(b'S', "", 0, 0, &[]))?;
        log.flush()?;
        File::create_new(place("shared"))?.set_len(SHARED_BYTES)?;
        File::create_new(place("acknowledged"))?;
        for name in ["log", "shared", "acknowledged"] {
            fs::set_permissions(place(name), Permissions::from_mode(0o666))?;
        }
        let mut variables = vec![
            ("LD_PRELOAD", recorder.library().into_os_string()),
            ("BRIDGE_DISK_ROOT", root.into_os_string()),
            ("BRIDGE_DISK_LOG", place("log").into_os_string()),
            ("BRIDGE_DISK_SHARED", place("shared").into_os_string()),
            ("BRIDGE_DISK_MARKS", place("acknowledged").into_os_string()),
            ("BRIDGE_DISK_SYNC_MICROS", behaviour.sync_micros.to_string().into()),
        ];
        if let Some(Fault { what, from, times, about }) = behaviour.fault {
            let what = match what {
                SyncFault::Fail => "fail",
                SyncFault::Hang => "hang",
                SyncFault::Lie => "lie",
            };
            let fault = format!("{what} {from} {} {about}", from.saturating_add(times));
            variables.push(("BRIDGE_DISK_FAULT", fault.into()));
        }
        if behaviour.lies {
            variables.push(("BRIDGE_DISK_LIES", "yes".into()));
        }
        Ok(Self { scratch, variables })
    }

    /// Returns the environment variables for processes that use the disk.
    #[must_use]
    pub fn variables(&self) -> &[(&'static str, OsString)] {
        &self.variables
    }

    /// Returns the path of the log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.scratch.path().join("log")
    }

    /// Reads all operations so far.
    ///
    /// # Errors
    ///
    /// Fails if the log cannot be read.
    pub fn recording(&self) -> Result<Recording> {
        Recording::read(&self.log())
    }
}

/// Writer of acknowledgements, for use inside a process on such a disk. Each is one line.
#[derive(Debug)]
pub struct Acknowledged(File);

impl Acknowledged {
    /// Opens the log of acknowledgements.
    ///
    /// # Errors
    ///
    /// Fails if the process does not run on such a disk.
    pub fn open() -> Result<Self> {
        let path = std::env::var_os("BRIDGE_DISK_MARKS")
            .context("this process runs on no disk that is written down")?;
        Ok(Self(OpenOptions::new().append(true).open(path)?))
    }

    /// Records an acknowledgement after all earlier operations.
    ///
    /// # Errors
    ///
    /// Fails if the acknowledgement cannot be written.
    pub fn say(&self, what: &str) -> Result<()> {
        Ok((&self.0).write_all(format!("{what}\n").as_bytes())?)
    }
}

/// Returns true if an fsync hangs now, for use inside a process on such a disk. [`answer`] ends the
/// hang.
#[must_use]
pub fn is_hung() -> bool {
    hung().is_some_and(|hung| hung.exists())
}

/// Lets the hanging fsync return.
pub fn answer() {
    let _nothing_hangs = hung().map(fs::remove_file);
}

fn hung() -> Option<PathBuf> {
    let mut hung = std::env::var_os("BRIDGE_DISK_SHARED")?;
    hung.push(".hung");
    Some(hung.into())
}

/// Records the content of a folder.
fn write_down(folder: &Path, path: &str, log: &mut impl Write) -> Result<()> {
    let seen = fs::metadata(folder)?;
    log.write_all(&record(b'D', path, seen.ino(), u64::from(seen.mode() & 0o7777), &[]))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let path = format!("{path}/{}", name.to_str().context("a name that is no text")?);
        let seen = entry.metadata()?;
        if seen.is_dir() {
            write_down(&entry.path(), &path, log)?;
        } else {
            log.write_all(&record(b'C', &path, seen.ino(), u64::from(seen.mode() & 0o7777), &[]))?;
            log.write_all(&record(b'W', "", seen.ino(), 0, &fs::read(entry.path())?))?;
        }
    }
    Ok(())
}
