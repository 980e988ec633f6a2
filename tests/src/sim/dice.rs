//! Chance: one seeded generator, asked in integers only.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The only source of chance in a schedule.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// For the code that wants a generator of its own.
    pub(super) fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }

    /// True so many times in 10,000.
    pub(super) fn happens(&mut self, in_10_000: u32) -> bool {
        in_10_000 > 0 && self.0.random_ratio(in_10_000.min(10_000), 10_000)
    }

    /// A number in a range.
    pub(super) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// An index below `len`, which is not 0.
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len.max(1))
    }

    /// A time in a range of microseconds.
    pub(super) fn micros(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_micros(self.between(range))
    }

    /// A time in a range of milliseconds.
    pub(super) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        self.micros(range.start() * 1_000..=range.end() * 1_000)
    }

    /// Chance of its own, for whoever cannot ask here.
    pub(super) fn fork(&mut self) -> ChaCha8Rng {
        ChaCha8Rng::from_rng(&mut self.0)
    }

    /// The random part of an order's id.
    pub(super) fn id(&mut self) -> [u8; 10] {
        self.0.random()
    }
}
