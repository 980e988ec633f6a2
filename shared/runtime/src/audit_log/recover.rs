//! The log in the folder at the start: its published part, and the durable rest in the journal.

use std::path::PathBuf;

use bridge_protocol::audit::Checkpoint;
use bridge_protocol::audit::earlier::{EarlierRoot, History};
use bridge_protocol::audit::finding::{Finding, NotRead, Unverified};
use bridge_protocol::audit::folder::{self, Folder as _, Segment};
use bridge_protocol::audit::growing_tree::{File, GrowingTree};
use bridge_protocol::audit::journal::{self, Reader, Writer};
use bridge_protocol::audit::tile::Tile;
use bridge_protocol::audit::tree;
use bridge_protocol::audit::verify::is_newest;
use bridge_protocol::merkle::leaf_hash;
use bridge_protocol::note::NoteVerifier;

use super::disk::Disk;
use super::seen_checkpoint::{BehindSeen, SeenCheckpoint};
use crate::owner::User;

/// Reasons why a log cannot be continued. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// A part of it was changed after it was written.
    #[error(
        "the audit log in {} is damaged and nothing is appended to it: {finding}. Run `audit verify` for the whole picture; restore \
         the folder from a backup, or keep it as evidence and give the agent a new audit.dir and audit.key_file", dir.display()
    )]
    Damaged {
        /// Path of the folder.
        dir: PathBuf,
        /// The fault.
        finding: Finding,
    },
    /// A file of it cannot be read. This says nothing about the log.
    #[error(
        "the audit log in {} cannot be read, and nothing is appended to it: {cause}. The log itself may be whole. If a file belongs to \
         another user, such as after a start as root, `chown -R {} {}`", dir.display(), User::of_this_process(), dir.display()
    )]
    Unreadable {
        /// Path of the folder.
        dir: PathBuf,
        /// The system's error.
        cause: NotRead,
    },
    /// It was longer before.
    #[error(transparent)]
    Behind(#[from] BehindSeen),
    /// The cut-off at its end cannot be repaired.
    #[error("the audit log in {}: {cause}", dir.display())]
    Io {
        /// Path of the folder.
        dir: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
}

/// State from which the log continues.
pub(super) struct Recovered {
    /// The log with all durable entries.
    pub(super) growing: GrowingTree,
    /// Number of entries under the checkpoint.
    pub(super) published: u64,
    /// Earlier sizes that were published.
    pub(super) earlier: History,
    /// Full files of entries beyond the checkpoint.
    pub(super) full: Vec<File>,
    /// The journal's segments except the last: first entry, and the entry after the last one.
    pub(super) older: Vec<(u64, u64)>,
    /// The last segment, which is continued: its first entry, its length in bytes, and the writer
    /// of its rounds.
    pub(super) last: Option<(u64, u64, Writer)>,
}

/// Reads the folder, compares it with the checkpoint that was seen, and cuts off a round that is
/// incomplete.
pub(super) fn recover(
    disk: &Disk,
    key: &NoteVerifier,
    seen: &SeenCheckpoint,
) -> Result<Recovered, RecoverError> {
    let dir = disk.path("");
    let stopped = |unverified| match unverified {
        Unverified::Found(finding) => RecoverError::Damaged { dir: dir.clone(), finding },
        Unverified::Read(cause) => RecoverError::Unreadable { dir: dir.clone(), cause },
    };
    let (mut recovered, segments) = read(disk, key).map_err(stopped)?;
    seen.check_size(disk, recovered.published)?;
    if let Some(seen) = seen.checkpoint() {
        begins_with(disk, recovered.published, seen).map_err(stopped)?;
    }
    let io = |cause| RecoverError::Io { dir: dir.clone(), cause };
    for segment in &segments {
        let bytes = disk.read(&segment.path).map_err(Unverified::from).map_err(stopped)?.unwrap_or_default();
        let Ok((_, mut reader)) = Reader::open(&bytes) else { continue };
        while let Ok(Some(_)) = reader.next_round() {}
        let length = reader.position() as u64;
        if segment.torn.is_some() {
            let cut = bytes.len() as u64 - length;
            tracing::warn!(
                segment = segment.path,
                cut,
                "the journal's last round is incomplete and was acknowledged to nobody: it is cut off"
            );
            let file = disk.open(&segment.path).map_err(io)?;
            file.set_len(length).and_then(|()| file.sync_all()).map_err(io)?;
        }
        recovered.older.push((segment.first, segment.end()));
        recovered.last = Some((segment.first, length, reader.into_writer()));
    }
    recovered.older.pop();
    // Segments whose header is incomplete.
    let begun = disk.list().map_err(Unverified::from).map_err(stopped)?;
    let begun = begun.iter().filter(|path| {
        journal::first_of(path).is_some() && !segments.iter().any(|segment| segment.path == **path)
    });
    for path in begun {
        disk.remove(path).map_err(io)?;
    }
    Ok(recovered)
}

/// Checks that the log under a checkpoint of this size begins with the checkpoint that was seen.
fn begins_with(disk: &Disk, size: u64, seen: &Checkpoint) -> Result<(), Unverified> {
    let root = tree::root(&folder::nodes(disk, size), seen.size).map_err(folder::of_node)?;
    if root == seen.root { Ok(()) } else { Err(Finding::TwoHistories { size: seen.size }.into()) }
}

fn read(disk: &Disk, key: &NoteVerifier) -> Result<(Recovered, Vec<Segment>), Unverified> {
    let segments = folder::segments(disk)?;
    let mut recovered = Recovered {
        growing: GrowingTree::new(),
        published: 0,
        earlier: History::default(),
        full: Vec::new(),
        older: Vec::new(),
        last: None,
    };
    if let Some(note) = disk.read(folder::CHECKPOINT)? {
        let checkpoint = folder::checkpoint(disk, key)?;
        recovered.earlier = Checkpoint::earlier(&note, key).map_err(Finding::Checkpoint)?;
        recovered.earlier.add(EarlierRoot { size: checkpoint.size, root: checkpoint.root });
        let size = checkpoint.size;
        is_newest(disk, size, None, &segments)?;
        recovered.growing =
            GrowingTree::resume(size, |tile| folder::tile(disk, tile)).map_err(folder::of_node)?;
        recovered.published = size;
        if recovered.growing.root() != checkpoint.root {
            return Err(Finding::Root { from: 0, to: size.saturating_sub(1) }.into());
        }
    } else {
        let later = segments.iter().map(|segment| segment.published.unwrap_or(segment.first)).max();
        let tiles = disk.list()?.iter().any(|path| path.parse::<Tile>().is_ok()) && segments.is_empty();
        if later.is_some_and(|size| size > 0) || tiles {
            return Err(Finding::NoCheckpoint.into());
        }
    }
    let published = recovered.published;
    if let Some(last) = segments.last().filter(|last| last.end() < published) {
        return Err(Finding::JournalEntry { path: last.path.clone(), entry: last.end() }.into());
    }
    for segment in &segments {
        if segment.first == recovered.growing.size() && segment.root != recovered.growing.root() {
            return Err(Finding::Journal { path: segment.path.clone(), at: 0 }.into());
        }
        for (index, entry) in (segment.first..).zip(&segment.entries) {
            if index >= published {
                recovered.growing.append(entry, leaf_hash(entry), &mut recovered.full);
            }
        }
    }
    Ok((recovered, segments))
}
