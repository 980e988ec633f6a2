//! Limit of a brand's requests while nobody grants it any: the agents of the data centre are of an
//! earlier release, or have been silent for too long.
//!
//! Sans-IO. The delay of the answers shows the queue: everything above the shortest one was spent
//! waiting. If no delay near the shortest one is seen for some time, the limit goes to its smallest
//! for a moment. If the delay stays long even then, the line or the database has become slower, and
//! that is the shortest delay from now on. So a limit that fell always heals.

use std::time::Duration;

use super::credits::BrandLimit;
use super::queue_control::{ControlTimes, QueueControl, whole};

/// Interval at which the limit is computed.
pub const COMPUTED_EVERY: Duration = Duration::from_millis(50);

/// Smallest limit. It is larger than one of the data centre's own: a request that waits for a held
/// row looks from here like one that waits for the database, and must not keep out all others.
const LIMIT_MIN: u32 = 16;

/// Limit while the delay without a queue is looked for.
const LOOKS_WITH: u32 = 4;

/// Longest delay that counts as one without a queue.
const SHORTEST_MAX: Duration = Duration::from_millis(500);

/// Time after which a limit without a delay near the shortest one is put to its smallest, to see
/// the delay without a queue.
const LOOKS_AFTER: Duration = Duration::from_secs(10);

/// Answers at the smallest limit that show what the delay is without a queue.
const SHOWN_BY: u32 = 4;

/// Answers to a brand's requests since the limit was last computed.
#[derive(Debug, Clone, Copy, Default)]
pub struct SeenAnswers {
    /// Requests that were carried out. One that was refused without effect, or whose caller was
    /// answered "unknown", is none: constant time-outs and quick refusals show no capacity.
    pub done: u32,
    /// Shortest delay of their answers; `None` without any.
    pub shortest: Option<Duration>,
    /// Longest delay, also of requests that are still outstanding.
    pub longest: Duration,
}

/// The limit of one brand.
#[derive(Debug)]
pub struct AdaptiveLimit {
    control: QueueControl,
    /// Delay of an answer without a queue.
    shortest: Option<Duration>,
    /// Time with answers since a delay near the shortest one was seen.
    unconfirmed_for: Duration,
    /// Search for the delay without a queue; `None` while there is none.
    looks: Option<ShortestSearch>,
    computed_at: Duration,
}

/// Search for the delay without a queue, with the limit at its smallest.
#[derive(Debug)]
struct ShortestSearch {
    /// Answers that come earlier are to requests that found a queue.
    counts_from: Duration,
    /// Shortest delay of the answers since then.
    shortest: Option<Duration>,
    answers: u32,
}

impl AdaptiveLimit {
    /// Makes a limit that is not below its maximum.
    pub fn new(now: Duration, limit_max: u32) -> Self {
        Self {
            control: QueueControl::new(f64::from(LIMIT_MIN), f64::from(limit_max)),
            shortest: None,
            unconfirmed_for: Duration::ZERO,
            looks: None,
            computed_at: now,
        }
    }

    /// Computes the limit.
    pub fn compute(&mut self, now: Duration, seen: SeenAnswers) {
        let passed = now.saturating_sub(self.computed_at);
        self.computed_at = now;
        self.learn(now, passed, seen);
        let shortest = self.shortest.unwrap_or_default();
        self.control.done(seen.done);
        self.control.waited(seen.longest.saturating_sub(shortest));
        self.control.compute(ControlTimes { passed, service: shortest, around: Duration::ZERO });
    }

    /// Learns the delay without a queue.
    fn learn(&mut self, now: Duration, passed: Duration, seen: SeenAnswers) {
        let answered = seen.shortest.map(|delay| delay.min(SHORTEST_MAX));
        if let Some(delay) = answered {
            let shortest = self.shortest.map_or(delay, |known| known.min(delay));
            self.shortest = Some(shortest);
            let is_near = delay <= shortest + shortest / 4;
            self.unconfirmed_for = if is_near { Duration::ZERO } else { self.unconfirmed_for + passed };
        }
        if !self.control.is_limited() {
            (self.unconfirmed_for, self.looks) = (Duration::ZERO, None);
        }
        match &mut self.looks {
            Some(search) if now > search.counts_from => {
                search.shortest = [search.shortest, answered].into_iter().flatten().min();
                search.answers = search.answers.saturating_add(seen.done);
                if search.answers >= SHOWN_BY {
                    (self.shortest, self.unconfirmed_for, self.looks) =
                        (search.shortest, Duration::ZERO, None);
                }
            }
            None if self.unconfirmed_for >= LOOKS_AFTER => {
                let counts_from = now + seen.longest + COMPUTED_EVERY;
                self.looks = Some(ShortestSearch { counts_from, shortest: None, answers: 0 });
            }
            Some(_) | None => {}
        }
    }

