//! Tiles and entry bundles (C2SP tlog-tiles): the files of a log of some size, their paths and
//! their content.
//!
//! A tile of level L has up to 256 hashes of height 8 x L. A bundle has up to 256 entries. All
//! files of a level but the last one are full and never change. A partial file has its width in its
//! name and never changes either.

use std::fmt;
use std::str::FromStr;

use super::entry::ENTRY_BYTES_MAX;
use super::tree::Nodes;
use crate::merkle::{Hash, Tree};

/// Hashes of a full tile, and entries of a full bundle.
pub const FULL: u64 = 256;

/// Height of a tile.
pub const HEIGHT: u32 = 8;

/// Most levels of a tree with a `u64` size.
const LEVELS: u8 = 8;

/// One file of the tree or of its entries. `Display` writes its path in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// Content of the file.
    pub content: Content,
    /// Index in its level, from 0.
    pub index: u64,
    /// Number of hashes or entries, 1 to 256.
    pub width: u16,
}

/// Content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Content {
    /// Hashes of this level.
    Hashes(u8),
    /// Entries.
    Entries,
}

/// The text is no tile's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the path of a tile or an entry bundle")]
pub struct NotATile;

/// The lengths in a bundle do not fit its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an entry bundle: its lengths do not fit its bytes")]
pub struct NotABundle;

impl Tile {
    /// Returns true if nothing will ever be added.
    pub fn is_full(&self) -> bool {
        u64::from(self.width) == FULL
    }

    /// Returns the full tile at the same place.
    pub fn full(self) -> Self {
        Self { width: 256, ..self }
    }

    /// Returns the tiles of a level of a tree of this size, or the bundles of its entries.
    pub fn all(content: Content, size: u64) -> impl Iterator<Item = Self> {
        Self::all_from(content, size, 0)
    }

    /// Returns the tiles of [`Self::all`] from index `first` on.
    pub fn all_from(content: Content, size: u64, first: u64) -> impl Iterator<Item = Self> {
        let hashes = hashes_at(content, size);
        let tile = move |index: u64| Self { content, index, width: width(hashes - index * FULL) };
        (first..hashes.div_ceil(FULL)).map(tile)
    }

    /// Returns the index of the first entry below it.
    pub fn first_entry(&self) -> u64 {
        let height = match self.content {
            Content::Hashes(level) => HEIGHT * (u32::from(level) + 1),
            Content::Entries => HEIGHT,
        };
        self.index.checked_shl(height).unwrap_or(u64::MAX)
    }

    /// Returns the partial files of a tree of this size: the last tile of each level and the last
    /// bundle, if they are not full.
    pub fn edge(size: u64) -> impl Iterator<Item = Self> {
        let contents = (0..LEVELS).map(Content::Hashes).chain([Content::Entries]);
        contents.filter_map(move |content| {
            let hashes = hashes_at(content, size);
            let width = u16::try_from(hashes % FULL).unwrap_or(0);
            (width > 0).then_some(Self { content, index: hashes / FULL, width })
        })
    }

    /// Returns the smallest size of a tree that has this tile.
    pub fn size_at_least(&self) -> u64 {
        let height = match self.content {
            Content::Hashes(level) => HEIGHT * u32::from(level),
            Content::Entries => 0,
        };
        let hashes = self.index.saturating_mul(FULL).saturating_add(u64::from(self.width));
        hashes.saturating_mul(1 << height.min(63))
    }
}

/// Returns the number of tile levels of a tree of this size.
pub fn levels(size: u64) -> u8 {
    (0..LEVELS).find(|level| hashes_at(Content::Hashes(*level), size) == 0).unwrap_or(LEVELS)
}

fn hashes_at(content: Content, size: u64) -> u64 {
    match content {
        Content::Hashes(level) => size.checked_shr(HEIGHT * u32::from(level)).unwrap_or(0),
        Content::Entries => size,
    }
}

fn width(left: u64) -> u16 {
    u16::try_from(left.min(FULL)).unwrap_or(256)
}

impl fmt::Display for Tile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.content {
            Content::Hashes(level) => write!(f, "tile/{level}/")?,
            Content::Entries => write!(f, "tile/entries/")?,
        }
        let mut thousands = Vec::new();
        let mut rest = self.index / 1_000;
        while rest > 0 {
            thousands.push(rest % 1_000);
            rest /= 1_000;
        }
        for group in thousands.iter().rev() {
            write!(f, "x{group:03}/")?;
        }
        write!(f, "{:03}", self.index % 1_000)?;
        if self.is_full() { Ok(()) } else { write!(f, ".p/{}", self.width) }
    }
}

impl FromStr for Tile {
    type Err = NotATile;

    fn from_str(path: &str) -> Result<Self, NotATile> {
        let rest = path.strip_prefix("tile/").ok_or(NotATile)?;
        let (level, rest) = rest.split_once('/').ok_or(NotATile)?;
        let content = match level {
            "entries" => Content::Entries,
            level => Content::Hashes(level.parse().map_err(|_| NotATile)?),
        };
        let (index, width) = match rest.split_once(".p/") {
            Some((index, width)) => (index, width.parse().map_err(|_| NotATile)?),
            None => (rest, 256),
        };
        let mut number = 0u64;
        for group in index.split('/') {
            let digits: u64 = group.trim_start_matches('x').parse().map_err(|_| NotATile)?;
            number = number.checked_mul(1_000).and_then(|n| n.checked_add(digits)).ok_or(NotATile)?;
        }
        let tile = Self { content, index: number, width };
        // Each path has exactly one spelling.
        if (1..=256).contains(&width) && tile.to_string() == path { Ok(tile) } else { Err(NotATile) }
    }
}

