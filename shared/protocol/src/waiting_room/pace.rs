//! Pace of the front, as it was in the last half minute: the basis of every wait that is told.

use std::collections::VecDeque;

use super::passed::Millis;

/// Time over which the pace is measured.
const MEASURED: Millis = 30_000;

/// Part of that time for which the slowest pace counts.
const SLOT: Millis = 10_000;

/// Least time between two samples.
const SPACING: Millis = 1_000;

/// Samples that are kept: enough for the measured time, and for the cohort before it.
const SAMPLES_MAX: usize = 64;

/// Shortest and longest time after which it counts whether an admitted place was claimed.
const CLAIMED_AFTER: [Millis; 2] = [5_000, 30_000];

/// Pace of the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Mean of admitted places a minute, without those that replace expired ones.
    pub per_minute: u32,
    /// The same in the slowest ten seconds.
    pub slowest_per_minute: u32,
    /// Of 1,000 admitted places, those that are claimed.
    pub claimed_permille: u32,
    /// Admitted places whose claim window has not passed, claimed or not.
    pub in_window: u32,
    /// Claim window in milliseconds.
    pub claim_window_ms: u32,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Millis,
    front: u32,
    /// Places that have expired since the beginning.
    expired: u32,
}

impl Sample {
    /// Returns the admitted places up to here that do not replace expired ones.
    fn net(self) -> u32 {
        self.front.saturating_sub(self.expired)
    }
}

/// Samples of the front.
#[derive(Debug, Clone, Default)]
pub(super) struct PaceMeter {
    /// Samples, the oldest first; at least [`SPACING`] apart.
    samples: VecDeque<Sample>,
}

impl PaceMeter {
    /// Takes a sample, unless there was one a moment ago.
    pub(super) fn sample(&mut self, at: Millis, front: u32, expired: u32) {
        if self.samples.back().is_some_and(|last| at.saturating_sub(last.at) < SPACING) {
            return;
        }
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { at, front, expired });
    }

    /// Returns the mean and the slowest pace in places a minute. Until there are ten seconds of
    /// samples, `rate` stands for both.
    pub(super) fn per_minute(&self, now: Millis, rate: u32) -> (u32, u32) {
        let Some(latest) = self.samples.back() else { return (rate, rate) };
        let from = now.saturating_sub(MEASURED);
        let Some(first) = self.at_or_after(from).filter(|first| latest.at - first.at >= SLOT) else {
            return (rate, rate);
        };
        let mut slowest = u32::MAX;
        let mut slot = *first;
        while let Some(next) = self.at_or_after(slot.at + SLOT) {
            slowest = slowest.min(places_per_minute(slot, *next));
            slot = *next;
        }
        let mean = places_per_minute(*first, *latest);
        (mean, slowest.min(mean))
    }

    /// Returns the front's positions between which the places are that were admitted long enough
    /// ago to have been claimed, and not longer ago than the measured time before that.
    pub(super) fn cohort(&self, now: Millis, claim_window: Millis) -> (u32, u32) {
        let [shortest, longest] = CLAIMED_AFTER;
        let to = now.saturating_sub((claim_window / 4).clamp(shortest, longest));
        let from = to.saturating_sub(MEASURED);
        let last = self.samples.iter().rev().find(|sample| sample.at <= to);
        let first = self.at_or_after(from).map_or(0, |sample| sample.front);
        last.map_or((0, 0), |last| (first.min(last.front), last.front))
    }

    fn at_or_after(&self, at: Millis) -> Option<&Sample> {
        self.samples.get(self.samples.partition_point(|sample| sample.at < at))
    }
}

fn places_per_minute(from: Sample, to: Sample) -> u32 {
    let (places, millis) = (to.net().saturating_sub(from.net()), to.at.saturating_sub(from.at).max(1));
    let per_minute = (u64::from(places) * 60_000 + u64::from(millis) / 2) / u64::from(millis);
    u32::try_from(per_minute).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples a front that moves by a pace, which a function gives for each second.
    fn measured(seconds: u32, per_second: impl Fn(u32) -> u32) -> PaceMeter {
        let (mut meter, mut front) = (PaceMeter::default(), 0);
        for second in 0..=seconds {
            meter.sample(second * 1_000, front, 0);
            front += per_second(second);
        }
        meter
    }

    #[test]
    fn the_pace_is_that_of_the_last_half_minute() {
        assert_eq!(measured(100, |_| 10).per_minute(100_000, 7), (600, 600));
        assert_eq!(
            measured(100, |second| if second < 70 { 100 } else { 5 }).per_minute(100_000, 7),
            (300, 300)
        );
        let (mean, slowest) = measured(100, |second| if second < 90 { 10 } else { 4 }).per_minute(100_000, 7);
        assert_eq!((mean, slowest), (480, 240));
        assert_eq!(measured(100, |second| if second < 60 { 10 } else { 0 }).per_minute(100_000, 7), (0, 0));
    }

    #[test]
    fn the_set_rate_stands_for_the_pace_of_the_first_seconds() {
        assert_eq!(PaceMeter::default().per_minute(0, 600), (600, 600));
        assert_eq!(measured(9, |_| 1).per_minute(9_000, 600), (600, 600));
        assert_eq!(measured(10, |_| 1).per_minute(10_000, 600), (60, 60));
    }

    #[test]
    fn a_place_that_replaces_an_expired_one_is_not_counted() {
        let mut meter = PaceMeter::default();
        for second in 0..=40 {
            meter.sample(second * 1_000, second * 15, second * 5);
        }
        assert_eq!(meter.per_minute(40_000, 7), (600, 600));
    }

    #[test]
    fn samples_are_bounded_however_often_they_are_taken() {
        let mut meter = PaceMeter::default();
        (0..1_000_000).for_each(|at| meter.sample(at, at, 0));
        assert_eq!(meter.samples.len(), SAMPLES_MAX);
        assert_eq!(meter.per_minute(1_000_000, 7), (60_000, 60_000));
    }

    #[test]
    fn a_cohort_is_old_enough_to_have_been_claimed() {
        let meter = measured(100, |_| 10);
        assert_eq!(meter.cohort(100_000, 60_000), (550, 850), "15 s after the admission");
        assert_eq!(meter.cohort(100_000, 10_000), (650, 950), "5 s");
        assert_eq!(meter.cohort(100_000, 3_600_000), (400, 700), "30 s");
        assert_eq!(measured(4, |_| 10).cohort(4_000, 60_000), (0, 0));
    }
}
