//! A log that is written while it is read: the checkpoint first, then what it covers.
//!
//! A folder that was copied file by file while its agent wrote it is of no single moment: its journal is of a later one than its
//! checkpoint, a tile's beginning was removed before it was read, what is new is half there. Nothing of that is a sign of
//! tampering. What the checkpoint covers is there all the same, in a tile or in the journal, and leads to the root that is signed,
//! or it was changed. What lies beyond the checkpoint nobody vouches for.
//!
//! Where the checkpoint was copied last, the copy may end before it. Then an earlier size that the checkpoint names is
//! the last that the copy has all of. Only an end may be missing so: a folder is listed before its files are copied, so what
//! stands before a file that was copied was there as well.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use super::earlier::{EarlierRoot, History};
use super::finding::{Finding, NotRead, Unverified};
use super::folder::{self, Folder, Segment};
use super::growing_tree::{File, GrowingTree};
use super::journal;
use super::tile::{self, Content, FULL, Tile};
use crate::merkle::leaf_hash;

/// Gives every file that a log of the checkpoint's size has to `take`, made from its entries, which lead to its root.
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

/// A bundle's entries: from its file, or from the journal if that is not there or not whole.
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

/// What a folder that was copied while it was written has whole of a log. Whoever verifies such a folder, or only reads it, reads this.
pub struct CoveredPart<'folder, F> {
    files: CompletedFolder<'folder, F>,
    checkpoint: Checkpoint,
    ends_before: Option<u64>,
}

impl<'folder, F: Folder> CoveredPart<'folder, F> {
    /// All that the checkpoint covers.
    pub fn all(folder: &'folder F, checkpoint: Checkpoint) -> Result<Self, Unverified> {
        Ok(Self { files: CompletedFolder::of(folder, &checkpoint)?, checkpoint, ends_before: None })
    }

    /// What the checkpoint covers, or an earlier one of its history, where the folder ends before that; then so many entries at
    /// least, which were there when somebody looked before.
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
            // What was seen was there.
            MissingEnd::At(end) if seen.is_none_or(|seen| seen <= end.size) => {
                Ok(Self { ends_before: Some(size), ..Self::all(folder, end)? })
            }
            MissingEnd::Unknown if seen.is_none() => Err(Finding::EndsEarly { entry, size }.into()),
            MissingEnd::At(_) | MissingEnd::Unknown | MissingEnd::Gap => {
                Err(Finding::Missing { path, entry }.into())
            }
        }
    }

    /// The same by the folder's own checkpoint, whoever signed it: what is read then is not known to be true.
    pub fn unverified(folder: &'folder F) -> Result<Self, Unverified> {
        let note = folder.read(folder::CHECKPOINT)?;
        let (checkpoint, earlier) =
            note.and_then(|note| Checkpoint::unverified_after(&note)).ok_or(Finding::NoCheckpoint)?;
        Self::of(folder, checkpoint, &earlier, None)
    }

    /// The checkpoint that covers it.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// How many entries the folder's own checkpoint says, where the folder ends before that.
    pub fn ends_before(&self) -> Option<u64> {
        self.ends_before
    }

    /// Gives its entries from this index on to `take`, in order; the index after the last one.
    pub fn entries(&self, from: u64, take: impl FnMut(u64, &[u8])) -> Result<u64, Unverified> {
        folder::covered(&self.files, self.checkpoint.size, from, take)
    }

    /// Its files.
    pub(super) fn files(&self) -> &CompletedFolder<'folder, F> {
        &self.files
    }
}

/// What of a copy that ends before its checkpoint is all there.
enum MissingEnd {
    /// Up to one of the earlier sizes that the checkpoint names.
    At(Checkpoint),
    /// Nobody vouches for what is there.
    Unknown,
    /// It is not an end that is missing.
    Gap,
}

/// Up to where a copy goes in which this is the first file that is missing.
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
        // In the missing file's place there may be a beginning of it.
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

/// Whether an agent wrote the folder, or one that it was copied from: then it has a journal. What `audit copy` makes has none, and
/// is of one moment.
fn was_written(files: &[String]) -> bool {
    files.iter().any(|path| journal::first_of(path).is_some())
}

/// A folder with what the checkpoint covers, whole. What is there in its full length stays as it is, so that a change is found.
pub(super) struct CompletedFolder<'folder, F> {
    folder: &'folder F,
    files: BTreeMap<String, Vec<u8>>,
    lacking: Vec<Tile>,
}

impl<'folder, F: Folder> CompletedFolder<'folder, F> {
    /// Of a folder that was copied, up to this checkpoint.
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
            // Where the entries do not lead to the root, whoever compares them with the tiles can name the entry.
            Ok(()) | Err(Unverified::Found(Finding::Root { .. })) => Ok(mended),
            Err(error) => Err(error),
        }
    }

    /// The files that are not there, or not whole, since the folder was copied while they were written; or the first one for
    /// which that is no reason.
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
