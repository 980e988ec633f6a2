//! What the log is told of a database that does not work: one line when it goes, one now and then while it is away, and one when it is
//! back.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Between two lines of one outage. It is tried twice a second.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// What fails again within this has not been back: a full disk takes the empty batch that looks whether it works.
const SAME_OUTAGE: Duration = Duration::from_secs(5);

/// Counts the batches that failed, and says which of them is told.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Whether the last line said that the database does not work.
    is_told_away: bool,
    /// When the last line was said.
    said: Option<Instant>,
    /// When the outage began.
    since: Option<Instant>,
    /// When a batch failed last.
    failed: Option<Instant>,
    /// Failures since the last line of one.
    left_out: u64,
}

impl Outages {
    /// A batch has failed: how many were left out since the last line, if there is to be one now.
    pub(crate) fn failed(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_past = |then: Option<Instant>, after| {
            then.is_none_or(|then| now.saturating_duration_since(then) >= after)
        };
        let is_new = !state.is_told_away && is_past(state.failed, SAME_OUTAGE);
        if is_new {
            state.since = Some(now);
        }
        state.failed = Some(now);
        if !is_new && !is_past(state.said, SAID_EVERY) {
            state.left_out += 1;
            return None;
        }
        (state.is_told_away, state.said) = (true, Some(now));
        Some(std::mem::take(&mut state.left_out))
    }

    /// A batch came through: how long the database was away, if that is to be said.
    pub(crate) fn worked(&self, now: Instant) -> Option<Duration> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut state.is_told_away) {
            return None;
        }
        (state.said, state.left_out) = (Some(now), 0);
        state.since.map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn an_outage_is_logged_first_once_a_minute_and_last() {
        let (outages, start) = (Outages::default(), Instant::now());
        assert_eq!(outages.worked(start), None);
        let told = (0..50).map(|number| outages.failed(start + seconds(2.5) * number));
        let told: Vec<_> =
            told.enumerate().filter_map(|(number, left_out)| Some((number, left_out?))).collect();
        assert_eq!(
            told,
            [(0, 0), (24, 23), (48, 23)],
            "the number of each line's try, and how many were left out"
        );
        assert_eq!(outages.worked(start + seconds(130.0)), Some(seconds(130.0)));
        assert_eq!(outages.worked(start + seconds(131.0)), None);
        assert_eq!(outages.failed(start + seconds(140.0)), Some(0), "another outage is told at once");
        assert_eq!(outages.worked(start + seconds(141.0)), Some(seconds(1.0)));
    }

    #[test]
    fn a_database_that_answers_and_writes_nothing_is_told_now_and_then() {
        let (outages, start) = (Outages::default(), Instant::now());
        let mut lines = 0;
        for number in 0..240 {
            let at = start + seconds(0.5) * number;
            lines += u32::from(outages.failed(at).is_some()) + u32::from(outages.worked(at).is_some());
        }
        assert_eq!(lines, 4, "it was said to be away twice in two minutes, and to be back as often");
    }
}
