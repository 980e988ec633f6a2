//! Histogram of durations with logarithmic buckets, 16 to a power of two. A quantile is at most 6 %
//! off.
//!
//! It uses integers only, takes a few kilobytes, and merges the counts of many callers. It is for
//! reports: no test decides by it.

use std::time::Duration;

const SUB_BITS: u32 = 4;
const SUB: u64 = 1 << SUB_BITS;
/// Enough buckets for every 64-bit number of microseconds.
const BUCKETS: usize = ((64 - SUB_BITS as usize) + 1) << SUB_BITS;

/// Counts of durations, in microseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { counts: vec![0; BUCKETS], total: 0 }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&mut self, took: Duration) {
        self.counts[bucket(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))] += 1;
        self.total += 1;
    }

    /// Adds the counts of another histogram.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.total += other.total;
    }

    /// Returns the number of counted durations.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// Returns the duration that `permille` of a thousand durations do not exceed (500 is the
    /// median). Returns zero if there are none.
    #[must_use]
    pub fn quantile(&self, permille: u64) -> Duration {
        let rank = (self.total * permille).div_ceil(1_000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(highest(bucket));
            }
        }
        Duration::ZERO
    }
}

/// Returns the bucket of a value. Values below 16 have their own. Other values are grouped by their
/// highest bit and the four bits after it.
fn bucket(value: u64) -> usize {
    let index = match value.checked_ilog2() {
        Some(bit) if bit >= SUB_BITS => {
            let shift = bit - SUB_BITS;
            u64::from(shift + 1) * SUB + ((value >> shift) - SUB)
        }
        _ => value,
    };
    usize::try_from(index).unwrap_or(BUCKETS - 1)
}

/// Returns the highest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let index = bucket as u64;
    if index < SUB {
        return index;
    }
    let (shift, sub) = (index / SUB - 1, index % SUB);
    ((SUB + sub) << shift) + ((1 << shift) - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_within_a_sixteenth_of_its_buckets_end() {
        let values = (0..1_000).chain((10..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]));
        for value in values.chain([u64::MAX]) {
            let end = highest(bucket(value));
            assert!(end >= value && end - value <= value / 16, "{value} is in the bucket that ends at {end}");
            assert!(end == u64::MAX || bucket(end + 1) == bucket(value) + 1, "{value}");
        }
    }

    #[test]
    fn quantiles_are_read_from_what_all_callers_counted() {
        let (mut one, mut other) = (Histogram::default(), Histogram::default());
        (1..=10).for_each(|ms| one.record(Duration::from_micros(ms)));
        (11..=15).for_each(|ms| other.record(Duration::from_micros(ms)));
        one.merge(&other);
        assert_eq!(one.count(), 15);
        assert_eq!(one.quantile(0), Duration::from_micros(1));
        assert_eq!(one.quantile(500), Duration::from_micros(8));
        assert_eq!(one.quantile(1_000), Duration::from_micros(15));
        assert_eq!(Histogram::default().quantile(500), Duration::ZERO);
    }
}
