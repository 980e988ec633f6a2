//! Verifies a whole log: every entry, every tile, the checkpoint over them, and the journal beside
//! them.
//!
//! Everything is computed again from the entries and compared with the stored files. Where entries
//! and tiles differ, the side that leads to the signed root is right, and the other one is named.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use super::copied::CoveredPart;
use super::entry::Entry;
use super::finding::{Finding, Unverified};
use super::folder::{self, Folder, Segment, checkpoint, nodes};
use super::growing_tree::{File, GrowingTree};
use super::tile::{self, Content, FULL, Tile};
use super::tree;
use crate::merkle::{Hash, leaf_hash};
use crate::note::NoteVerifier;

/// Result of verifying a log that was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The verified checkpoint.
    pub checkpoint: Checkpoint,
    /// Entries in the journal that no checkpoint covers yet.
    pub unpublished: u64,
    /// Set if the journal's last round is incomplete. It was acknowledged to nobody.
    pub torn: bool,
    /// Set if the files of the folder are of different moments (see [`verify_copied`]). The part
    /// beyond the checkpoint was not checked.
    pub in_flight: bool,
    /// Size in the folder's own checkpoint, if the folder ends before it. `checkpoint` is then an
    /// earlier one that it names.
    pub ends_before: Option<u64>,
    /// Files of the last entries that are missing or incomplete because the folder was copied while
    /// they were written. They were made again from the entries. Proofs cannot be made without
    /// them.
    pub lacks: Vec<String>,
}

/// Verifies the log in `folder` under its key. `seen` is an earlier checkpoint of it that was kept
/// elsewhere.
///
/// # Errors
///
/// Fails with the first fault, or if a file cannot be read.
pub fn verify<F: Folder>(
    folder: &F,
    key: &NoteVerifier,
    seen: Option<&[u8]>,
) -> Result<Verified, Unverified> {
    let checkpoint = checkpoint(folder, key)?;
    let seen = seen.map(|note| Checkpoint::verify(note, key)).transpose().map_err(Finding::Seen)?;
    let size = checkpoint.size;
    let segments = folder::segments(folder)?;
    is_newest(folder, size, seen.as_ref(), &segments)?;

    let mut check = Check::new(folder, &checkpoint, &segments, seen.as_ref());
    check.all(seen.as_ref())?;
    check.journal(&segments)?;
    let unpublished = segments.last().map_or(0, |last| last.end().saturating_sub(size));
    let torn = segments.last().is_some_and(|last| last.torn.is_some());
    Ok(Verified { checkpoint, unpublished, torn, in_flight: false, ends_before: None, lacks: Vec::new() })
}

/// Verifies a folder that was copied while its agent wrote it, up to its checkpoint. If the copy
/// ends before that, verifies it up to an earlier size.
///
/// Such a folder cannot show by itself that there was a later checkpoint with more entries. `seen`
/// can.
///
/// # Errors
///
/// Fails with the first fault, or if a file cannot be read.
pub fn verify_copied<F: Folder>(
    folder: &F,
    key: &NoteVerifier,
    seen: Option<&[u8]>,
) -> Result<Verified, Unverified> {
    let (checkpoint, seen) = signed(folder, key, seen)?;
    let note = folder.read(folder::CHECKPOINT)?.ok_or(Finding::NoCheckpoint)?;
    let earlier = Checkpoint::earlier(&note, key).map_err(Finding::Checkpoint)?;
    let whole = CoveredPart::of(folder, checkpoint, &earlier, seen.as_ref().map(|seen| seen.size))?;
    verify_whole(&whole, seen.as_ref())
}

/// Does the same as [`verify_copied`] for a folder that must have everything that its checkpoint
/// covers.
///
/// # Errors
///
/// Fails with the first fault, or if a file cannot be read.
pub fn verify_covered<F: Folder>(
    folder: &F,
    key: &NoteVerifier,
    seen: Option<&[u8]>,
) -> Result<Verified, Unverified> {
    let (checkpoint, seen) = signed(folder, key, seen)?;
    verify_whole(&CoveredPart::all(folder, checkpoint)?, seen.as_ref())
}

/// Does the same as [`verify_covered`] for a folder that its agent is writing now. Also checks that
/// nothing shows a later checkpoint than the one at the end.
///
/// # Errors
///
/// Fails with the first fault, or if a file cannot be read.
pub fn verify_growing<F: Folder>(
    folder: &F,
    key: &NoteVerifier,
    seen: Option<&[u8]>,
) -> Result<Verified, Unverified> {
    let verified = verify_covered(folder, key, seen)?;
    not_put_back(folder, key)?;
    Ok(verified)
}

