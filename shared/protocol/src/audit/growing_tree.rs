//! A growing log: the state in memory that is needed to append, to compute the root and to write
//! the files.
//!
//! It is the last tile of each level and the last bundle, as far as they are filled: a few
//! kilobytes for any size.

use super::tile::{self, Content, FULL, NodeError, Tile, TileNodes};
use super::tree;
use crate::merkle::{Hash, Tree};

/// A file of the log and its bytes.
pub type File = (Tile, Vec<u8>);

/// The log's right edge.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GrowingTree {
    size: u64,
    /// Hashes of each level's last tile; fewer than 256 each.
    levels: Vec<Vec<Hash>>,
    /// Entries of the last bundle; fewer than 256.
    bundle: Vec<u8>,
}

/// A log at some size: the values for a checkpoint, and its partial files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Entries.
    pub size: u64,
    /// Root over all of them.
    pub root: Hash,
    /// Its partial files.
    pub files: Vec<File>,
}

impl GrowingTree {
    /// Makes a log without entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes a log of this size from its partial files, which `read` returns.
    ///
    /// # Errors
    ///
    /// Fails if a file cannot be read or has the wrong width.
    pub fn resume<E>(size: u64, read: impl Fn(Tile) -> Result<Vec<u8>, E>) -> Result<Self, NodeError<E>> {
        let mut growing = Self { size, ..Self::default() };
        growing.levels.resize(usize::from(tile::levels(size)), Vec::new());
        for tile in Tile::edge(size) {
            let bytes = read(tile)?;
            let width = usize::from(tile.width);
            match tile.content {
                Content::Hashes(level) => {
                    let hashes = tile::hashes(&bytes).filter(|hashes| hashes.len() == width);
                    let hashes = hashes.ok_or(NodeError::Width(tile))?;
                    if let Some(level) = growing.levels.get_mut(usize::from(level)) {
                        *level = hashes.to_vec();
                    }
                }
                Content::Entries => {
                    let entries = tile::entries(&bytes).map_err(|_| NodeError::Width(tile))?;
                    if entries.len() != width {
                        return Err(NodeError::Width(tile));
                    }
                    growing.bundle = bytes;
                }
            }
        }
        Ok(growing)
    }

    /// Returns the number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the log's current edge.
    pub fn now(&self) -> Edge {
        self.edge_of(self.size)
    }

    /// Returns the edge at the last full bundle. It has partial files of higher levels only.
    pub fn when_last_full(&self) -> Edge {
        // Only the lowest level and the bundle have grown since.
        self.edge_of(self.size - self.size % FULL)
    }

    /// Returns the root over all entries.
    pub fn root(&self) -> Hash {
        self.root_of(self.size)
    }

    /// Returns the edge of the present size, or of the size at the last full bundle.
    fn edge_of(&self, size: u64) -> Edge {
        let bytes = |tile: Tile| match tile.content {
            Content::Hashes(level) => self.hashes(level).concat(),
            Content::Entries => self.bundle.clone(),
        };
        let files = Tile::edge(size).map(|tile| (tile, bytes(tile))).collect();
        Edge { size, root: self.root_of(size), files }
    }

    /// Returns the root of one of the sizes that [`Self::edge_of`] accepts. All complete subtrees
    /// of such a root are on the edge, so nothing else is read.
    fn root_of(&self, size: u64) -> Hash {
        let read = |tile: Tile| match tile.content {
            Content::Hashes(level) => Ok(self.hashes(level).concat()),
            Content::Entries => Err(()),
        };
        tree::root(&TileNodes { size, read }, size).unwrap_or_default()
    }

    /// Appends an entry with its leaf hash. Adds the files that become full to `full`.
    pub fn append(&mut self, entry: &[u8], leaf: Hash, full: &mut Vec<File>) {
        tile::push_entry(&mut self.bundle, entry);
        self.size += 1;
        if self.size.is_multiple_of(FULL) {
            let tile = Tile { content: Content::Entries, index: self.size / FULL - 1, width: 256 };
            let next = Vec::with_capacity(self.bundle.len());
            full.push((tile, std::mem::replace(&mut self.bundle, next)));
        }
        let mut hash = leaf;
        let mut count = self.size;
        for level in 0u8.. {
            let at = usize::from(level);
            if self.levels.len() <= at {
                self.levels.push(Vec::new());
            }
            let Some(hashes) = self.levels.get_mut(at) else { return };
            hashes.push(hash);
            if !count.is_multiple_of(FULL) {
                return;
            }
            count /= FULL;
            let tile = Tile { content: Content::Hashes(level), index: count - 1, width: 256 };
            let hashes = std::mem::replace(hashes, Vec::with_capacity(FULL as usize));
            full.push((tile, hashes.concat()));
            hash = Tree::new(hashes).map(|tree| tree.root()).unwrap_or_default();
        }
    }

    fn hashes(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::merkle::leaf_hash;

    fn entry(n: u64) -> [u8; 8] {
        n.to_be_bytes()
    }

    #[test]
    fn its_root_files_and_proofs_equal_the_whole_trees_at_every_size() {
        let leaves: Vec<Hash> = (0..66_000).map(|n| leaf_hash(&entry(n))).collect();
        let (mut growing, mut files) = (GrowingTree::new(), HashMap::new());
        assert_eq!(growing.root(), tree::empty_root());
        let (mut full, mut when_full) = (Vec::new(), growing.now());
        for size in 1..=66_000u64 {
            growing.append(&entry(size - 1), leaves[size as usize - 1], &mut full);
            files.extend(full.drain(..));
            if size.is_multiple_of(FULL) {
                when_full = growing.now();
            }
            if !(size < 600 || [65_535, 65_536, 65_537, 66_000].contains(&size)) {
                continue;
            }
            files.extend(growing.now().files);
            assert_eq!(growing.when_last_full(), when_full, "size {size}");
            let read = |tile: Tile| files.get(&tile).cloned().ok_or(tile);
            let root = Tree::new(leaves[..size as usize].to_vec()).unwrap().root();
            assert_eq!(growing.root(), root, "size {size}");
            assert_eq!(GrowingTree::resume(size, read), Ok(growing.clone()), "size {size}");
            let nodes = TileNodes { size, read };
            assert_eq!(tree::root(&nodes, size), Ok(root));
            for index in [0, size / 2, size - 1] {
                let path = tree::inclusion(&nodes, index, size).unwrap();
                assert!(tree::is_included(leaves[index as usize], index, size, &path, &root));
            }
            for tile in Tile::all(Content::Entries, size).chain(Tile::all(Content::Hashes(0), size)) {
                assert!(files.contains_key(&tile), "{tile}");
            }
        }
    }

    #[test]
    fn an_edge_of_the_wrong_width_is_refused() {
        let mut growing = GrowingTree::new();
        (0..300).for_each(|n| growing.append(&entry(n), leaf_hash(&entry(n)), &mut Vec::new()));
        let files: HashMap<Tile, Vec<u8>> = growing.now().files.into_iter().collect();
        for tile in files.keys() {
            let read = |wanted: Tile| -> Result<Vec<u8>, ()> {
                let bytes = &files[&wanted];
                Ok(if wanted == *tile { bytes[..bytes.len() - 1].to_vec() } else { bytes.clone() })
            };
            assert_eq!(GrowingTree::resume(300, read), Err(NodeError::Width(*tile)));
        }
    }
}
