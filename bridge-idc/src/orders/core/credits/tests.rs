//! The limits against a simulated database: a virtual clock in steps of a millisecond, cloud agents
//! that obey their grants, a line with a round trip, and one committer.

/// Two agents of the data centre.
mod two_agents;

use std::collections::VecDeque;

use super::*;

const SECOND: u64 = 1_000;

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn brand(number: usize) -> Brand {
    Brand::new(&format!("brand-{number}")).unwrap()
}

/// A database that commits a batch in a fixed time and a time for each request.
#[derive(Clone, Copy)]
struct Speed {
    fixed_micros: u64,
    each_micros: u64,
}

/// About 5,000 requests a second.
const FAST: Speed = Speed { fixed_micros: 4_000, each_micros: 180 };

const SLOWED: Speed = Speed { fixed_micros: 40_000, each_micros: 1_800 };

const BATCH_MAX: usize = 256;

/// A request on its way or in the queue: its cloud agent, its brand, and its arrival there.
#[derive(Clone, Copy)]
struct Order {
    cloud: usize,
    brand: usize,
    /// Time of its arrival at the place where it is now.
    at: u64,
}

/// A cloud agent: the limit and the requests outstanding of each brand.
#[derive(Clone)]
struct Cloud {
    limits: Vec<u32>,
    outstanding: Vec<u32>,
    /// Requests of each brand that come in a second, whatever is admitted.
    offered: Vec<u64>,
}

struct World {
    now: u64,
    /// Round trip of the line, in milliseconds.
    round_trip: u64,
    clouds: Vec<Cloud>,
    credits: Credits,
    speed: Speed,
    /// True while no commit ends.
    is_frozen: bool,
    going: VecDeque<Order>,
    /// Requests in the data centre by brand. Brands take turns.
    queues: Vec<VecDeque<Order>>,
    next_brand: usize,
    /// The batch under way, with its begin and its end.
    batch: Option<(Vec<Order>, u64, u64)>,
    coming: VecDeque<Order>,
    grants: VecDeque<(u64, Grants)>,
    /// Committed requests of each brand, by the millisecond of the commit.
    committed: Vec<Vec<u64>>,
    /// Longest wait of a batch's requests, by the time of the batch's begin.
    waits: Vec<(u64, u64)>,
}

impl World {
    /// Makes a world in which each cloud agent is offered this many requests a second of each
    /// brand.
    fn new(round_trip: u64, offered: &[&[u64]]) -> Self {
        let brands = offered[0].len();
        let cloud = |offered: &&[u64]| Cloud {
            limits: vec![u32::MAX; brands],
            outstanding: vec![0; brands],
            offered: offered.to_vec(),
        };
        Self {
            now: 0,
            round_trip,
            clouds: offered.iter().map(cloud).collect(),
            credits: Credits::new(4_096),
            speed: FAST,
            is_frozen: false,
            going: VecDeque::new(),
            queues: vec![VecDeque::new(); brands],
            next_brand: 0,
            batch: None,
            coming: VecDeque::new(),
            grants: VecDeque::new(),
            committed: vec![Vec::new(); brands],
            waits: Vec::new(),
        }
    }

    fn run_for(&mut self, millis: u64) {
        for _ in 0..millis {
            self.step();
        }
    }

