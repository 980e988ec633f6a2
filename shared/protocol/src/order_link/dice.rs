//! Random numbers of the tests.

/// Random numbers from a seed (SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// Returns a number below this one.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    /// Returns the lightest weight, the heaviest one, or one between.
    pub(super) fn weight(&mut self) -> usize {
        [1, 1_000, 1 + self.below(12), 1 + self.below(1_000)][self.below(4)]
    }
}
