//! The entrants of a launch: their subject tags as the leaves of an RFC 6962 tree, as a stream.

use super::ENTRANTS_MAX;
use super::launch_keys::SubjectTag;
use crate::merkle::{self, Hash, StreamedRoot};

/// The entrants of a launch as a stream: their RFC 6962 root and their number. It needs 25 hashes
/// for 16 million entrants.
///
/// A leaf is the 16 bytes of a subject tag; the leaf's index is the entrant number.
#[derive(Debug, Clone, Default)]
pub struct EntrantList(StreamedRoot);

impl EntrantList {
    /// Appends the next entrant.
    pub fn push(&mut self, subject: SubjectTag) {
        self.0.push(merkle::leaf_hash(&subject.0));
    }

    /// Returns root and count. Returns `None` if there are more than [`ENTRANTS_MAX`].
    pub fn close(&self) -> Option<Entrants> {
        let count = u32::try_from(self.0.size()).ok().filter(|count| *count <= ENTRANTS_MAX)?;
        Some(Entrants { root: self.0.root(), count })
    }
}

/// Root and number of the entrants at the closing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entrants {
    /// RFC 6962 root over the subject tags.
    pub root: Hash,
    /// Number of entrants.
    pub count: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    #[test]
    fn a_list_of_entrants_depends_on_each_tag_and_its_place() {
        let seed = 5;
        let mut dice = Dice(seed);
        let tags: Vec<SubjectTag> =
            (0..300).map(|_| SubjectTag(std::array::from_fn(|_| dice.next() as u8))).collect();
        let closed = |tags: &[SubjectTag]| {
            let mut list = EntrantList::default();
            tags.iter().for_each(|tag| list.push(*tag));
            list.close().unwrap()
        };
        let all = closed(&tags);
        assert_eq!(all.count, 300);
        assert_ne!(closed(&tags[..299]).root, all.root);
        for _ in 0..100 {
            let mut swapped = tags.clone();
            let (a, b) = (dice.below(300) as usize, dice.below(300) as usize);
            swapped.swap(a, b);
            assert_eq!(closed(&swapped).root == all.root, a == b, "seed {seed}: {a} and {b}");
        }
    }
}