    fn step(&mut self) {
        self.now += 1;
        let (now, half) = (self.now, self.round_trip / 2);
        while self.grants.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, grants)) = self.grants.pop_front() else { break };
            for (index, limit) in (0..self.queues.len()).map(|index| (index, limit_in(&grants, index))) {
                self.clouds.iter_mut().for_each(|cloud| cloud.limits[index] = limit);
            }
        }
        while self.coming.front().is_some_and(|order| order.at <= now) {
            let Some(order) = self.coming.pop_front() else { break };
            self.clouds[order.cloud].outstanding[order.brand] -= 1;
        }
        for (index, cloud) in self.clouds.iter_mut().enumerate() {
            for brand in 0..cloud.offered.len() {
                let come = now * cloud.offered[brand] / SECOND - (now - 1) * cloud.offered[brand] / SECOND;
                for _ in 0..come {
                    if cloud.outstanding[brand] < cloud.limits[brand] {
                        cloud.outstanding[brand] += 1;
                        self.going.push_back(Order { cloud: index, brand, at: now + half });
                    }
                }
            }
        }
        while self.going.front().is_some_and(|order| order.at <= now) {
            let Some(order) = self.going.pop_front() else { break };
            self.credits.came(millis(now), LinkId(order.cloud as u64), &brand(order.brand));
            self.queues[order.brand].push_back(order);
        }
        self.commit(now, half);
        if self.credits.is_due(millis(now)) {
            let waiting: Vec<_> = self
                .queues
                .iter()
                .flatten()
                .map(|order| (brand(order.brand), millis(now - order.at)))
                .collect();
            let waiting = waiting.iter().map(|(brand, waits)| (brand, *waits));
            let message = self.credits.compute(millis(now), millis(self.round_trip), waiting);
            self.grants.extend(message.map(|message| (now + half, message)));
        }
    }

    fn commit(&mut self, now: u64, half: u64) {
        if let Some((batch, began, ends)) = &self.batch
            && *ends <= now
            && !self.is_frozen
        {
            self.credits.took(millis(now - began), batch.len());
            for order in batch {
                self.credits.committed(&brand(order.brand));
                self.committed[order.brand].push(now);
                self.coming.push_back(Order { at: now + half, ..*order });
            }
            self.batch = None;
        }
        if self.batch.is_none() && self.queues.iter().any(|queue| !queue.is_empty()) {
            let mut batch = Vec::new();
            while batch.len() < BATCH_MAX && self.queues.iter().any(|queue| !queue.is_empty()) {
                batch.extend(self.queues[self.next_brand].pop_front());
                self.next_brand = (self.next_brand + 1) % self.queues.len();
            }
            let oldest = batch.iter().map(|order| order.at).min().unwrap_or(now);
            self.waits.push((now, now - oldest));
            for order in &batch {
                self.credits.began(&brand(order.brand), millis(now - order.at));
            }
            let micros = self.speed.fixed_micros + self.speed.each_micros * batch.len() as u64;
            self.batch = Some((batch, now, now + micros.div_ceil(1_000)));
        }
    }

    /// Returns the committed requests a second of a brand, over the last milliseconds.
    fn rate(&self, brand: usize, over: u64) -> u64 {
        let since = self.now - over;
        let count = self.committed[brand].iter().filter(|at| **at > since).count();
        count as u64 * SECOND / over
    }

    /// Returns the longest wait of a batch that began in the last milliseconds.
    fn longest_wait(&self, over: u64) -> u64 {
        let since = self.now - over;
        self.waits.iter().filter(|(at, _)| *at > since).map(|(_, waited)| *waited).max().unwrap_or(0)
    }

    /// Returns what all cloud agents together may have outstanding of a brand.
    fn limit(&self, brand: usize) -> u64 {
        self.clouds.iter().map(|cloud| u64::from(cloud.limits[brand])).sum()
    }

    /// Returns the requests a second that a cloud agent is told of a brand.
    fn granted_per_second(&self, index: usize) -> u32 {
        self.credits.brands.get(&brand(index)).map_or(0, |brand| whole(brand.rate_of_a_link()))
    }

    /// Returns the number of brands with a limit.
    fn limited(&self) -> usize {
        self.credits.brands.values().filter(|brand| brand.control.is_limited()).count()
    }
}

fn limit_in(grants: &Grants, index: usize) -> u32 {
    let name = brand(index);
    let grant = grants.brands.iter().find(|grant| grant.brand == name.as_str());
    grant.map_or(u32::MAX, |grant| grant.outstanding)
}

/// Returns the rate of the database with the best limit that is set by hand.
fn best_rate(round_trip: u64, speed: Speed) -> u64 {
    let rates = [100, 200, 400, 600, 1_000, 2_000].map(|limit| {
        let mut world = World::new(round_trip, &[&[20_000]]);
        world.speed = speed;
        // Nothing is computed, so the limit stays.
        world.credits.computed_at = millis(1_000_000);
        world.clouds[0].limits[0] = limit;
        world.run_for(10 * SECOND);
        world.rate(0, 5 * SECOND)
    });
    rates.into_iter().max().unwrap()
}

#[test]
fn under_overload_the_database_is_busy_and_nothing_waits_long() {
    for round_trip in [0, 10, 33] {
        let mut world = World::new(round_trip, &[&[15_000]]);
        world.run_for(20 * SECOND);
        let (rate, best) = (world.rate(0, 10 * SECOND), best_rate(round_trip, FAST));
        assert!(rate * 100 >= best * 95, "round trip {round_trip} ms: {rate} of {best} a second");
        let waited = world.longest_wait(10 * SECOND);
        assert!(waited <= 300, "round trip {round_trip} ms: a request waited for {waited} ms");
    }
}

