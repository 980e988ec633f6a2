//! Log lines about a database that does not work: one when an outage begins, one each minute while
//! it lasts, and one when it is over.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Interval between two lines of one outage. The database is tried twice a second.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// A failure within this time after the last one belongs to the same outage. For example, a
/// database with a full disk accepts the empty batch that tests it, and rejects the next write.
const SAME_OUTAGE: Duration = Duration::from_secs(5);

/// Counts failed batches, and decides which of them gets a log line.
#[derive(Debug, Default)]
pub(crate) struct Outages(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// True if the last line said that the database does not work.
    is_told_away: bool,
    /// Time of the last line.
    said: Option<Instant>,
    /// Start of the outage.
    since: Option<Instant>,
    /// Time of the last failure.
    failed: Option<Instant>,
    /// Number of failures without a line since the last line.
    left_out: u64,
}

impl Outages {
    /// Notes a failed batch. If it gets a log line, returns the number of failures without a line
    /// since the last one.
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

    /// Notes a batch that succeeded. If it ends an outage that has a log line, returns the duration
    /// of the outage.
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
