//! A log that is written while it is read: the checkpoint first, then what it covers.
//!
//! A folder that was copied file by file while its agent wrote it is of no single moment: its journal is of a later one than its
//! checkpoint, a tile's beginning was removed before it was read, what is new is half there. Nothing of that is a sign of
//! tampering. What the checkpoint covers is there all the same, in a tile or in the journal, and leads to the root that is signed,
//! or it was changed. What lies beyond the checkpoint nobody vouches for.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use super::finding::{Finding, NotRead, Unverified};
use super::folder::{self, Folder, Segment};
use super::growing::{File, Growing};
use super::tile::{self, Content, Tile};
use crate::merkle::leaf_hash;

/// Gives every file that a log of the checkpoint's size has to `take`, made from its entries, which lead to its root.
pub fn files<F: Folder, E: From<Unverified>>(
    folder: &F,
    checkpoint: &Checkpoint,
    mut take: impl FnMut(File) -> Result<(), E>,
) -> Result<(), E> {
    let size = checkpoint.size;
    let journal = folder::journal_so_far(folder, size)?;
    let (mut growing, mut full) = (Growing::new(), Vec::new());
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

/// A folder with what the checkpoint covers, whole. What is there in its full length stays as it is, so that a change is found.
pub(super) struct Mended<'folder, F> {
    folder: &'folder F,
    files: BTreeMap<String, Vec<u8>>,
}

impl<'folder, F: Folder> Mended<'folder, F> {
    /// Of a folder that was copied, up to this checkpoint.
    pub(super) fn of(folder: &'folder F, checkpoint: &Checkpoint) -> Result<Self, Unverified> {
        let mut missing = BTreeMap::new();
        let made = files(folder, checkpoint, |(tile, bytes)| -> Result<(), Unverified> {
            let is_whole = match folder::tile(folder, tile) {
                Ok(stored) => stored.len() == bytes.len(),
                Err(Unverified::Read(error)) => return Err(error.into()),
                Err(Unverified::Found(_)) => false,
            };
            if !is_whole {
                missing.insert(tile.to_string(), bytes);
            }
            Ok(())
        });
        match made {
            // Where the entries do not lead to the root, whoever compares them with the tiles can name the entry.
            Ok(()) | Err(Unverified::Found(Finding::Root { .. })) => Ok(Self { folder, files: missing }),
            Err(error) => Err(error),
        }
    }
}

impl<F: Folder> Folder for Mended<'_, F> {
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
