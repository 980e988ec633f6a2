//! Times at which refused callers are to come back, so that they do not all come at once.
//!
//! Sans-IO. The callers of a brand get times one after the other, as far apart as the data centre
//! commits requests. So they are spread over the time that their requests need.
//!
//! `Retry-After` has whole seconds (RFC 9110 section 10.2.3). With it alone, callers that are
//! refused in the same moment would come back in one wave each second. So a refusal also has a
//! pause of less than a second, by which its answer is delayed.

use std::time::Duration;

/// Shortest time after which a caller is to come back.
const FIRST: Duration = Duration::from_secs(1);

/// Longest time. If callers have all times up to it, the next ones get times between them.
const LAST: Duration = Duration::from_secs(60);

/// Callers in a second if it is not known what the data centre commits.
const UNKNOWN_PER_SECOND: u32 = 100;

/// Time at which a refused caller is to come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComeBack {
    /// Time for which the answer waits: less than a second.
    pub pause: Duration,
    /// Whole seconds from the answer on: 1 to 60.
    pub after_secs: u32,
}

/// The times that the refused callers of one brand have.
#[derive(Debug, Clone, Default)]
pub struct ComeBacks {
    /// Earliest time for the next caller.
    next: Duration,
}

impl ComeBacks {
    /// Returns the time for a caller that is refused now. `per_second` is the number of requests
    /// that the data centre commits, 0 if that is not known.
    pub fn refuse(&mut self, now: Duration, per_second: u32) -> ComeBack {
        let per_second = if per_second == 0 { UNKNOWN_PER_SECOND } else { per_second };
        let first = now + FIRST;
        let at = if self.next > now + LAST { first } else { self.next.max(first) };
        self.next = at + Duration::from_secs(1) / per_second;
        let after = at - now;
        ComeBack {
            pause: Duration::from_nanos(after.subsec_nanos().into()),
            after_secs: u32::try_from(after.as_secs()).unwrap_or(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the milliseconds at which callers come back that are refused at these times.
    fn come_backs(refused_at: impl Iterator<Item = u64>, per_second: u32) -> Vec<u64> {
        let mut come_backs = ComeBacks::default();
        let come_back = refused_at.map(|millis| {
            let ComeBack { pause, after_secs } = come_backs.refuse(Duration::from_millis(millis), per_second);
            assert!(pause < Duration::from_secs(1) && (1..=60).contains(&after_secs));
            millis + u64::try_from(pause.as_millis()).unwrap() + u64::from(after_secs) * 1_000
        });
        come_back.collect()
    }

    /// Returns true if no 100 ms bring more than 1.5 times the mean between the first and the last
    /// caller.
    fn are_spread(mut times: Vec<u64>) -> bool {
        times.sort_unstable();
        let from = |at: u64| times.iter().filter(|other| (at..at + 100).contains(*other)).count();
        let worst = times.iter().step_by(7).map(|at| from(*at)).max().unwrap();
        let (count, took) = (times.len(), times[times.len() - 1] - times[0]);
        worst as u64 * took <= 150 * count as u64
    }

    #[test]
    fn ten_thousand_refused_callers_do_not_come_back_in_one_wave() {
        for per_second in [500, 2_000, 5_000] {
            for took in [1, 200, 1_000, 3_000] {
                let times = come_backs((0..10_000).map(|n| 10 + n * took / 10_000), per_second);
                assert!(are_spread(times), "{per_second} a second, refused in {took} ms");
            }
        }
    }

    #[test]
    fn a_caller_that_is_refused_alone_is_answered_at_once() {
        let mut come_backs = ComeBacks::default();
        for second in 5..10 {
            let come_back = come_backs.refuse(Duration::from_secs(second), 100);
            assert_eq!(come_back, ComeBack { pause: Duration::ZERO, after_secs: 1 });
        }
    }

    #[test]
    fn callers_wait_for_as_long_as_their_requests_need() {
        let mut come_backs = ComeBacks::default();
        let mut after = |now| come_backs.refuse(Duration::from_secs(now), 2).after_secs;
        assert_eq!([0; 5].map(&mut after), [1, 1, 2, 2, 3]);
        assert_eq!([2; 3].map(&mut after), [1, 2, 2], "others have the times before");
        assert_eq!(after(1_000), 1, "all of them have come");
    }

    #[test]
    fn more_callers_than_a_minute_holds_come_between_each_other() {
        let times = come_backs((0..10_000).map(|_| 0), 50);
        assert_eq!(times.iter().max(), Some(&60_000));
        assert!(are_spread(times));
    }
}