/// Returns the folder's checkpoint and the one that was seen. The latter must not be later.
fn signed<F: Folder>(
    folder: &F,
    key: &NoteVerifier,
    seen: Option<&[u8]>,
) -> Result<(Checkpoint, Option<Checkpoint>), Unverified> {
    let checkpoint = checkpoint(folder, key)?;
    let seen = seen.map(|note| Checkpoint::verify(note, key)).transpose().map_err(Finding::Seen)?;
    match seen.as_ref().filter(|seen| seen.size > checkpoint.size) {
        Some(seen) => Err(Finding::PutBack { size: checkpoint.size, later: seen.size }.into()),
        None => Ok((checkpoint, seen)),
    }
}

/// Verifies everything that a checkpoint covers, and nothing beyond it.
fn verify_whole<F: Folder>(
    whole: &CoveredPart<'_, F>,
    seen: Option<&Checkpoint>,
) -> Result<Verified, Unverified> {
    let (files, checkpoint, ends_before) = (whole.files(), whole.checkpoint(), whole.ends_before());
    let mut check = Check::new(files, checkpoint, &[], seen);
    check.all(seen)?;
    let lacks = files.lacking()?;
    Ok(Verified {
        checkpoint: checkpoint.clone(),
        unpublished: 0,
        torn: false,
        in_flight: true,
        ends_before,
        lacks: if ends_before.is_none() { lacks } else { Vec::new() },
    })
}

/// Checks that nothing in a folder shows a later checkpoint than its own.
///
/// Its agent may write the folder meanwhile. So files are read in the reverse order of writing:
/// nothing looks later than the checkpoint only because it was read after it.
///
/// # Errors
///
/// Fails with [`Finding::PutBack`], or if a file cannot be read.
pub fn not_put_back<F: Folder>(folder: &F, key: &NoteVerifier) -> Result<(), Unverified> {
    let tiles = tiles_reach(folder)?;
    let segments = folder::segments(folder)?;
    is_later_than_all(checkpoint(folder, key)?.size, None, &segments, tiles)
}

/// Checks that nothing shows a later checkpoint than this one.
///
/// # Errors
///
/// Fails with [`Finding::PutBack`], or if a file cannot be read.
pub fn is_newest<F: Folder>(
    folder: &F,
    size: u64,
    seen: Option<&Checkpoint>,
    segments: &[Segment],
) -> Result<(), Unverified> {
    is_later_than_all(size, seen, segments, tiles_reach(folder)?)
}

/// Returns the number of entries that the folder's tiles show.
fn tiles_reach<F: Folder>(folder: &F) -> Result<Option<u64>, Unverified> {
    let paths = folder.list()?;
    let tiles = paths.iter().filter_map(|path| path.parse().ok());
    Ok(tiles.map(|tile: Tile| tile.size_at_least()).max())
}

fn is_later_than_all(
    size: u64,
    seen: Option<&Checkpoint>,
    segments: &[Segment],
    tiles: Option<u64>,
) -> Result<(), Unverified> {
    // A segment is removed only after the checkpoint that covers it is published.
    let kept_from = segments.iter().map(|segment| segment.first).min();
    let published = segments.iter().filter_map(|segment| segment.published).max();
    let durable = segments.iter().map(Segment::end).max().unwrap_or(size).max(size);
    // Tiles are written before their checkpoint, for entries in the journal.
    let tiles = tiles.filter(|tiles| *tiles > durable);
    let seen = seen.map(|seen| seen.size);
    match [kept_from, published, tiles, seen].into_iter().flatten().max() {
        Some(later) if later > size => Err(Finding::PutBack { size, later }.into()),
        _ => Ok(()),
    }
}

struct Check<'log, F> {
    folder: &'log F,
    checkpoint: &'log Checkpoint,
    /// The log, made again from its entries.
    growing: GrowingTree,
    /// First difference between entries and tiles.
    difference: Option<Finding>,
    /// First tile above the lowest level that differs from the one made from the entries.
    tile: Option<Finding>,
    /// Hash of an entry that is at a wrong place.
    stranger: Option<Hash>,
    /// First entry that cannot be read.
    form: Option<u64>,
    /// Roots at the sizes that are compared with other sources.
    roots: BTreeMap<u64, Hash>,
    /// Hashes of the entries that the journal has too.
    tail: Vec<Hash>,
    tail_from: u64,
}

impl<'log, F: Folder> Check<'log, F> {
    fn new(
        folder: &'log F,
        checkpoint: &'log Checkpoint,
        segments: &[Segment],
        seen: Option<&Checkpoint>,
    ) -> Self {
        let mut roots: BTreeMap<u64, Hash> =
            segments.iter().map(|segment| (segment.first, [0; 32])).collect();
        roots.extend(seen.map(|seen| (seen.size, [0; 32])));
        roots.retain(|size, _| *size <= checkpoint.size);
        let tail_from = segments.first().map_or(u64::MAX, |segment| segment.first);
        let mut check = Self {
            folder,
            checkpoint,
            growing: GrowingTree::new(),
            difference: None,
            tile: None,
            stranger: None,
            form: None,
            roots,
            tail: Vec::new(),
            tail_from,
        };
        check.note_root();
        check
    }

