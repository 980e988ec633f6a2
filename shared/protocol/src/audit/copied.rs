//! Reading a log folder that was copied while its agent wrote it.
//!
//! The files of such a copy are of different moments. The journal may be newer than the checkpoint,
//! a partial tile may be removed before it is copied, and a new file may be half written. This is
//! no sign of tampering. Everything that the checkpoint covers must still be there, in a tile or in
//! the journal, and must lead to the signed root. Entries beyond the checkpoint are proven by
//! nothing.
//!
//! If the checkpoint was copied last, the copy may end before it. Then the largest earlier size
//! that the checkpoint names, and that the copy has in full, is used. Only the end may be missing:
//! a folder is listed before its files are copied, so a copied file proves that the files before it
//! existed too.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use super::earlier::{EarlierRoot, History};
use super::finding::{Finding, NotRead, Unverified};
use super::folder::{self, Folder, Segment};
use super::growing_tree::{File, GrowingTree};
use super::journal;
use super::tile::{self, Content, FULL, Tile};
use crate::merkle::leaf_hash;

/// Passes every file of a log of the checkpoint's size to `take`. The files are made from the
/// entries, which must lead to its root.
///
/// # Errors
///
/// Fails if the entries are missing or do not lead to the root, or if `take` fails.
pub fn files<F: Folder, E: From<Unverified>>(
    folder: &F,
    checkpoint: &Checkpoint,
    mut take: impl FnMut(File) -> Result<(), E>,
) -> Result<(), E> {
    let size = checkpoint.size;
    let journal = folder::journal_so_far(folder, size)?;
    let (mut growing, mut full) = (GrowingTree::new(), Vec::new());
    for bundle in Tile::all(Content::Entries, size) {
        for entry in entries(folder, &journal, bundle)? {
            growing.append(&entry, leaf_hash(&entry), &mut full);
        }
        full.drain(..).try_for_each(&mut take)?;
    }
    let edge = growing.now();
    edge.files.into_iter().try_for_each(&mut take)?;
    if edge.root == checkpoint.root {
        Ok(())
    } else {
        Err(Unverified::from(Finding::Root { from: 0, to: size.saturating_sub(1) }).into())
    }
}

/// Returns a bundle's entries from its file, or from the journal if the file is missing or not
/// whole.
fn entries<F: Folder>(folder: &F, journal: &[Segment], bundle: Tile) -> Result<Vec<Vec<u8>>, Unverified> {
    let stored = match folder::tile(folder, bundle) {
        Ok(bytes) => bytes,
        Err(Unverified::Read(error)) => return Err(error.into()),
        Err(Unverified::Found(_)) => Vec::new(),
    };
    if let Ok(entries) = tile::entries(&stored)
        && entries.len() == usize::from(bundle.width)
    {
        return Ok(entries.into_iter().map(<[u8]>::to_vec).collect());
    }
    let first = bundle.first_entry();
    let journalled = |index: u64| {
        let segment = journal.iter().find(|segment| (segment.first..segment.end()).contains(&index))?;
        segment.entries.get(usize::try_from(index - segment.first).ok()?).cloned()
    };
    let missing = || Finding::Missing { path: bundle.to_string(), entry: first }.into();
    (first..first + u64::from(bundle.width)).map(journalled).collect::<Option<_>>().ok_or_else(missing)
}

/// The complete part of a log in a folder that was copied while it was written. Both verification
/// and plain reading of such a folder use it.
pub struct CoveredPart<'folder, F> {
    files: CompletedFolder<'folder, F>,
    checkpoint: Checkpoint,
    ends_before: Option<u64>,
}

impl<'folder, F: Folder> CoveredPart<'folder, F> {
    /// Takes everything that the checkpoint covers.
    ///
    /// # Errors
    ///
    /// Fails if an entry is missing or a file cannot be read.
    pub fn all(folder: &'folder F, checkpoint: Checkpoint) -> Result<Self, Unverified> {
        Ok(Self { files: CompletedFolder::of(folder, &checkpoint)?, checkpoint, ends_before: None })
    }

    /// Takes everything that the checkpoint covers. If the folder ends before that, takes what an
    /// earlier size of its history covers.
    ///
    /// `seen` is a size that the log is known to have had. An earlier size below it is not
    /// accepted.
    ///
    /// # Errors
    ///
    /// Fails if no size is covered in full, or if a file cannot be read.
    pub fn of(
        folder: &'folder F,
        checkpoint: Checkpoint,
        earlier: &History,
        seen: Option<u64>,
    ) -> Result<Self, Unverified> {
        let (path, entry) = match Self::all(folder, checkpoint.clone()) {
            Err(Unverified::Found(Finding::Missing { path, entry })) => (path, entry),
            all => return all,
        };
        let end = match path.parse() {
            Ok(missing) => end(folder, &checkpoint, earlier, missing)?,
            Err(_) => MissingEnd::Gap,
        };
        let size = checkpoint.size;
        match end {
            // Entries that were seen before must be in the copy.
            MissingEnd::At(end) if seen.is_none_or(|seen| seen <= end.size) => {
                Ok(Self { ends_before: Some(size), ..Self::all(folder, end)? })
            }
            MissingEnd::Unknown if seen.is_none() => Err(Finding::EndsEarly { entry, size }.into()),
            MissingEnd::At(_) | MissingEnd::Unknown | MissingEnd::Gap => {
                Err(Finding::Missing { path, entry }.into())
            }
        }
    }

