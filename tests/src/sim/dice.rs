//! The seeded random generator of a schedule. Its methods take and return integers only.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

/// The only source of randomness in a schedule.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Returns the generator itself, for code that needs one.
    pub(super) fn rng(&mut self) -> &mut ChaCha8Rng {
        &mut self.0
    }

    /// Returns true with a chance of `in_10_000` in 10,000.
    pub(super) fn happens(&mut self, in_10_000: u32) -> bool {
        in_10_000 > 0 && self.0.random_ratio(in_10_000.min(10_000), 10_000)
    }

    /// Returns a number in a range.
    pub(super) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// Returns an index below `len`, which must not be 0.
    pub(super) fn index(&mut self, len: usize) -> usize {
        self.0.random_range(0..len.max(1))
    }

    /// Returns a duration from a range of microseconds.
    pub(super) fn micros(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_micros(self.between(range))
    }

    /// Returns a duration from a range of milliseconds.
    pub(super) fn millis(&mut self, range: RangeInclusive<u64>) -> Duration {
        self.micros(range.start() * 1_000..=range.end() * 1_000)
    }

    /// Returns a generator of its own, for code that cannot borrow this one.
    pub(super) fn fork(&mut self) -> ChaCha8Rng {
        ChaCha8Rng::from_rng(&mut self.0)
    }

    /// Returns the random part of an order's id.
    pub(super) fn id(&mut self) -> [u8; 10] {
        self.0.random()
    }
}
