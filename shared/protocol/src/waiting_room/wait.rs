//! The estimated wait, and the time of the next poll. The cloud agent computes both from the
//! front's last report and a place.

use std::time::Duration;

use super::PlaceNumber;
use super::front::FrontReport;
use crate::domain::UnixMicros;

/// Longest time until the next poll, before jitter.
const POLL_MAX: Duration = Duration::from_secs(60);

/// Shortest time until the next poll, before jitter.
const POLL_MIN: Duration = Duration::from_secs(1);

/// Time until the next poll if the wait is not known.
const POLL_UNKNOWN: Duration = Duration::from_secs(10);

/// Part of the wait after which a client polls again.
const POLLS_A_WAIT: u32 = 10;

/// Steps of a claim window each that are computed exactly. What lies behind them goes on as the
/// last one did.
const WINDOWS_MAX: u64 = 256;

/// Estimated wait until a place is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EstimatedWait {
    /// The wait if everything goes on as in the last half minute.
    pub p50: Duration,
    /// The wait if the pace stays at the slowest of the last half minute, and half of those who did
    /// not come do; at least `p50`.
    pub p90: Duration,
}

/// Prospects of a waiting place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prospects {
    /// Number of places that are in front of it and not admitted.
    pub ahead: u32,
    /// Units that are not sold.
    pub units_left: u32,
    /// The estimated wait. `None` if nobody can know it: the front stands still, or the units may
    /// be promised before it comes to this place, so that others decide by what they do not buy.
    pub wait: Option<EstimatedWait>,
}

impl Prospects {
    /// Returns the prospects of a place, or `None` if the front has passed it.
    pub fn of(place: PlaceNumber, report: &FrontReport) -> Option<Self> {
        let ahead = place.0.checked_sub(report.front)?;
        let FrontReport { units_left, places_free, .. } = *report;
        // Of those in front, only the ones who come take units.
        let claiming = u64::from(ahead) * u64::from(report.pace.claimed_permille) / 1_000;
        let wait = if claiming < u64::from(places_free) { estimate(ahead, report) } else { None };
        Some(Self { ahead, units_left, wait })
    }

    /// Returns true if the people in front can take all units that are left. The answer must say
    /// so.
    pub fn is_doubtful(&self) -> bool {
        self.units_left <= self.ahead
    }
}

fn estimate(ahead: u32, report: &FrontReport) -> Option<EstimatedWait> {
    let pace = report.pace;
    let missing = 1_000_u32.saturating_sub(pace.claimed_permille);
    let p50 = time_to_pass(ahead, pace.per_minute, missing, report)?;
    let p90 = time_to_pass(ahead, pace.slowest_per_minute, missing / 2, report)?;
    Some(EstimatedWait { p50, p90: p90.max(p50) })
}

/// Returns the time until the front has passed `ahead` places and one more.
///
/// Every place that nobody claims moves the front by one more, but only after its claim window. So
/// the time is followed in steps of a window: in each one, the rate admits `fresh` places, and of
/// all places admitted before it, the `missing` part comes back.
fn time_to_pass(
    ahead: u32,
    per_minute: u32,
    missing_permille: u32,
    report: &FrontReport,
) -> Option<Duration> {
    // Thousandths of a place.
    let goal = (u64::from(ahead) + 1) * 1_000;
    let window_ms = u64::from(report.pace.claim_window_ms).max(1);
    let fresh = u64::from(per_minute) * window_ms / 60;
    if fresh == 0 {
        return None;
    }
    let in_window = u64::from(report.pace.in_window) * 1_000;
    let mut passed = 0;
    for window in 0_u64.. {
        let back = (in_window + passed) * u64::from(missing_permille) / 1_000;
        let next = (fresh * (window + 1) + back).max(passed + 1);
        if next >= goal || window >= WINDOWS_MAX {
            let part_ms = window_ms.saturating_mul(goal - passed) / (next - passed);
            return Some(Duration::from_millis(window_ms * window + part_ms));
        }
        passed = next;
    }
    None
}

/// Returns the time until a waiting client polls again: a tenth of its wait, from one second at the
/// front to a minute far behind.
///
/// `random` is any random number. It moves the time by up to a quarter in each direction, so that
/// those who polled together do not poll together again.
pub fn next_poll(wait: Option<EstimatedWait>, random: u32) -> Duration {
    let base = wait.map_or(POLL_UNKNOWN, |wait| (wait.p50 / POLLS_A_WAIT).clamp(POLL_MIN, POLL_MAX));
    jittered(base, random)
}

/// Returns the time until a client polls that entered before the opening: a minute, or after the
/// opening.
///
/// All of them want to know their places then. They come in the first quarter of the claim window,
/// so that the first places have the rest of theirs.
pub fn next_poll_before_opening(
    now: UnixMicros,
    opens_at: UnixMicros,
    claim_window: Duration,
    random: u32,
) -> Duration {
    let left = opens_at.since(now);
    if left > POLL_MAX * 2 { jittered(POLL_MAX, random) } else { left + part_of(claim_window / 4, random) }
}

/// Returns a time that is up to a quarter shorter or longer.
fn jittered(base: Duration, random: u32) -> Duration {
    base * 3 / 4 + part_of(base / 2, random)
}

