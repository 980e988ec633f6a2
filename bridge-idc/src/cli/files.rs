//! Files that users name in commands: reads them, prints warnings, and writes refusals to a file.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

use bridge_runtime::cli::{self, Access, Failure, UserFile, shown};
use indicatif::ProgressBar;

use crate::import_file::parts::Progress;
use crate::import_file::{FILE_BYTES_MAX, GivenFile, Refusal};

/// Most refusals or warnings that are printed. The file has all refusals.
const SHOWN: usize = 10;

/// The header of a file of refusals. A file of an earlier run is recognised by it.
const REFUSED: [&str; 3] = ["line", "field", "reason"];

/// True if a path means standard input or standard output.
pub(super) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Returns the bytes of a file; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let named = shown(&path.display().to_string()).to_string();
    let read = || {
        let mut bytes = Vec::new();
        if is_standard(path) {
            io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        } else {
            File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        }
        Ok(bytes)
    };
    let bytes: Vec<u8> = read().map_err(|error: io::Error| cli::usage(format!("{named}: {error}")))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        let text = format!("{named}: is larger than {FILE_BYTES_MAX} bytes: import it in several parts");
        return Err(cli::usage(text));
    }
    Ok(bytes)
}

/// Wraps a file's bytes with its owner's word on whether they are complete.
pub(super) fn given(bytes: &[u8], is_whole: bool) -> GivenFile<'_> {
    if is_whole { GivenFile::whole(bytes) } else { GivenFile::new(bytes) }
}

/// Shows the progress of an import. Waits for another session are reported on standard error.
pub(super) fn show(bar: &ProgressBar, told: Progress<'_>) {
    match told {
        Progress::Done(rows) => bar.set_position(rows as u64),
        Progress::Waits(held_up) => bar.suspend(|| {
            let text = shown(&held_up.to_string()).to_string();
            let _nobody_listens = writeln!(io::stderr(), "waiting: {text}");
        }),
    }
}

/// Prints warnings on standard error.
pub(super) fn warn(warned: &[Refusal]) {
    if !warned.is_empty() {
        let text =
            format!("{} doubtful records are imported without a change:{}", warned.len(), first(warned));
        let _nobody_listens = writeln!(io::stderr(), "warning: {text}");
    }
}

/// Returns the first items of a list, and the number of further ones.
pub(super) fn first(refused: &[Refusal]) -> String {
    let lines = refused.iter().take(SHOWN).map(|refusal| format!("\n  {}", shown(&refusal.to_string())));
    let more = refused.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
    lines.chain([more]).collect()
}

/// True if a path names a regular file. A shell's `<(...)` is a pipe.
pub(super) fn is_plain(path: &Path) -> bool {
    !is_standard(path) && fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Returns the default path for the refusals of a file: beside it, if it is a regular file.
pub(super) fn beside(file: &Path) -> Option<PathBuf> {
    is_plain(file).then(|| {
        let mut path = file.to_owned().into_os_string();
        path.push(".refused.csv");
        path.into()
    })
}

/// Deletes the refusals of an earlier run.
pub(super) fn forget_refused(path: &Path) -> io::Result<()> {
    let is_plain = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    let mut beginning = Vec::new();
    let header = REFUSED.join(",");
    if is_plain {
        File::open(path)?.take(header.len() as u64).read_to_end(&mut beginning)?;
    }
    if is_plain && beginning == header.as_bytes() { fs::remove_file(path) } else { Ok(()) }
}

/// Writes refusals to a file.
pub(super) fn write_refused(path: &Path, refused: &[Refusal]) -> io::Result<()> {
    let mut file = csv::Writer::from_writer(UserFile::create(path, Access::AsItIs)?);
    file.write_record(REFUSED)?;
    for Refusal { line, field, reason } in refused {
        file.write_record([&line.to_string(), field, reason])?;
    }
    file.into_inner().map_err(csv::IntoInnerError::into_error)?.finish()
}