/// Appends an entry to a bundle's bytes: its length as a big-endian `u16`, then the entry.
pub fn push_entry(bundle: &mut Vec<u8>, entry: &[u8]) {
    let length = u16::try_from(entry.len().min(ENTRY_BYTES_MAX)).unwrap_or(u16::MAX);
    bundle.extend_from_slice(&length.to_be_bytes());
    bundle.extend_from_slice(&entry[..usize::from(length)]);
}

/// Returns the entries of a bundle.
///
/// # Errors
///
/// Fails if the lengths do not fit the bytes.
pub fn entries(bundle: &[u8]) -> Result<Vec<&[u8]>, NotABundle> {
    let (entries, rest) = split(bundle);
    if rest.is_empty() { Ok(entries) } else { Err(NotABundle) }
}

/// Returns the entries of a bundle as far as they are whole, and the remaining bytes.
pub fn split(bundle: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut entries = Vec::new();
    let mut rest = bundle;
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_be_bytes(*length));
        let Some((entry, after)) = after.split_at_checked(length) else { break };
        entries.push(entry);
        rest = after;
    }
    (entries, rest)
}

/// Returns the hashes of a tile, or `None` if the bytes are not 1 to 256 hashes.
pub fn hashes(tile: &[u8]) -> Option<&[Hash]> {
    let (hashes, rest) = tile.as_chunks::<32>();
    (rest.is_empty() && (1..=256).contains(&hashes.len())).then_some(hashes)
}

/// A tree's nodes, computed from its tiles.
pub struct TileNodes<F> {
    /// Size of the tree, which gives the width of its last tiles.
    pub size: u64,
    /// Returns a tile's bytes.
    pub read: F,
}

/// Reasons why a node cannot be read from tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NodeError<E> {
    /// The tile cannot be read.
    #[error(transparent)]
    Read(#[from] E),
    /// The tile's width is wrong.
    #[error("the tile {0} is not as wide as its name says")]
    Width(Tile),
}

impl<E, F: Fn(Tile) -> Result<Vec<u8>, E>> Nodes for TileNodes<F> {
    type Error = NodeError<E>;

    fn node(&self, height: u32, index: u64) -> Result<Hash, Self::Error> {
        let (level, within) = (height / HEIGHT, height % HEIGHT);
        let content = Content::Hashes(u8::try_from(level).unwrap_or(u8::MAX));
        let first = index << within;
        let index = first / FULL;
        let hashes_left = hashes_at(content, self.size).saturating_sub(index * FULL);
        let tile = Tile { content, index, width: width(hashes_left) };
        let bytes = (self.read)(tile)?;
        let from = usize::try_from(first % FULL).unwrap_or(usize::MAX);
        let wanted = hashes(&bytes)
            .filter(|hashes| hashes.len() == usize::from(tile.width))
            .and_then(|hashes| hashes.get(from..from + (1 << within)))
            .ok_or(NodeError::Width(tile))?;
        Ok(Tree::new(wanted.to_vec()).map(|tree| tree.root()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_spelled_as_the_text_of_tlog_tiles_does() {
        let path = |content, index, width| Tile { content, index, width }.to_string();
        assert_eq!(path(Content::Hashes(0), 1_234_067, 256), "tile/0/x001/x234/067");
        assert_eq!(path(Content::Entries, 1_234_067, 8), "tile/entries/x001/x234/067.p/8");
        assert_eq!(path(Content::Hashes(2), 0, 1), "tile/2/000.p/1");
    }

    #[test]
    fn a_path_is_read_back_and_another_spelling_is_refused() {
        for index in [0, 1, 999, 1_000, 999_999, 1_000_000, 1_234_067_890] {
            for (content, width) in [(Content::Hashes(7), 256), (Content::Entries, 255)] {
                let tile = Tile { content, index, width };
                assert_eq!(tile.to_string().parse(), Ok(tile));
            }
        }
        for bad in [
            "tile/0/0",
            "tile/00/000",
            "tile/0/x000/000",
            "tile/0/000.p/0",
            "tile/0/000.p/256",
            "tile/0/001/000",
            "tile/0/x001",
            "tile/0/000.p/01",
            "tile/x/000",
            "tile/0/-01",
            "tile/0/+01",
            "checkpoint",
            "tile/0/000/",
        ] {
            assert_eq!(bad.parse::<Tile>(), Err(NotATile), "{bad}");
        }
    }

    #[test]
    fn a_tree_of_70_000_has_the_tiles_that_the_text_names() {
        let count = |level| {
            let tiles: Vec<Tile> = Tile::all(Content::Hashes(level), 70_000).collect();
            (tiles.iter().filter(|tile| tile.is_full()).count(), tiles.last().map_or(0, |tile| tile.width))
        };
        assert_eq!([count(0), count(1), count(2), count(3)], [(273, 112), (1, 17), (0, 1), (0, 0)]);
        assert_eq!(levels(70_000), 3);
        let edge: Vec<String> = Tile::edge(256).map(|tile| tile.to_string()).collect();
        assert_eq!(edge, ["tile/1/000.p/1"]);
        assert_eq!("tile/1/000.p/17".parse::<Tile>().unwrap().size_at_least(), 17 * 256);
    }

    #[test]
    fn a_bundle_is_split_into_entries_and_a_truncated_one_refused() {
        let mut bundle = Vec::new();
        for entry in [&b"one"[..], b"", b"three"] {
            push_entry(&mut bundle, entry);
        }
        assert_eq!(entries(&bundle).unwrap(), [&b"one"[..], b"", b"three"]);
        assert_eq!(&bundle[..5], b"\0\x03one");
        for cut in [1, 2, 4, 6, bundle.len() - 1] {
            assert_eq!(entries(&bundle[..cut]), Err(NotABundle));
        }
    }
}
