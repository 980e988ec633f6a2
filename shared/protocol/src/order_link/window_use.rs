//! Parts of the links' windows that a brand may use at a moment.
//!
//! Brands that wait for the same key and may use the same parts stand in one line. So the search
//! for the next request looks at one brand of each line, and a brand that may go nowhere now holds
//! up no other brand.

/// Parts of the links' windows that a brand may use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct WindowUse {
    /// True if it may use the reserve.
    pub(super) reserve: bool,
    /// Links on which it has as many writes as their agents grant it. No further write goes there.
    pub(super) spent: LinkSet,
}

/// Number of a link among those that are up. The lowest free one is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LinkSlot(u32);

/// Most links that have a slot. A brand's grant on a further link is not kept.
const SLOTS: u32 = u64::BITS;

/// A set of links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LinkSet(u64);

impl LinkSet {
    pub(super) fn insert(&mut self, slot: LinkSlot) {
        self.0 |= 1 << slot.0;
    }

    pub(super) fn contains(self, slot: LinkSlot) -> bool {
        self.0 & (1 << slot.0) != 0
    }

    /// Returns the lowest slot that is not in it, if there is one.
    pub(super) fn lowest_free(self) -> Option<LinkSlot> {
        Some(LinkSlot(self.0.trailing_ones())).filter(|slot| slot.0 < SLOTS)
    }
}

impl FromIterator<LinkSlot> for LinkSet {
    fn from_iter<I: IntoIterator<Item = LinkSlot>>(slots: I) -> Self {
        let mut set = Self::default();
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_given_again_and_there_are_64() {
        let mut set = LinkSet::default();
        while let Some(slot) = set.lowest_free() {
            assert!(!set.contains(slot));
            set.insert(slot);
        }
        assert_eq!(set.0, u64::MAX);
        let without = |gone: u32| (0..SLOTS).filter(|slot| *slot != gone).map(LinkSlot).collect::<LinkSet>();
        assert_eq!(
            [0, 7, 63].map(|gone| without(gone).lowest_free()),
            [0, 7, 63].map(|slot| Some(LinkSlot(slot)))
        );
    }
}