/// Returns a random part of a duration.
fn part_of(whole: Duration, random: u32) -> Duration {
    let micros = whole.as_micros() * u128::from(random) / u128::from(u32::MAX);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::pace::Pace;
    use super::*;
    use crate::dice::Dice;

    fn report(per_minute: u32, claimed_permille: u32, in_window: u32) -> FrontReport {
        let slowest_per_minute = per_minute / 2;
        let pace =
            Pace { per_minute, slowest_per_minute, claimed_permille, in_window, claim_window_ms: 60_000 };
        FrontReport { front: 1_000, entrants: 100_000, units_left: 50_000, places_free: 40_000, pace }
    }

    fn wait(ahead: u32, report: &FrontReport) -> EstimatedWait {
        Prospects::of(PlaceNumber(report.front + ahead), report).unwrap().wait.unwrap()
    }

    #[test]
    fn without_no_shows_the_wait_is_the_distance_by_the_pace() {
        let report = report(600, 1_000, 600);
        assert_eq!(wait(599, &report).p50, Duration::from_secs(60));
        assert_eq!(wait(599, &report).p90, Duration::from_secs(120));
        assert_eq!(wait(0, &report).p50, Duration::from_millis(100));
        assert_eq!(wait(35_999, &report).p50, Duration::from_secs(3_600));
    }

    #[test]
    fn who_does_not_come_shortens_the_wait_of_the_others() {
        // In a steady state, 600 come a minute of 1,000 admitted ones.
        let steady = report(600, 600, 1_000);
        assert_eq!(wait(999, &steady).p50, Duration::from_secs(60));
        assert_eq!(wait(9_999, &steady).p50, Duration::from_secs(600));
        // At the beginning, no place has expired yet: the first window brings only the rate.
        let beginning = report(600, 600, 0);
        assert_eq!(wait(599, &beginning).p50, Duration::from_secs(60));
        assert_eq!(wait(600 + 839, &beginning).p50, Duration::from_secs(120));
    }

    #[test]
    fn a_wait_that_nobody_knows_is_not_told() {
        let standing = report(0, 1_000, 0);
        assert_eq!(Prospects::of(PlaceNumber(5_000), &standing).unwrap().wait, None);
        let moving = report(600, 1_000, 0);
        let of = |ahead: u32| Prospects::of(PlaceNumber(1_000 + ahead), &moving).unwrap();
        assert!(of(39_999).wait.is_some() && of(40_000).wait.is_none());
        assert!(!of(49_999).is_doubtful() && of(50_000).is_doubtful());
        assert_eq!(Prospects::of(PlaceNumber(999), &moving), None);
    }

    #[test]
    fn a_wait_grows_with_the_distance_for_any_pace() {
        for seed in 0..2_000 {
            let mut dice = Dice(seed);
            let magnitudes = [23, 23, 24].map(|bits| 1 << dice.below(bits));
            let [rate, slowest, in_window] = magnitudes.map(|magnitude| dice.below(magnitude) as u32);
            let pace = Pace {
                per_minute: 1 + rate,
                slowest_per_minute: 1 + slowest,
                claimed_permille: dice.below(1_001) as u32,
                in_window,
                claim_window_ms: 10_000 + dice.below(3_590_001) as u32,
            };
            let free = u32::MAX;
            let report = FrontReport { front: 0, entrants: free, units_left: free, places_free: free, pace };
            let mut before = Duration::ZERO;
            for ahead in (0..24).map(|bit| (1 << bit) - 1) {
                let EstimatedWait { p50, p90 } = wait(ahead, &report);
                assert!(p50 >= before && p90 >= p50, "seed {seed}, {ahead} ahead: {p50:?}, {p90:?}");
                before = p50;
            }
        }
    }

    #[test]
    fn the_next_poll_is_soon_at_the_front_and_rare_far_behind() {
        let wait = |seconds| Some(EstimatedWait { p50: Duration::from_secs(seconds), p90: Duration::MAX });
        let range = |wait| (next_poll(wait, 0).as_millis(), next_poll(wait, u32::MAX).as_millis());
        assert_eq!(range(wait(0)), (750, 1_250));
        assert_eq!(range(wait(10)), (750, 1_250));
        assert_eq!(range(wait(100)), (7_500, 12_500));
        assert_eq!(range(wait(600)), (45_000, 75_000));
        assert_eq!(range(wait(86_400)), (45_000, 75_000));
        assert_eq!(range(None), (7_500, 12_500));
    }

    #[test]
    fn who_entered_early_polls_behind_the_opening_and_not_all_at_once() {
        let (opens_at, window) = (UnixMicros::new(1_000_000_000), Duration::from_secs(60));
        let poll = |before: u64, random| {
            let now = UnixMicros::new(1_000_000_000 - before as i64 * 1_000_000);
            next_poll_before_opening(now, opens_at, window, random).as_millis()
        };
        assert_eq!((poll(900, 0), poll(900, u32::MAX)), (45_000, 75_000));
        assert_eq!((poll(100, 0), poll(100, u32::MAX)), (100_000, 115_000));
        assert_eq!((poll(0, 0), poll(0, u32::MAX)), (0, 15_000));
    }
}