    /// Does the same as [`Self::of`] by the folder's own checkpoint, without checking its
    /// signature. So the content is not proven.
    ///
    /// # Errors
    ///
    /// Fails if there is no checkpoint, or for the reasons of [`Self::of`].
    pub fn unverified(folder: &'folder F) -> Result<Self, Unverified> {
        let note = folder.read(folder::CHECKPOINT)?;
        let (checkpoint, earlier) =
            note.and_then(|note| Checkpoint::unverified_after(&note)).ok_or(Finding::NoCheckpoint)?;
        Self::of(folder, checkpoint, &earlier, None)
    }

    /// Returns the checkpoint that covers this part.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Returns the size in the folder's own checkpoint, if the folder ends before it.
    pub fn ends_before(&self) -> Option<u64> {
        self.ends_before
    }

    /// Passes the entries from index `from` on to `take`, in order. Returns the index after the
    /// last one.
    ///
    /// # Errors
    ///
    /// Fails if an entry cannot be read.
    pub fn entries(&self, from: u64, take: impl FnMut(u64, &[u8])) -> Result<u64, Unverified> {
        folder::covered(&self.files, self.checkpoint.size, from, take)
    }

    /// Returns the files of this part.
    pub(super) fn files(&self) -> &CompletedFolder<'folder, F> {
        &self.files
    }
}

/// The end of a copy that ends before its checkpoint.
enum MissingEnd {
    /// At one of the earlier sizes that the checkpoint names.
    At(Checkpoint),
    /// At a size that no checkpoint proves.
    Unknown,
    /// A file in the middle is missing, not the end.
    Gap,
}

/// Returns the end of a copy, given the first file that is missing in it.
fn end<F: Folder>(
    folder: &F,
    checkpoint: &Checkpoint,
    earlier: &History,
    missing: Tile,
) -> Result<MissingEnd, Unverified> {
    let files = folder.list()?;
    let after = |tile: Tile| tile.content == Content::Entries && tile.index > missing.index;
    let is_end = missing.content == Content::Entries && was_written(&files);
    if !is_end || files.iter().filter_map(|path| path.parse().ok()).any(after) {
        return Ok(MissingEnd::Gap);
    }
    let from = missing.first_entry();
    let journal = folder::journal_so_far(folder, from)?;
    let is_there = |size: u64| {
        // A partial version of the missing file may be there.
        let mut last = Tile::all_from(Content::Entries, size, missing.index);
        size <= from || last.next().is_some_and(|last| entries(folder, &journal, last).is_ok())
    };
    let covers = |earlier: &&EarlierRoot| earlier.size <= from + FULL && is_there(earlier.size);
    Ok(match earlier.newest_first().find(covers) {
        Some(EarlierRoot { size, root }) => {
            MissingEnd::At(Checkpoint { origin: checkpoint.origin.clone(), size: *size, root: *root })
        }
        None => MissingEnd::Unknown,
    })
}

/// Returns true if an agent wrote this folder or its original: then it has a journal. A folder that
/// `audit copy` makes has no journal, and all of its files are of one moment.
fn was_written(files: &[String]) -> bool {
    files.iter().any(|path| journal::first_of(path).is_some())
}

/// A folder with everything that the checkpoint covers, completed from the entries. Files that are
/// there in full length are not replaced, so that changes in them are found.
pub(super) struct CompletedFolder<'folder, F> {
    folder: &'folder F,
    files: BTreeMap<String, Vec<u8>>,
    lacking: Vec<Tile>,
}

impl<'folder, F: Folder> CompletedFolder<'folder, F> {
    /// Completes a copied folder up to this checkpoint.
    fn of(folder: &'folder F, checkpoint: &Checkpoint) -> Result<Self, Unverified> {
        let mut mended = Self { folder, files: BTreeMap::new(), lacking: Vec::new() };
        let made = files(folder, checkpoint, |(tile, bytes)| -> Result<(), Unverified> {
            let is_whole = match folder::tile(folder, tile) {
                Ok(stored) => stored.len() == bytes.len(),
                Err(Unverified::Read(error)) => return Err(error.into()),
                Err(Unverified::Found(_)) => false,
            };
            if !is_whole {
                mended.lacking.push(tile);
                mended.files.insert(tile.to_string(), bytes);
            }
            Ok(())
        });
        match made {
            // The entries do not lead to the root. The later comparison with the tiles can name the
            // entry.
            Ok(()) | Err(Unverified::Found(Finding::Root { .. })) => Ok(mended),
            Err(error) => Err(error),
        }
    }

    /// Returns the files that are missing or incomplete because the folder was copied while they
    /// were written. Fails with the first file that must not be missing for this reason.
    pub(super) fn lacking(&self) -> Result<Vec<String>, Unverified> {
        let files = self.folder.list()?;
        let was_written = was_written(&files);
        let tiles: Vec<Tile> = files.iter().filter_map(|path| path.parse().ok()).collect();
        let is_at_the_end = |lacking: &Tile| {
            let same = tiles.iter().filter(|tile| tile.content == lacking.content);
            was_written && same.map(|tile| tile.index).max().is_none_or(|last| last <= lacking.index)
        };
        match self.lacking.iter().find(|lacking| !is_at_the_end(lacking)) {
            Some(tile) => {
                let (path, entry) = (tile.to_string(), tile.first_entry());
                let is_there = folder::tile(self.folder, *tile).is_ok();
                Err(if is_there { Finding::Tile { path, entry } } else { Finding::Missing { path, entry } }
                    .into())
            }
            None => Ok(self.lacking.iter().map(Tile::to_string).collect()),
        }
    }
}

impl<F: Folder> Folder for CompletedFolder<'_, F> {
    fn list(&self) -> Result<Vec<String>, NotRead> {
        self.folder.list()
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, NotRead> {
        match self.files.get(path) {
            Some(bytes) => Ok(Some(bytes.clone())),
            None => self.folder.read(path),
        }
    }
}

#[cfg(test)]
mod tests;
