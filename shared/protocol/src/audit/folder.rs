//! Access to a log's files and entries, wherever the files are stored.

use super::checkpoint::Checkpoint;
use super::finding::{Finding, NotRead, Unverified};
use super::journal::{self, JournalError, Reader};
use super::tile::{self, Content, FULL, NodeError, Tile, TileNodes};
use crate::note::NoteVerifier;

/// Path of the checkpoint.
pub const CHECKPOINT: &str = "checkpoint";

/// Source of a log's files. A path has no leading slash.
pub trait Folder {
    /// Returns the paths of all files.
    ///
    /// # Errors
    ///
    /// Fails if the folder cannot be read.
    fn list(&self) -> Result<Vec<String>, NotRead>;

    /// Returns a file's bytes, or `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// Fails if the file cannot be read.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, NotRead>;
}

/// The content of one segment of the journal.
pub struct Segment {
    /// Path of the segment.
    pub path: String,
    /// Index of its first entry.
    pub first: u64,
    /// Root of the log before that entry.
    pub root: crate::merkle::Hash,
    /// Its entries.
    pub entries: Vec<Vec<u8>>,
    /// Size of the last published checkpoint that it names.
    pub published: Option<u64>,
    /// Offset in bytes at which it is cut short.
    pub torn: Option<usize>,
}