#[test]
fn without_overload_there_is_no_limit() {
    let mut world = World::new(33, &[&[2_000, 10]]);
    world.run_for(10 * SECOND);
    assert_eq!((world.limit(0), world.limit(1)), (u64::from(u32::MAX), u64::from(u32::MAX)));
    assert!(world.rate(0, 5 * SECOND) >= 1_950);
    assert_eq!(world.limited(), 0);
}

#[test]
fn a_short_pause_of_the_database_limits_nobody() {
    for pause in [60, 110, 200] {
        let mut world = World::new(10, &[&[2_000]]);
        world.run_for(10 * SECOND);
        world.is_frozen = true;
        world.run_for(pause);
        world.is_frozen = false;
        for _ in 0..20 {
            world.run_for(50);
            assert_eq!(world.limited(), 0, "a pause of {pause} ms refused requests");
        }
        assert!(world.rate(0, SECOND) >= 1_950);
    }
}

#[test]
fn refused_callers_come_back_at_the_rate_before_a_freeze() {
    let mut world = World::new(10, &[&[15_000]]);
    world.run_for(10 * SECOND);
    world.is_frozen = true;
    world.run_for(SECOND);
    let per_second = world.granted_per_second(0);
    assert!(per_second >= 2_000, "a second of it tells {per_second} a second");
}

#[test]
fn without_a_database_each_request_hears_that_and_no_limit() {
    let mut world = World::new(10, &[&[15_000]]);
    world.run_for(10 * SECOND);
    assert_eq!(world.limited(), 1);
    world.credits.lift();
    let none = std::iter::empty();
    let told = world.credits.compute(millis(world.now + 100), Duration::ZERO, none).expect("a message");
    assert_eq!(told.brands, []);
}

#[test]
fn brands_that_an_agent_invents_take_bounded_memory() {
    let mut credits = Credits::new(100);
    for number in 0..10_000 {
        credits.came(millis(1), LinkId(1), &brand(number));
    }
    assert_eq!(credits.brands.len(), BRANDS_MAX);
}

#[test]
fn a_frozen_database_is_followed_in_a_second_and_heals_in_two() {
    let mut world = World::new(33, &[&[15_000]]);
    world.run_for(10 * SECOND);
    let before = world.rate(0, 5 * SECOND);
    world.is_frozen = true;
    world.run_for(SECOND);
    assert!(world.limit(0) <= 20, "the limit is {}", world.limit(0));
    world.run_for(4 * SECOND);
    world.is_frozen = false;
    world.run_for(3 * SECOND);
    let after = world.rate(0, SECOND);
    assert!(after * 100 >= before * 95, "{after} a second after, {before} before");
}

#[test]
fn a_slowed_database_is_followed_in_a_second_and_heals_in_two() {
    let mut world = World::new(33, &[&[15_000]]);
    world.run_for(10 * SECOND);
    let (before, limit) = (world.rate(0, 5 * SECOND), world.limit(0));
    world.speed = SLOWED;
    world.run_for(SECOND + 500);
    assert!(world.limit(0) * 2 <= limit, "the limit was {limit}, and is {}", world.limit(0));
    world.run_for(20 * SECOND);
    let (rate, best) = (world.rate(0, 10 * SECOND), best_rate(33, SLOWED));
    assert!(rate * 100 >= best * 90, "{rate} of {best} a second while it is slow");
    assert!(world.longest_wait(10 * SECOND) <= 2_500, "{} ms", world.longest_wait(10 * SECOND));
    world.speed = FAST;
    world.run_for(3 * SECOND);
    let after = world.rate(0, SECOND);
    assert!(after * 100 >= before * 95, "{after} a second after, {before} before");
}

/// Databases whose commits take long, however few requests they have.
const STEADY: [u64; 3] = [700, 1_500, 3_000];

#[test]
fn a_slow_and_steady_database_has_work_all_the_time() {
    for commit in STEADY {
        let speed = Speed { fixed_micros: commit * 1_000, each_micros: 180 };
        let mut world = World::new(10, &[&[2_000]]);
        world.speed = speed;
        world.run_for(20 * commit);
        let mut least = u64::MAX;
        for _ in 0..20 {
            world.run_for(commit);
            least = least.min(world.limit(0));
        }
        let over = 20 * commit;
        let (rate, best) = (world.rate(0, over), steady_rate(speed));
        assert!(rate * 100 >= best * 90, "commits of {commit} ms: {rate} of {best} a second");
        assert!(least >= 2 * BATCH_MAX as u64 * 8 / 10, "commits of {commit} ms: the limit was {least}");
        let waited = world.longest_wait(over);
        assert!(waited <= commit * 2 + 200, "commits of {commit} ms: a request waited for {waited} ms");
    }
}

