//! A log's files, from wherever they are, and the entries in them.

use super::checkpoint::Checkpoint;
use super::finding::{Finding, NotRead, Unverified};
use super::journal::{self, JournalError, Reader};
use super::tile::{self, Content, FULL, NodeError, Tile, TileNodes};
use crate::note::NoteVerifier;

/// The checkpoint's path.
pub const CHECKPOINT: &str = "checkpoint";

/// Where a log's files are read from. A path has no leading slash.
pub trait Folder {
    /// The paths of all files.
    fn list(&self) -> Result<Vec<String>, NotRead>;

    /// A file's bytes; `None` if there is no such file.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, NotRead>;
}

/// What of a journal lies in one segment.
pub struct Segment {
    /// Its path.
    pub path: String,
    /// The index of its first entry.
    pub first: u64,
    /// What the log's root was before that entry.
    pub root: crate::merkle::Hash,
    /// Its entries.
    pub entries: Vec<Vec<u8>>,
    /// The size of the last checkpoint that it says is out.
    pub published: Option<u64>,
    /// Where it is cut short, in bytes.
    pub torn: Option<usize>,
}

impl Segment {
    /// The index after its last entry.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }
}

/// The log's checkpoint under its key.
pub fn checkpoint<F: Folder>(folder: &F, key: &NoteVerifier) -> Result<Checkpoint, Unverified> {
    let note = folder.read(CHECKPOINT)?.ok_or(Finding::NoCheckpoint)?;
    Checkpoint::verify(&note, key).map_err(|error| Finding::Checkpoint(error).into())
}

/// A tile of a log, or the full one that has taken the place of a partial one, cut to its width.
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

/// The nodes of a log of this size.
pub fn nodes<F: Folder>(folder: &F, size: u64) -> TileNodes<impl Fn(Tile) -> Result<Vec<u8>, Unverified>> {
    TileNodes { size, read: move |wanted| tile(folder, wanted) }
}

/// An error of the tree's nodes as a finding.
pub fn of_node(error: NodeError<Unverified>) -> Unverified {
    match error {
        NodeError::Read(error) => error,
        NodeError::Width(tile) => Finding::Tile { path: tile.to_string(), entry: tile.first_entry() }.into(),
    }
}

/// The entries of a bundle in a log of this size.
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

/// Gives every durable entry from this index on to `take`, in order, published or not; the index after the last one.
/// Nothing is verified: what is said of entries here, [`super::verify`] proves.
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
        // A journal that begins later belongs to a checkpoint that came meanwhile; the next call sees it.
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

/// The same of the entries in the tiles of a log of this size, and of no others.
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

/// The journal's segments, the first one first. Only the last one may be cut short.
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
            // A segment whose header was never written to its end has nothing in it.
            Err(JournalError::Torn(_)) if is_last && follows => {}
            Err(JournalError::Torn(at) | JournalError::Damaged(at)) => {
                return Err(Finding::Journal { path, at }.into());
            }
        }
    }
    Ok(segments)
}

/// The journal of a folder that was copied while it was written, as far as each segment reads: what is damaged before this
/// entry was whole when it was copied.
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

/// What reads of a segment, if its head does, and what ends that before its end.
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