impl Segment {
    /// Returns the index after its last entry.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// Returns the log's checkpoint, verified under its key.
///
/// # Errors
///
/// Fails if there is no checkpoint, or if it does not verify under the key.
pub fn checkpoint<F: Folder>(folder: &F, key: &NoteVerifier) -> Result<Checkpoint, Unverified> {
    let note = folder.read(CHECKPOINT)?.ok_or(Finding::NoCheckpoint)?;
    Checkpoint::verify(&note, key).map_err(|error| Finding::Checkpoint(error).into())
}

/// Returns a tile of a log. If the partial tile is gone, returns the full tile that replaced it,
/// cut to the same width.
///
/// # Errors
///
/// Fails if neither file exists or can be read.
pub fn tile<F: Folder>(folder: &F, tile: Tile) -> Result<Vec<u8>, Unverified> {
    if let Some(bytes) = folder.read(&tile.to_string())? {
        return Ok(bytes);
    }
    if let Some(bytes) = folder.read(&tile.full().to_string())? {
        return Ok(cut(tile, bytes));
    }
    Err(Finding::Missing { path: tile.to_string(), entry: tile.first_entry() }.into())
}

fn cut(tile: Tile, mut bytes: Vec<u8>) -> Vec<u8> {
    let width = usize::from(tile.width);
    let length = match tile.content {
        Content::Hashes(_) => width * 32,
        Content::Entries => tile::split(&bytes).0.iter().take(width).map(|entry| 2 + entry.len()).sum(),
    };
    bytes.truncate(length);
    bytes
}

/// Returns the nodes of a log of this size, read from its tiles.
pub fn nodes<F: Folder>(folder: &F, size: u64) -> TileNodes<impl Fn(Tile) -> Result<Vec<u8>, Unverified>> {
    TileNodes { size, read: move |wanted| tile(folder, wanted) }
}

/// Converts an error of the tree's nodes to a finding.
pub fn of_node(error: NodeError<Unverified>) -> Unverified {
    match error {
        NodeError::Read(error) => error,
        NodeError::Width(tile) => Finding::Tile { path: tile.to_string(), entry: tile.first_entry() }.into(),
    }
}

/// Returns the entries of a bundle in a log of this size.
///
/// # Errors
///
/// Fails if the bundle is missing or not whole.
pub fn bundle<F: Folder>(folder: &F, size: u64, index: u64) -> Result<Vec<Vec<u8>>, Unverified> {
    let first = index * FULL;
    let Some(wanted) = Tile::all_from(Content::Entries, size, index).next() else { return Ok(Vec::new()) };
    let bytes = tile(folder, wanted)?;
    let (entries, rest) = tile::split(&bytes);
    if rest.is_empty() && entries.len() == usize::from(wanted.width) {
        Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
    } else {
        Err(Finding::CutOff { entry: first + entries.len() as u64 }.into())
    }
}

/// Passes every durable entry from index `from` on to `take`, in order, published or not. Returns
/// the index after the last one.
///
/// Nothing is verified here. [`super::verify`] proves the entries.
///
/// # Errors
///
/// Fails if a file cannot be read, or a bundle or the journal is damaged.
pub fn entries<F: Folder>(
    folder: &F,
    from: u64,
    mut take: impl FnMut(u64, &[u8]),
) -> Result<u64, Unverified> {
    let published = match folder.read(CHECKPOINT)? {
        Some(note) => Checkpoint::unverified(&note).ok_or(Finding::NoCheckpoint)?.size,
        None => 0,
    };
    let mut next = covered(folder, published, from, &mut take)?;
    for segment in segments(folder)? {
        // A segment that begins later belongs to a checkpoint that was published meanwhile. The
        // next call sees it.
        if segment.first > next {
            break;
        }
        for (index, entry) in (segment.first..).zip(&segment.entries) {
            if index >= next {
                take(index, entry);
                next = index + 1;
            }
        }
    }
    Ok(next)
}

/// Does the same for the entries in the tiles of a log of this size only.
///
/// # Errors
///
/// Fails if a bundle is missing or not whole.
pub fn covered<F: Folder>(
    folder: &F,
    size: u64,
    from: u64,
    mut take: impl FnMut(u64, &[u8]),
) -> Result<u64, Unverified> {
    let mut next = from;
    while next < size {
        for (index, entry) in (next / FULL * FULL..).zip(bundle(folder, size, next / FULL)?) {
            if index >= next {
                take(index, &entry);
                next = index + 1;
            }
        }
    }
    Ok(next)
}

/// Returns the journal's segments in order. Only the last one may be cut short.
///
/// # Errors
///
/// Fails if a segment cannot be read or is damaged.
pub fn segments<F: Folder>(folder: &F) -> Result<Vec<Segment>, Unverified> {
    let mut firsts: Vec<u64> = folder.list()?.iter().filter_map(|path| journal::first_of(path)).collect();
    firsts.sort_unstable();
    let mut segments: Vec<Segment> = Vec::with_capacity(firsts.len());
    for (at, first) in firsts.iter().enumerate() {
        let path = journal::path(*first);
        let Some(bytes) = folder.read(&path)? else { continue };
        let is_last = at + 1 == firsts.len();
        let follows = segments.last().is_none_or(|before: &Segment| before.end() == *first);
        match segment(&path, *first, &bytes) {
            Ok(segment) if follows && (segment.torn.is_none() || is_last) => segments.push(segment),
            Ok(segment) => {
                return Err(Finding::Journal { path, at: segment.torn.unwrap_or(0) }.into());
            }
            // A segment whose header is incomplete has no entries.
            Err(JournalError::Torn(_)) if is_last && follows => {}
            Err(JournalError::Torn(at) | JournalError::Damaged(at)) => {
                return Err(Finding::Journal { path, at }.into());
            }
        }
    }
    Ok(segments)
}

/// Returns the journal of a folder that was copied while it was written, each segment as far as it
/// can be read.
///
/// The entries before `size` were whole when the folder was copied, so a segment may be damaged
/// only behind them.
///
/// # Errors
///
/// Fails if a file cannot be read, or if a segment is damaged before entry `size`.
pub fn journal_so_far<F: Folder>(folder: &F, size: u64) -> Result<Vec<Segment>, Unverified> {
    let mut segments = Vec::new();
    for path in folder.list()? {
        let Some(first) = journal::first_of(&path) else { continue };
        let Some(bytes) = folder.read(&path)? else { continue };
        match segment_so_far(&path, first, &bytes) {
            (Some(segment), Some(JournalError::Damaged(at))) if segment.end() < size => {
                return Err(Finding::Journal { path, at }.into());
            }
            (None, Some(JournalError::Damaged(at))) if first < size => {
                return Err(Finding::Journal { path, at }.into());
            }
            (segment, _) => segments.extend(segment),
        }
    }
    Ok(segments)
}

fn segment(path: &str, first: u64, bytes: &[u8]) -> Result<Segment, JournalError> {
    match segment_so_far(path, first, bytes) {
        (Some(mut segment), Some(JournalError::Torn(at))) => {
            segment.torn = Some(at);
            Ok(segment)
        }
        (Some(segment), None) => Ok(segment),
        (_, error) => Err(error.unwrap_or(JournalError::Damaged(0))),
    }
}

/// Returns the readable part of a segment if its header is good, and the error that ended the
/// reading early.
fn segment_so_far(path: &str, first: u64, bytes: &[u8]) -> (Option<Segment>, Option<JournalError>) {
    let (header, mut reader) = match Reader::open(bytes) {
        Ok((header, reader)) if header.first == first => (header, reader),
        Ok(_) => return (None, Some(JournalError::Damaged(0))),
        Err(error) => return (None, Some(error)),
    };
    let mut segment = Segment {
        path: path.to_owned(),
        first,
        root: header.root,
        entries: Vec::new(),
        published: None,
        torn: None,
    };
    loop {
        match reader.next_round() {
            Ok(Some(round)) => {
                segment.entries.extend(round.entries.into_iter().map(<[u8]>::to_vec));
                segment.published = round.published.or(segment.published);
            }
            Ok(None) => return (Some(segment), None),
            Err(error) => return (Some(segment), Some(error)),
        }
    }
}
