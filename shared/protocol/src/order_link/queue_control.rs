//! Limit of the requests outstanding at a queue, by the wait of its oldest request and the rate
//! that its server shows.
//!
//! Sans-IO. A request that comes during a service waits for its end, also without a queue. What the
//! oldest request waits beyond that was spent in the queue. If this is more than the target, the
//! limit becomes what the server does in the time of one request, by the rate that it has shown
//! while requests waited (Little's law). If the queue is short, the limit grows without end, also
//! when nobody uses it. So a limit that was too low always heals.
//!
//! All times follow the time of a service. So a server that is slow and steady has work all the
//! time, as a fast one has.
//!
//! The smallest limit and the smallest step of growth are two numbers. A limit at its smallest
//! still lets requests through that show when the server is better.

#![expect(clippy::float_arithmetic, reason = "a limit is an estimate, and no money")]

use std::collections::VecDeque;
use std::time::Duration;

/// Shortest target of the time in the queue. It is enough for the server always to have work.
const WAIT_TARGET_MIN: Duration = Duration::from_millis(50);

/// Part of a service, one in this many, that is the target if it is longer. The times of services
/// differ by as much.
const WAIT_PART: u32 = 4;

/// Smallest step by which a limit grows.
const PROBE: f64 = 1.0;

/// Growth of a limit below what the server has shown, in the time of one request: an effect is not
/// seen earlier.
const GROWTH_KNOWN: f64 = 2.5;

/// Growth of a limit beyond that, in the same time.
const GROWTH_BEYOND: f64 = 1.3;

/// Shortest time with waiting requests that shows a rate.
const SHOWN_IN_MIN: Duration = Duration::from_millis(100);

/// Time over which a rate is measured. It is longer if a service takes long.
const SHOWN_IN: Duration = Duration::from_millis(400);

/// Time after which a rate that is not shown again counts half.
const SHOWN_HALVES_IN: Duration = Duration::from_secs(10);

/// Times by which a limit is computed.
#[derive(Debug, Clone, Copy)]
pub struct ControlTimes {
    /// Time since the limit was last computed.
    pub passed: Duration,
    /// Time of one service: of one batch that is committed.
    pub service: Duration,
    /// Time of a request, from its admission to its answer, beside its wait and its service.
    pub around: Duration,
}

impl ControlTimes {
    /// Returns the time that the oldest request should spend in the queue, beside its wait for the
    /// end of a service.
    fn wait_target(&self) -> Duration {
        WAIT_TARGET_MIN.max(self.service / WAIT_PART)
    }

    /// Returns the time of a request from its admission to its answer, if it waits for the target.
    fn total(&self) -> Duration {
        self.service * 2 + self.wait_target() + self.around
    }
}

/// Returns a limit or a rate without its fraction, at least 0.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates, which is meant"
)]
pub fn whole(number: f64) -> u32 {
    number as u32
}

/// A limit, and what the server has shown.
#[derive(Debug)]
pub struct QueueControl {
    limit: f64,
    limit_min: f64,
    limit_max: f64,
    /// Longest wait seen since the limit was last computed.
    oldest: Duration,
    /// Requests done since then.
    done: u32,
    /// Time since requests waited.
    quiet_for: Duration,
    /// Requests done and time of the last intervals in which requests waited.
    shown: VecDeque<(u32, Duration)>,
    /// Highest rate that was shown, in requests a second. It fades.
    best: f64,
}

impl QueueControl {
    /// Makes a control without a limit: its limit is at its maximum.
    pub fn new(limit_min: f64, limit_max: f64) -> Self {
        let limit_max = limit_max.max(limit_min);
        Self {
            limit: limit_max,
            limit_min,
            limit_max,
            oldest: Duration::ZERO,
            done: 0,
            quiet_for: Duration::ZERO,
            shown: VecDeque::new(),
            best: 0.0,
        }
    }

