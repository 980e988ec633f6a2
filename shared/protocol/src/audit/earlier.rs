//! Earlier sizes of a log with their roots, which each checkpoint names.
//!
//! A folder that is copied file by file while it is written may get a checkpoint that is newer than
//! the other files. The copy then ends before that checkpoint, and one of the earlier sizes covers
//! it. The distance between the sizes grows with their age. So there are few of them, and there is
//! always one from shortly before the copy began, however long it took.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::merkle::Hash;

/// Prefix of a checkpoint's line that names an earlier size.
const LINE: &str = "earlier ";

/// Limit of the distance between two neighbours, as a multiple of the entries since the later one.
const SPREAD: u64 = 4;

/// A size of the log and the root over its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EarlierRoot {
    /// Entries.
    pub size: u64,
    /// The RFC 6962 root over the entries.
    pub root: Hash,
}

/// Earlier sizes of a log, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History(Vec<EarlierRoot>);

impl History {
    /// Reads the earlier sizes from a checkpoint's text. Lines of another form belong to later
    /// versions and are skipped.
    pub fn parse(text: &str) -> Self {
        let mut history = Self::default();
        for earlier in text.lines().skip(3).filter_map(parse) {
            if history.0.last().is_none_or(|last| last.size < earlier.size) {
                history.0.push(earlier);
            }
        }
        history
    }

    /// Returns the checkpoint's lines for these sizes.
    pub fn lines(&self) -> String {
        let line =
            |earlier: &EarlierRoot| format!("{LINE}{} {}\n", earlier.size, BASE64.encode(earlier.root));
        self.0.iter().map(line).collect()
    }

    /// Adds the newest size and removes sizes that are too close together for their age.
    pub fn add(&mut self, newest: EarlierRoot) {
        self.0.retain(|earlier| earlier.size < newest.size);
        let mut kept = vec![newest];
        let mut since = 1;
        while let Some(earlier) = self.0.pop() {
            let before_it = self.0.last().map(|before| newest.size - before.size);
            // The first size is never removed.
            if before_it.is_none_or(|before| before > SPREAD * since) {
                since = newest.size - earlier.size;
                kept.push(earlier);
            }
        }
        kept.reverse();
        self.0 = kept;
    }

    /// Returns the sizes from the newest to the oldest.
    pub fn newest_first(&self) -> impl Iterator<Item = &EarlierRoot> {
        self.0.iter().rev()
    }
}

fn parse(line: &str) -> Option<EarlierRoot> {
    let (size, root) = line.strip_prefix(LINE)?.split_once(' ')?;
    let earlier = EarlierRoot { size: size.parse().ok()?, root: BASE64.decode(root).ok()?.try_into().ok()? };
    (earlier.size.to_string() == size).then_some(earlier)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn earlier(size: u64) -> EarlierRoot {
        EarlierRoot { size, root: [u8::try_from(size % 251).unwrap(); 32] }
    }

    #[test]
    fn there_are_few_and_always_one_from_just_before_any_moment() {
        for step in [1, 256, 7_000] {
            let mut history = History::default();
            for round in 1..=4_000u64 {
                let newest = round * step;
                history.add(earlier(newest));
                let count = history.newest_first().count() as u64;
                assert!(count <= 3 + u64::from(newest.ilog2()), "{count} of {newest}");
                for missing in [1, 2, 3, 10, 100, 1_000].map(|rounds| rounds * step) {
                    let Some(reach) = newest.checked_sub(missing).filter(|reach| *reach >= step) else {
                        continue;
                    };
                    let best = history.newest_first().find(|earlier| earlier.size <= reach).unwrap();
                    let behind = newest - best.size;
                    assert!(behind <= (SPREAD + 1) * missing, "{behind} behind {newest} without {missing}");
                }
            }
        }
    }

    #[test]
    fn earlier_roots_in_a_checkpoint_are_read_back_and_other_lines_ignored() {
        let mut history = History::default();
        [1, 300, 5_000].into_iter().for_each(|size| history.add(earlier(size)));
        let text = format!("shop.example/idc\n6000\nroot\n{}later version\n", history.lines());
        assert_eq!(History::parse(&text), history);
        let line = history.lines().lines().next().unwrap().to_owned();
        for strange in ["earlier x y", "earlier 01 AAAA", "earlier 1", &line.replace('1', "+1")] {
            assert_eq!(History::parse(&format!("o\n6\nr\n{strange}\n")), History::default(), "{strange}");
        }
        // A size that is named twice or out of order is skipped.
        let twice = History::parse(&format!("o\n6000\nr\n{}{line}\n", history.lines()));
        assert_eq!(twice, history);
    }
}