    /// Checks everything but the journal.
    fn all(&mut self, seen: Option<&Checkpoint>) -> Result<(), Unverified> {
        self.entries()?;
        self.upper_tiles()?;
        self.judge()?;
        if let Some(seen) = seen
            && self.roots.get(&seen.size).is_some_and(|root| *root != seen.root)
        {
            return Err(Finding::TwoHistories { size: seen.size }.into());
        }
        self.older_edges()
    }

    /// Reads the bundles beside the tiles of the lowest level.
    fn entries(&mut self) -> Result<(), Unverified> {
        let size = self.checkpoint.size;
        let tiles = Tile::all(Content::Hashes(0), size);
        for (bundle, tile) in Tile::all(Content::Entries, size).zip(tiles) {
            let first = bundle.first_entry();
            let bytes = folder::tile(self.folder, bundle)?;
            let stored = folder::tile(self.folder, tile)?;
            let (entries, rest) = tile::split(&bytes);
            let leaves: Vec<Hash> = entries.iter().map(|entry| leaf_hash(entry)).collect();
            let stored = tile::hashes(&stored).filter(|hashes| hashes.len() == usize::from(tile.width));
            let Some(stored) = stored else {
                return Err(Finding::Tile { path: tile.to_string(), entry: first }.into());
            };
            if self.difference.is_none()
                && let Some(difference) = compare(first, &leaves, stored)
            {
                self.difference = Some(difference.finding);
                self.stranger = difference.stranger;
            }
            if !rest.is_empty() || leaves.len() != stored.len() {
                // The remaining bytes cannot be counted as entries, so later entries have no index.
                return Err(self.difference.take().unwrap_or(Finding::CutOff { entry: first }).into());
            }
            for (entry, leaf) in entries.into_iter().zip(leaves) {
                self.take(entry, leaf)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, entry: &[u8], leaf: Hash) -> Result<(), Unverified> {
        let index = self.growing.size();
        if self.form.is_none() && Entry::parse(entry).is_err() {
            self.form = Some(index);
        }
        if index >= self.tail_from {
            self.tail.push(leaf);
        }
        let mut full: Vec<File> = Vec::new();
        self.growing.append(entry, leaf, &mut full);
        self.note_root();
        full.iter().try_for_each(|file| self.compare_tile(file))
    }

    /// Compares the partial tiles above the lowest level.
    fn upper_tiles(&mut self) -> Result<(), Unverified> {
        self.growing.now().files.iter().try_for_each(|file| self.compare_tile(file))
    }

    fn compare_tile(&mut self, (tile, bytes): &File) -> Result<(), Unverified> {
        let Content::Hashes(1..) = tile.content else { return Ok(()) };
        if self.tile.is_none() && folder::tile(self.folder, *tile)? != *bytes {
            self.tile = Some(Finding::Tile { path: tile.to_string(), entry: tile.first_entry() });
        }
        Ok(())
    }

    /// Decides by the signed root if the entries or the tiles were changed.
    fn judge(&mut self) -> Result<(), Unverified> {
        let size = self.checkpoint.size;
        let from_entries = self.growing.root() == self.checkpoint.root;
        if from_entries {
            if let Some(Finding::Changed { entry } | Finding::Reordered { entry }) = self.difference {
                let index = entry / FULL;
                let width = u16::try_from((size - index * FULL).min(FULL)).unwrap_or(256);
                let path = Tile { content: Content::Hashes(0), index, width }.to_string();
                return Err(Finding::Tile { path, entry }.into());
            }
            if let Some(finding) = self.tile.take() {
                return Err(finding.into());
            }
            return self.form.map_or(Ok(()), |entry| Err(Finding::Form { entry }.into()));
        }
        if let Some(finding) = self.difference.take() {
            return Err(self.placed(finding)?.into());
        }
        // Entries and their tiles were changed together. A higher tile may still be unchanged.
        match self.changed_below_level_one()? {
            Some(finding) => Err(finding.into()),
            None => Err(Finding::Root { from: 0, to: size.saturating_sub(1) }.into()),
        }
    }

    /// Returns the first full tile of the lowest level whose hash differs from the one in its
    /// parent.
    fn changed_below_level_one(&self) -> Result<Option<Finding>, Unverified> {
        for parent in Tile::all(Content::Hashes(1), self.checkpoint.size) {
            let bytes = folder::tile(self.folder, parent)?;
            for (at, stored) in tile::hashes(&bytes).unwrap_or_default().iter().enumerate() {
                let index = parent.index * FULL + at as u64;
                let made =
                    tree::Nodes::node(&nodes(self.folder, self.checkpoint.size), tile::HEIGHT - 1, index * 2)
                        .and_then(|left| {
                            let nodes = nodes(self.folder, self.checkpoint.size);
                            let right = tree::Nodes::node(&nodes, tile::HEIGHT - 1, index * 2 + 1)?;
                            Ok(crate::merkle::node_hash(&left, &right))
                        })
                        .map_err(folder::of_node)?;
                if made != *stored {
                    return Ok(Some(Finding::Root { from: index * FULL, to: index * FULL + FULL - 1 }));
                }
            }
        }
        Ok(None)
    }

    /// Turns a changed entry into a reordered one if its hash is elsewhere in the log.
    fn placed(&self, finding: Finding) -> Result<Finding, Unverified> {
        let (Finding::Changed { entry }, Some(stranger)) = (&finding, self.stranger) else {
            return Ok(finding);
        };
        for tile in Tile::all(Content::Hashes(0), self.checkpoint.size) {
            if tile::hashes(&folder::tile(self.folder, tile)?).unwrap_or_default().contains(&stranger) {
                return Ok(Finding::Reordered { entry: *entry });
            }
        }
        Ok(finding)
    }

    /// Checks the partial files of earlier checkpoints. They must be beginnings of the files that
    /// replaced them.
    fn older_edges(&self) -> Result<(), Unverified> {
        let size = self.checkpoint.size;
        for path in self.folder.list()? {
            let Ok(tile) = path.parse::<Tile>() else { continue };
            if tile.is_full() || tile.size_at_least() > size {
                continue;
            }
            let Some(now) = Tile::all_from(tile.content, size, tile.index).next() else { continue };
            let (then, now) = (self.folder.read(&path)?.unwrap_or_default(), folder::tile(self.folder, now)?);
            let whole = match tile.content {
                Content::Hashes(_) => then.len() == usize::from(tile.width) * 32,
                Content::Entries => {
                    tile::entries(&then).is_ok_and(|entries| entries.len() == usize::from(tile.width))
                }
            };
            if !whole || !now.starts_with(&then) {
                return Err(Finding::Tile { path, entry: tile.first_entry() }.into());
            }
        }
        Ok(())
    }

    /// Checks that the journal has the same entries and continues after them.
    fn journal(&self, segments: &[Segment]) -> Result<(), Unverified> {
        let Some(last) = segments.last() else { return Ok(()) };
        if last.end() < self.checkpoint.size {
            return Err(Finding::JournalEntry { path: last.path.clone(), entry: last.end() }.into());
        }
        for segment in segments {
            if self.roots.get(&segment.first).is_some_and(|root| *root != segment.root) {
                return Err(Finding::Journal { path: segment.path.clone(), at: 0 }.into());
            }
            for (index, entry) in (segment.first..).zip(&segment.entries) {
                let at = usize::try_from(index - self.tail_from).unwrap_or(usize::MAX);
                let signed = self.tail.get(at);
                if signed.is_some_and(|signed| *signed != leaf_hash(entry)) || Entry::parse(entry).is_err() {
                    return Err(Finding::JournalEntry { path: segment.path.clone(), entry: index }.into());
                }
            }
        }
        Ok(())
    }

    fn note_root(&mut self) {
        if let Some(root) = self.roots.get_mut(&self.growing.size()) {
            *root = self.growing.root();
        }
    }
}

struct Difference {
    finding: Finding,
    stranger: Option<Hash>,
}

/// Returns the first difference between a bundle's entries and the hashes in its tile.
fn compare(first: u64, entries: &[Hash], stored: &[Hash]) -> Option<Difference> {
    let longest = entries.len().max(stored.len());
    let at = (0..longest).find(|at| entries.get(*at) != stored.get(*at))?;
    let entry = first + at as u64;
    let (is, was) = (entries.get(at), stored.get(at));
    let next_is = entries.get(at + 1);
    let finding = match (is, was) {
        (None, _) => Finding::CutOff { entry },
        (Some(_), None) => Finding::Added { entry },
        (Some(is), Some(was)) if entries.contains(was) => {
            if next_is == Some(was) && !stored.contains(is) {
                Finding::Added { entry }
            } else {
                Finding::Reordered { entry }
            }
        }
        (Some(is), Some(_)) if stored.get(at + 1) == Some(is) => Finding::Removed { entry },
        _ => Finding::Changed { entry },
    };
    Some(Difference { finding, stranger: is.copied() })
}

#[cfg(test)]
pub(crate) mod tests;
