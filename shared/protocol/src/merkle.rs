//! Merkle tree hashes and inclusion paths over SHA-256 (RFC 6962 section 2.1).
//!
//! One signature over a root covers every receipt of a batch. A path proves that one receipt is in
//! the batch. A long list, such as the entrants of a launch, gets its root without a tree in
//! memory.

use sha2::{Digest, Sha256};

/// A SHA-256 hash in a tree.
pub type Hash = [u8; 32];

/// Returns the hash of one leaf: SHA-256 over `0x00` and the entry.
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new().chain_update([0x00]).chain_update(entry).finalize().into()
}

/// Returns the hash of an inner node: SHA-256 over `0x01` and its children.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([0x01]).chain_update(left).chain_update(right).finalize().into()
}

/// All levels of a tree, so that all paths of a batch cost one pass of hashing.
///
/// A node without a sibling moves up unhashed. This gives the same root as the RFC's recursion on
/// the largest power of two.
#[derive(Debug, Clone)]
pub struct Tree {
    /// `levels[0]` has the leaves; the last level has only the root.
    levels: Vec<Vec<Hash>>,
}

impl Tree {
    /// Builds the tree over these leaf hashes. Returns `None` if there are none.
    pub fn new(leaves: Vec<Hash>) -> Option<Self> {
        if leaves.is_empty() {
            return None;
        }
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let next = level
                .chunks(2)
                .map(|pair| match pair {
                    [left, right] => node_hash(left, right),
                    rest => rest.first().copied().unwrap_or_default(),
                })
                .collect();
            levels.push(next);
        }
        Some(Self { levels })
    }

    /// Returns the root hash.
    pub fn root(&self) -> Hash {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or_default()
    }

    /// Returns the siblings from leaf `index` up to the root, or `None` if there is no such leaf.
    pub fn path(&self, index: usize) -> Option<Vec<Hash>> {
        self.levels.first()?.get(index)?;
        let siblings =
            self.levels.iter().enumerate().filter_map(|(depth, level)| level.get((index >> depth) ^ 1));
        Some(siblings.copied().collect())
    }
}

/// The root of a list that grows, without its tree: a million leaves need 20 hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamedRoot {
    size: u64,
    /// Roots of the complete subtrees, the largest first: one for each bit that is set in `size`.
    subtrees: Vec<Hash>,
}

impl StreamedRoot {
    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut hash = leaf;
        // Each trailing one of the old size is a subtree that the new leaf completes.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.subtrees.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.subtrees.push(hash);
        self.size += 1;
    }

    /// Returns the number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the root of the leaves so far. Without leaves, it is the SHA-256 of no bytes.
    pub fn root(&self) -> Hash {
        let joined = self.subtrees.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        joined.unwrap_or_else(|| Sha256::digest([]).into())
    }
}

/// Returns the root that follows from a leaf at `index` of `size` leaves and its path, or `None` if
/// the path does not fit the tree.
///
/// RFC 9162 section 2.1.3.2 gives the algorithm.
pub fn root_from_path(leaf: Hash, index: u64, size: u64, path: &[Hash]) -> Option<Hash> {
    if index >= size {
        return None;
    }
    let (mut node, mut last, mut hash) = (index, size - 1, leaf);
    for sibling in path {
        if last == 0 {
            return None;
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    (last == 0).then_some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes the root by the RFC's own recursion, as an oracle.
    fn rfc_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [one] => *one,
            more => {
                let split = more.len().next_power_of_two() / 2;
                node_hash(&rfc_root(&more[..split]), &rfc_root(&more[split..]))
            }
        }
    }

    #[test]
    fn every_path_of_every_small_tree_leads_to_the_rfc_s_root() {
        let leaves: Vec<Hash> = (0..70u8).map(|n| leaf_hash(&[n])).collect();
        for size in 1..=leaves.len() {
            let tree = Tree::new(leaves[..size].to_vec()).unwrap();
            assert_eq!(tree.root(), rfc_root(&leaves[..size]), "size {size}");
            for (index, leaf) in leaves[..size].iter().enumerate() {
                let path = tree.path(index).unwrap();
                let root = root_from_path(*leaf, index as u64, size as u64, &path);
                assert_eq!(root, Some(tree.root()), "leaf {index} of {size}");
                let wrong = root_from_path(leaf_hash(b"other"), index as u64, size as u64, &path);
                assert_ne!(wrong, Some(tree.root()));
            }
            assert_eq!(tree.path(size), None);
        }
    }

    #[test]
    fn a_streamed_root_equals_the_tree_s_at_every_size() {
        let mut streamed = StreamedRoot::default();
        assert_eq!(streamed.root(), <Hash>::from(Sha256::digest([])));
        let leaves: Vec<Hash> = (0..600u16).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        for (index, leaf) in leaves.iter().enumerate() {
            streamed.push(*leaf);
            assert_eq!(streamed.root(), Tree::new(leaves[..=index].to_vec()).unwrap().root(), "leaf {index}");
            assert_eq!(streamed.size(), index as u64 + 1);
            assert!(streamed.subtrees.len() <= 10);
        }
    }

    #[test]
    fn a_path_of_the_wrong_length_leads_nowhere() {
        let leaves: Vec<Hash> = (0..5u8).map(|n| leaf_hash(&[n])).collect();
        let tree = Tree::new(leaves.clone()).unwrap();
        let mut path = tree.path(2).unwrap();
        path.push([0; 32]);
        assert_eq!(root_from_path(leaves[2], 2, 5, &path), None);
        assert_eq!(root_from_path(leaves[2], 2, 5, &path[..1]), None);
        assert_eq!(root_from_path(leaves[2], 5, 5, &[]), None);
    }
}