    /// Returns the limit. Returns `None` if it is at its maximum.
    pub fn limit(&self) -> Option<BrandLimit> {
        let limit = if self.looks.is_some() { LOOKS_WITH } else { whole(self.control.limit()) };
        let per_second = whole(self.control.best_rate());
        self.control.is_limited().then_some(BrandLimit { outstanding: limit, per_second })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A cloud agent, a line and a database, in steps of a millisecond.
    struct World {
        now: u64,
        limit: AdaptiveLimit,
        /// Time from the admission to the data centre, and back.
        half: u64,
        /// Requests a second that the database does; 0 while it is frozen.
        speed: u64,
        /// True while each request ends as unknown after ten seconds, whatever the database does.
        loses_answers: bool,
        /// Admission times of the requests on the way, in the queue, and answered.
        going: VecDeque<u64>,
        queue: VecDeque<u64>,
        coming: VecDeque<(u64, u64)>,
        lost: VecDeque<u64>,
        credit: u64,
        done: Vec<u64>,
        seen: SeenAnswers,
    }

    const SECOND: u64 = 1_000;
    const OFFERED: u64 = 15;

    impl World {
        fn new(half: u64, speed: u64) -> Self {
            Self {
                now: 0,
                limit: AdaptiveLimit::new(Duration::ZERO, 100_000),
                half,
                speed,
                loses_answers: false,
                going: VecDeque::new(),
                queue: VecDeque::new(),
                coming: VecDeque::new(),
                lost: VecDeque::new(),
                credit: 0,
                done: Vec::new(),
                seen: SeenAnswers::default(),
            }
        }

        fn outstanding(&self) -> usize {
            self.going.len() + self.queue.len() + self.coming.len() + self.lost.len()
        }

        fn limit(&self) -> u32 {
            self.limit.limit().map_or(100_000, |limit| limit.outstanding)
        }

        fn run_for(&mut self, millis: u64) {
            for _ in 0..millis {
                self.step();
            }
        }

        fn step(&mut self) {
            self.now += 1;
            let now = self.now;
            for _ in 0..OFFERED {
                if self.outstanding() < self.limit() as usize {
                    self.going.push_back(now);
                }
            }
            while self.going.front().is_some_and(|since| since + self.half <= now) {
                self.queue.extend(self.going.pop_front());
            }
            self.credit = (self.credit + self.speed).min(self.speed.max(1_000));
            while self.credit >= 1_000 && !self.queue.is_empty() {
                self.credit -= 1_000;
                let since = self.queue.pop_front().unwrap();
                match self.loses_answers {
                    true => self.lost.push_back(since),
                    false => self.coming.push_back((now + self.half, since)),
                }
            }
            while self.coming.front().is_some_and(|(at, _)| *at <= now) {
                let (_, since) = self.coming.pop_front().unwrap();
                let delay = Duration::from_millis(now - since);
                self.done.push(now);
                self.seen.done += 1;
                self.seen.shortest = Some(self.seen.shortest.map_or(delay, |known| known.min(delay)));
                self.seen.longest = self.seen.longest.max(delay);
            }
            while self.lost.front().is_some_and(|since| since + 10 * SECOND <= now) {
                self.lost.pop_front();
            }
            if now.is_multiple_of(50) {
                let oldest = [self.lost.front(), self.queue.front(), self.going.front()];
                let oldest = oldest.into_iter().flatten().min().map_or(0, |since| now - since);
                self.seen.longest = self.seen.longest.max(Duration::from_millis(oldest));
                self.limit.compute(Duration::from_millis(now), std::mem::take(&mut self.seen));
            }
        }

        /// Returns the requests a second that were done in the last milliseconds.
        fn rate(&self, over: u64) -> u64 {
            self.done.iter().filter(|at| **at > self.now - over).count() as u64 * SECOND / over
        }
    }

    #[test]
    fn the_database_stays_busy_and_the_queue_short() {
        for half in [1, 5, 17] {
            let mut world = World::new(half, 5_000);
            world.run_for(60 * SECOND);
            assert!(world.rate(30 * SECOND) >= 4_750, "{} a second", world.rate(30 * SECOND));
            assert!(world.queue.len() <= 1_500, "{} wait", world.queue.len());
        }
    }

    #[test]
    fn a_frozen_or_slow_database_is_followed_and_heals() {
        for (speed, lasts) in [(0, 5), (0, 30), (500, 10), (500, 60)] {
            let mut world = World::new(17, 5_000);
            world.run_for(20 * SECOND);
            let before = world.limit();
            world.speed = speed;
            world.run_for(SECOND);
            assert!(world.limit() * 4 <= before, "{speed}: {before}, then {}", world.limit());
            world.run_for((lasts - 1) * SECOND);
            world.speed = 5_000;
            world.run_for(3 * SECOND);
            assert!(world.rate(SECOND) >= 4_750, "{speed}: {} a second", world.rate(SECOND));
        }
    }

    #[test]
    fn constant_time_outs_keep_the_limit_small_until_they_end() {
        let mut world = World::new(17, 5_000);
        world.run_for(10 * SECOND);
        world.loses_answers = true;
        world.run_for(60 * SECOND);
        assert!(world.limit() <= 16, "{}", world.limit());
        world.loses_answers = false;
        // The last lost ones still count for ten seconds.
        world.run_for(13 * SECOND);
        assert!(world.rate(SECOND) >= 4_750, "{} a second", world.rate(SECOND));
    }

    #[test]
    fn a_line_that_becomes_longer_is_no_queue() {
        let mut world = World::new(5, 5_000);
        world.run_for(10 * SECOND);
        world.half = 100;
        world.run_for(25 * SECOND);
        assert!(world.rate(5 * SECOND) >= 4_500, "{} a second", world.rate(5 * SECOND));
        world.half = 5;
        world.run_for(15 * SECOND);
        assert!(world.rate(SECOND) >= 4_750 && world.queue.len() <= 1_500, "{}", world.queue.len());
    }
}
