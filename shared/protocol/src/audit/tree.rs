//! The append-only tree (RFC 6962 section 2.1): roots and proofs from its stored nodes, and their
//! verification.
//!
//! A node has a height and an index in that height. Node (h, i) covers the leaves from `i << h` up
//! to `(i + 1) << h`, and exists after all of them do.

use sha2::{Digest as _, Sha256};

use crate::merkle::{Hash, node_hash, root_from_path};

/// Returns the root of a tree without leaves: SHA-256 of no bytes.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Source of a tree's nodes.
pub trait Nodes {
    /// Error of reading a node.
    type Error;

    /// Returns the hash of a complete node.
    ///
    /// # Errors
    ///
    /// Fails if the node cannot be read.
    fn node(&self, height: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Returns the root of the first `size` leaves.
///
/// # Errors
///
/// Fails if a node cannot be read.
pub fn root<N: Nodes>(nodes: &N, size: u64) -> Result<Hash, N::Error> {
    if size == 0 { Ok(empty_root()) } else { range(nodes, 0, size) }
}

/// Returns the inclusion proof of leaf `index` among the first `size` (RFC 6962 section 2.1.1). It
/// is empty if there is no such leaf.
///
/// # Errors
///
/// Fails if a node cannot be read.
pub fn inclusion<N: Nodes>(nodes: &N, index: u64, size: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    let (mut start, mut end) = (0, size);
    if index >= size {
        return Ok(path);
    }
    while end - start > 1 {
        let split = start + split_of(end - start);
        if index < split {
            path.push(range(nodes, split, end)?);
            end = split;
        } else {
            path.push(range(nodes, start, split)?);
            start = split;
        }
    }
    path.reverse();
    Ok(path)
}

/// Returns the proof that the tree of the first `old` leaves is the beginning of the tree of `new`
/// leaves (RFC 6962 section 2.1.2). It is empty if `old` is 0 or equal to `new`.
///
/// # Errors
///
/// Fails if a node cannot be read.
pub fn consistency<N: Nodes>(nodes: &N, old: u64, new: u64) -> Result<Vec<Hash>, N::Error> {
    let mut path = Vec::new();
    if old == 0 || old >= new {
        return Ok(path);
    }
    let (mut start, mut end) = (0, new);
    // True if the remaining part is a subtree that the verifier of the old root already has.
    let mut known = true;
    while old != end {
        let split = start + split_of(end - start);
        if old <= split {
            path.push(range(nodes, split, end)?);
            end = split;
        } else {
            path.push(range(nodes, start, split)?);
            start = split;
            known = false;
        }
    }
    if !known {
        path.push(range(nodes, start, end)?);
    }
    path.reverse();
    Ok(path)
}

/// Returns true if the leaf hash is at `index` in the tree of `size` leaves under `root` (RFC 9162
/// section 2.1.3.2).
pub fn is_included(leaf: Hash, index: u64, size: u64, path: &[Hash], root: &Hash) -> bool {
    root_from_path(leaf, index, size, path).as_ref() == Some(root)
}

/// Returns true if the tree under `new_root` begins with the one under `old_root` (RFC 9162 section
/// 2.1.4.2).
pub fn is_consistent(old: u64, old_root: &Hash, new: u64, new_root: &Hash, path: &[Hash]) -> bool {
    if old > new || old == 0 || old == new {
        let same = if old == 0 { *old_root == empty_root() } else { old == new && old_root == new_root };
        return same && path.is_empty();
    }
    // A complete subtree is the first hash itself, and the proof leaves it out.
    let whole: &[Hash] = if old.is_power_of_two() { std::slice::from_ref(old_root) } else { &[] };
    let mut path = whole.iter().chain(path);
    let (mut node, mut last) = (old - 1, new - 1);
    while node & 1 == 1 {
        node >>= 1;
        last >>= 1;
    }
    let Some(first) = path.next() else { return false };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in path {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    last == 0 && old_hash == *old_root && new_hash == *new_root
}

/// Returns the hash over some leaves by the RFC's recursion. Complete subtrees are read, and the
/// rest is hashed.
fn range<N: Nodes>(nodes: &N, start: u64, end: u64) -> Result<Hash, N::Error> {
    let count = end - start;
    if count.is_power_of_two() {
        let height = count.trailing_zeros();
        return nodes.node(height, start >> height);
    }
    let split = start + split_of(count);
    Ok(node_hash(&range(nodes, start, split)?, &range(nodes, split, end)?))
}

/// Returns the largest power of two below `count`, which must be 2 or more.
fn split_of(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::merkle::{Tree, leaf_hash};

    struct Leaves(Vec<Hash>);

    impl Nodes for Leaves {
        type Error = ();

        fn node(&self, height: u32, index: u64) -> Result<Hash, ()> {
            let (from, count) = ((index as usize) << height, 1 << height);
            let leaves = self.0.get(from..from + count).ok_or(())?;
            Ok(Tree::new(leaves.to_vec()).unwrap().root())
        }
    }

    fn leaves(count: u8) -> Leaves {
        Leaves((0..count).map(|n| leaf_hash(&[n])).collect())
    }

    #[test]
    fn the_root_is_that_of_the_whole_tree_at_every_size() {
        let leaves = leaves(130);
        for size in 1..=leaves.0.len() {
            let whole = Tree::new(leaves.0[..size].to_vec()).unwrap().root();
            assert_eq!(root(&leaves, size as u64), Ok(whole));
        }
    }

    #[test]
    fn every_inclusion_proof_is_accepted_for_its_own_leaf_alone() {
        let leaves = leaves(40);
        for size in 1..=40u64 {
            let root = root(&leaves, size).unwrap();
            for index in 0..size {
                let path = inclusion(&leaves, index, size).unwrap();
                let whole = Tree::new(leaves.0[..size as usize].to_vec()).unwrap();
                assert_eq!(path, whole.path(index as usize).unwrap());
                assert!(is_included(leaves.0[index as usize], index, size, &path, &root));
                assert!(!is_included(leaves.0[(index as usize + 1) % 40], index, size, &path, &root));
            }
        }
    }

    #[test]
    fn every_consistency_proof_is_accepted_for_its_own_two_trees_alone() {
        let leaves = leaves(40);
        for new in 0..=40u64 {
            let new_root = root(&leaves, new).unwrap();
            for old in 0..=new {
                let old_root = root(&leaves, old).unwrap();
                let path = consistency(&leaves, old, new).unwrap();
                assert!(is_consistent(old, &old_root, new, &new_root, &path), "{old} in {new}");
                let other = leaf_hash(b"other");
                assert!(!is_consistent(old, &other, new, &new_root, &path), "{old} in {new}");
                assert!(old == 0 || !is_consistent(old, &old_root, new, &other, &path), "{old} in {new}");
                for at in 0..path.len() {
                    let mut changed = path.clone();
                    changed[at][0] ^= 1;
                    assert!(!is_consistent(old, &old_root, new, &new_root, &changed), "{old} in {new}");
                    let shorter = [&path[..at], &path[at + 1..]].concat();
                    assert!(!is_consistent(old, &old_root, new, &new_root, &shorter), "{old} in {new}");
                }
                let longer = [&path[..], &[other]].concat();
                assert!(!is_consistent(old, &old_root, new, &new_root, &longer), "{old} in {new}");
            }
        }
        assert!(!is_consistent(2, &root(&leaves, 2).unwrap(), 1, &root(&leaves, 1).unwrap(), &[]));
    }
}
