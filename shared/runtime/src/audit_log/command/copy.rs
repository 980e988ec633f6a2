//! `audit copy`: reads the checkpoint first, then copies everything that it covers, and writes the
//! checkpoint last.

use std::io::{self, Write as _};
use std::path::Path;

use bridge_protocol::audit::copied;
use bridge_protocol::audit::finding::{Finding, NotRead, Unverified};
use bridge_protocol::audit::folder::{self, Folder as _};
use bridge_protocol::audit::verify::{not_put_back, verify_covered};
use bridge_protocol::audit::{Checkpoint, growing_tree};
use bridge_protocol::note::NoteVerifier;

use super::reading::needs_its_end;
use super::{Disk, LogFolder, look};
use crate::cli::{self, Outcome};

/// Files that are written before they are synced together.
const FILES_AT_ONCE: usize = 128;

/// Copies the log up to its newest checkpoint into a folder, which may have an earlier copy.
pub(super) fn copy(place: &LogFolder, key: &NoteVerifier, to: &Path) -> Outcome {
    if !place.is_copy() {
        look(&place.disk, || not_put_back(&place.disk, key)).map_err(cli::failed)?;
    }
    let from = &place.disk;
    let failed = |error: io::Error| cli::failed(format!("{}: {error}", to.display()));
    let note = from.read(folder::CHECKPOINT).map_err(cli::failed)?;
    let note = note.ok_or_else(|| cli::failed(Finding::NoCheckpoint))?;
    let checkpoint =
        Checkpoint::verify(&note, key).map_err(|error| cli::failed(Finding::Checkpoint(error)))?;
    let copy = Disk::make(to).map_err(failed)?;
    if copy.is_an_agent_s() {
        return Err(cli::usage(format!(
            "{}: it is an agent's own log: copy into another folder",
            to.display()
        )));
    }
    if let Some(before) = copy.read(folder::CHECKPOINT).map_err(cli::failed)? {
        // Checks that it is the same log and has only grown.
        verify_covered(from, key, Some(&before)).map_err(|found| needs_its_end(place, found))?;
    }
    let mut files = Vec::new();
    let mut written = 0;
    let mut flush = |files: &mut Vec<growing_tree::File>| -> Result<(), Unverified> {
        let named: Vec<(String, &[u8])> =
            files.iter().map(|(tile, bytes)| (tile.to_string(), &bytes[..])).collect();
        copy.write(&[], &named).map_err(|error| NotRead(format!("{}: {error}", to.display())))?;
        written += named.len();
        files.clear();
        Ok(())
    };
    copied::files(from, &checkpoint, |file| -> Result<(), Unverified> {
        if copy.read(&file.0.to_string())?.is_some_and(|there| there == file.1) {
            return Ok(());
        }
        files.push(file);
        if files.len() < FILES_AT_ONCE { Ok(()) } else { flush(&mut files) }
    })
    .and_then(|()| flush(&mut files))
    .map_err(|found| needs_its_end(place, found))?;
    // The checkpoint comes last, so that the copy verifies at every moment.
    copy.write(&[], &[(folder::CHECKPOINT.to_owned(), &note)]).map_err(failed)?;
    let (origin, size) = (cli::shown(&checkpoint.origin), checkpoint.size);
    writeln!(
        cli::out(),
        "{origin}: {size} entries, as they were logged, are in {} ({written} files are new)",
        to.display()
    )?;
    Ok(())
}