    /// Returns the requests that may be outstanding.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Returns true if the limit is below its maximum.
    pub fn is_limited(&self) -> bool {
        self.limit < self.limit_max
    }

    /// Returns the highest rate that was shown, in requests a second; 0 if none was. It fades, so
    /// it tells what the server does once a short pause of it is over.
    pub fn best_rate(&self) -> f64 {
        self.best
    }

    /// Notes that a request has waited for this time.
    pub fn waited(&mut self, waited: Duration) {
        self.oldest = self.oldest.max(waited);
    }

    /// Notes requests that are done.
    pub fn done(&mut self, requests: u32) {
        self.done += requests;
    }

    /// Computes the limit by what was noted since it was last computed.
    pub fn compute(&mut self, times: ControlTimes) {
        let (oldest, done) = (std::mem::take(&mut self.oldest), std::mem::take(&mut self.done));
        let ControlTimes { passed, service, .. } = times;
        let (target, total) = (times.wait_target(), times.total().as_secs_f64());
        let in_queue = oldest.saturating_sub(service);
        self.best *= 0.5f64.powf(passed.as_secs_f64() / SHOWN_HALVES_IN.as_secs_f64());
        let waits = oldest * 2 >= target + service;
        self.quiet_for = if waits { Duration::ZERO } else { self.quiet_for + passed };
        if self.quiet_for <= service * 2 {
            self.show(done, passed, service);
        } else {
            self.shown.clear();
        }
        if in_queue > target {
            // A pause that is shorter, such as that of one fsync, does not show a slower server.
            let is_shown = self.shown_for() >= SHOWN_IN;
            if let Some(rate) = self.shown_rate(service).filter(|_| is_shown) {
                self.limit = self.limit.min(rate * total);
            }
        } else if in_queue * 2 < target {
            let growth = if self.limit < self.best * total { GROWTH_KNOWN } else { GROWTH_BEYOND };
            self.limit = self.limit * growth.powf(passed.as_secs_f64() / total) + PROBE;
        }
        self.limit = self.limit.clamp(self.limit_min, self.limit_max);
    }

    /// Notes an interval in which requests waited.
    fn show(&mut self, done: u32, passed: Duration, service: Duration) {
        self.shown.push_back((done, passed));
        // Several services fall into this time, so that a rate does not depend on when one ends.
        let shown_in = SHOWN_IN.max(service * 3);
        while let Some((_, first)) = self.shown.front()
            && self.shown_for() - *first >= shown_in
        {
            self.shown.pop_front();
        }
        if let Some(rate) = self.shown_rate(service) {
            self.best = self.best.max(rate);
        }
    }

    fn shown_for(&self) -> Duration {
        self.shown.iter().map(|(_, passed)| *passed).sum()
    }

    /// Returns the rate of the last intervals in which requests waited. Returns `None` if they were
    /// too short to show one.
    ///
    /// The rate is that from the end of a service to the end of another one, so that it does not
    /// depend on the number of ends that the intervals happen to hold. If the next end is overdue,
    /// the time until now counts as well.
    fn shown_rate(&self, service: Duration) -> Option<f64> {
        if self.shown_for() < SHOWN_IN_MIN.max(service * 2) {
            return None;
        }
        let is_end = |(done, _): &(u32, Duration)| *done > 0;
        let first = self.shown.iter().position(is_end).map_or(0, |first| first + 1);
        let ends = self.shown.iter().rposition(is_end).map_or(0, |last| last + 1);
        let rate = |from: usize, to: usize| {
            let shown = self.shown.iter().take(to).skip(from);
            let (done, time) =
                shown.fold((0, Duration::ZERO), |(all, time), (done, passed)| (all + *done, time + *passed));
            f64::from(done) / time.as_secs_f64()
        };
        let since_end: Duration = self.shown.iter().skip(ends).map(|(_, passed)| *passed).sum();
        let all = self.shown.len();
        Some(if first < ends && since_end <= service * 2 { rate(first, ends) } else { rate(0, all) })
    }
}