/// Returns the requests a second of a database that has a full batch all the time.
fn steady_rate(speed: Speed) -> u64 {
    BATCH_MAX as u64 * 1_000_000 / (speed.fixed_micros + speed.each_micros * BATCH_MAX as u64)
}

#[test]
fn a_database_that_becomes_slow_and_stays_so_gets_its_work_again() {
    for commit in STEADY {
        let speed = Speed { fixed_micros: commit * 1_000, each_micros: 180 };
        let mut world = World::new(10, &[&[15_000]]);
        world.run_for(10 * SECOND);
        world.speed = speed;
        world.run_for(20 * commit);
        world.run_for(20 * commit);
        let (rate, best) = (world.rate(0, 20 * commit), steady_rate(speed));
        assert!(rate * 100 >= best * 90, "commits of {commit} ms: {rate} of {best} a second");
        world.speed = FAST;
        world.run_for(commit + 5 * SECOND);
        let rate = world.rate(0, SECOND);
        assert!(rate * 100 >= best_rate(10, FAST) * 95, "after {commit} ms: {rate} a second");
    }
}

#[test]
fn one_commit_that_stood_still_does_not_count() {
    let mut times = CommitTimes::default();
    assert_eq!(times.typical(), Duration::ZERO);
    for took in [50, 5_000, 52, 51] {
        times.note(millis(took), 256);
    }
    assert_eq!(times.typical(), millis(51));
    for _ in 0..3 {
        times.note(millis(700), 256);
    }
    assert_eq!(times.typical(), millis(700), "most of them are slow");
    for took in [4, 50, 4, 50, 4] {
        times.note(millis(took), if took == 4 { 1 } else { 256 });
    }
    assert_eq!(times.typical(), millis(50));
}

#[test]
fn a_flood_of_one_brand_limits_that_brand_alone() {
    let mut world = World::new(10, &[&[15_000, 200], &[15_000, 0]]);
    world.run_for(20 * SECOND);
    assert!(world.limit(0) < 2_000, "the flood has a limit");
    assert_eq!(world.limit(1), 2 * u64::from(u32::MAX), "the quiet brand has none");
    assert!(world.rate(1, 10 * SECOND) >= 198, "and nothing of it is refused");
}

#[test]
fn a_cloud_agent_that_is_alone_may_use_everything_and_two_share() {
    let mut world = World::new(10, &[&[15_000], &[0]]);
    world.run_for(20 * SECOND);
    let best = best_rate(10, FAST);
    assert!(world.rate(0, 10 * SECOND) * 100 >= best * 95, "{} of {best}", world.rate(0, 10 * SECOND));
    world.clouds[1].offered[0] = 15_000;
    world.run_for(10 * SECOND);
    assert!(world.rate(0, 5 * SECOND) * 100 >= best * 95);
    let [first, second] = [0, 1].map(|cloud: usize| world.clouds[cloud].outstanding[0]);
    assert!(first.abs_diff(second) <= first.max(second) / 4, "{first} and {second}");
    assert!(world.longest_wait(5 * SECOND) <= 300, "{} ms", world.longest_wait(5 * SECOND));
}

#[test]
fn every_number_is_absolute_rising_and_expires() {
    let mut credits = Credits::new(100);
    let mut last = 0;
    for step in 1..200u64 {
        let now = millis(step * 50);
        credits.came(now, LinkId(1), &brand(0));
        let long = [(brand(0), Duration::from_secs(1))];
        let waiting = long.iter().filter(|_| step < 50).map(|(brand, waits)| (brand, *waits));
        let Some(grants) = credits.compute(now, Duration::ZERO, waiting) else { continue };
        assert!(grants.number > last && grants.expires_millis >= 1_000);
        assert!(grants.brands.iter().all(|grant| (8..100).contains(&grant.outstanding)));
        last = grants.number;
    }
    assert!(!credits.brands.values().any(|brand| brand.control.is_limited()), "the limit has healed");
    assert!(last > 20);
}
